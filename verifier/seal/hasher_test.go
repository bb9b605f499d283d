package seal

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"math/rand/v2"
	"testing"
	"time"
)

// TestHasher: it says what crypto/sha256 says, and by the short way.
func TestHasher(t *testing.T) {
	if !readsState {
		t.Error("crypto/sha256 gives its state in another form: hashing takes twice as long")
	}
	defer func(was bool) { readsState = was }(readsState)
	var h hasher
	for _, readsState = range []bool{readsState, false} {
		for n := range 1000 {
			text := random(n)
			h.msg = append(h.msg[:0], text...)
			if h.sum() != sha256.Sum256(text) {
				t.Fatalf("hash of %d bytes", n)
			}
		}
		for n := 1; n <= maxFields; n++ {
			var tree rooter
			hashes := make([]Hash, n)
			for i := range hashes {
				hashes[i] = Hash(random(len(Hash{})))
				tree.add(hashes[i])
			}
			if h.fold(hashes) != tree.root() {
				t.Fatalf("tree of %d hashes", n)
			}
		}
	}
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// TestParserLeafHash: one parser for all openings gives the leaf hashes of Opening, and
// neither allocates.
func TestParserLeafHash(t *testing.T) {
	var p Parser
	for _, text := range []string{minimal, full, typical, minimal} {
		s := sealed(t, text)
		less, err := opened(t, s.Opening).Erase(12, "/actor", "/target/0")
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range [][]byte{s.Opening, less.Bytes()} {
			if _, err := p.Parse(b); err != nil || p.LeafHash() != s.LeafHash || p.LeafHash() != s.LeafHash {
				t.Errorf("leaf hash of %s: %v", b, err)
			}
		}
	}
	b := sealed(t, typical).Opening
	n := testing.AllocsPerRun(100, func() { _, _ = p.Parse(b); p.LeafHash() })
	h := &p.hasher
	state := testing.AllocsPerRun(100, func() { h.state, _ = h.digest.AppendBinary(h.state[:0]) }) // 0, but for the race detector
	if calls, _ := hashCost(opened(t, b)); n > state*float64(calls) {
		t.Errorf("%v allocations an opening", n)
	}
}

func TestAppendHash(t *testing.T) {
	for range 10_000 {
		h := Hash(random(len(Hash{})))
		if got, want := appendHash([]byte("x"), &h), "x"+base64.StdEncoding.EncodeToString(h[:]); string(got) != want {
			t.Fatalf("%x: %s, want %s", h, got, want)
		}
	}
}

func TestAppendSecond(t *testing.T) {
	for _, at := range []int64{0, 59, 951782400, 4107542399, lastSecond} {
		at := time.Unix(at, 0).In(time.FixedZone("", 3600))
		if got := appendSecond([]byte("x"), at); string(got) != "x"+at.UTC().Format(timeStyle) {
			t.Errorf("%v: %s", at, got)
		}
	}
	for range 10_000 {
		at := time.Unix(rand.Int64N(lastSecond+1), 0)
		if got := appendSecond(nil, at); !bytes.Equal(got, at.UTC().AppendFormat(nil, timeStyle)) {
			t.Fatalf("%v: %s", at, got)
		}
	}
}
