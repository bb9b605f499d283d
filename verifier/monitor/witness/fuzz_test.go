package witness_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// FuzzRequest: what is accepted has one spelling, and the rest is malformed.
func FuzzRequest(f *testing.F) {
	l := newLog(f, testOrigin, "", 99, 12)
	for _, r := range []witness.Request{l.request(f, 0, 5), l.request(f, 5, 12), l.request(f, 7, 7), {Proof: make([]verifier.Hash, 63)}} {
		f.Add(r.Bytes())
	}
	for _, s := range []string{"", "old", "old 0\n\n", "old -1\n\n", "old 9223372036854775808\n\n", "old 1\nAAAA\n\nx\n", "old 1\r\n\r\n", "\n\nold 1\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := witness.ParseRequest(body)
		if err != nil {
			if !errors.Is(err, witness.ErrMalformed) {
				t.Errorf("error %v", err)
			}
			return
		}
		if !bytes.Equal(r.Bytes(), body) {
			t.Errorf("%q became %q", body, r.Bytes())
		}
	})
}
