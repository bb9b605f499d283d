package personality

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// signingSource is a source with a key.
type signingSource struct {
	note.Signer
	vkey string
	key  *verifier.SourceKey
}

func newSigningSource(t *testing.T, name string) *signingSource {
	t.Helper()
	skey, vkey, err := note.GenerateKey(nil, name)
	if err != nil {
		t.Fatal(err)
	}
	return &signingSource{must(note.NewSigner(skey)), vkey, must(verifier.ParseSourceKey(vkey))}
}

// sign makes the submission of an event.
func (s *signingSource) sign(t *testing.T, raw []byte) Submission {
	t.Helper()
	e, err := seal.SignEvent(raw, must(event.Parse(raw)), s)
	if err != nil {
		t.Fatal(err)
	}
	return Submission{Event: raw, Salts: e.Salts, Signature: e.Signature}
}

// send has the log admit a submission and waits for its receipt.
func (l *testLog) send(from Caller, sub Submission) Result {
	l.t.Helper()
	p, err := l.svc.Admit(l.t.Context(), from, sub)
	if err != nil {
		return Result{Err: err}
	}
	return p.Wait(l.t.Context(), Integrated)
}

// settle waits until all that was sequenced is published, by an event of a tenant that has no keys.
func (l *testLog) settle() {
	l.t.Helper()
	if r := l.submit(submitter("free"), "settle", "x", Integrated); r.Err != nil {
		l.t.Fatal(r.Err)
	}
}

func (l *testLog) register(s *signingSource, tenant string, required bool) *SourceKey {
	l.t.Helper()
	k, err := l.svc.AddSourceKey(l.t.Context(), OperatorCaller(), SourceKeyRequest{Tenant: tenant, Source: "cron://node-1", VKey: s.vkey, Required: required})
	if err != nil {
		l.t.Fatal(err)
	}
	return k
}

// openingOf is what a receipt shows.
func openingOf(t *testing.T, r Result) *seal.Opening {
	t.Helper()
	if r.Err != nil {
		t.Fatal(r.Err)
	}
	return must(seal.ParseOpening(r.Receipt.Extra))
}

// mustShow checks that a receipt has the salts and the signature of a submission.
func mustShow(t *testing.T, r Result, sub Submission, key *verifier.SourceKey) {
	t.Helper()
	o := openingOf(t, r)
	if got := o.Text("/ingest/signature"); got != sub.Signature {
		t.Errorf("signature %q, want %q", got, sub.Signature)
	}
	if err := seal.CheckSource(o, key); err != nil {
		t.Error(err)
	}
	e := seal.Envelope{Salts: sub.Salts, Signature: sub.Signature}
	if err := e.CheckOpening(o); err != nil {
		t.Error(err)
	}
}

// TestSignedEvents: an event is sealed with its source's salts and signature; sent again, however signed, it is the
// same entry, with the first ones.
func TestSignedEvents(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	s := newSigningSource(t, "node-1.example.com")
	first := s.sign(t, eventJSON("a", "x"))
	if r := l.send(submitter("default"), first); !errors.Is(r.Err, ErrUnknownSourceKey) {
		t.Errorf("before the key is registered: %v", r.Err)
	}
	before := l.mustSubmit("before", "x")
	key := l.register(s, "default", true)
	r := l.send(submitter("default"), first)
	mustShow(t, r, first, s.key)
	l.checkReceipt(r, "a")
	another := submitter("default")
	another.Token.ID = "another"
	again := s.sign(t, eventJSON("a", "x"))
	for name, sub := range map[string]Submission{"the same": first, "signed anew": again, "unsigned": {Event: eventJSON("a", "x")}} {
		for _, from := range []Caller{submitter("default"), another} {
			dup := l.send(from, sub)
			if dup.Status != StatusDuplicate || dup.Index != r.Index || dup.LeafHash != r.LeafHash {
				t.Errorf("%s by %s: %+v", name, from.Token.ID, dup)
			}
			mustShow(t, dup, first, s.key)
		}
	}
	if dup := l.send(submitter("default"), Submission{Event: eventJSON("before", "x")}); dup.Status != StatusDuplicate || dup.Index != before.Index {
		t.Errorf("one from before the key: %+v", dup)
	}
	if dup := l.send(submitter("default"), s.sign(t, eventJSON("before", "x"))); dup.Status != StatusDuplicate || dup.Index != before.Index || openingOf(t, dup).Text("/ingest/signature") != "" {
		t.Errorf("one from before the key, signed now: %+v", dup)
	}
	if c := l.send(submitter("default"), Submission{Event: eventJSON("a", "other")}); c.Status != StatusConflict || c.Index != r.Index {
		t.Errorf("an unsigned one under a taken id: %+v", c)
	}
	if r := l.send(submitter("default"), Submission{Event: eventJSON("b", "x")}); !errors.Is(r.Err, ErrUnsigned) {
		t.Errorf("unsigned: %v", r.Err)
	}
	l.close()
	l.open(nil)
	mustShow(t, l.send(submitter("default"), again), first, s.key)
	if r := l.send(submitter("default"), Submission{Event: eventJSON("b", "x")}); !errors.Is(r.Err, ErrUnsigned) {
		t.Errorf("unsigned, after a restart: %v", r.Err)
	}
	l.mustAudit()
	if got, want := l.actions()[0], "audit.source_key.create default source_key "+key.ID; got != want {
		t.Errorf("logged %q, want %q", got, want)
	}
}

// TestHostileSubmitter: a token alone, or somebody else's signature, writes nothing for a source that signs.
func TestHostileSubmitter(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	s, stranger, other := newSigningSource(t, "node-1"), newSigningSource(t, "node-1"), newSigningSource(t, "acme")
	l.register(s, "default", true)
	l.register(other, "acme", true)
	raw := eventJSON("a", "x")
	good := s.sign(t, raw)
	size := func() int { return len(l.events()) }
	l.settle()
	before := size()
	edited := func(change func(*Submission)) Submission {
		sub := s.sign(t, raw)
		change(&sub)
		return sub
	}
	node2 := bytes.ReplaceAll(raw, []byte("cron://node-1"), []byte("cron://node-2"))
	for name, c := range map[string]struct {
		from Caller
		sub  Submission
		want error  // or
		code string // of an envelope's error
	}{
		"unsigned":                   {submitter("default"), Submission{Event: raw}, ErrUnsigned, ""},
		"by a key of the same name":  {submitter("default"), stranger.sign(t, raw), ErrUnknownSourceKey, ""},
		"by another tenant's key":    {submitter("default"), other.sign(t, raw), ErrUnknownSourceKey, ""},
		"another tenant's event":     {submitter("acme"), good, ErrUnknownSourceKey, ""},
		"for a source without a key": {submitter("default"), s.sign(t, node2), ErrUnknownSourceKey, ""},
		"another event's signature":  {submitter("default"), edited(func(sub *Submission) { sub.Event = eventJSON("b", "x") }), nil, seal.CodeSignature},
		"another source's signature": {submitter("default"), edited(func(sub *Submission) { sub.Signature = s.sign(t, node2).Signature }), nil, seal.CodeSignature},
		"another signature's salts":  {submitter("default"), edited(func(sub *Submission) { sub.Salts = s.sign(t, raw).Salts }), nil, seal.CodeSignature},
		"a field without a salt":     {submitter("default"), edited(func(sub *Submission) { delete(sub.Salts, "/id") }), nil, event.CodeMissing},
		"a salt for the tenant":      {submitter("default"), edited(func(sub *Submission) { sub.Salts["/tenant"] = [16]byte{1} }), nil, event.CodeUnknown},
		"a salt for the signature":   {submitter("default"), edited(func(sub *Submission) { sub.Salts["/ingest/signature"] = [16]byte{1} }), nil, event.CodeUnknown},
		"a salt for nothing":         {submitter("default"), edited(func(sub *Submission) { sub.Salts["/reason/text"] = [16]byte{1} }), nil, event.CodeUnknown},
		"a field less": {submitter("default"), edited(func(sub *Submission) {
			sub.Event = bytes.Replace(raw, []byte(`"seq":"1",`), nil, 1)
		}), nil, event.CodeUnknown},
		"no salts":     {submitter("default"), edited(func(sub *Submission) { sub.Salts = nil }), nil, event.CodeMissing},
		"no signature": {submitter("default"), edited(func(sub *Submission) { sub.Signature = "" }), nil, event.CodeMissing},
		"nonsense":     {submitter("default"), edited(func(sub *Submission) { sub.Signature = "node-1 AAAA" }), ErrUnknownSourceKey, ""},
		"a signature cut": {submitter("default"), edited(func(sub *Submission) {
			sub.Signature = sub.Signature[:len(sub.Signature)-4]
		}), ErrUnknownSourceKey, ""},
	} {
		err := l.send(c.from, c.sub).Err
		var bad *seal.EnvelopeError
		if c.want != nil && !errors.Is(err, c.want) || c.want == nil && (!errors.As(err, &bad) || bad.Code != c.code) {
			t.Errorf("%s: %v, want %v %s", name, err, c.want, c.code)
		}
	}
	if n := size(); n != before {
		t.Errorf("%d entries came of it", n-before)
	}
	mustShow(t, l.send(submitter("default"), good), good, s.key)
	// Salts used again tell those who know the one event of the other: that is the source's own loss, and allowed.
	next := eventJSON("c", "x")
	n, root, err := seal.SourceRoot(must(event.Parse(next)), good.Salts)
	if err != nil {
		t.Fatal(err)
	}
	reused := Submission{Event: next, Salts: good.Salts, Signature: must(seal.SignSource(n, root, s))}
	mustShow(t, l.send(submitter("default"), reused), reused, s.key)
	if r := l.submit(Caller{Token: &Token{ID: "2", Name: "2", Tenant: "default", Roles: []Role{RoleSubmit}, Sources: []string{""}}}, "d", "x", Durable); !errors.Is(r.Err, ErrUnsigned) {
		t.Errorf("a token for every source: %v", r.Err)
	}
	l.mustAudit()
}

// TestSourceKeysLife: a key counts from its time on, until it is revoked; what it requires outlives it, unless that is
// released.
func TestSourceKeysLife(t *testing.T) {
	l := newTestLog(t)
	now := time.Now().Truncate(time.Second)
	l.cfg.Now = func() time.Time { return now }
	l.open(nil)
	ctx, admin := t.Context(), OperatorCaller()
	s, next := newSigningSource(t, "node-1"), newSigningSource(t, "node-1/2")
	ids := 0
	try := func(s *signingSource) error {
		ids++
		raw := eventJSON(fmt.Sprint("e", ids), "x")
		if s == nil {
			return l.send(submitter("default"), Submission{Event: raw}).Err
		}
		return l.send(submitter("default"), s.sign(t, raw)).Err
	}
	want := func(when string, unsigned, first, second error) {
		t.Helper()
		for name, c := range map[string]struct {
			s    *signingSource
			want error
		}{"unsigned": {nil, unsigned}, "the first key": {s, first}, "the second": {next, second}} {
			if err := try(c.s); !errors.Is(err, c.want) {
				t.Errorf("%s, %s: %v, want %v", when, name, err, c.want)
			}
		}
	}
	want("no key", nil, ErrUnknownSourceKey, ErrUnknownSourceKey)
	optional := l.register(s, "default", false)
	want("not required", nil, nil, ErrUnknownSourceKey)
	k2, err := l.svc.AddSourceKey(ctx, admin, SourceKeyRequest{Tenant: "default", Source: "cron://", VKey: next.vkey, Required: true, From: now.Add(time.Hour)})
	check(t, err)
	want("before the second's time", nil, nil, ErrUnknownSourceKey)
	now = now.Add(time.Hour)
	want("both", ErrUnsigned, nil, nil)
	check(t, l.svc.RevokeSourceKey(ctx, admin, optional.ID, false))
	want("the first is revoked", ErrUnsigned, ErrUnknownSourceKey, nil)
	check(t, l.svc.RevokeSourceKey(ctx, admin, k2.ID, false))
	want("both are revoked", ErrUnsigned, ErrUnknownSourceKey, ErrUnknownSourceKey)
	l.close()
	l.open(nil)
	want("after a restart", ErrUnsigned, ErrUnknownSourceKey, ErrUnknownSourceKey)
	if err := l.svc.RevokeSourceKey(ctx, admin, k2.ID, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("revoked twice: %v", err)
	}
	check(t, l.svc.RevokeSourceKey(ctx, admin, k2.ID, true))
	want("and released", nil, ErrUnknownSourceKey, ErrUnknownSourceKey)
	list := must(l.svc.SourceKeys(ctx, admin))
	if len(list) != 2 || list[0].Revoked.IsZero() || list[1].Revoked.IsZero() || list[0].Released == list[1].Released {
		t.Errorf("the history: %+v", list)
	}
	id := func(k *SourceKey) string { return " default source_key " + k.ID }
	wantActions := []string{ActionSourceKeyCreate + id(optional), ActionSourceKeyCreate + id(k2), ActionSourceKeyRevoke + id(optional),
		ActionSourceKeyRevoke + id(k2), ActionSourceKeyRevoke + id(k2)}
	if got := l.actions(); !slices.Equal(got, wantActions) {
		t.Errorf("logged %q, want %q", got, wantActions)
	}
	l.mustAudit()
}

// TestSourceKeysAreTheTenants: an admin sees and changes the keys of its own tenant.
func TestSourceKeysAreTheTenants(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	ctx := t.Context()
	s := newSigningSource(t, "node-1")
	k := l.register(s, "default", true)
	acme := Caller{Token: &Token{ID: "y", Name: "y", Tenant: "acme", Roles: []Role{RoleAdmin}}}
	if list, err := l.svc.SourceKeys(ctx, acme); err != nil || len(list) != 0 {
		t.Errorf("another tenant's admin lists: %+v, %v", list, err)
	}
	if err := l.svc.RevokeSourceKey(ctx, acme, k.ID, true); !errors.Is(err, ErrNotFound) {
		t.Errorf("another tenant's admin revokes: %v", err)
	}
	for _, from := range []Caller{acme, reader("default"), submitter("default")} {
		if _, err := l.svc.AddSourceKey(ctx, from, SourceKeyRequest{Tenant: "default", Source: "cron://", VKey: s.vkey}); !errors.Is(err, ErrForbidden) {
			t.Errorf("%s adds: %v", from.Token.ID, err)
		}
	}
	if _, err := l.svc.SourceKeys(ctx, reader("default")); !errors.Is(err, ErrForbidden) {
		t.Errorf("a reader lists: %v", err)
	}
	good := SourceKeyRequest{Tenant: "default", Source: "cron://", VKey: s.vkey}
	for field, change := range map[string]func(*SourceKeyRequest){
		"tenant": func(r *SourceKeyRequest) { r.Tenant = OwnTenant }, "tenant ": func(r *SourceKeyRequest) { r.Tenant = AllTenants },
		"source": func(r *SourceKeyRequest) { r.Source = "" }, "source ": func(r *SourceKeyRequest) { r.Source = "cron://a b" },
		"source  ": func(r *SourceKeyRequest) { r.Source = strings.Repeat("x", 513) },
		"vkey":     func(r *SourceKeyRequest) { r.VKey = "" }, "vkey ": func(r *SourceKeyRequest) { r.VKey += "A" },
		"vkey  ": func(r *SourceKeyRequest) {
			_, r.VKey, _ = note.GenerateKey(nil, strings.Repeat("x", 513))
		},
	} {
		r := good
		change(&r)
		var bad *InvalidError
		if _, err := l.svc.AddSourceKey(ctx, OperatorCaller(), r); !errors.As(err, &bad) || bad.Field != strings.TrimSpace(field) {
			t.Errorf("%+v: %v, want a refusal of %s", r, err, field)
		}
	}
}

// TestSourceKeysTampering: a key that was changed in the store is noticed at the next start; one that is put back as it was,
// or taken away, by a service that runs.
func TestSourceKeysTampering(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	k := l.register(newSigningSource(t, "node-1"), "default", true)
	before := must(l.svc.store.SourceKeys(t.Context()))[0]
	check(t, l.svc.RevokeSourceKey(t.Context(), OperatorCaller(), k.ID, true))
	check(t, l.svc.store.PutSourceKey(t.Context(), before, ""))
	if err := l.svc.followSourceKeys(t.Context()); !errors.Is(err, ErrRefusing) {
		t.Errorf("a revoked key put back: %v", err)
	}
	l.mustRefuse("it is gone, or as it was before")
	changed := before
	changed.Required = false
	check(t, l.svc.store.PutSourceKey(t.Context(), changed, ""))
	l.close()
	l.open(nil)
	l.mustRefuse("changed outside the service")
}

// TestSourceKeysOfOthers: each of several processes on one log sees what another has registered or revoked.
func TestSourceKeysOfOthers(t *testing.T) {
	l := openSeveral(t, 2, false, nil)
	s := newSigningSource(t, "node-1")
	k := l.at(0).register(s, "default", true)
	check(t, l.at(1).svc.followSourceKeys(t.Context()))
	if r := l.at(1).send(submitter("default"), Submission{Event: eventJSON("a", "x")}); !errors.Is(r.Err, ErrUnsigned) {
		t.Errorf("unsigned: %v", r.Err)
	}
	sub := s.sign(t, eventJSON("a", "x"))
	mustShow(t, l.at(1).send(submitter("default"), sub), sub, s.key)
	check(t, l.at(1).svc.RevokeSourceKey(t.Context(), OperatorCaller(), k.ID, false))
	check(t, l.at(0).svc.followSourceKeys(t.Context()))
	if r := l.at(0).send(submitter("default"), s.sign(t, eventJSON("b", "x"))); !errors.Is(r.Err, ErrUnknownSourceKey) {
		t.Errorf("by a revoked key: %v", r.Err)
	}
	if r := l.at(0).send(submitter("default"), s.sign(t, eventJSON("a", "x"))); r.Status != StatusDuplicate {
		t.Errorf("one that is there, by a revoked key: %+v", r)
	}
}

// TestSourceKeyRevokedTwice: what one process has released, another that hasn't seen it yet doesn't bring back; which would look
// like somebody who writes to the database.
func TestSourceKeyRevokedTwice(t *testing.T) {
	l := openSeveral(t, 2, false, nil)
	k := l.at(0).register(newSigningSource(t, "node-1"), "default", true)
	check(t, l.at(1).svc.followSourceKeys(t.Context()))
	check(t, l.at(0).svc.RevokeSourceKey(t.Context(), OperatorCaller(), k.ID, true))
	if err := l.at(1).svc.RevokeSourceKey(t.Context(), OperatorCaller(), k.ID, false); !errors.Is(err, ErrNotFound) {
		t.Errorf("revoked again: %v", err)
	}
	check(t, l.at(0).svc.followSourceKeys(t.Context()))
	if r := l.at(0).send(submitter("default"), Submission{Event: eventJSON("a", "x")}); r.Err != nil {
		t.Errorf("unsigned: %v", r.Err)
	}
}

// TestSourceKeyOfAFailedEntry: an unsigned event that was taken for one that is there isn't stored when that one fails.
func TestSourceKeyOfAFailedEntry(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	l.register(newSigningSource(t, "node-1"), "default", true)
	p, err := l.svc.seal(submitter("default"), must(must(event.Parse(eventJSON("a", "x"))).Stamp(event.Stamp{Tenant: "default", ReceivedAt: time.Now()})), nil)
	check(t, err)
	p.refusal = ErrUnsigned
	if _, err := l.svc.enqueue(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	if r := p.Wait(t.Context(), Integrated); !errors.Is(r.Err, ErrUnsigned) {
		t.Errorf("%+v", r)
	}
	l.settle()
	if n := len(l.events()); n != 2 { // the key's, and settle's
		t.Errorf("%d entries", n)
	}
}
