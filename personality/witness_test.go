package personality

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/pebblestore/crashtest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/witnesses/witnesstest"
	"github.com/prooftrail/prooftrail/verifier"
)

// witnessedBy gives a log a policy that wants k of its witnesses; they are quick to be asked,
// and slow to be missed.
func (l *testLog) witnessedBy(k int, ws ...*witnesstest.Witness) {
	l.t.Helper()
	text := "log " + l.vkey + "\n"
	group := fmt.Sprintf("group all-of-them %d", k)
	for _, w := range ws {
		text += w.Line()
		group += " " + w.Name
	}
	var err error
	if l.policy, err = verifier.ParsePolicy([]byte(text + group + "\nquorum all-of-them\n")); err != nil {
		l.t.Fatal(err)
	}
	l.cfg.Witnesses = &WitnessConfig{Policy: l.policy, Every: 10 * time.Millisecond, Refresh: time.Hour, Patience: time.Minute}
	l.cfg.Metrics = NewMetrics(nil)
}

// newWitnessedLog makes a log that wants k of n witnesses.
func newWitnessedLog(t *testing.T, k, n int) (*testLog, []*witnesstest.Witness) {
	t.Helper()
	l := newTestLog(t)
	var ws []*witnesstest.Witness
	for i := range n {
		ws = append(ws, witnesstest.New(t, l.vkey, fmt.Sprintf("w%d", i)))
	}
	l.witnessedBy(k, ws...)
	return l, ws
}

// briefPatience is for those who want the quorum to be lost.
const briefPatience = 300 * time.Millisecond

// eventually waits until it is so.
func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	for began := time.Now(); !so(); <-time.After(2 * time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("waited too long: %s", what)
		}
	}
}

// shownBy is what the log shows: its size, whether the quorum has cosigned it, and the note.
func shownBy(t *testing.T, l *testLog, s *Service) (size uint64, quorum bool, note []byte) {
	t.Helper()
	note, err := s.Checkpoint(context.Background())
	if errors.Is(err, ErrNotFound) {
		return 0, false, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	c, who, err := l.policy.Verify(note)
	if err != nil {
		t.Fatal(err)
	}
	return c.Size, who.Status == verifier.Quorum, note
}

// becomes waits until the log shows a head of that size or more with the quorum.
func (l *testLog) becomes(size uint64) {
	l.t.Helper()
	eventually(l.t, fmt.Sprintf("a cosigned head of size %d", size), func() bool {
		n, quorum, _ := shownBy(l.t, l, l.svc)
		return n >= size && quorum
	})
}

// verdict is that of an event's receipt.
func (l *testLog) verdict(receipt []byte) verifier.Verdict {
	l.t.Helper()
	v, err := verifier.VerifyReceipt(receipt, l.policy)
	if err != nil {
		l.t.Fatal(err)
	}
	return v
}

func (l *testLog) lost() float64 {
	l.t.Helper()
	when := "open"
	if l.cfg.Witnesses.Closed {
		when = "closed"
	}
	if of := l.cfg.Metrics.lost.of.Load(); of == nil || of.when != when {
		l.t.Errorf("the metric tells of %+v, want %s", of, when)
	}
	return testutil.ToFloat64(&l.cfg.Metrics.lost)
}

// TestWitnessed: heads are cosigned and shown, wait=witnessed gives a receipt that verifies
// with the quorum, the receipt of an event that didn't wait is reissued with it, and a restart
// shows what was shown.
func TestWitnessed(t *testing.T) {
	l, ws := newWitnessedLog(t, 2, 3)
	ws[2] = witnesstest.NewOdd(t, l.vkey, "w2")
	l.witnessedBy(2, ws...)
	l.open(nil)
	if size, _, note := shownBy(t, l, l.svc); note != nil && size != 0 {
		t.Errorf("an empty log shows size %d", size)
	}
	for i := range 20 {
		id := fmt.Sprint("e", i)
		r := l.submit(submitter("default"), id, "x", Witnessed)
		if r.Err != nil || r.Receipt == nil || r.Index != uint64(i) {
			t.Fatalf("%+v", r)
		}
		if v := l.verdict(r.Receipt.Bytes()); !v.Verified() || v.Event.Text("/id") != id {
			t.Fatalf("%+v", v)
		}
		if size, quorum, _ := shownBy(t, l, l.svc); size < r.Index+1 || !quorum {
			t.Fatalf("after entry %d was witnessed: size %d, quorum %t", r.Index, size, quorum)
		}
	}
	again := l.submit(submitter("default"), "e3", "x", Witnessed)
	if again.Status != StatusDuplicate || again.Receipt == nil || !l.verdict(again.Receipt.Bytes()).Verified() {
		t.Errorf("again: %+v", again)
	}
	fresh := l.mustSubmit("fresh", "x")
	if v := l.verdict(fresh.Receipt.Bytes()); v.Witnesses.Status != verifier.Provisional {
		t.Errorf("at once: %+v", v.Witnesses)
	}
	l.becomes(21)
	for _, index := range []uint64{0, 20} {
		if receipt := must(l.svc.Receipt(t.Context(), reader("default"), index, Integrated)); !l.verdict(receipt).Verified() {
			t.Errorf("the receipt of entry %d is not with the quorum", index)
		}
	}
	if r := l.svc.Ready(t.Context()); !r.Ready || r.Witnesses != "quorum" || r.WitnessedSize < 21 {
		t.Errorf("%+v", r)
	}
	if n := testutil.ToFloat64(l.cfg.Metrics.witnessed); n < 21 || l.lost() != 0 {
		t.Errorf("witnessed %v, lost %v", n, l.lost())
	}
	if age := time.Now().Unix() - int64(testutil.ToFloat64(l.cfg.Metrics.quorum)); age < 0 || age > 60 {
		t.Errorf("the quorum is %d s old", age)
	}
	l.mustAudit()
	var size uint64 // reading made entries too
	var before []byte
	eventually(t, "all is shown", func() bool {
		size, _, before = shownBy(t, l, l.svc)
		return size == l.svc.Ready(t.Context()).PublishedSize
	})
	l.close()
	for _, w := range ws {
		w.Down()
	}
	l.open(nil)
	if n, quorum, after := shownBy(t, l, l.svc); n != size || !quorum || !bytes.Equal(after, before) {
		t.Errorf("after a restart without witnesses: size %d, quorum %t\n%s", n, quorum, after)
	}
	if receipt := must(l.svc.Receipt(t.Context(), reader("default"), 0, Integrated)); !l.verdict(receipt).Verified() {
		t.Error("after a restart the receipt is not with the quorum")
	}
}

// countedSigner counts what the log signs.
type countedSigner struct {
	note.Signer
	n *atomic.Int64
}

func (s countedSigner) Sign(msg []byte) ([]byte, error) {
	s.n.Add(1)
	return s.Signer.Sign(msg)
}

// TestWitnessedIdle: a tree that doesn't change is neither signed again nor offered again, but
// for a fresh cosignature when it is time for one; and then its witnesses cosign the same head.
func TestWitnessedIdle(t *testing.T) {
	l, ws := newWitnessedLog(t, 2, 2)
	var signed atomic.Int64
	l.open(func(p *parts) { p.signer = countedSigner{p.signer, &signed} })
	l.mustSubmit("a", "x")
	l.becomes(1)
	was := signed.Load()
	for _, w := range ws {
		w.Calls()
	}
	<-time.After(30 * l.cfg.Witnesses.Every)
	if n := signed.Load() - was; n != 0 {
		t.Errorf("an unchanged tree was signed %d times", n)
	}
	for _, w := range ws {
		if got := w.Statuses(); len(got) != 0 {
			t.Errorf("witness %s was asked about an unchanged tree: %v", w.Name, got)
		}
	}
	l.close()

	// What is a second for tests is half an hour for others. Witnesses' times have whole seconds.
	l.cfg.Witnesses.Refresh = time.Second
	for _, w := range ws {
		w.SetClock(func() time.Time { return time.Now().Add(10 * time.Minute) })
	}
	l.open(func(p *parts) { p.signer = countedSigner{p.signer, &signed} })
	was = signed.Load()
	_, _, first := shownBy(t, l, l.svc)
	for range 2 {
		eventually(t, "a fresh cosignature", func() bool {
			size, quorum, note := shownBy(t, l, l.svc)
			if size != 1 || !quorum {
				t.Fatalf("size %d, quorum %t", size, quorum)
			}
			defer func() { first = note }()
			return !bytes.Equal(note, first)
		})
	}
	if n := signed.Load() - was; n != 0 {
		t.Errorf("an unchanged tree was signed %d times", n)
	}
}

// TestQuorumLostOpen: without a quorum the public head stays for as long as the patience, and
// goes on with fewer cosignatures then; receipts are provisional, and wait=witnessed is late.
// Once the quorum is back, all is as it was.
func TestQuorumLostOpen(t *testing.T) {
	l, ws := newWitnessedLog(t, 2, 2)
	l.cfg.Witnesses.Patience = briefPatience
	l.open(nil)
	l.mustSubmit("a", "x")
	l.becomes(1)
	ws[1].Down()
	l.mustSubmit("b", "x")
	p := must(l.svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("c", "x")}))
	if r := p.Wait(t.Context(), Integrated); r.Receipt == nil {
		t.Fatalf("%+v", r)
	}
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	if r := p.Wait(ctx, Witnessed); r.Err != nil || r.Receipt != nil || r.Status != StatusAccepted || r.Index != 2 {
		t.Errorf("wait=witnessed without a quorum: %+v", r)
	}
	eventually(t, "a head without the quorum", func() bool {
		size, quorum, _ := shownBy(t, l, l.svc)
		if state := l.svc.Ready(t.Context()).Witnesses; size == 1 && !quorum || size > 1 && (quorum || state != "lost") {
			t.Fatalf("size %d, quorum %t, %s", size, quorum, state)
		}
		return size == 3
	})
	if r := l.svc.Ready(t.Context()); !r.Ready || r.Witnesses != "lost" || r.WitnessedSize != 1 || l.lost() != 1 {
		t.Errorf("%+v, lost %v", r, l.lost())
	}
	_, _, shown := shownBy(t, l, l.svc)
	if _, who, err := l.policy.Verify(shown); err != nil || len(who.Cosigned) != 1 {
		t.Errorf("what there is of cosignatures isn't shown: %+v, %v", who, err)
	}
	if v := l.verdict(must(l.svc.Receipt(t.Context(), reader("default"), 2, Integrated))); v.Witnesses.Status != verifier.Provisional {
		t.Errorf("the receipt of an entry that isn't witnessed: %+v", v.Witnesses)
	}
	for _, w := range []Wait{Integrated, Witnessed} {
		if v := l.verdict(must(l.svc.Receipt(t.Context(), reader("default"), 0, w))); !v.Verified() {
			t.Errorf("the receipt of an entry that is: %+v", v)
		}
	}
	brief, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, err := l.svc.Receipt(brief, reader("default"), 2, Witnessed); !errors.Is(err, ErrBeyondHead) {
		t.Errorf("a witnessed receipt without a quorum: %v", err)
	}
	l.mustAudit()

	var size uint64 // reading made entries too
	eventually(t, "all is shown", func() bool {
		size, _, shown = shownBy(t, l, l.svc)
		return size == l.svc.Ready(t.Context()).PublishedSize
	})
	l.close() // a restart shows the same: what was public doesn't go back
	l.open(nil)
	if _, _, after := shownBy(t, l, l.svc); !bytes.Equal(after, shown) {
		t.Errorf("after a restart:\n%s\nbefore it:\n%s", after, shown)
	}
	ws[1].Up()
	if v := l.verdict(must(l.svc.Receipt(t.Context(), reader("default"), 2, Witnessed))); !v.Verified() {
		t.Errorf("a witnessed receipt: %+v", v)
	}
	l.becomes(l.svc.Ready(t.Context()).PublishedSize)
	if r := l.svc.Ready(t.Context()); r.Witnesses != "quorum" || l.lost() != 0 {
		t.Errorf("%+v, lost %v", r, l.lost())
	}
}

// TestQuorumLostClosed: without a quorum the public head stays, no event is taken, and
// readiness says why; reading goes on. Once the quorum is back, so does the rest.
func TestQuorumLostClosed(t *testing.T) {
	l, ws := newWitnessedLog(t, 1, 1)
	l.cfg.Witnesses.Closed, l.cfg.Witnesses.Patience = true, briefPatience
	l.open(nil)
	l.mustSubmit("a", "x")
	l.becomes(1)
	ws[0].Says(func(rw http.ResponseWriter, _ *http.Request, _ []byte) bool {
		rw.WriteHeader(http.StatusInternalServerError)
		return true
	})
	l.mustSubmit("b", "x")
	eventually(t, "no event is taken", func() bool { return !l.svc.Ready(t.Context()).Ready })
	if r := l.svc.Ready(t.Context()); r.Refusing || !strings.Contains(r.Reason, ErrUnwitnessed.Error()) || r.Witnesses != "lost" {
		t.Errorf("%+v", r)
	}
	if n := l.lost(); n != 1 { // nobody needs to have been asked since
		t.Errorf("the metric says %v", n)
	}
	if r := l.submit(submitter("default"), "c", "x", Durable); !errors.Is(r.Err, ErrUnwitnessed) {
		t.Errorf("%+v", r)
	}
	if n := testutil.ToFloat64(l.cfg.Metrics.refused.WithLabelValues("unwitnessed")); n != 1 {
		t.Errorf("%v refusals are counted", n)
	}
	if size, quorum, _ := shownBy(t, l, l.svc); size != 1 || !quorum {
		t.Errorf("size %d, quorum %t", size, quorum)
	}
	if _, err := l.svc.Entry(t.Context(), reader("default"), 1); err != nil {
		t.Errorf("reading: %v", err)
	}
	ws[0].Up()
	eventually(t, "events are taken", func() bool { return l.svc.Ready(t.Context()).Ready })
	if r := l.submit(submitter("default"), "c", "x", Witnessed); r.Err != nil || r.Receipt == nil || !l.verdict(r.Receipt.Bytes()).Verified() {
		t.Errorf("%+v", r)
	}
	l.mustAudit()
}

// TestNeverWitnessed: a log whose witnesses were never there shows the empty tree, and with
// the choice open, after the patience, a head without them.
func TestNeverWitnessed(t *testing.T) {
	for _, closed := range []bool{false, true} {
		t.Run(fmt.Sprint("closed ", closed), func(t *testing.T) {
			l, ws := newWitnessedLog(t, 1, 1)
			l.cfg.Witnesses.Closed, l.cfg.Witnesses.Patience = closed, briefPatience
			ws[0].Down()
			l.open(nil)
			eventually(t, "the empty tree is shown", func() bool { _, _, note := shownBy(t, l, l.svc); return note != nil })
			l.mustSubmit("a", "x")
			eventually(t, "lost", func() bool { return l.svc.Ready(t.Context()).Witnesses == "lost" })
			if !closed {
				eventually(t, "shown all the same", func() bool { size, _, _ := shownBy(t, l, l.svc); return size == 1 })
			} else if size, _, _ := shownBy(t, l, l.svc); size != 0 {
				t.Errorf("size %d", size)
			}
		})
	}
}

// putBack puts a copy of a log's directory and anchor back in their place.
func (l *testLog) putBack(backup string) {
	l.t.Helper()
	anchor := must(os.ReadFile(backup + ".anchor"))
	if err := errors.Join(os.RemoveAll(l.cfg.Dir), os.CopyFS(l.cfg.Dir, os.DirFS(backup)), os.Chmod(l.cfg.Dir, 0o700),
		os.Chmod(l.cfg.Dir+"/"+keyFile, 0o600), os.WriteFile(l.cfg.Anchor, anchor, 0o600)); err != nil {
		l.t.Fatal(err)
	}
}

// copyAside copies a log's directory and anchor, as a backup mustn't.
func (l *testLog) copyAside() (backup string) {
	l.t.Helper()
	backup = l.cfg.Dir + ".backup"
	if err := errors.Join(os.CopyFS(backup, os.DirFS(l.cfg.Dir)), os.WriteFile(backup+".anchor", must(os.ReadFile(l.cfg.Anchor)), 0o600)); err != nil {
		l.t.Fatal(err)
	}
	return backup
}

// TestWitnessAhead (I3): a backup that was put back together with its anchor is older than
// what a witness has seen. The log refuses at start; or as soon as that witness can be reached,
// before it signs more for it; also when the backup has gone another way since, and is as long.
func TestWitnessAhead(t *testing.T) {
	for name, c := range map[string]struct {
		down bool // at the start
		on   int  // events that go into the backup before the witnesses are asked
		want string
	}{
		"at start":                 {false, 0, "the store ends at size 1, but size 3 has been signed (cosigned by the witness at "},
		"when it can be reached":   {true, 0, "the store ends at size 2, but size 3 has been signed (cosigned by the witness at "},
		"another history":          {false, 4, "it holds another history"},
		"another history, later":   {true, 4, "it holds another history"},
		"another history, as long": {false, 2, "it holds another history"},
	} {
		t.Run(name, func(t *testing.T) {
			l, ws := newWitnessedLog(t, 1, 2)
			l.open(nil)
			l.mustSubmit("a", "x")
			l.close()
			backup := l.copyAside()
			l.open(nil)
			l.mustSubmit("b", "x")
			l.mustSubmit("c", "x")
			l.becomes(3)
			l.close()
			l.putBack(backup)
			if c.on > 0 { // by a server that asks nobody
				cfg := l.cfg.Witnesses
				l.cfg.Witnesses = nil
				l.open(nil)
				for i := range c.on {
					l.mustSubmit(fmt.Sprint("other", i), "x")
				}
				l.close()
				l.cfg.Witnesses = cfg
			}
			if c.down {
				for _, w := range ws {
					w.Down()
				}
			}
			l.open(nil)
			if c.down {
				if r := l.submit(submitter("default"), "d", "x", Durable); r.Err != nil {
					t.Fatal(r.Err)
				}
				ws[1].Up()
				eventually(t, "it refuses", func() bool { return l.svc.Ready(t.Context()).Refusing })
			}
			l.mustRefuse(c.want)
			if _, err := l.svc.Checkpoint(t.Context()); err != nil {
				t.Errorf("the checkpoint: %v", err)
			}
		})
	}
}

// TestTwoPrimaries (I3): two copies of a log go on at the same time, each with an anchor of its
// own. The witness cosigns one of the histories alone, and the other copy refuses, as soon as
// its head is the shorter one, and also when it is the longer one.
func TestTwoPrimaries(t *testing.T) {
	for name, first := range map[string]int{"the shorter one": 5, "the longer one": 1} {
		t.Run(name, func(t *testing.T) {
			l, _ := newWitnessedLog(t, 1, 1)
			l.open(nil)
			l.mustSubmit("a", "x")
			l.becomes(1)
			l.close()
			other := *l
			other.svc, other.cfg.Dir = nil, l.copyAside()
			other.cfg.Anchor = other.cfg.Dir + ".anchor"
			if err := errors.Join(os.Chmod(other.cfg.Dir, 0o700), os.Chmod(other.cfg.Dir+"/"+keyFile, 0o600)); err != nil {
				t.Fatal(err)
			}
			l.open(nil)
			other.open(nil)
			for i := range first {
				if r := l.submit(submitter("default"), fmt.Sprint("one", i), "x", Witnessed); r.Receipt == nil {
					t.Fatalf("%+v", r)
				}
			}
			for i := range 3 {
				if r := other.submit(submitter("default"), fmt.Sprint("two", i), "x", Durable); r.Err != nil && !errors.Is(r.Err, ErrRefusing) {
					t.Fatalf("%+v", r)
				}
			}
			eventually(t, "the other one refuses", func() bool { return other.svc.Ready(t.Context()).Refusing })
			if size, quorum, _ := shownBy(t, l, other.svc); size != 1 || !quorum { // it wasn't given the time
				t.Errorf("the other one shows size %d, quorum %t", size, quorum)
			}
			if r := l.submit(submitter("default"), "more", "x", Witnessed); r.Receipt == nil || !l.verdict(r.Receipt.Bytes()).Verified() {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestWitnessLies: a witness that says it is ahead, without a checkpoint that the log has signed,
// costs the log its cosignature and no more.
func TestWitnessLies(t *testing.T) {
	l, ws := newWitnessedLog(t, 1, 2)
	other := newTestLog(t) // of the same origin, with another key
	other.open(nil)
	for i := range 9 {
		other.mustSubmit(fmt.Sprint("e", i), "x")
	}
	foreign := must(other.svc.Checkpoint(t.Context()))
	origin := sha256.Sum256([]byte(testOrigin))
	ws[0].Says(func(rw http.ResponseWriter, r *http.Request, _ []byte) bool {
		if r.URL.Path == "/"+hex.EncodeToString(origin[:])+"/checkpoint" {
			_, _ = rw.Write(foreign)
			return true
		}
		rw.Header().Set("Content-Type", "text/x.tlog.size")
		rw.WriteHeader(http.StatusConflict)
		_, _ = rw.Write([]byte("1000000\n"))
		return true
	})
	l.open(nil)
	for i := range 5 {
		if r := l.submit(submitter("default"), fmt.Sprint("e", i), "x", Witnessed); r.Err != nil || r.Receipt == nil {
			t.Fatalf("%+v", r)
		}
	}
	if r := l.svc.Ready(t.Context()); !r.Ready {
		t.Errorf("%+v", r)
	}
}

// TestWitnessHangs: a log closes in time though its witnesses hang, and who waits for them is
// answered without a receipt.
func TestWitnessHangs(t *testing.T) {
	l, ws := newWitnessedLog(t, 1, 1)
	ws[0].Says(func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		if r.Method == http.MethodGet {
			return false
		}
		<-r.Context().Done()
		return true
	})
	l.open(nil)
	got := make(chan Result)
	go func() { got <- l.submit(submitter("default"), "a", "x", Witnessed) }()
	eventually(t, "published", func() bool { return l.svc.Ready(t.Context()).PublishedSize == 1 })
	began := time.Now()
	l.close()
	if long := time.Since(began); long > 5*time.Second {
		t.Errorf("closing took %s", long)
	}
	if r := <-got; r.Err != nil || r.Receipt != nil || r.Status != StatusAccepted {
		t.Errorf("%+v", r)
	}
}

// TestWitnessConfigRefuses: what can't be meant is said when the log is opened.
func TestWitnessConfigRefuses(t *testing.T) {
	l, ws := newWitnessedLog(t, 1, 1)
	parse := func(text string) *verifier.Policy { return must(verifier.ParsePolicy([]byte(text))) }
	for name, c := range map[string]struct {
		policy *verifier.Policy
		want   string
	}{
		"none":          {nil, "Witnesses.Policy: expected a policy"},
		"no URL":        {parse("log " + l.vkey + "\nwitness w " + ws[0].VKey + "\nquorum w\n"), "can't be met"},
		"plain http":    {parse("log " + l.vkey + "\nwitness w " + ws[0].VKey + " http://witness.example\nquorum w\n"), "expected https"},
		"another log's": {parse("log " + must(note.NewEd25519VerifierKey("example.com/other", make([]byte, 32))) + "\nquorum none\n"), "is of the log"},
	} {
		t.Run(name, func(t *testing.T) {
			l.cfg.Witnesses = &WitnessConfig{Policy: c.policy}
			if _, err := l.tryOpen(nil); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	l.cfg.Witnesses = &WitnessConfig{Policy: parse("log " + l.vkey + "\n" + ws[0].Line() + "quorum none\n")}
	l.open(nil)
	l.mustSubmit("a", "x")
	if size, _, _ := shownBy(t, l, l.svc); size != 1 {
		t.Errorf("size %d: with quorum none the head is shown at once", size)
	}
}

// TestWitnessedKeepFails: a head that can't be kept isn't shown, for it could go back; the
// next attempt shows it.
func TestWitnessedKeepFails(t *testing.T) {
	for _, how := range []outcome{failed, failedButStored} {
		t.Run(fmt.Sprint(how), func(t *testing.T) {
			l, _ := newWitnessedLog(t, 1, 1)
			f := &fault{}
			l.open(withFaults(f))
			l.mustSubmit("a", "x")
			l.becomes(1)
			f.next("checkpoint", repeat(how, 3)...)
			l.mustSubmit("b", "x")
			l.becomes(2)
		})
	}
}

// TestWitnessedServers: several servers of one log, each of which takes events: what any of
// them has shown, none takes back; and every event gets the quorum.
func TestWitnessedServers(t *testing.T) {
	l := openSeveral(t, 0, false, nil)
	ws := []*witnesstest.Witness{witnesstest.New(t, l.vkey, "w0"), witnesstest.New(t, l.vkey, "w1"), witnesstest.NewOdd(t, l.vkey, "w2")}
	l.witnessedBy(2, ws...)
	for range 3 {
		l.svcs = append(l.svcs, must(open(t.Context(), l.defaults(), l.more(false, nil))))
	}
	l.useWitnessed(40)
}

// TestWitnessedDatabase: the same in a database.
func TestWitnessedDatabase(t *testing.T) {
	l := &several{}
	var database string
	l.testLog, database = newDatabaseLog(t, mariadbtest.Shared(t))
	l.cfg.Database = &mysqldb.Config{DSN: mariadbtest.Shared(t).DSN(database), Password: mariadbtest.Password}
	l.witnessedBy(1, witnesstest.New(t, l.vkey, "w0"), witnesstest.New(t, l.vkey, "w1"))
	l.openProcesses(2, nil)
	l.useWitnessed(30)
}

// useWitnessed submits events to all servers at once, and watches what they show meanwhile.
func (l *several) useWitnessed(events int) {
	t := l.t
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	var watching, submitting sync.WaitGroup
	watching.Go(func() {
		var last uint64
		for i := 0; ctx.Err() == nil; i++ {
			size, quorum, note := shownBy(t, l.testLog, l.svcs[i%len(l.svcs)])
			if size < last || note != nil && size > 0 && !quorum {
				t.Errorf("server %d shows size %d, quorum %t, after %d was shown", i%len(l.svcs), size, quorum, last)
				return
			}
			last = size
			<-time.After(time.Millisecond)
		}
	})
	for i, s := range l.svcs {
		submitting.Go(func() {
			for j := range events {
				id := fmt.Sprintf("e%d-%d", i, j)
				p, err := s.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON(id, "x")})
				if err != nil {
					t.Error(err)
					return
				}
				r := p.Wait(t.Context(), Witnessed)
				if r.Err != nil || r.Receipt == nil {
					t.Errorf("%s: %+v", id, r)
					return
				}
				if v, err := verifier.VerifyReceipt(r.Receipt.Bytes(), l.policy); err != nil || !v.Verified() {
					t.Errorf("%s: %+v, %v", id, v, err)
				}
			}
		})
	}
	submitting.Wait()
	stop()
	watching.Wait()
	for i := range l.svcs {
		l.at(i).becomes(uint64(events * len(l.svcs)))
		if r := l.svc.Ready(t.Context()); !r.Ready || r.Witnesses != "quorum" {
			t.Errorf("%+v", r)
		}
	}
	for i := range l.svcs { // each audit makes entries of its own
		l.at(i).mustAudit()
	}
}

// TestPublicHeadOrder: which of two public heads takes the other's place.
func TestPublicHeadOrder(t *testing.T) {
	at := func(size uint64, quorum bool, cosigned int64, number int) *publicHead {
		h := &publicHead{quorum: quorum, cosigned: time.Unix(cosigned, 0), number: number}
		h.head = pubstore.Head{Size: size}
		return h
	}
	inOrder := []*publicHead{
		at(0, false, 0, 0), at(1, false, 0, 0), at(1, false, 9, 1), at(1, false, 3, 2), at(1, true, 1, 2), at(1, true, 2, 2), at(2, false, 0, 0), at(3, true, 0, 1),
	}
	for i, a := range inOrder {
		for j, b := range inOrder {
			if a.after(b) != (i > j) {
				t.Errorf("%d after %d: %t", i, j, a.after(b))
			}
		}
		if !a.after(nil) {
			t.Errorf("%d isn't after none", i)
		}
	}
}

// TestKeeper: the checkpoint that a log without witnesses keeps moves forward only, and one
// with cosignatures isn't replaced by one without of the same head.
func TestKeeper(t *testing.T) {
	l, _ := newWitnessedLog(t, 1, 1)
	s := l.open(nil)
	var notes [][]byte // by size - 1
	for i := range 4 {
		if r := l.submit(submitter("default"), fmt.Sprint("e", i), "x", Witnessed); r.Receipt == nil {
			t.Fatalf("%+v", r)
		}
		notes = append(notes, s.published.Load().note)
	}
	kept := func() (size uint64, signatures int) {
		note := must(s.store.Checkpoint(t.Context()))
		c, _, err := l.policy.Verify(note)
		if err != nil {
			t.Fatal(err)
		}
		return c.Size, bytes.Count(note, []byte("— "))
	}
	l.becomes(4)
	other, own := keeper{store: s.store, vkey: l.vkey}, keeper{store: s.store, vkey: l.vkey}
	for _, size := range []uint64{4, 1, 3} {
		if err := own.keep(t.Context(), notes[size-1], size); err != nil {
			t.Fatal(err)
		}
		if size, n := kept(); size != 4 || n != 2 {
			t.Errorf("size %d with %d signatures", size, n)
		}
	}
	for i, k := range []*keeper{&own, &other, &own, &own} { // each finds what the other has put there
		size := uint64(10 + i)
		note := must(verifier.SignCheckpoint(verifier.Checkpoint{Origin: testOrigin, Size: size, Root: [32]byte{1}}, s.parts.signer))
		if err := k.keep(t.Context(), note, size); err != nil {
			t.Fatal(err)
		}
		if got, _ := kept(); got != size {
			t.Errorf("size %d is kept, not %d", got, size)
		}
	}
}

// TestKeptAhead (I3): a store whose kept checkpoint is of a head that it doesn't lead to was
// put back in part, or made of two. It refuses, at start and while it goes on.
func TestKeptAhead(t *testing.T) {
	for name, c := range map[string]struct {
		size    uint64
		running bool
		want    string
	}{
		"ahead":                {5, false, "the store ends at size 2, but size 5 has been signed (by the checkpoint that is kept)"},
		"another root":         {1, false, "it holds another history"},
		"ahead, while it runs": {500, true, "but size 500 has been signed (by the checkpoint that is kept)"},
	} {
		t.Run(name, func(t *testing.T) {
			l, ws := newWitnessedLog(t, 1, 1)
			s := l.open(nil)
			l.mustSubmit("a", "x")
			l.mustSubmit("b", "x")
			l.becomes(2)
			note := must(verifier.SignCheckpoint(verifier.Checkpoint{Origin: testOrigin, Size: c.size, Root: [32]byte{1}}, s.parts.signer))
			ws[0].Down() // it mustn't be what tells
			old := must(s.store.Checkpoint(t.Context()))
			if err := s.store.PutCheckpoint(t.Context(), old, note); err != nil {
				t.Fatal(err)
			}
			if c.running {
				ws[0].Up()
				l.mustSubmit("c", "x")
				eventually(t, "it refuses", func() bool { return l.svc.Ready(t.Context()).Refusing })
			} else {
				l.close()
				l.open(nil)
			}
			l.mustRefuse(c.want)
		})
	}
}

// TestWitnessedMigration: a log that moves takes its public head with it, cosignatures and all.
func TestWitnessedMigration(t *testing.T) {
	l, _ := newWitnessedLog(t, 1, 1)
	l.open(nil)
	if r := l.submit(submitter("default"), "a", "x", Witnessed); r.Receipt == nil {
		t.Fatalf("%+v", r)
	}
	_, _, before := shownBy(t, l, l.svc)
	l.close()
	from := l.cfg
	from.Witnesses = nil
	to := testConfig(t)
	if _, err := Migrate(t.Context(), MigrateConfig{From: from, To: to}); err != nil {
		t.Fatal(err)
	}
	to.Witnesses, to.Metrics = l.cfg.Witnesses, l.cfg.Metrics
	l.cfg = to
	l.open(nil)
	if size, _, after := shownBy(t, l, l.svc); size < 1 {
		t.Errorf("size %d after the move:\n%s\nbefore:\n%s", size, after, before)
	}
	l.becomes(l.svc.Ready(t.Context()).PublishedSize)
	l.mustAudit()
}

// TestWitnessedCrash: rows 5a and 5b of the crash table. The process dies and the power with
// it, before a cosigned head is kept, when it has been and wasn't synced, or when it has just
// been shown; of what wasn't synced nothing is left, or all. What was shown is shown again
// though no witness answers, and when they do the log goes on from there.
func TestWitnessedCrash(t *testing.T) {
	for _, c := range []struct {
		name, op string
		applied  bool
	}{{"5a cosigned, not kept", "checkpoint", false}, {"5b kept, not synced", "checkpoint", true}, {"5b shown", "", true}} {
		for _, percent := range []int{0, 100} {
			t.Run(fmt.Sprintf("%s, %d%% of the unsynced left", c.name, percent), func(t *testing.T) {
				t.Parallel()
				testWitnessedCrash(t, c.op, c.applied, percent)
			})
		}
	}
}

func testWitnessedCrash(t *testing.T, op string, applied bool, percent int) {
	disk := crashtest.New()
	l := newTestLogOn(t, disk)
	w := witnesstest.New(t, l.vkey, "w")
	l.witnessedBy(1, w)
	f := &fault{}
	l.open(withFaults(f))
	l.mustSubmit("a", "x")
	l.becomes(1)
	var left crashtest.Disk
	crash := func() {
		left = disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(1, 2))})
	}
	var d *death
	if op != "" {
		d = f.dieAt(op, applied, crash)
	}
	if r := l.submit(submitter("default"), "b", "x", Durable); r.Err != nil {
		t.Fatal(r.Err)
	}
	shown := uint64(1)
	if d != nil {
		select {
		case <-d.over:
		case <-time.After(20 * time.Second):
			t.Fatalf("no call of %s", op)
		}
	} else {
		l.becomes(2)
		shown = 2
		crash()
	}
	l.abandon()
	w.Down()
	l.cfg.fs = left
	l.open(nil)
	if size, quorum, _ := shownBy(t, l, l.svc); size < shown || !quorum {
		t.Errorf("size %d, quorum %t, after %d was shown", size, quorum, shown)
	}
	w.Up()
	l.becomes(2)
	l.mustAudit()
}
