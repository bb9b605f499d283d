package verifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"
)

// hashTree is a tree of leaf hashes: a TileReader at its full size.
type hashTree []Hash

// newHashTree has n leaves; from index fork on they are those of another history.
func newHashTree(n, fork int) hashTree {
	t := make(hashTree, n)
	for i := range t {
		t[i] = LeafHash(fmt.Appendf(nil, "leaf %d %t", i, i >= fork))
	}
	return t
}

func (t hashTree) root(n int) Hash {
	var r CompactRange
	for _, h := range t[:n] {
		r.Append(h)
	}
	return r.Root()
}

func (t hashTree) ReadTile(_ context.Context, tile Tile) ([]byte, error) {
	row := []Hash(t)
	for range tile.Level {
		var next []Hash
		for part := range slices.Chunk(row, TileWidth) {
			next = append(next, subtreeRoot(part))
		}
		row = next
	}
	from := int(tile.N) * TileWidth
	return EncodeTile(row[from : from+tile.Width]), nil
}

// head signs the tree's head at a size.
func (t hashTree) head(tb testing.TB, s note.Signer, n int) []byte {
	tb.Helper()
	b, err := SignCheckpoint(Checkpoint{testOrigin, uint64(n), t.root(n)}, s)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// evidenceSizes are pairs m < n: all small ones, and some about the edges of tiles.
func evidenceSizes() (pairs [][2]int) {
	for n := 1; n <= 34; n++ {
		for m := range n {
			pairs = append(pairs, [2]int{m, n})
		}
	}
	return append(pairs, [][2]int{{255, 256}, {255, 257}, {256, 257}, {256, 300}, {256, 512}, {257, 300}, {300, 600}, {512, 513}, {511, 1025}}...)
}

// TestEvidenceOfForks: for all sizes evidence is gathered that convicts exactly a log that
// forked before the first head, and no other proof convicts.
func TestEvidenceOfForks(t *testing.T) {
	signer, key := testKey(t, testOrigin)
	p := mustPolicy(t, "log "+key+"\nquorum none\n")
	for _, size := range evidenceSizes() {
		m, n := size[0], size[1]
		honest := newHashTree(n, n)
		first := honest.head(t, signer, m)
		if e, err := GatherEvidence(t.Context(), honest, p, honest.head(t, signer, n), first); err != nil || isProof(e, p) {
			t.Fatalf("%d and %d: the honest log is convicted, or %v", m, n, err)
		}
		for _, at := range slices.Compact([]int{0, m / 2, m - 1}) {
			if m == 0 {
				continue
			}
			fork := newHashTree(n, at)
			e, err := GatherEvidence(t.Context(), fork, p, fork.head(t, signer, n), first)
			if err != nil {
				t.Fatal(err)
			}
			got, err := e.Check(p)
			if prefix := fork.root(m); err != nil || got.Prefix != b64.EncodeToString(prefix[:]) {
				t.Fatalf("%d and %d, forked at %d: %+v, %v", m, n, at, got, err)
			}
			againstMerkle(t, m, n, fork, e.Proof)
			spoiltProofs(t, Checkpoint{testOrigin, uint64(m), honest.root(m)}, Checkpoint{testOrigin, uint64(n), fork.root(n)}, e)
		}
	}
}

// isProof reports whether the evidence convicts; what doesn't must be an accusation of it.
func isProof(e *Evidence, p *Policy) bool {
	f, err := e.Check(p)
	return err == nil || f != nil || !errors.Is(err, ErrFailed)
}

// againstMerkle holds a proof against the library's consistency proofs.
func againstMerkle(t *testing.T, m, n int, tree hashTree, proof []Hash) {
	t.Helper()
	seed := tree.root(m)
	if m&(m-1) == 0 {
		if proof[0] != seed {
			t.Errorf("%d and %d: the proof doesn't begin with the root at %d", m, n, m)
		}
		proof = proof[1:]
	}
	if err := CheckConsistency(uint64(m), uint64(n), proof, seed, tree.root(n)); err != nil {
		t.Errorf("%d and %d: %v", m, n, err)
	}
}

// spoiltProofs: a proof convicts as it is, or not at all.
func spoiltProofs(t *testing.T, first, second Checkpoint, e *Evidence) {
	t.Helper()
	proves := func(proof []Hash) bool {
		_, err := (&Evidence{Proof: proof}).prefix(first, second)
		return err == nil
	}
	if !proves(e.Proof) || proves(nil) || proves(e.Proof[1:]) || proves(e.Proof[:len(e.Proof)-1]) || proves(append(slices.Clone(e.Proof), Hash{})) {
		t.Errorf("%d and %d: a proof cut or lengthened convicts, or the whole one doesn't", first.Size, second.Size)
	}
	for i := range e.Proof {
		for _, bit := range []byte{1, 0x80} {
			other := slices.Clone(e.Proof)
			other[i][i%32] ^= bit
			if proves(other) {
				t.Errorf("%d and %d: hash %d changed, and it convicts", first.Size, second.Size, i)
			}
		}
	}
}

// TestHonestHeadsAreInnocent: no proof that can be made from an honest tree, at whatever
// sizes, nor from a fork of it, convicts two heads of one history.
func TestHonestHeadsAreInnocent(t *testing.T) {
	const most = 16
	var proofs [][]Hash
	honest := newHashTree(most, most)
	for n := 1; n <= most; n++ {
		for m := 1; m < n; m++ {
			for _, at := range []int{most, 0, m - 1, m} {
				proof, err := proveFork(t.Context(), newHashTree(most, at)[:n], uint64(m), uint64(n))
				if err != nil {
					t.Fatal(err)
				}
				proofs = append(proofs, proof, proof[1:])
			}
		}
	}
	for n := range most + 1 {
		for m := range n + 1 {
			first, second := Checkpoint{testOrigin, uint64(m), honest.root(m)}, Checkpoint{testOrigin, uint64(n), honest.root(n)}
			for _, proof := range proofs {
				if _, err := (&Evidence{Proof: proof}).prefix(first, second); err == nil {
					t.Fatalf("%d and %d: convicted by %d hashes", m, n, len(proof))
				}
			}
		}
	}
}

// TestEvidenceCosignatures: whatever stands beside the log's good signature changes nothing
// about what it proves, and cosigners are told as far as they verify.
func TestEvidenceCosignatures(t *testing.T) {
	signer, key := testKey(t, testOrigin)
	w1, w1Key := newVectorWitness("w1")
	w2, w2Key := newVectorWitness("w2")
	p := mustPolicy(t, "log "+key+"\nwitness w1 "+w1Key+"\nwitness w2 "+w2Key+"\ngroup both all w1 w2\nquorum both\n")
	honest, fork := newHashTree(5, 5), newHashTree(7, 1)
	one, two := Checkpoint{testOrigin, 5, honest.root(5)}, Checkpoint{testOrigin, 7, fork.root(7)}
	first, second := honest.head(t, signer, 5), fork.head(t, signer, 7)
	logLine := string(second[bytes.LastIndex(second, []byte("— ")):])
	wrongLog := string(first[bytes.LastIndex(first, []byte("— ")):]) // of the other head
	for name, tt := range map[string]struct {
		a, b          string // lines behind the log's
		cosigned      string
		wrong, inBoth string
	}{
		"none":                          {},
		"one each":                      {w1.line(one, 10), w2.line(two, 20), "w1@10 | w2@20", "", ""},
		"one of both":                   {w1.line(one, 10), w2.line(two, 20) + w1.line(two, 30), "w1@10 | w2@20 w1@30", "", "w1"},
		"a cosignature of another head": {"", w1.line(one, 10) + w2.line(two, 20), "- | w2@20", "w1", ""},
		"cosigned twice":                {w1.line(one, 10) + w1.line(one, 11), "", "w1@10 w1@11 | -", "", ""},
		"of the year 10000":             {"", w1.line(two, lastSecond+1), "", "", ""},
		"a wrong line of the log":       {"", wrongLog, "", "", ""},
		"the log's line twice":          {"", logLine, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := slices.Concat(first, []byte(tt.a)), slices.Concat(second, []byte(tt.b))
			e, err := GatherEvidence(t.Context(), fork, p, a, b)
			if err != nil {
				t.Fatal(err)
			}
			f, err := e.Check(p)
			if err != nil {
				t.Fatal(err)
			}
			if tt.cosigned == "" {
				tt.cosigned = "- | -"
			}
			if got := bothCosigners(f); got != tt.cosigned {
				t.Errorf("cosigned %s, expected %s", got, tt.cosigned)
			}
			if got := strings.Join(f.Second.Wrong, " "); got != tt.wrong {
				t.Errorf("wrong %q, expected %q", got, tt.wrong)
			}
			if got := strings.Join(f.CosignedBoth, " "); got != tt.inBoth {
				t.Errorf("in both %q, expected %q", got, tt.inBoth)
			}
		})
	}
}

// bothCosigners writes who cosigned which head as "w1@10 | w2@20".
func bothCosigners(f *Fork) string {
	return cosigners(Witnesses{Cosigned: f.First.Cosigned}) + " | " + cosigners(Witnesses{Cosigned: f.Second.Cosigned})
}

// TestGatherEvidenceRefusals: what can't be gathered isn't evidence.
func TestGatherEvidenceRefusals(t *testing.T) {
	signer, key := testKey(t, testOrigin)
	p := mustPolicy(t, "log "+key+"\nquorum none\n")
	stranger, strangerKey := testKey(t, "example.com/other")
	good := newHashTree(4, 4).head(t, signer, 4)
	other, err := SignCheckpoint(Checkpoint{"example.com/other", 4, Hash{}}, stranger)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range [][]byte{nil, []byte("hello\n"), other, good[:len(good)-1]} {
		for _, pair := range [][2][]byte{{bad, good}, {good, bad}} {
			if e, err := GatherEvidence(t.Context(), hashTree{}, p, pair[0], pair[1]); e != nil || !errors.Is(err, ErrFailed) {
				t.Errorf("%q and %q: %v", pair[0], pair[1], err)
			}
		}
	}
	if _, err := (&Evidence{good, good, nil}).Check(mustPolicy(t, "log "+strangerKey+"\nquorum none\n")); !errors.Is(err, ErrFailed) {
		t.Errorf("another log's policy: %v", err)
	}
	fork := newHashTree(9, 0)
	e, err := GatherEvidence(t.Context(), noTiles{}, p, good, fork.head(t, signer, 9))
	if err == nil || e == nil || isProof(e, p) {
		t.Errorf("without tiles: %v", err)
	}
}

type noTiles struct{}

func (noTiles) ReadTile(context.Context, Tile) ([]byte, error) { return nil, errors.New("gone") }
