package personality

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

const testOrigin = "example.com/audit"

// testLog is a log in a directory of the test's, opened and closed by it.
type testLog struct {
	t      *testing.T
	cfg    Config
	policy *verifier.Policy
	vkey   string
	svc    *Service
}

// testWriter sends a log to the test's, until that ends: what Trillian logs goes to the
// first logger of the process for as long as that lives.
type testWriter struct {
	mu sync.Mutex
	t  *testing.T
}

func newTestWriter(t *testing.T) *testWriter {
	w := &testWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return w
}

func (w *testWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Logf("%s", bytes.TrimSpace(b))
	}
	return len(b), nil
}

func newTestLog(t *testing.T) *testLog {
	t.Helper()
	l := &testLog{t: t, cfg: testConfig(t)}
	l.create()
	return l
}

// testConfig is a log's in a directory of the test's.
func testConfig(t *testing.T) Config {
	t.Helper()
	return Config{
		Dir:    filepath.Join(t.TempDir(), "data"),
		Logger: slog.New(slog.NewTextHandler(newTestWriter(t), &slog.HandlerOptions{Level: slog.LevelWarn})),
	}
}

func (l *testLog) create() {
	l.t.Helper()
	made, err := Create(context.Background(), CreateConfig{Config: l.cfg, Origin: testOrigin})
	if err != nil {
		l.t.Fatal(err)
	}
	cfg, err := l.cfg.withDefaults()
	if err != nil {
		l.t.Fatal(err)
	}
	l.cfg.Anchor = cfg.Anchor
	l.vkey = made.VKey
	if l.policy, err = verifier.ParsePolicy(fmt.Appendf(nil, policyFmt, made.VKey)); err != nil {
		l.t.Fatal(err)
	}
}

// open opens the log, with parts that change may put faults into.
func (l *testLog) open(change func(*parts)) *Service {
	l.t.Helper()
	s, err := l.tryOpen(change)
	if err != nil {
		l.t.Fatal(err)
	}
	l.svc = s
	l.t.Cleanup(func() { l.close() })
	return s
}

func (l *testLog) tryOpen(change func(*parts)) (*Service, error) {
	cfg, err := l.cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p, err := openParts(context.Background(), cfg)
	if err != nil {
		return nil, err
	}
	if change != nil {
		change(&p)
	}
	s, err := open(context.Background(), cfg, p)
	if err != nil {
		return nil, errors.Join(err, p.closeAll())
	}
	return s, nil
}

func (l *testLog) close() {
	if l.svc == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if err := l.svc.Close(ctx); err != nil {
		l.t.Errorf("close: %v", err)
	}
	l.svc = nil
}

// submitter is a credential that doesn't need storing: these tests are below httpapi.
func submitter(tenant string) Caller {
	return Caller{PeerIP: netip.MustParseAddr("192.0.2.7"), Token: &Token{
		ID: "t-" + tenant, Name: "sub", Tenant: tenant, Roles: []Role{RoleSubmit}, Sources: []string{"cron://"}}}
}

func reader(tenant string) Caller {
	return Caller{PeerIP: netip.MustParseAddr("192.0.2.8"), Token: &Token{
		ID: "r-" + tenant, Name: "aud", Tenant: tenant, Roles: []Role{RoleRead}}}
}

// eventJSON is a valid event; note makes its content differ.
func eventJSON(id, note string) []byte {
	return fmt.Appendf(nil, `{"schema":"prooftrail.event/1","id":%q,"source":"cron://node-1","seq":"1",`+
		`"time":"2026-01-31T23:59:59.5Z","action":"run.finish","outcome":"success","actor":{"type":"schedule","id":"backup"},`+
		`"origin":{"ip":"198.51.100.7"},"target":[{"type":"job","id":"backup"}],"job":{"id":"backup","exit_code":0},"details":{"note":%q}}`, id, note)
}

// submit sends an event and returns its result.
func (l *testLog) submit(from Caller, id, note string, w Wait) Result {
	p, err := l.svc.Admit(context.Background(), from, Submission{Event: eventJSON(id, note)})
	if err != nil {
		return Result{Err: err}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	return p.Wait(ctx, w)
}

// mustSubmit sends an event, and checks the receipt as its holder would.
func (l *testLog) mustSubmit(id, note string) Result {
	l.t.Helper()
	r := l.submit(submitter("default"), id, note, Integrated)
	if r.Err != nil {
		l.t.Fatalf("submit %s: %v", id, r.Err)
	}
	l.checkReceipt(r, id)
	return r
}

func (l *testLog) checkReceipt(r Result, id string) {
	l.t.Helper()
	v, err := verifier.VerifyReceipt(r.Receipt.Bytes(), l.policy)
	if err != nil || v.Content != seal.Verified || v.Index != r.Index || v.Event.Text("/id") != id {
		l.t.Fatalf("receipt of %s at %d: %+v, %v", id, r.Index, v, err)
	}
}

// openService is a Service as the verifier's sources.
type openService struct {
	s    *Service
	from Caller
}

func (o openService) Get(ctx context.Context, path string, _ int64) ([]byte, error) {
	if path == "checkpoint" {
		return o.s.Checkpoint(ctx)
	}
	t, err := verifier.ParseTilePath(path)
	if err != nil {
		return nil, err
	}
	var b []byte
	if t.Level == verifier.EntriesLevel {
		b, err = o.s.EntryBundle(ctx, t.N, t.Width)
	} else {
		b, err = o.s.Tile(ctx, t.Level, t.N, t.Width)
	}
	if errors.Is(err, ErrNotFound) {
		err = fs.ErrNotExist
	}
	return b, err
}

func (o openService) Openings(ctx context.Context, start, count uint64) (io.ReadCloser, error) {
	var buf bytes.Buffer
	err := o.s.Openings(ctx, o.from, start, int(count), func(line OpeningLine) error {
		buf.Write(verifier.AppendOpeningLine(nil, line))
		return nil
	})
	return io.NopCloser(&buf), err
}

// audit has the verifier check the whole log, openings included.
func (l *testLog) audit() (*verifier.AuditReport, error) {
	src := openService{l.svc, reader(AllTenants)}
	return verifier.Audit(context.Background(), verifier.AuditConfig{Source: src, Policy: l.policy, Openings: src})
}

// mustAudit fails the test unless all of the log verifies, openings included.
func (l *testLog) mustAudit() *verifier.AuditReport {
	l.t.Helper()
	r, err := l.audit()
	if err != nil {
		l.t.Fatalf("audit: %v", err)
	}
	if r.FailureCount != 0 || r.Openings == nil || r.Openings.Verified+r.Openings.Redacted != r.Entries {
		l.t.Fatalf("audit: %+v, openings %+v", r, r.Openings)
	}
	return r
}

// answered remembers what clients were told.
type answered struct {
	mu      sync.Mutex
	byID    map[string]Result
	indices map[uint64]string
}

func (a *answered) add(t *testing.T, id string, r Result) {
	t.Helper()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.byID == nil {
		a.byID, a.indices = map[string]Result{}, map[uint64]string{}
	}
	if first, ok := a.byID[id]; ok && (first.Index != r.Index || first.LeafHash != r.LeafHash) {
		t.Errorf("event %s was answered at %d and at %d", id, first.Index, r.Index)
	}
	if other, ok := a.indices[r.Index]; ok && other != id {
		t.Errorf("entry %d was given to %s and to %s", r.Index, other, id)
	}
	a.byID[id], a.indices[r.Index] = r, id
}

// clone copies what was answered so far.
func (a *answered) clone() *answered {
	a.mu.Lock()
	defer a.mu.Unlock()
	return &answered{byID: maps.Clone(a.byID), indices: maps.Clone(a.indices)}
}

// check asks the log for each event again: same index, same leaf.
func (a *answered) check(l *testLog) {
	l.t.Helper()
	for id, want := range a.byID {
		e, err := l.svc.EventByID(context.Background(), reader("default"), "cron://node-1", id)
		if err != nil || e.Index != want.Index || e.LeafHash != want.LeafHash {
			l.t.Fatalf("event %s, answered at %d: now %+v, %v", id, want.Index, e, err)
		}
	}
}
