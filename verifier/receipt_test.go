package verifier

import (
	"bytes"
	"context"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

// testReceipt is the receipt of entry i of a log, from its public files.
func testReceipt(t testing.TB, l *testLog, i uint64) *Receipt {
	t.Helper()
	r, _, err := FetchReceipt(context.Background(), l, l, l.policy, i)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestReceiptRoundTrip(t *testing.T) {
	l := sharedLog(t, 300)
	for _, i := range []uint64{0, 17, 255, 256, 299} {
		r := testReceipt(t, l, i)
		b := r.Bytes()
		again, err := ParseReceipt(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(r, again) || !bytes.Equal(again.Bytes(), b) {
			t.Errorf("entry %d: not the same again", i)
		}
		if got := r.Append([]byte("prefix")); string(got) != "prefix"+string(b) {
			t.Errorf("entry %d: Append differs from Bytes", i)
		}
		if len(b) > r.encodedLen() {
			t.Errorf("entry %d: %d bytes, bound is %d", i, len(b), r.encodedLen())
		}
		v, err := VerifyReceipt(b, l.policy)
		if err != nil || !v.Verified() || v.Content != seal.Verified || v.Index != i || v.Size != 300 || v.Origin != testOrigin {
			t.Errorf("entry %d: %+v, %v", i, v, err)
		}
		if got := v.Event.Text("/id"); !strings.HasPrefix(got, "run-") {
			t.Errorf("entry %d: event id %q", i, got)
		}
	}
}

// TestReceiptLargest: the opening of the largest event fits, and nothing beyond the limit.
func TestReceiptLargest(t *testing.T) {
	r := &Receipt{Index: MaxTreeSize, Proof: make([]Hash, MaxProofHashes), Checkpoint: make([]byte, 100<<10), Extra: make([]byte, seal.MaxOpeningBytes)}
	again, err := ParseReceipt(r.Bytes())
	if err != nil || !reflect.DeepEqual(r, again) {
		t.Errorf("largest opening: %v", err)
	}
	r.Extra = make([]byte, MaxReceiptBytes)
	if _, err := ParseReceipt(r.Bytes()); err == nil {
		t.Error("took more than MaxReceiptBytes")
	}
	r.Extra, r.Proof = nil, make([]Hash, MaxProofHashes+1)
	if _, err := ParseReceipt(r.Bytes()); err == nil {
		t.Error("took more than MaxProofHashes")
	}
	r.Proof, r.Checkpoint = nil, make([]byte, MaxNoteBytes+1)
	if _, err := ParseReceipt(r.Bytes()); err == nil {
		t.Error("took a checkpoint of more than MaxNoteBytes")
	}
}

func TestReceiptSyntax(t *testing.T) {
	hash := strings.Repeat("A", 43) + "=\n"
	tail := "\ncheckpoint"
	for _, good := range []string{
		"index 0\n" + tail,
		"index 7\n" + hash + hash + tail,
		"extra AAAA\nindex 9223372036854775807\n" + tail,
	} {
		r, err := ParseReceipt([]byte(receiptHeader + good))
		if err != nil || string(r.Bytes()) != receiptHeader+good {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{
		"", "index 0\n", "index 0\n\n", "index 0\n" + hash, "index 00\n" + tail, "index 01\n" + tail,
		"index -0\n" + tail, "index\n" + tail, "index \n" + tail, "index 1 \n" + tail, "Index 1\n" + tail,
		"index 9223372036854775808\n" + tail, "index 99999999999999999999\n" + tail,
		"extra AAAA\n" + tail, "extra \nindex 1\n" + tail, "extra\nindex 1\n" + tail, "extra AAA\nindex 1\n" + tail,
		"extra AAB=\nindex 1\n" + tail, "extra AA==\r\nindex 1\n" + tail, "extra AA\r==\nindex 1\n" + tail, "extra A A=\nindex 1\n" + tail,
		"extra AAAA\nextra AAAA\nindex 1\n" + tail, "extra AAAA\n\nindex 1\n" + tail, "index 1\nextra AAAA\n" + tail,
		"index 1\n" + hash[1:] + tail, "index 1\nA" + hash + tail, "index 1\n " + hash + tail,
		"index 1\n" + strings.Repeat("A", 42) + "B=\n" + tail, "index 1\r\n" + tail, "index 1\n\r\ncheckpoint",
		"index 1\n" + strings.Repeat(hash, MaxProofHashes+1) + tail,
	} {
		if _, err := ParseReceipt([]byte(receiptHeader + bad)); err == nil {
			t.Errorf("took %q", bad)
		}
	}
	for _, bad := range []string{"", "c2sp.org/tlog-proof@v1", "c2sp.org/tlog-proof@v2\nindex 0\n" + tail, "\n" + receiptHeader + "index 0\n" + tail} {
		if _, err := ParseReceipt([]byte(bad)); err == nil {
			t.Errorf("took %q", bad)
		}
	}
}

// TestReceiptEveryBit: no single bit of a receipt can be changed.
func TestReceiptEveryBit(t *testing.T) {
	l := newTestLog(t, 3)
	b := testReceipt(t, l, 1).Bytes()
	for i := range b {
		for bit := range 8 {
			b[i] ^= 1 << bit
			v, err := VerifyReceipt(b, l.policy)
			// The log's own note may gain lines or lose them, but not here: one bit breaks something.
			if err == nil || v.Verified() {
				t.Fatalf("byte %d, bit %d: %+v", i, bit, v)
			}
			if !errors.Is(err, ErrFailed) && !errors.Is(err, ErrNoOpening) {
				t.Fatalf("byte %d, bit %d: error %v", i, bit, err)
			}
			b[i] ^= 1 << bit
		}
	}
}

func TestVerifyReceiptFailures(t *testing.T) {
	l := sharedLog(t, 300)
	base := testReceipt(t, l, 17)
	tests := map[string]struct {
		change func(r *Receipt)
		want   string
	}{
		"index":           {func(r *Receipt) { r.Index++ }, "inclusion proof"},
		"index past":      {func(r *Receipt) { r.Index = 300 }, "inclusion proof: index 300 is not in a tree of size 300"},
		"proof":           {func(r *Receipt) { r.Proof[3][0] ^= 1 }, "inclusion proof"},
		"opening":         {func(r *Receipt) { r.Extra = l.openings[18] }, "inclusion proof"},
		"opening garbage": {func(r *Receipt) { r.Extra = []byte("{}") }, "opening is malformed"},
		"checkpoint":      {func(r *Receipt) { r.Checkpoint = []byte("hello\n") }, "checkpoint"},
	}
	for name, tt := range tests {
		r := &Receipt{base.Index, slices.Clone(base.Proof), base.Checkpoint, base.Extra}
		tt.change(r)
		v, err := r.Verify(l.policy)
		if !errors.Is(err, ErrFailed) || v.Content != seal.Failed || v.Inclusion || v.Verified() || v.Event != nil || !strings.HasPrefix(v.Reason, tt.want) {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
	if _, err := VerifyReceipt([]byte("hello"), l.policy); !errors.Is(err, ErrFailed) {
		t.Errorf("no receipt at all: %v", err)
	}
	if _, err := VerifyReceiptLeaf([]byte("hello"), nil, l.policy); !errors.Is(err, ErrFailed) {
		t.Errorf("no receipt at all: %v", err)
	}
}

func TestVerifyReceiptLeaf(t *testing.T) {
	l := sharedLog(t, 300)
	r := testReceipt(t, l, 17)
	v, err := VerifyReceiptLeaf(r.Bytes(), l.leaves[17], l.policy)
	if err != nil || v.Content != seal.Verified || !v.Verified() {
		t.Errorf("with opening: %+v, %v", v, err)
	}
	if _, err := VerifyReceiptLeaf(r.Bytes(), l.leaves[18], l.policy); !errors.Is(err, ErrFailed) {
		t.Errorf("opening of another leaf: %v", err)
	}
	r.Extra = nil
	if _, err := VerifyReceipt(r.Bytes(), l.policy); !errors.Is(err, ErrNoOpening) {
		t.Errorf("without opening and leaf: %v", err)
	}
	v, err = VerifyReceiptLeaf(r.Bytes(), l.leaves[17], l.policy)
	if err != nil || v.Content != NotShown || !v.Verified() || v.Event != nil || !v.Time.Equal(testStart.Add(17e9)) {
		t.Errorf("without opening: %+v, %v", v, err)
	}
	for _, leaf := range [][]byte{nil, {}, l.leaves[18], l.leaves[17][1:], append(bytes.Clone(l.leaves[17]), '\n')} {
		if v, err := VerifyReceiptLeaf(r.Bytes(), leaf, l.policy); !errors.Is(err, ErrFailed) || v.Inclusion {
			t.Errorf("leaf %q: %v", leaf, err)
		}
	}
}

func TestVerifyRedacted(t *testing.T) {
	l := sharedLog(t, 300)
	r := testReceipt(t, l, 17)
	o, err := seal.ParseOpening(r.Extra)
	if err != nil {
		t.Fatal(err)
	}
	if o, err = o.Withhold("/target/0/name"); err != nil {
		t.Fatal(err)
	}
	r.Extra = o.Bytes()
	v, err := r.Verify(l.policy)
	if err != nil || v.Content != seal.VerifiedRedacted || !slices.Contains(v.Withheld, "/target/0/name") {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestFetchReceiptFailures(t *testing.T) {
	ctx := context.Background()
	for name, tt := range map[string]struct {
		corrupt func(l *testLog)
		failed  bool
	}{
		"no checkpoint":     {func(l *testLog) { delete(l.files, "checkpoint") }, false},
		"bad checkpoint":    {func(l *testLog) { l.edit("checkpoint", 3) }, true},
		"too small":         {func(l *testLog) { *l = *newTestLog(l.t, 17) }, false},
		"no bundle":         {func(l *testLog) { delete(l.files, "tile/entries/000") }, true},
		"short bundle":      {func(l *testLog) { l.put("tile/entries/000", []byte{0, 1, 2}) }, true},
		"no tile":           {func(l *testLog) { delete(l.files, "tile/0/000") }, true},
		"short tile":        {func(l *testLog) { l.put("tile/0/000", nil) }, true},
		"opening missing":   {func(l *testLog) { l.lines[17] = `{"index":17,"opening":null,"reason":"missing"}` + "\n" }, true},
		"other opening":     {func(l *testLog) { l.lines[17] = `{"index":18,"opening":{}}` + "\n" }, true},
		"opening line":      {func(l *testLog) { l.lines[17] = "hello\n" }, true},
		"opening cut short": {func(l *testLog) { l.lines[17] = `{"index":17` }, false},
	} {
		l := sharedLog(t, 300)
		tt.corrupt(l)
		_, _, err := FetchReceipt(ctx, l, l, l.policy, 17)
		if err == nil || errors.Is(err, ErrFailed) != tt.failed {
			t.Errorf("%s: error %v", name, err)
		}
	}
	l := sharedLog(t, 300)
	l.lines[17] = `{"index":17,"opening":null,"reason":"tenant"}` + "\n"
	r, leaf, err := FetchReceipt(ctx, l, l, l.policy, 17)
	if err != nil || r.Extra != nil || !bytes.Equal(leaf, l.leaves[17]) {
		t.Errorf("other tenant's: %v", err)
	}
}
