package personality

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// events returns the log's events, opened and in order.
func (l *testLog) events() []event.Fields {
	l.t.Helper()
	size := l.svc.published.Load().head.Size
	var all []event.Fields
	for i := range size {
		h, err := l.svc.leafHash(context.Background(), i)
		if err != nil {
			l.t.Fatal(err)
		}
		b, err := l.svc.store.Opening(context.Background(), i, h)
		if err != nil {
			l.t.Fatal(err)
		}
		o, err := seal.ParseOpening(b)
		if err != nil {
			l.t.Fatal(err)
		}
		all = append(all, o.Event())
	}
	return all
}

// actions names the action, tenant and target of each event of the service's own.
func (l *testLog) actions() (own []string) {
	l.t.Helper()
	for _, e := range l.events() {
		if a := e.Text("/action"); strings.HasPrefix(a, "audit.") {
			own = append(own, a+" "+e.Text("/tenant")+" "+e.Text("/target/0/type")+" "+e.Text("/target/0/id"))
		}
	}
	return own
}

// Every read of content is an event before its answer; a submitter's own receipt isn't.
func TestReadsAreLogged(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	ctx := t.Context()
	l.mustSubmit("a", "x")
	l.mustSubmit("b", "x")
	discard := func(OpeningLine) error { return nil }
	for name, read := range map[string]struct {
		do   func() error
		want string // empty: not logged
	}{
		"entry":        {func() error { _, err := l.svc.Entry(ctx, reader("default"), 1); return err }, "audit.read default entry 1"},
		"receipt":      {func() error { _, err := l.svc.Receipt(ctx, reader("default"), 0, Integrated); return err }, "audit.read default entry 0"},
		"by id":        {func() error { _, err := l.svc.EventByID(ctx, reader("default"), "cron://node-1", "b"); return err }, "audit.read default entry 1"},
		"bulk":         {func() error { return l.svc.Openings(ctx, reader("default"), 0, 2, discard) }, "audit.read default entries 0-1"},
		"all tenants'": {func() error { return l.svc.Openings(ctx, reader(AllTenants), 1, 1, discard) }, "audit.read " + OwnTenant + " entries 1-1"},
		"own receipt":  {func() error { _, err := l.svc.Receipt(ctx, submitter("default"), 0, Integrated); return err }, ""},
		"other tenant": {func() error { _, err := l.svc.Entry(ctx, reader("acme"), 0); return err }, ""},
	} {
		before := len(l.actions())
		if err := read.do(); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		l.mustSubmit("after "+name, "x") // what was sequenced before is published with it
		var want []string
		if read.want != "" {
			want = []string{read.want}
		}
		if got := l.actions()[before:]; !slices.Equal(got, want) {
			t.Errorf("%s: logged %q, want %q", name, got, want)
		}
	}
	l.mustAudit()
}

// A reader of another tenant gets leaf and proof, never the opening.
func TestTenantsAreApart(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	ctx := t.Context()
	r := l.mustSubmit("a", "secret")
	for name, from := range map[string]Caller{"reader": reader("acme"), "submitter": submitter("acme")} {
		e, err := l.svc.Entry(ctx, from, r.Index)
		if err != nil || e.Opening != nil || e.LeafHash != r.LeafHash {
			t.Fatalf("%s of another tenant: %+v, %v", name, e, err)
		}
		v, err := verifier.VerifyReceiptLeaf(e.Receipt, e.Leaf, l.policy)
		if err != nil || v.Index != r.Index {
			t.Errorf("%s of another tenant: its receipt: %+v, %v", name, v, err)
		}
		if _, err := l.svc.EventByID(ctx, from, "cron://node-1", "a"); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of another tenant asks by id: %v, want ErrNotFound", name, err)
		}
	}
	// A submitter of the same tenant sees only what it submitted itself.
	other := submitter("default")
	other.Token.ID = "other"
	if e, err := l.svc.Entry(ctx, other, r.Index); err != nil || e.Opening != nil {
		t.Errorf("another submitter of the tenant: %+v, %v", e, err)
	}
	var lines []OpeningLine
	if err := l.svc.Openings(ctx, reader("acme"), 0, 10, func(o OpeningLine) error { lines = append(lines, o); return nil }); err != nil {
		t.Fatal(err)
	}
	if len(lines) != 1 || lines[0].Opening != nil || lines[0].Reason != verifier.ReasonTenant {
		t.Errorf("openings: %+v", lines)
	}
	l.mustAudit()
}

func TestAdmitChecksTheCredential(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	for name, from := range map[string]Caller{"reader": reader("default"), "operator": OperatorCaller(), "other source": {Token: &Token{
		ID: "x", Name: "x", Tenant: "default", Roles: []Role{RoleSubmit}, Sources: []string{"cron://node-2"}}}} {
		if r := l.submit(from, "a", "x", Durable); !errors.Is(r.Err, ErrForbidden) {
			t.Errorf("%s: %+v, want ErrForbidden", name, r)
		}
	}
	var bad *event.Error
	if _, err := l.svc.Admit(t.Context(), submitter("default"), Submission{Event: []byte(`{"schema":"prooftrail.event/1","tenant":"acme"}`)}); !errors.As(err, &bad) || bad.Pointer != "/tenant" {
		t.Errorf("an event that names its tenant: %v, want a refusal of /tenant", err)
	}
	if n := len(l.events()); n != 0 {
		t.Errorf("the log has %d entries", n)
	}
}

func TestTokens(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	ctx := t.Context()
	admin := OperatorCaller()
	tok, text, err := l.svc.AddToken(ctx, admin, TokenRequest{Name: "node-1", Tenant: "default", Roles: []Role{RoleSubmit}, Sources: []string{"cron://"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := l.svc.Authenticate(ctx, text)
	if err != nil || got.Principal() != "node-1/"+tok.ID {
		t.Fatalf("Authenticate: %+v, %v", got, err)
	}
	for _, wrong := range []string{"", "pt_", text[:len(text)-1], text + "x", strings.ToUpper(text), "pt_aaaaaaaaaaaa_" + text[16:], text[:16]} {
		if _, err := l.svc.Authenticate(ctx, wrong); !errors.Is(err, ErrUnauthorized) {
			t.Errorf("Authenticate(%q): %v, want ErrUnauthorized", wrong, err)
		}
	}
	l.close()
	l.open(nil)
	if _, err := l.svc.Authenticate(ctx, text); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if list, err := l.svc.Tokens(ctx, admin); err != nil || len(list) != 1 || list[0].ID != tok.ID {
		t.Errorf("Tokens: %+v, %v", list, err)
	}
	acme := Caller{Token: &Token{ID: "y", Name: "y", Tenant: "acme", Roles: []Role{RoleAdmin}}}
	if err := l.svc.RevokeToken(ctx, acme, tok.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("another tenant's admin revokes: %v, want ErrNotFound", err)
	}
	if list, err := l.svc.Tokens(ctx, acme); err != nil || len(list) != 0 {
		t.Errorf("another tenant's admin lists: %+v, %v", list, err)
	}
	if err := l.svc.RevokeToken(ctx, admin, tok.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := l.svc.Authenticate(ctx, text); !errors.Is(err, ErrUnauthorized) {
		t.Errorf("after revocation: %v, want ErrUnauthorized", err)
	}
	if err := l.svc.RevokeToken(ctx, admin, tok.ID); !errors.Is(err, ErrNotFound) {
		t.Errorf("revoking twice: %v, want ErrNotFound", err)
	}
	l.mustSubmit("a", "x")
	want := []string{"audit.token.create default token " + tok.ID, "audit.token.revoke default token " + tok.ID}
	if got := l.actions(); !slices.Equal(got, want) {
		t.Errorf("logged %q, want %q", got, want)
	}
	for _, e := range l.events() {
		if strings.Contains(string(e.JSON()), text[16:]) {
			t.Error("the secret is in the log")
		}
	}
}

func TestTokenRequestsAreChecked(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	good := TokenRequest{Name: "n", Tenant: "default", Roles: []Role{RoleSubmit}, Sources: []string{""}}
	for field, change := range map[string]func(*TokenRequest){
		"name":    func(r *TokenRequest) { r.Name = "a b" },
		"tenant":  func(r *TokenRequest) { r.Tenant = AllTenants },
		"tenant ": func(r *TokenRequest) { r.Tenant = OwnTenant },
		"roles":   func(r *TokenRequest) { r.Roles = nil },
		"roles ":  func(r *TokenRequest) { r.Roles = []Role{"root"} },
		"roles  ": func(r *TokenRequest) { r.Roles = []Role{RoleSubmit, RoleSubmit} },
		"sources": func(r *TokenRequest) { r.Sources = nil },
	} {
		r := good
		change(&r)
		var bad *InvalidError
		if _, _, err := l.svc.AddToken(t.Context(), OperatorCaller(), r); !errors.As(err, &bad) || bad.Field != strings.TrimSpace(field) {
			t.Errorf("%+v: %v, want a refusal of %s", r, err, field)
		}
	}
	if n := len(l.events()); n != 0 {
		t.Errorf("the log has %d entries", n)
	}
}

// Start and stop are in the log, and closing loses nothing that was admitted.
func TestCloseDrains(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	if err := l.svc.Announce(t.Context()); err != nil {
		t.Fatal(err)
	}
	const n = 500
	pending := make([]*Pending, n)
	for i := range pending {
		p, err := l.svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON(fmt.Sprint("e", i), "x")})
		if err != nil {
			t.Fatal(err)
		}
		pending[i] = p
	}
	svc := l.svc
	l.close()
	for i, p := range pending {
		if r := p.Wait(t.Context(), Durable); r.Err != nil {
			t.Fatalf("event %d: %+v", i, r)
		}
	}
	if _, err := svc.Admit(t.Context(), submitter("default"), Submission{Event: eventJSON("late", "x")}); !errors.Is(err, ErrClosing) {
		t.Errorf("Admit after Close: %v, want ErrClosing", err)
	}
	l.open(nil)
	if r := l.mustAudit(); r.Size != n+2 {
		t.Errorf("the log has %d entries, want %d", r.Size, n+2)
	}
	want := []string{"audit.start " + OwnTenant + " log " + testOrigin, "audit.stop " + OwnTenant + " log " + testOrigin}
	if got := l.actions(); !slices.Equal(got[:2], want) {
		t.Errorf("logged %q, want %q first", got, want)
	}
}

// heldAnchor holds its first move beyond size 0 back.
type heldAnchor struct {
	Anchor
	moving, goOn chan struct{}
}

func (a heldAnchor) Move(ctx context.Context, h pubstore.Head) error {
	if h.Size == 1 {
		close(a.moving)
		<-a.goOn
	}
	return a.Anchor.Move(ctx, h)
}

// An event whose identity is stored already and whose head isn't signed yet isn't
// damaged: it is on its way.
func TestByIDWhilePublishing(t *testing.T) {
	l := newTestLog(t)
	a := heldAnchor{moving: make(chan struct{}), goOn: make(chan struct{})}
	l.open(func(p *parts) { a.Anchor = p.anchor; p.anchor = a })
	if r := l.submit(submitter("default"), "e1", "x", Durable); r.Err != nil {
		t.Fatal(r.Err)
	}
	<-a.moving
	get := func() error {
		_, err := l.svc.EventByID(t.Context(), submitter("default"), "cron://node-1", "e1")
		return err
	}
	if err := get(); !errors.Is(err, ErrBeyondHead) {
		t.Errorf("while its head is being anchored: %v, want ErrBeyondHead", err)
	}
	close(a.goOn)
	l.waitPublished(0)
	if err := get(); err != nil {
		t.Errorf("once published: %v", err)
	}
}
