// Package witnesstest has a witness for tests.
package witnesstest

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	cosig "github.com/transparency-dev/formats/note"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
)

// Witness is a witness as the specification has it, written for tests alone: what it checks
// is what those who ask it get wrong.
type Witness struct {
	Name   string // in policies, and of its key
	VKey   string
	Signer note.Signer
	policy *verifier.Policy // of the log, without witnesses
	Server *httptest.Server

	mu     sync.Mutex
	head   verifier.Checkpoint
	latest []byte
	calls  []int // the status of each

	// answer, if not nil, takes the place of what the specification says.
	answer func(w http.ResponseWriter, r *http.Request, body []byte) bool
}

func newTestWitness(t *testing.T, l *testLog, name string) *Witness {
	t.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(append([]byte(name+"\n\x04"), public...))
	encode := func(key []byte) string {
		return base64.StdEncoding.EncodeToString(append([]byte{4}, key...))
	}
	w := &Witness{Name: name, VKey: fmt.Sprintf("%s+%x+%s", name, sum[:4], encode(public))}
	if w.Signer, err = cosig.NewSignerForCosignatureV1(fmt.Sprintf("PRIVATE+KEY+%s+%x+%s", name, sum[:4], encode(private.Seed()))); err != nil {
		t.Fatal(err)
	}
	if w.policy, err = verifier.ParsePolicy([]byte("log " + logKey + "\nquorum none\n")); err != nil {
		t.Fatal(err)
	}
	w.Server = httptest.NewServer(w)
	t.Cleanup(w.Server.Close)
	return w
}

// Line is its line in a policy.
func (w *Witness) Line() string {
	return "witness " + w.Name + " " + w.VKey + " " + w.Server.URL + "\n"
}

func (w *Witness) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 10<<10)) // as some do
	if err != nil {
		return
	}
	w.mu.Lock()
	f := w.answer
	w.mu.Unlock()
	if f != nil && f(rw, r, body) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	sum := sha256.Sum256([]byte(w.policy.Origin()))
	if r.Method == http.MethodGet && r.URL.Path == "/"+hex.EncodeToString(sum[:])+"/checkpoint" && w.latest != nil {
		_, _ = rw.Write(w.latest)
		return
	}
	if r.Method != http.MethodPost || r.URL.Path != "/add-checkpoint" {
		rw.WriteHeader(http.StatusNotFound)
		return
	}
	status, answer := w.add(body)
	w.calls = append(w.calls, status)
	if status == http.StatusConflict {
		rw.Header().Set("Content-Type", "text/x.tlog.size")
	}
	rw.WriteHeader(status)
	_, _ = rw.Write(answer)
}

func (w *Witness) add(body []byte) (status int, answer []byte) {
	front, signed, ok := bytes.Cut(body, []byte("\n\n"))
	lines := strings.Split(string(front), "\n")
	old, err := strconv.ParseUint(strings.TrimPrefix(lines[0], "old "), 10, 63)
	if !ok || err != nil {
		return http.StatusBadRequest, nil
	}
	head, _, err := w.policy.Verify(signed)
	if err != nil {
		return http.StatusForbidden, nil
	}
	switch {
	case old > head.Size:
		return http.StatusBadRequest, nil
	case old != w.head.Size:
		return http.StatusConflict, fmt.Appendf(nil, "%d\n", w.head.Size)
	}
	var proof []verifier.Hash
	for _, line := range lines[1:] {
		h, err := base64.StdEncoding.DecodeString(line)
		if err != nil || len(h) != 32 {
			return http.StatusBadRequest, nil
		}
		proof = append(proof, verifier.Hash(h))
	}
	if old == 0 && len(proof) > 0 || old > 0 && verifier.CheckConsistency(old, head.Size, proof, w.head.Root, head.Root) != nil {
		return http.StatusUnprocessableEntity, nil
	}
	cosigned, err := note.Sign(&note.Note{Text: head.Text()}, w.Signer)
	if err != nil {
		return http.StatusInternalServerError, nil
	}
	_, line, _ := bytes.Cut(cosigned, []byte("\n\n"))
	w.head, w.latest = head, append(bytes.Clone(signed), line...)
	return http.StatusOK, line
}

// Statuses returns what it has answered since the last time.
func (w *Witness) Statuses() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return calls
}

// Says has it answer by f, as far as that returns true; nil: as the specification says.
func (w *Witness) Says(f func(rw http.ResponseWriter, r *http.Request, body []byte) bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answer = f
}
