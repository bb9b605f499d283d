package verifier

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier/internal/vectors"
)

// fuzzVectors are vectors as seeds: the same in every process that fuzzes.
func fuzzVectors(f *testing.F, kind string) []vectors.Case {
	f.Helper()
	cases, err := vectors.Load(filepath.Join(vectorDir, kind))
	if err != nil {
		f.Fatal(err)
	}
	return cases
}

// FuzzParseVkey: a verifier key has one spelling. The key ID is made here, for nobody
// guesses a SHA-256.
func FuzzParseVkey(f *testing.F) {
	f.Add("example.com/audit", byte(typeEd25519), make([]byte, ed25519KeySize), "")
	f.Add("witness.example/w1", byte(typeCosignature), make([]byte, ed25519KeySize), "\n")
	f.Add("w", byte(typeMLDSA44), make([]byte, mldsa44KeySize), "")
	f.Fuzz(func(t *testing.T, name string, typ byte, public []byte, tail string) {
		_, s := encodeKey(name, typ, nil, public)
		k, err := parseVkey(s+tail, typeEd25519, typeCosignature, typeMLDSA44)
		if err != nil {
			return
		}
		if tail != "" || k.name != name || k.typ != typ || !bytes.Equal(k.public, public) || k.verify == nil {
			t.Errorf("%q was read as %+v", s+tail, k)
		}
		if strings.ContainsAny(name, "+ \n") || name == "" {
			t.Errorf("a key with the name %q", name)
		}
	})
}

// FuzzSplitNote: what was taken apart goes together again.
func FuzzSplitNote(f *testing.F) {
	for _, c := range fuzzVectors(f, "checkpoint") {
		f.Add(c.Blocks["note"])
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		text, sigs, err := splitNote(msg)
		if err != nil {
			return
		}
		again := text + "\n"
		for _, s := range sigs {
			raw := append(binary.BigEndian.AppendUint32(nil, s.keyID), s.sig...)
			again += "— " + s.name + " " + b64.EncodeToString(raw) + "\n"
		}
		if again != string(msg) || len(sigs) == 0 || len(sigs) > MaxSignatures {
			t.Errorf("%q became %q", msg, again)
		}
	})
}

// FuzzCosignatures: nothing passes for a cosignature, or a head, but those that were made.
func FuzzCosignatures(f *testing.F) {
	var p *Policy
	cases := fuzzVectors(f, "checkpoint")
	for _, c := range cases {
		if c.Name == "two-of-two" {
			p = mustPolicy(f, string(c.Blocks["policy"]))
		}
	}
	heads, cosigned := map[Checkpoint]bool{}, map[Cosignature]bool{}
	for _, c := range cases {
		f.Add(c.Blocks["note"])
		text, sigs, _ := bytes.Cut(c.Blocks["note"], []byte("\n\n"))
		lines := bytes.SplitAfter(sigs, []byte("\n"))
		for i := range lines { // each by itself: of a note that is refused some may be good
			one := slices.Concat(text, []byte("\n\n"), lines[0])
			if i > 0 {
				one = append(one, lines[i]...)
			}
			if head, w, err := p.Verify(one); err == nil {
				heads[head] = true
				for _, cs := range w.Cosigned {
					cosigned[cs] = true
				}
			}
		}
	}
	if len(heads) == 0 || len(cosigned) < 2 {
		f.Fatalf("the vectors have %d heads and %d cosignatures", len(heads), len(cosigned))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		head, w, err := p.Verify(msg)
		if err != nil {
			return
		}
		if !heads[head] || w.Status == Quorum && len(w.Cosigned) != 2 {
			t.Errorf("%q: %+v, %+v", msg, head, w)
		}
		for i, cs := range w.Cosigned {
			if !cosigned[cs] || i > 0 && w.Cosigned[0].Witness == cs.Witness {
				t.Errorf("%q: cosignature %+v", msg, cs)
			}
		}
	})
}

// FuzzEvidence: an evidence file that is read comes back byte for byte, and never accuses a log
// that did no wrong.
func FuzzEvidence(f *testing.F) {
	innocent := map[[2]string]bool{} // pairs of heads of one history
	var p *Policy
	var key note.Verifier
	for _, c := range fuzzVectors(f, "checkpoint/evidence") {
		f.Add(c.Blocks["evidence"])
		p = mustPolicy(f, string(c.Blocks["policy"])) // the same in all
		line, _, _ := strings.Cut(strings.TrimPrefix(string(c.Blocks["policy"]), "log "), "\n")
		var err error
		if key, err = note.NewVerifier(line); err != nil {
			f.Fatal(err)
		}
		if e, err := ParseEvidence(c.Blocks["evidence"]); err == nil && (strings.HasPrefix(c.Name, "consistent") || c.Name == "from-0") {
			innocent[[2]string{noteText(e.First), noteText(e.Second)}] = true
		}
	}
	if len(innocent) != 3 {
		f.Fatalf("%d vectors of an innocent log", len(innocent))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseEvidence(b)
		if err != nil {
			return
		}
		if !bytes.Equal(e.Text(), b) {
			t.Fatalf("%q became %q", b, e.Text())
		}
		if _, err := e.Check(p); err != nil {
			return
		}
		for _, n := range [][]byte{e.First, e.Second} {
			if !signedOnce(n, key) {
				t.Errorf("%q: proven by what the log didn't sign", b)
			}
		}
		first, second := noteText(e.First), noteText(e.Second)
		if first == second || innocent[[2]string{first, second}] {
			t.Errorf("%q accuses an honest log", b)
		}
	})
}

// signedOnce reports whether a note holds, with one of its signature lines alone.
func signedOnce(n []byte, key note.Verifier) bool {
	text, lines, _ := strings.Cut(string(n), "\n\n")
	for line := range strings.Lines(lines) {
		if _, err := note.Open([]byte(text+"\n\n"+line), note.VerifierList(key)); err == nil {
			return true
		}
	}
	return false
}

func noteText(n []byte) string {
	text, _, _ := strings.Cut(string(n), "\n\n")
	return text
}

// FuzzParseTile: a tile is its hashes, one after another.
func FuzzParseTile(f *testing.F) {
	f.Add(make([]byte, 64), 2)
	f.Add(make([]byte, MaxTileBytes), TileWidth)
	f.Add(make([]byte, 33), 1)
	f.Fuzz(func(t *testing.T, b []byte, width int) {
		if width < 1 || width > TileWidth {
			return
		}
		hashes, err := ParseTile(b, width)
		if (err == nil) != (len(b) == 32*width) {
			t.Fatalf("%d bytes, width %d: %v", len(b), width, err)
		}
		if err == nil && (len(hashes) != width || !bytes.Equal(EncodeTile(hashes), b)) {
			t.Errorf("%x: not the same again", b)
		}
	})
}

// FuzzNewCompactRange: a range has as many hashes as its size has bits, and keeps them.
func FuzzNewCompactRange(f *testing.F) {
	f.Add(uint64(0), []byte{})
	f.Add(uint64(5), make([]byte, 64))
	f.Add(uint64(1)<<63, make([]byte, 32))
	f.Fuzz(func(t *testing.T, size uint64, raw []byte) {
		hashes, err := ParseTile(raw, len(raw)/32)
		if err != nil {
			return
		}
		r, err := NewCompactRange(size, hashes)
		if err != nil {
			return
		}
		if r.Size() != size || fmt.Sprint(r.hashes) != fmt.Sprint(hashes) || size > MaxTreeSize {
			t.Errorf("size %d with %d hashes became %d with %d", size, len(hashes), r.Size(), len(r.hashes))
		}
	})
}
