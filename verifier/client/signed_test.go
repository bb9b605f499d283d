package client

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

func newSourceSigner(t testing.TB, name string) *SourceSigner {
	t.Helper()
	skey, vkey, err := GenerateSourceKey(name)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ParseSourceSigner(skey)
	if err != nil || s.VKey() != vkey || s.Name() != name {
		t.Fatalf("%s: %v", vkey, err)
	}
	return s
}

// signingClient is a client of a log that takes only what it signs.
func (f *fakeLog) signingClient(s *SourceSigner) *Client {
	f.sourceKey = s.public
	return f.client(func(c *Config) { c.Signer = s })
}

func TestSubmitSigned(t *testing.T) {
	f, s := newFakeLog(t), newSourceSigner(t, "node-7.example.com")
	c := f.signingClient(s)
	r, err := c.Submit(t.Context(), rawEvent("a"))
	if err != nil || !r.Verified() || seal.CheckSource(r.Verdict.Opening, s.public) != nil {
		t.Fatalf("%+v, %v", r, err)
	}
	again, err := c.Submit(t.Context(), rawEvent("a")) // with other salts
	if err != nil || again.Status != Duplicate || again.Index != r.Index || !again.Verified() {
		t.Errorf("sent again: %+v, %v", again, err)
	}
	by := uint64(9)
	f.hide(0, &by, "/actor/id", "/ingest/signature")
	again, err = c.Submit(t.Context(), rawEvent("a"))
	if err != nil || !slices.Equal(again.Uncompared, []string{"/actor/id", "/ingest/signature"}) {
		t.Errorf("after an erasure: %+v, %v", again, err)
	}
	signed, err := c.submission([]byte("\n" + string(rawEvent("b")) + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	plain := f.client(nil)
	if r, err := plain.Submit(t.Context(), signed.raw); err != nil || !r.Verified() {
		t.Errorf("an envelope that another has signed: %+v, %v", r, err)
	}
	if r, err := plain.Submit(t.Context(), rawEvent("c")); err == nil {
		t.Errorf("unsigned: %+v", r)
	}
	wrong := strings.Replace(string(signed.raw), `"/id":"`, `"/idd":"`, 1)
	if r, err := plain.Submit(t.Context(), []byte(wrong)); !errors.Is(err, ErrRefused) || r.Status != Rejected {
		t.Errorf("an envelope without a salt: %+v, %v", r, err)
	}
	results, err := c.SubmitBatch(t.Context(), [][]byte{rawEvent("d"), []byte("{}"), signed.raw, []byte(strings.ReplaceAll(string(rawEvent("e")), ",", ",\n"))})
	if err != nil || !results[0].Verified() || results[1].Status != Rejected || results[2].Status != Duplicate || !results[2].Verified() || !results[3].Verified() {
		t.Errorf("a batch: %+v, %v", results, err)
	}
}

// TestStrippedSignature: what a log does to a signature shows in the receipt.
func TestStrippedSignature(t *testing.T) {
	s, other := newSourceSigner(t, "node-7.example.com"), newSourceSigner(t, "node-7.example.com")
	for name, sealAs := range map[string]func(*seal.Envelope){
		"stripped":         func(e *seal.Envelope) { e.Signature = "" },
		"salts of its own": func(e *seal.Envelope) { e.Salts = nil },
		"one other salt":   func(e *seal.Envelope) { e.Salts["/id"] = [16]byte{1} },
		"by another key": func(e *seal.Envelope) {
			f, err := event.Parse(rawEvent("a"))
			if err != nil {
				t.Fatal(err)
			}
			signed, err := seal.SignEvent(rawEvent("a"), f, other)
			if err != nil {
				t.Fatal(err)
			}
			*e = *signed
		},
		"the same key's of another event": func(e *seal.Envelope) {
			f, err := event.Parse(rawEvent("b"))
			if err != nil {
				t.Fatal(err)
			}
			signed, err := seal.SignEvent(rawEvent("b"), f, s)
			if err != nil {
				t.Fatal(err)
			}
			e.Signature = signed.Signature
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeLog(t)
			f.sealAs = func(_ int, e *seal.Envelope) { sealAs(e) }
			c := f.signingClient(s)
			r, err := c.Submit(t.Context(), rawEvent("a"))
			var bad *ReceiptError
			if !errors.As(err, &bad) || r.Verified() || r.Verdict != nil || len(bad.Receipt) == 0 {
				t.Errorf("accepted: %+v, %v", r, err)
			}
			r, err = c.Submit(t.Context(), rawEvent("a"))
			if !errors.Is(err, ErrUnsigned) || errors.Is(err, verifier.ErrFailed) || r.Status != Duplicate || r.Verified() {
				t.Errorf("a duplicate: %+v, %v", r, err)
			}
		})
	}
	f := newFakeLog(t)
	f.spoil = func(_ int, r *verifier.Receipt) {
		if o, err := seal.ParseOpening(r.Extra); err == nil {
			if less, err := o.Withhold("/ingest/signature"); err == nil {
				r.Extra = less.Bytes()
			}
		}
	}
	if r, err := f.signingClient(s).Submit(t.Context(), rawEvent("a")); !errors.Is(err, verifier.ErrFailed) {
		t.Errorf("withheld: %+v, %v", r, err)
	}
}

// TestSignedBatchIsSplit: events that fit into one request, and with their envelopes don't.
func TestSignedBatchIsSplit(t *testing.T) {
	f, s := newFakeLog(t), newSourceSigner(t, "node-7.example.com")
	c := f.signingClient(s)
	var raws [][]byte
	for i := range 33 {
		e := strings.TrimSuffix(string(rawEvent(fmt.Sprint("e", i))), "}")
		raws = append(raws, []byte(e+`,"details":{"text":"`+strings.Repeat("x", MaxBatchBytes/33-len(e)-30)+`"}}`))
	}
	results, err := c.SubmitBatch(t.Context(), raws)
	if err != nil || len(f.bodies) != 2 {
		t.Fatalf("%d requests, %v", len(f.bodies), err)
	}
	for i := range results {
		if !results[i].Verified() {
			t.Errorf("%d: %+v", i, results[i])
		}
	}
}

// TestQueueSigned: all that a queue sends is signed, and when it is put into the spool: sent again, by another process and
// whatever that signs with, it is the same to the byte.
func TestQueueSigned(t *testing.T) {
	f, s := newFakeLog(t), newSourceSigner(t, "node-7.example.com")
	f.sourceKey = s.public
	tried, once := make(chan struct{}), sync.Once{}
	f.answer = func(w http.ResponseWriter, r *http.Request) bool {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		f.bodies = append(f.bodies, string(body))
		f.problem(w, 503, "busy")
		once.Do(func() { close(tried) })
		return true
	}
	dir := queueDir(t)
	q := f.queue(dir, func(c *Config, _ *QueueConfig) { c.Signer = s })
	enqueue(t, q, 1, 20)
	<-tried
	if err := q.Close(); err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.answer = nil })
	q = f.queue(dir, func(c *Config, _ *QueueConfig) { c.Signer = newSourceSigner(t, "another") })
	flush(t, q)
	f.expectLogged(20)
	sent := strings.Join(f.bodies[1:], "")
	for line := range strings.Lines(f.bodies[0]) {
		if !strings.Contains(sent, line) {
			t.Errorf("sent first, and then otherwise: %s", line)
		}
	}
	for i, e := range f.entries {
		o, err := seal.ParseOpening(e.sealed.Opening)
		if err == nil {
			err = seal.CheckSource(o, s.public)
		}
		if err != nil {
			t.Errorf("entry %d: %v", i, err)
		}
	}
	if st := q.Stats(); st.Accused || st.Logged != 20 {
		t.Errorf("%+v", st)
	}
}

// TestQueueSignsItsOwn: heartbeats are signed as well.
func TestQueueSignsItsOwn(t *testing.T) {
	f, s := newFakeLog(t), newSourceSigner(t, "node-7.example.com")
	f.sourceKey = s.public
	q := f.queue(queueDir(t), func(c *Config, qc *QueueConfig) { c.Signer, qc.Heartbeat = s, time.Hour })
	if got, err := q.Enqueue(t.Context(), queueEvent("a"), Required); err != nil || !got.Result.Verified() {
		t.Errorf("%+v, %v", got, err)
	}
	waitSeq(t, q, 2)
	flush(t, q)
	if st := q.Stats(); st.Logged != 2 || st.Failures != 0 {
		t.Errorf("%+v", st)
	}
}

// TestQueueStripped: a log that strips signatures is accused, and nothing leaves the spool.
func TestQueueStripped(t *testing.T) {
	f, s := newFakeLog(t), newSourceSigner(t, "node-7.example.com")
	f.sealAs = func(_ int, e *seal.Envelope) { e.Signature = "" }
	alarms := make(chan error, 100)
	q := f.queue(queueDir(t), func(c *Config, qc *QueueConfig) { c.Signer, qc.Alarm = s, func(err error) { alarms <- err } })
	got, err := q.Enqueue(t.Context(), queueEvent("a"), Required)
	if !errors.Is(err, ErrNotLogged) || !errors.Is(err, verifier.ErrFailed) {
		t.Errorf("%+v, %v", got, err)
	}
	if err := <-alarms; !errors.Is(err, verifier.ErrFailed) {
		t.Errorf("the alarm: %v", err)
	}
	if err := <-alarms; !errors.Is(err, ErrUnsigned) { // it is a duplicate by now
		t.Errorf("the next alarm: %v", err)
	}
	if st := q.Stats(); !st.Accused || st.Waiting != 1 || st.Logged != 0 {
		t.Errorf("%+v", st)
	}
}

// TestQueueUnregistered: as long as its key isn't registered, all stays in the spool.
func TestQueueUnregistered(t *testing.T) {
	f, s := newFakeLog(t), newSourceSigner(t, "node-7.example.com")
	f.sourceKey = newSourceSigner(t, "another").public
	alarms := make(chan error, 100)
	q := f.queue(queueDir(t), func(c *Config, qc *QueueConfig) { c.Signer, qc.Alarm = s, func(err error) { alarms <- err } })
	enqueue(t, q, 1, 3)
	if err := <-alarms; !errors.Is(err, ErrForbidden) {
		t.Errorf("the alarm: %v", err)
	}
	f.set(func() { f.sourceKey = s.public })
	flush(t, q)
	f.expectLogged(3)
}

func TestSourceSignerFiles(t *testing.T) {
	skey, vkey, err := GenerateSourceKey("node-7.example.com")
	if err != nil {
		t.Fatal(err)
	}
	write := func(text string, mode os.FileMode) string {
		file := filepath.Join(t.TempDir(), "key")
		if err := errors.Join(os.WriteFile(file, []byte(text), 0o600), os.Chmod(file, mode)); err != nil {
			t.Fatal(err)
		}
		return file
	}
	if s, err := ReadSourceSigner(write(skey+"\n", 0o600)); err != nil || s.VKey() != vkey {
		t.Errorf("%v", err)
	}
	for name, file := range map[string]string{
		"others may read it": write(skey, 0o640), "the public key": write(vkey, 0o600), "empty": write("", 0o600), "not there": filepath.Join(t.TempDir(), "none"),
		"cut": write(skey[:len(skey)-4], 0o600), "two": write(skey+"\n"+skey, 0o600), "long": write(strings.Repeat("x", 5000), 0o600),
		"another name": write(strings.Replace(skey, "node-7", "node-8", 1), 0o600),
	} {
		if _, err := ReadSourceSigner(file); err == nil || strings.Contains(err.Error(), skey[40:]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewSourceSigner("node-7", ec); err == nil {
		t.Error("a key of another kind")
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a b", "a+b", strings.Repeat("x", verifier.MaxSourceKeyName+1)} {
		if _, err := NewSourceSigner(name, private); err == nil {
			t.Errorf("a key named %q", name)
		}
		if _, _, err := GenerateSourceKey(name); err == nil {
			t.Errorf("a key was made with the name %q", name)
		}
	}
}

// failingKey is a device that fails.
type failingKey struct{ ed25519.PrivateKey }

func (failingKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the device is gone")
}

// TestSignerFails: what can't be signed isn't sent, and isn't called invalid.
func TestSignerFails(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSourceSigner("node-7", failingKey{private})
	if err != nil {
		t.Fatal(err)
	}
	f := newFakeLog(t)
	c := f.client(func(c *Config) { c.Signer = s })
	if r, err := c.Submit(t.Context(), rawEvent("a")); !errors.Is(err, errCantSign) || r.Status != "" {
		t.Errorf("%+v, %v", r, err)
	}
	if rs, err := c.SubmitBatch(t.Context(), [][]byte{rawEvent("a")}); err != nil || !errors.Is(rs[0].Err, errCantSign) || rs[0].Status != "" {
		t.Errorf("%+v, %v", rs, err)
	}
	if len(f.bodies) > 0 {
		t.Error("it was sent")
	}
}

// FuzzParseSourceSigner: what is read is a key that signs under its own name.
func FuzzParseSourceSigner(f *testing.F) {
	skey, vkey, err := note.GenerateKey(strings.NewReader(strings.Repeat("a", 32)), "node-7.example.com")
	if err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{skey, vkey, "", skey + "\n", strings.Replace(skey, "node-7", "node-8", 1), skey[:len(skey)-4], "PRIVATE+KEY+a+00000000+AQ=="} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := ParseSourceSigner(text)
		if err != nil {
			return
		}
		sig, err := s.Sign([]byte("x"))
		if err != nil || !s.public.Verify([]byte("x"), sig) || !strings.HasPrefix(text, "PRIVATE+KEY+"+s.Name()+"+") {
			t.Errorf("%q: a key named %q, %v", text, s.Name(), err)
		}
	})
}

// FuzzReadSubmission: what is read from a caller or a spool goes over the wire on one line, and is the same there.
func FuzzReadSubmission(f *testing.F) {
	skey, _, err := note.GenerateKey(strings.NewReader(strings.Repeat("a", 32)), "node-7.example.com")
	if err != nil {
		f.Fatal(err)
	}
	s, err := ParseSourceSigner(skey)
	if err != nil {
		f.Fatal(err)
	}
	plain, err := readSubmission(rawEvent("a"))
	if err != nil {
		f.Fatal(err)
	}
	signed := plain
	if err := signed.sign(s); err != nil {
		f.Fatal(err)
	}
	for _, text := range []string{string(plain.raw), string(signed.raw), " " + string(signed.raw) + "\n", strings.ReplaceAll(string(signed.raw), ",", ",\r\n"),
		strings.ReplaceAll(string(plain.raw), ",", ",\n"), `{"event":{}}`, strings.Replace(string(signed.raw), `"/id":`, `"/idd":`, 1)} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := readSubmission(data)
		if err != nil {
			if p := localProblem(err); !errors.Is(p, ErrRefused) || p.Code == "" {
				t.Errorf("%q: %v", data, p)
			}
			return
		}
		line := s.line()
		again, err := readSubmission(line)
		if err != nil || strings.ContainsAny(string(line), "\r\n") || string(again.fields.JSON()) != string(s.fields.JSON()) || (again.envelope == nil) != (s.envelope == nil) {
			t.Fatalf("%q goes out as %q: %v", data, line, err)
		}
		if s.envelope != nil && (again.envelope.Signature != s.envelope.Signature || !maps.Equal(again.envelope.Salts, s.envelope.Salts)) {
			t.Errorf("%q goes out as %q, with another signature", data, line)
		}
	})
}
