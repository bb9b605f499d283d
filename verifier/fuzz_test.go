package verifier

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

// fuzzLog is small, so that seeds are.
func fuzzLog(f *testing.F) *testLog { return newTestLog(f, 3) }

func FuzzParseCheckpoint(f *testing.F) {
	f.Add(Checkpoint{testOrigin, 42, Hash{1}}.Text())
	f.Add(Checkpoint{"a", 0, EmptyRoot}.Text())
	f.Add("a\n01\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		if c, err := ParseCheckpoint(text); err == nil && c.Text() != text {
			t.Errorf("%q has two spellings", text)
		}
	})
}

// FuzzPolicyVerify: whatever is done to a note, what it says stays what was signed.
func FuzzPolicyVerify(f *testing.F) {
	l := fuzzLog(f)
	f.Add(l.files["checkpoint"])
	f.Add(append(l.files["checkpoint"], "— b AAAAAAAA\n"...))
	want, _, err := l.policy.Verify(l.files["checkpoint"])
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, note []byte) {
		got, _, err := l.policy.Verify(note)
		if err == nil && got != want {
			t.Errorf("%q: forged", note)
		}
		if err != nil && !errors.Is(err, ErrFailed) {
			t.Errorf("error %v", err)
		}
	})
}

func FuzzParsePolicy(f *testing.F) {
	_, log := testKey(f, testOrigin)
	_, w1 := testWitness(f, "w1")
	_, w2 := testWitness(f, "w2")
	f.Add([]byte("log " + log + " https://example.com/\nwitness a " + w1 + "\nwitness b " + w2 + "\ngroup g 2 a b\nquorum g\n"))
	f.Add([]byte("# x\nlog " + log + "\nquorum none\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePolicy(b)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "parse policy: ") {
				t.Errorf("%q: error %v", b, err)
			}
			return
		}
		for _, w := range p.Witnesses() {
			if p.names[w.Name] == nil || p.names["none"] != nil {
				t.Errorf("%q: the witness %q has no name", b, w.Name)
			}
		}
		if p.Origin() == "" || p.quorum != nil && p.quorum.met(map[int]bool{}) {
			t.Errorf("%q: met by nobody", b)
		}
	})
}

func FuzzParseReceipt(f *testing.F) {
	l := fuzzLog(f)
	f.Add(testReceipt(f, l, 1).Bytes())
	f.Add([]byte(receiptHeader + "index 0\n\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := ParseReceipt(b); err == nil && !bytes.Equal(r.Bytes(), b) {
			t.Errorf("%q has two spellings", b)
		}
		if v, err := VerifyReceipt(b, l.policy); err == nil && !bytes.Equal(b, testReceipt(t, l, v.Index).Bytes()) && v.Content == seal.Verified {
			// Only lines of unknown keys may be added to the checkpoint.
			r, _ := ParseReceipt(b)
			if c, _, err := l.policy.Verify(r.Checkpoint); err != nil || c.Size != 3 {
				t.Errorf("%q: forged", b)
			}
		}
	})
}

func FuzzParseTilePath(f *testing.F) {
	for _, s := range []string{"tile/0/000", "tile/63/x001/234.p/255", "tile/entries/x001/x000/067.p/1", "tile/0/x000/000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, path string) {
		tile, err := ParseTilePath(path)
		if err == nil && (tile.Path() != path || tile.Width < 1 || tile.Width > 256 || tile.Level < -1 || tile.Level > 63 || tile.N > MaxTreeSize) {
			t.Errorf("%q: %+v", path, tile)
		}
	})
}

func FuzzParseBundle(f *testing.F) {
	l := fuzzLog(f)
	f.Add(l.files["tile/entries/000.p/3"], 3)
	f.Add([]byte{0, 1, 'a', 0, 0}, 2)
	f.Fuzz(func(t *testing.T, b []byte, width int) {
		if width < 1 || width > TileWidth {
			return
		}
		entries, err := ParseBundle(b, width)
		if err != nil {
			return
		}
		var again []byte
		for _, e := range entries {
			again, _ = AppendEntry(again, e)
		}
		if len(entries) != width || !bytes.Equal(again, b) {
			t.Errorf("%x: not the same again", b)
		}
	})
}

func FuzzParseLeaf(f *testing.F) {
	l := fuzzLog(f)
	f.Add(l.leaves[0])
	f.Add(bytes.Replace(l.leaves[0], []byte("2026-01-31"), []byte("2026-02-31"), 1))
	f.Fuzz(func(t *testing.T, leaf []byte) {
		at, err := ParseLeaf(leaf)
		if err == nil && (len(leaf) != leafLen || at.Format("2006-01-02T15:04:05Z") != string(leaf[timeAt:tailAt])) {
			t.Errorf("%q: %v", leaf, at)
		}
	})
}

func FuzzParseState(f *testing.F) {
	l := fuzzLog(f)
	var tree CompactRange
	for _, leaf := range l.leaves {
		tree.Append(LeafHash(leaf))
	}
	m := &mark{tree: &tree, lastTime: testStart}
	b, err := (&auditState{head: l.files["checkpoint"], checked: m, opened: m}).bytes()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	m.sources = newSources()
	for _, seq := range []uint64{1, 2, 9, 4, 1 << 63, 2} {
		m.sources.add(&sourceEvent{tenant: "default", source: "cron://a/", seq: seq})
	}
	m.sources.by[sourceKey{"default", "cron://a/"}].beat(Heartbeat{3, testStart, testStart, 8, 7, 60, held(4), 1})
	if b, err = (&auditState{head: l.files["checkpoint"], checked: m, opened: m}).bytes(); err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	for _, at := range []string{"2026-01-31T00:00:00Z", "0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0000-01-01T00:00:00+01:00"} {
		f.Add([]byte(`{"v":"prooftrail.audit-state/1","head":"","checked":{"size":0,"hashes":[],"last_time":"` + at + `"}}`))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseState(b)
		if err != nil {
			return
		}
		again, err := s.bytes()
		if err != nil {
			t.Fatal(err)
		}
		s2, err := parseState(again)
		if err != nil || !bytes.Equal(s2.head, s.head) || (s2.opened == nil) != (s.opened == nil) {
			t.Fatalf("%s: not the same again: %v", b, err)
		}
		if third, err := s2.bytes(); err != nil || !bytes.Equal(third, again) {
			t.Errorf("%s became %s: %v", again, third, err)
		}
	})
}

func FuzzParseOpeningLine(f *testing.F) {
	l := fuzzLog(f)
	f.Add([]byte(`{"index":0,"opening":` + string(l.openings[0]) + `}`))
	f.Add([]byte(`{"index":17,"opening":null,"reason":"tenant"}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		got, err := ParseOpeningLine(line)
		if err != nil {
			return
		}
		if (got.Opening == nil) == (got.Reason == "") {
			t.Errorf("%q: %+v", line, got)
		}
		if again := AppendOpeningLine(nil, got); got.Opening != nil && string(again) != string(line)+"\n" {
			t.Errorf("%q: has two spellings", line)
		}
	})
}
