package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// readAll reads everything, and checks the limits of a batch.
func readAll(t *testing.T, in string) (all []numbered, batches int) {
	t.Helper()
	r := newEventReader(bufio.NewReaderSize(strings.NewReader(in), 64))
	for {
		batch, err := r.batch()
		size := 0
		for _, n := range batch {
			size += len(n.raw) + 1
		}
		if len(batch) > client.MaxBatchEvents || size > client.MaxBatchBytes {
			t.Fatalf("a batch of %d events, %d bytes", len(batch), size)
		}
		all = append(all, batch...)
		if len(batch) > 0 {
			batches++
		}
		if errors.Is(err, io.EOF) {
			return all, batches
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestReadEvents(t *testing.T) {
	for in, want := range map[string][]numbered{
		"":                          nil,
		" \n\n":                     nil,
		`{"a":1}`:                   {{1, []byte(`{"a":1}`)}},
		"\n{\"a\":1}\r\n\n{\"b\"\n": {{2, []byte(`{"a":1}`)}, {4, []byte(`{"b"`)}},
		"{\n \"a\": 1\n}\n":         {{1, []byte("{\n \"a\": 1\n}\n")}},
		"{\"a\":\n{\"b\":2}\nx":     {{1, []byte(`{"a":`)}, {2, []byte(`{"b":2}`)}, {3, []byte("x")}},
	} {
		got, _ := readAll(t, in)
		if len(got) != len(want) {
			t.Errorf("%q: %d events, expected %d", in, len(got), len(want))
			continue
		}
		for i := range got {
			if got[i].line != want[i].line || !bytes.Equal(got[i].raw, want[i].raw) {
				t.Errorf("%q: event %d is line %d, %q", in, i, got[i].line, got[i].raw)
			}
		}
	}
}

// Input of any size is cut into requests within the limits, and a line that is
// too long for an event costs only itself.
func TestReadManyEvents(t *testing.T) {
	small := strings.Repeat("{}\n", 1201)
	if all, batches := readAll(t, small); len(all) != 1201 || batches != 3 {
		t.Errorf("%d events in %d batches", len(all), batches)
	}
	long := "{\"a\":\"" + strings.Repeat("x", 200<<10) + "\"}\n"
	if all, batches := readAll(t, strings.Repeat(long, 100)); len(all) != 100 || batches != 3 {
		t.Errorf("%d events in %d batches", len(all), batches)
	}
	endless := "{}\n{\"a\":\"" + strings.Repeat("x", 3<<20) + "\"}\n{}"
	all, _ := readAll(t, endless)
	if len(all) != 3 || len(all[1].raw) != event.MaxBytes+1 || all[2].line != 3 {
		t.Fatalf("%d events", len(all))
	}
	if _, err := event.Parse(all[1].raw); err == nil {
		t.Error("a line that was cut is an event")
	}
}
