package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// FuzzConfig: a configuration that is taken says the same when it is written out, and limits
// that are taken are limits.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(manual))
	f.Add([]byte("data: x\nlimits: {events_per_second: .nan}\n"))
	f.Add([]byte("data: &a x\nanchor: *a\nprofile: 127.0.0.1:6060\nlimits: {trusted_proxies: [10.0.0.0/8, ::1/128], ready_lag: 1h}\n"))
	f.Add([]byte("a: 1\n---\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg := defaultConfig()
		if cfg.parse(text) != nil || cfg.TLS.Key != "" || cfg.check() != nil {
			return
		}
		if cfg.Data == "" || cfg.Listen == "" || cfg.Limits.MaxBatch < 1 || cfg.Limits.BurstEvents < 500 || !(cfg.Limits.EventsPerSecond < 0 || cfg.Limits.EventsPerSecond > 0) {
			t.Errorf("%q: taken as %+v", text, cfg)
		}
		if ap, err := netip.ParseAddrPort(cfg.Profile); cfg.Profile != "" && (err != nil || !ap.Addr().IsLoopback()) {
			t.Errorf("%q: profiles at %q", text, cfg.Profile)
		}
		written, err := yaml.Marshal(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again := defaultConfig()
		if err := again.parse(written); err != nil || !reflect.DeepEqual(again, cfg) {
			t.Errorf("%q: %+v came back as %+v, %v", text, cfg, again, err)
		}
	})
}

// FuzzEventReader: each event is what stands on its line, or on all lines; none is left out.
func FuzzEventReader(f *testing.F) {
	f.Add("{\"a\":1}\r\n\n{\"b\":2}", uint8(64))
	f.Add("{\n \"a\": 1\n}\n", uint8(16))
	f.Add("{\"a\":\n{\"b\":2}\nx\r\r\n", uint8(0))
	f.Add("L\nL", uint8(16))
	f.Fuzz(func(t *testing.T, in string, size uint8) {
		in = strings.ReplaceAll(in, "L", strings.Repeat("long", event.MaxBytes/8)) // so that some are too long
		if len(in) > 4<<20 {
			return
		}
		r := newEventReader(bufio.NewReaderSize(strings.NewReader(in), int(size)))
		var got []numbered
		for {
			batch, err := r.batch()
			got = append(got, batch...)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		var want []numbered
		for i, line := range strings.Split(in, "\n") {
			line = strings.TrimRight(line[:min(len(line), maxLine)], "\r")
			if strings.TrimSpace(line) != "" {
				want = append(want, numbered{i + 1, []byte(line)})
			}
		}
		if len(got) == 1 && bytes.Contains(got[0].raw, []byte("\n")) { // one object over several lines
			if !strings.HasPrefix(strings.TrimLeft(in, " \t\v\f\r\n\u0085\u00a0"), strings.TrimLeft(string(got[0].raw), " \t\v\f\r\n\u0085\u00a0")[:1]) || len(want) == 0 || got[0].line != want[0].line {
				t.Errorf("%q: %+v", in, got[0])
			}
			return
		}
		if len(got) != len(want) {
			t.Fatalf("%q: %d events, expected %d", in, len(got), len(want))
		}
		for i := range got {
			if got[i].line != want[i].line || !bytes.Equal(got[i].raw, want[i].raw) {
				t.Errorf("%.200q: event %d is line %d, %.100q; expected line %d, %.100q", in, i, got[i].line, got[i].raw, want[i].line, want[i].raw)
			}
		}
	})
}

// FuzzReadToken: a token from a file can be sent in a header as it is.
func FuzzReadToken(f *testing.F) {
	for _, s := range []string{"pt_a_b\n", " pt_a_b\r\n", "", "two tokens", "a\tb", "a\x00b", "ü", "\ufeffpt_a_b"} {
		f.Add([]byte(s))
	}
	file := filepath.Join(f.TempDir(), "token")
	f.Fuzz(func(t *testing.T, content []byte) {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
		token, err := readToken(&cli.Env{Stderr: io.Discard}, file)
		if err != nil {
			return
		}
		if token == "" || strings.TrimSpace(string(content)) != token {
			t.Errorf("%q was read as %q", content, token)
		}
		for i := range len(token) {
			if token[i] <= ' ' || token[i] > '~' {
				t.Errorf("%q: %q can't be sent", content, token)
			}
		}
	})
}
