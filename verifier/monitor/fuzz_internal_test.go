package monitor

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
)

const fuzzOrigin = "example.com/audit"

// FuzzParseState: what is read back is what was written.
func FuzzParseState(f *testing.F) {
	full := logState{
		Checked: "a\n1\n", Seen: "a\n2\n", Audit: `{"v":1}`, Served: 2, Grown: time.Unix(1, 2).UTC(), Sizes: []uint64{1, 2}, Hour: time.Unix(3600, 0).UTC(),
	}
	for _, s := range []*logState{{}, &full} {
		b, err := s.bytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	for _, s := range []string{"", "{}", "null", `{"v":"prooftrail.monitor-state/1"} x`, `{"v":"prooftrail.monitor-state/1","sizes":[-1]}`, `{"v":"prooftrail.monitor-state/2"}`, `{"v":"prooftrail.monitor-state/1","more":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			return
		}
		if b == nil {
			b = []byte{}
		}
		again, err := s.bytes()
		if err != nil {
			t.Fatalf("%q is read, and can't be written: %v", b, err)
		}
		back, err := parseState(again)
		if err != nil {
			t.Fatalf("%q became %q: %v", b, again, err)
		}
		third, err := back.bytes()
		if err != nil || !bytes.Equal(again, third) {
			t.Errorf("%q became %q, and that %q: %v", b, again, third, err)
		}
		now := time.Unix(1e9, 0)
		back.grow(5, now)
		if len(back.Sizes) > hours {
			t.Errorf("%d sizes", len(back.Sizes))
		}
		back.thisHour(7, now)
	})
}

// FuzzHead: a note is one that the log has signed, and then what is kept says the same, or nothing of it is kept.
func FuzzHead(f *testing.F) {
	key := logtest.NewKey(f, fuzzOrigin)
	h := logtest.New(f, key, "a", 3)
	follower := &follower{m: &Monitor{cfg: Config{Now: time.Now}}, key: key.Policy(f).Log()}
	good := h.Note(3)
	_, sig, _ := bytes.Cut(good, []byte("\n\n"))
	f.Add(good)
	f.Add(append(bytes.Clone(good), sig...))
	f.Add(append(bytes.Clone(good), strings.Replace(string(sig), "A", "B", 1)...))
	f.Add(key.Sign(f, h.Head(3).Text()+"more\n"))
	f.Add(key.Sign(f, "x\n"))
	f.Add(logtest.NewWitness("example.com/w").Cosign(good, time.Unix(1, 0)))
	f.Add([]byte("\n\n— "))
	signed := map[string]bool{h.Head(3).Text(): true, h.Head(3).Text() + "more\n": true, "x\n": true}
	f.Fuzz(func(t *testing.T, note []byte) {
		head, err := follower.parse(note)
		var nonsense *signedNonsense
		switch {
		case errors.As(err, &nonsense):
			if text, _, _ := strings.Cut(string(nonsense.note), "\n\n"); !signed[text+"\n"] {
				t.Errorf("%q: forged", note)
			}
		case err != nil:
			if !errors.Is(err, verifier.ErrFailed) {
				t.Errorf("error %v", err)
			}
		default:
			again, err := follower.parse(head.Note)
			if err != nil || head.Checkpoint != h.Head(3) || again.Checkpoint != head.Checkpoint || !bytes.Equal(again.Note, head.Note) {
				t.Errorf("%q: forged, or kept as %q: %v", note, head.Note, err)
			}
		}
	})
}

// FuzzCheckEvidence: no file convicts but one that holds two heads that the log has signed and that contradict each
// other.
func FuzzCheckEvidence(f *testing.F) {
	key := logtest.NewKey(f, fuzzOrigin)
	policy := key.Policy(f)
	a := logtest.New(f, key, "a", 7)
	b := a.Fork("b", 3)
	b.Grow(6)
	for _, e := range []*verifier.Evidence{
		{First: a.Note(7), Second: b.Note(7)}, {First: a.Note(7), Second: a.Note(7)}, {First: a.Note(3), Second: b.Note(7)}, {First: a.Note(0), Second: b.Note(7)},
	} {
		f.Add(e.Text())
	}
	tiles := verifier.Tiles(fileSource{b})
	e, err := verifier.GatherEvidence(context.Background(), tiles, policy, a.Note(7), b.Note(9))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(e.Text())
	honest, err := verifier.GatherEvidence(context.Background(), tiles, policy, b.Note(7), b.Note(9))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(honest.Text())
	heads := map[verifier.Checkpoint]*logtest.History{}
	for n := range 8 {
		heads[a.Head(n)] = a
	}
	for n := range 10 {
		if n > 3 {
			heads[b.Head(n)] = b
		}
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		e, err := checkEvidence(file, func(origin string) *verifier.Policy {
			if origin == fuzzOrigin {
				return policy
			}
			return nil
		})
		if err != nil {
			return
		}
		first, second := heads[e.pair[0]], heads[e.pair[1]]
		if first == nil || second == nil || first == second || e.Origin != fuzzOrigin {
			t.Errorf("%q convicts", file)
		}
	})
}

type fileSource struct{ h *logtest.History }

func (s fileSource) Get(_ context.Context, path string, _ int64) ([]byte, error) {
	if b, ok := s.h.File("/" + path); ok {
		return b, nil
	}
	return nil, fs.ErrNotExist
}

// FuzzMirrorFile: what a mirror makes of a damaged file has the right length, or is an error.
func FuzzMirrorFile(f *testing.F) {
	key := logtest.NewKey(f, fuzzOrigin)
	h := logtest.New(f, key, "a", 300)
	for _, path := range []string{"tile/0/000", "tile/1/000.p/1", "tile/entries/001.p/44", "tile/entries/000"} {
		b, ok := h.File("/" + path)
		if !ok {
			f.Fatal(path)
		}
		f.Add(path, b)
		f.Add(path, b[:len(b)-1])
	}
	f.Add("tile/entries/000.p/3", []byte{0xff, 0xff, 0})
	f.Add("../book", []byte{})
	f.Fuzz(func(t *testing.T, path string, data []byte) {
		tile, err := verifier.ParseTilePath(path)
		if err != nil {
			return
		}
		m := &mirror{dir: t.TempDir(), dirty: map[string]bool{}, head: &Head{Checkpoint: verifier.Checkpoint{Size: 300}}}
		file := m.file(tile)
		if !filepath.IsLocal(strings.TrimPrefix(file, m.dir+"/")) || len(file) > 300 {
			return
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := m.Get(t.Context(), path, int64(verifier.MaxBundleBytes))
		if err != nil {
			return
		}
		if !bytes.HasPrefix(data, b) || uint64(tile.Width) > widthIn(tile, 300) {
			t.Errorf("%s: %d bytes of %d", path, len(b), len(data))
		}
		if tile.Level != verifier.EntriesLevel && len(b) != 32*tile.Width {
			t.Errorf("%s: %d bytes", path, len(b))
		}
		if tile.Level == verifier.EntriesLevel {
			if _, err := verifier.ParseBundle(b, tile.Width); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	})
}
