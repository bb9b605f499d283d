package httpapi

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// fakeLog is a Log stricter than the real one: it fails the test when it is
// called otherwise than package personality documents. Its one fault hook sees
// each call first: err is returned instead of a result, after the call took
// effect if apply says so.
type fakeLog struct {
	t     testing.TB
	fault func(call string) (apply bool, err error)

	mu      sync.Mutex
	events  [][]byte                                              // admitted, in order
	ids     map[string]int                                        // by source and id
	result  func(*fakeEvent, personality.Wait) personality.Result // replaces the result, if set
	opening []byte                                                // of Openings; default fakeOpening
	waiting func(ctx context.Context)                             // called in Wait, if set
	wait    personality.Wait                                      // what the last receipt was asked for
}

const fakeSecret = "pt_fake_secret"

var fakeToken = &personality.Token{ID: "fake", Name: "fake", Tenant: "default",
	Roles: []personality.Role{personality.RoleSubmit, personality.RoleRead, personality.RoleAdmin}, Sources: []string{"cron://"},
	Created: time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC)}

func newFakeLog(t testing.TB) *fakeLog { return &fakeLog{t: t, ids: map[string]int{}} }

// enter checks what every call must keep to, and asks the fault hook.
func (f *fakeLog) enter(ctx context.Context, call string, from *personality.Caller) (apply bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx == nil {
		f.t.Errorf("%s: no context", call)
	}
	if from != nil && (from.Token == nil || !from.PeerIP.IsValid() || from.RequestID == "") {
		f.t.Errorf("%s: incomplete caller %+v", call, from)
	}
	if f.fault == nil {
		return true, nil
	}
	return f.fault(call)
}

func (f *fakeLog) size() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.events)
}

func (f *fakeLog) LogName() string { return "audit" }

func (f *fakeLog) Authenticate(ctx context.Context, secret string) (*personality.Token, error) {
	if _, err := f.enter(ctx, "Authenticate", nil); err != nil {
		return nil, err
	}
	if secret != fakeSecret {
		return nil, personality.ErrUnauthorized
	}
	return fakeToken, nil
}

type fakeEvent struct {
	f         *fakeLog
	index     int
	duplicate bool
	same      bool
	waited    bool
	err       error
}

func (f *fakeLog) Admit(ctx context.Context, from personality.Caller, sub personality.Submission) (Pending, error) {
	apply, fault := f.enter(ctx, "Admit", &from)
	if fault != nil && !apply {
		return nil, fault
	}
	if len(sub.Event) > event.MaxBytes {
		f.t.Errorf("Admit: %d bytes", len(sub.Event))
	}
	fields, err := event.Parse(sub.Event)
	if err != nil {
		return nil, err
	}
	if !from.Token.MaySpeakFor(fields.Text("/source")) {
		return nil, fmt.Errorf("%w: a secret detail", personality.ErrForbidden)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &fakeEvent{f: f, err: fault}
	key := fields.Text("/source") + " " + fields.Text("/id")
	if p.index, p.duplicate = f.ids[key]; p.duplicate {
		p.same = bytes.Equal(f.events[p.index], fields.JSON())
		return p, nil
	}
	p.index = len(f.events)
	f.ids[key] = p.index
	f.events = append(f.events, fields.JSON()) // not raw: the caller uses it again
	return p, nil
}

func (p *fakeEvent) Wait(ctx context.Context, w personality.Wait) personality.Result {
	if p.waited {
		p.f.t.Error("Wait: a second time")
	}
	p.waited = true
	if _, err := p.f.enter(ctx, "Wait", nil); err != nil {
		return personality.Result{Err: err}
	}
	if p.f.waiting != nil {
		p.f.waiting(ctx)
	}
	if p.f.result != nil {
		return p.f.result(p, w)
	}
	r := personality.Result{Status: personality.StatusAccepted, Index: uint64(p.index), Err: p.err}
	switch {
	case p.duplicate && !p.same:
		r.Status, r.ConflictIndex = personality.StatusConflict, r.Index+1
		return r
	case p.duplicate:
		r.Status = personality.StatusDuplicate
	}
	if w != personality.Durable {
		r.Receipt = &verifier.Receipt{Checkpoint: []byte(oddNote)}
	}
	return r
}

const (
	fakeReceipt = "c2sp.org/tlog-proof@v1\nindex 0\n\n" + oddNote
	oddNote     = "example.com/audit\n1\n\"\\\t— ü\n"
	fakeLeaf    = `{"root":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","time":"2026-01-31T23:59:59Z","v":"prooftrail.leaf/1"}`
	fakeOpening = `{"fields":[{"p":"/action","s":"AAAAAAAAAAAAAAAAAAAAAA","v":"run.start"}],"time":"2026-01-31T23:59:59Z","v":"prooftrail.opening/1"}`
	fakeNote    = "example.com/audit\n1\nAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— example.com/audit AAAA\n"
)

var fakeEntry = &personality.Entry{Leaf: []byte(fakeLeaf), Opening: []byte(fakeOpening), Receipt: []byte(fakeReceipt)}

func (f *fakeLog) Entry(ctx context.Context, from personality.Caller, index uint64) (*personality.Entry, error) {
	if _, err := f.enter(ctx, "Entry", &from); err != nil {
		return nil, err
	}
	return fakeEntry, nil
}

func (f *fakeLog) EventByID(ctx context.Context, from personality.Caller, source, id string) (*personality.Entry, error) {
	if source == "" || id == "" {
		f.t.Error("EventByID: without source or id")
	}
	if _, err := f.enter(ctx, "EventByID", &from); err != nil {
		return nil, err
	}
	return fakeEntry, nil
}

func (f *fakeLog) Receipt(ctx context.Context, from personality.Caller, index uint64, w personality.Wait) ([]byte, error) {
	if _, err := f.enter(ctx, "Receipt", &from); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wait = w
	return []byte(fakeReceipt), nil
}

func (f *fakeLog) Openings(ctx context.Context, from personality.Caller, start uint64, count int, each func(personality.OpeningLine) error) error {
	if count < 1 || count > MaxOpenings {
		f.t.Errorf("Openings: count %d", count)
	}
	apply, err := f.enter(ctx, "Openings", &from)
	if err != nil && !apply {
		return err
	}
	opening := f.opening
	if opening == nil {
		opening = []byte(fakeOpening)
	}
	for i := range uint64(count) {
		l := personality.OpeningLine{Index: start + i, Opening: opening}
		switch i % 3 {
		case 1:
			l.Opening, l.Reason = nil, "tenant"
		case 2:
			l.Opening, l.Reason = nil, "missing"
		}
		if stop := each(l); stop != nil {
			return stop
		}
	}
	return err
}

func (f *fakeLog) Checkpoint(ctx context.Context) ([]byte, error) {
	_, err := f.enter(ctx, "Checkpoint", nil)
	return []byte(fakeNote), err
}

func (f *fakeLog) Tile(ctx context.Context, level int, n uint64, width int) ([]byte, error) {
	if level < 0 || level > 63 || width < 1 || width > 256 {
		f.t.Errorf("Tile: level %d, width %d", level, width)
	}
	_, err := f.enter(ctx, "Tile", nil)
	return make([]byte, 32*width), err
}

func (f *fakeLog) EntryBundle(ctx context.Context, n uint64, width int) ([]byte, error) {
	if width < 1 || width > 256 {
		f.t.Errorf("EntryBundle: width %d", width)
	}
	_, err := f.enter(ctx, "EntryBundle", nil)
	return bytes.Repeat([]byte(fakeLeaf), width), err
}

func (f *fakeLog) ProveInclusion(ctx context.Context, index, size uint64) (verifier.Hash, []verifier.Hash, error) {
	if index >= size {
		f.t.Errorf("ProveInclusion: %d in %d", index, size)
	}
	_, err := f.enter(ctx, "ProveInclusion", nil)
	return verifier.Hash{}, make([]verifier.Hash, 2), err
}

func (f *fakeLog) ProveConsistency(ctx context.Context, first, second uint64) ([]verifier.Hash, error) {
	if first < 1 || first > second {
		f.t.Errorf("ProveConsistency: %d to %d", first, second)
	}
	_, err := f.enter(ctx, "ProveConsistency", nil)
	return nil, err
}

func (f *fakeLog) AddToken(ctx context.Context, from personality.Caller, r personality.TokenRequest) (*personality.Token, string, error) {
	if _, err := f.enter(ctx, "AddToken", &from); err != nil {
		return nil, "", err
	}
	if r.Name == "" {
		return nil, "", &personality.InvalidError{Field: "name", Expected: "a name"}
	}
	return fakeToken, fakeSecret, nil
}

func (f *fakeLog) RevokeToken(ctx context.Context, from personality.Caller, id string) error {
	_, err := f.enter(ctx, "RevokeToken", &from)
	return err
}

func (f *fakeLog) Tokens(ctx context.Context, from personality.Caller) ([]*personality.Token, error) {
	_, err := f.enter(ctx, "Tokens", &from)
	return []*personality.Token{fakeToken}, err
}

// fakeKey is the key of a source.
var fakeKey = &personality.SourceKey{ID: "k", Tenant: "default", Source: "cron://", VKey: "a+01020304+AQAA", Required: true,
	From: time.Unix(1700000000, 0).UTC(), Created: time.Unix(1700000000, 0).UTC()}

func (f *fakeLog) AddSourceKey(ctx context.Context, from personality.Caller, r personality.SourceKeyRequest) (*personality.SourceKey, error) {
	if _, err := f.enter(ctx, "AddSourceKey", &from); err != nil {
		return nil, err
	}
	if r.VKey == "" {
		return nil, &personality.InvalidError{Field: "vkey", Expected: "a key"}
	}
	return fakeKey, nil
}

func (f *fakeLog) RevokeSourceKey(ctx context.Context, from personality.Caller, id string, release bool) error {
	_, err := f.enter(ctx, "RevokeSourceKey", &from)
	return err
}

func (f *fakeLog) SourceKeys(ctx context.Context, from personality.Caller) ([]*personality.SourceKey, error) {
	_, err := f.enter(ctx, "SourceKeys", &from)
	return []*personality.SourceKey{fakeKey}, err
}

func (f *fakeLog) Ready(ctx context.Context) personality.Readiness {
	if _, err := f.enter(ctx, "Ready", nil); err != nil {
		if errors.Is(err, personality.ErrRefusing) {
			return personality.Readiness{Reason: "it was tampered with", Refusing: true}
		}
		panic(err)
	}
	return personality.Readiness{Ready: true}
}

// instantLog admits anything at no cost, for benchmarks.
type instantLog struct{ Log }

func (*instantLog) Authenticate(context.Context, string) (*personality.Token, error) {
	return fakeToken, nil
}

func (l *instantLog) Admit(context.Context, personality.Caller, personality.Submission) (Pending, error) {
	return l, nil
}

func (*instantLog) Wait(context.Context, personality.Wait) personality.Result {
	return personality.Result{Status: personality.StatusAccepted, Index: 123456, Receipt: instantReceipt}
}

var (
	instantReceipt = &verifier.Receipt{Index: 123456, Proof: make([]verifier.Hash, 17), Checkpoint: []byte(fakeNote), Extra: make([]byte, 2000)}
	eventsURL      = &url.URL{Path: "/v1/events"}
)

func (f *fakeLog) Ingest(ctx context.Context, from personality.Caller, d personality.Delivery) (*personality.Taken, error) {
	if _, err := f.enter(ctx, "Ingest", &from); err != nil {
		return nil, err
	}
	if err := d.Charge(1); err != nil {
		return nil, err
	}
	results := []ingest.Result{{Status: ingest.Accepted}}
	answer, err := ingest.Answers(results)
	return &personality.Taken{Results: results, Answer: answer}, err
}

var fakeQuarantined = pubstore.Quarantined{ID: strings.Repeat("0a", 32), Tenant: "default", Adapter: "fake", Sender: ingest.SenderToken, Principal: "fake/fake",
	Received: time.Date(2026, 1, 31, 0, 0, 0, 0, time.UTC), Status: string(ingest.Rejected), Reason: "/id: expected one", RawSHA256: make([]byte, 32), RawBytes: 3, Raw: []byte("raw")}

func (f *fakeLog) QuarantineList(ctx context.Context, from personality.Caller, after string, count int) ([]pubstore.Quarantined, error) {
	if count < 1 || count > personality.MaxQuarantineList {
		f.t.Errorf("QuarantineList: count %d", count)
	}
	_, err := f.enter(ctx, "QuarantineList", &from)
	return []pubstore.Quarantined{fakeQuarantined}, err
}

func (f *fakeLog) QuarantineShow(ctx context.Context, from personality.Caller, id string) (pubstore.Quarantined, error) {
	_, err := f.enter(ctx, "QuarantineShow", &from)
	return fakeQuarantined, err
}

func (f *fakeLog) QuarantineReplay(ctx context.Context, from personality.Caller, id, source string) ([]ingest.Result, error) {
	_, err := f.enter(ctx, "QuarantineReplay", &from)
	return []ingest.Result{{Status: ingest.Duplicate}}, err
}

func (f *fakeLog) QuarantineDrop(ctx context.Context, from personality.Caller, id string) error {
	_, err := f.enter(ctx, "QuarantineDrop", &from)
	return err
}
