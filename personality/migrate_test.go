package personality

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// ways are the storages that a log is moved from and to.
var ways = []struct{ from, to string }{
	{"embedded", "mysql"}, {"mysql", "embedded"}, {"mysql", "mysql"}, {"embedded", "embedded"},
}

// clusterWays are those from and to a Trillian cluster.
var clusterWays = []struct{ from, to string }{{"mysql", "cluster"}, {"cluster", "embedded"}}

// storedIn makes the configuration of a log in a new directory and a storage of that kind.
func storedIn(t *testing.T, kind string) Config {
	t.Helper()
	cfg := testConfig(t)
	if kind != "embedded" {
		s := mariadbtest.Shared(t)
		if kind == "cluster" {
			cfg.Trillian = startCluster(t, s, 2).config()
		}
		cfg.Database = &mysqldb.Config{DSN: s.DSN(s.Database(t)), Password: mariadbtest.Password}
	}
	return cfg
}

// move is a log that is being moved.
type move struct {
	*testLog // the old one
	to       *testLog
	told     answered
	heads    []pubstore.Head
	token    string // the text of one
	receipts [][]byte
}

// newMove makes a log with entries, and somewhere for it to go.
func newMove(t *testing.T, from, to string, entries int) *move {
	t.Helper()
	m := &move{testLog: &testLog{t: t, cfg: storedIn(t, from)}, to: &testLog{t: t, cfg: storedIn(t, to)}}
	m.create()
	m.to.vkey, m.to.policy = m.vkey, m.policy
	m.open(nil)
	_, text, err := m.svc.AddToken(t.Context(), OperatorCaller(), TokenRequest{Name: "n", Tenant: "acme", Roles: []Role{RoleRead}})
	if err != nil {
		t.Fatal(err)
	}
	m.token = text
	key, err := m.svc.parts.keys.sealSourceKey(pubstore.SourceKey{ID: "k", Tenant: "default", Source: "cron://signs/", VKey: m.vkey, Required: true})
	if err != nil {
		t.Fatal(err)
	}
	check(t, m.svc.putSourceKey(t.Context(), key))
	m.fill("e", entries)
	m.close()
	return m
}

// fill adds events, and remembers what was answered.
func (m *move) fill(prefix string, n int) {
	m.t.Helper()
	var wg sync.WaitGroup
	var mu sync.Mutex
	for client := range 16 {
		wg.Go(func() {
			for i := client; i < n; i += 16 {
				id := fmt.Sprintf("%s%d", prefix, i)
				r := m.submit(submitter("default"), id, "x", Integrated)
				if r.Err != nil {
					m.t.Errorf("submit %s: %v", id, r.Err)
					continue
				}
				m.told.add(m.t, id, r)
				mu.Lock()
				m.receipts = append(m.receipts, r.Receipt.Bytes())
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	m.heads = append(m.heads, m.svc.published.Load().head)
}

func (m *move) config() MigrateConfig {
	return MigrateConfig{From: m.cfg, To: m.to.cfg, FromPlace: "the old place", ToPlace: "the new place"}
}

// migrate moves the log.
func (m *move) migrate() *Migrated {
	m.t.Helper()
	done, err := Migrate(m.t.Context(), m.config())
	if err != nil {
		m.t.Fatal(err)
	}
	return done
}

// migrateWith is one run with faults put in.
func (m *move) migrateWith(ctx context.Context, change func(*migration)) (*Migrated, error) {
	run, err := newMigration(m.config())
	if err != nil {
		return nil, err
	}
	change(run)
	return run.run(ctx)
}

// mustHaveMoved checks both ends: the old one refuses, and shows what is published; the new
// one verifies from end to end, every answer is true there, every head is of its history, and
// it goes on.
func (m *move) mustHaveMoved() {
	m.t.Helper()
	m.open(nil)
	m.mustRefuse("this log has moved to the new place")
	old := m.svc.published.Load()
	note, err := m.svc.Checkpoint(m.t.Context())
	if err != nil {
		m.t.Fatal(err)
	}
	if cp, _, err := m.policy.Verify(note); err != nil || cp.Size != old.head.Size || cp.Root != old.head.Root {
		m.t.Errorf("the old log's checkpoint: %+v, %v; its head %+v", cp, err, old.head)
	}
	if old.head.Size > 0 {
		if _, err := (openService{m.svc, Caller{}}).Get(m.t.Context(), verifier.TilePath(0, 0, 1), 0); err != nil {
			m.t.Errorf("the old log's tile: %v", err)
		}
	}
	m.close()
	if further := m.cfg; further.Database != nil {
		further.Anchor += "2"
		if _, err := CreateAnchor(m.t.Context(), further); err == nil || !strings.Contains(err.Error(), "this log has moved") {
			m.t.Errorf("a further anchor: %v", err)
		}
	}
	m.to.open(nil)
	m.to.mustHold(m.told.some(30), append(m.heads, old.head)...)
	m.to.mustHaveEvent(old.head.Size, ActionMigrate)
	migrates := 0
	for _, a := range m.to.actions() {
		if strings.HasPrefix(a, ActionMigrate) {
			migrates++
		}
	}
	if migrates != 1 {
		m.t.Errorf("%d events of %s", migrates, ActionMigrate)
	}
	m.mustExtend()
	m.mustAnswerAgain()
	m.to.mustSubmit("after", "x")
	m.to.close()
	m.to.open(nil)
	m.to.mustAudit()
	m.to.close()
}

// some are n of the answers: asking for each is an event of its own.
func (a *answered) some(n int) *answered {
	c := a.clone()
	for id := range c.byID {
		if len(c.byID) <= n {
			break
		}
		delete(c.byID, id)
	}
	return c
}

// mustExtend proves receipts' heads consistent with the new log's.
func (m *move) mustExtend() {
	m.t.Helper()
	now := m.to.svc.published.Load().head
	for i, b := range m.receipts {
		if i%16 > 0 {
			continue
		}
		r, err := verifier.ParseReceipt(b)
		if err != nil {
			m.t.Fatal(err)
		}
		cp, _, err := m.policy.Verify(r.Checkpoint)
		if err != nil {
			m.t.Fatal(err)
		}
		proof, err := m.to.svc.ProveConsistency(m.t.Context(), cp.Size, now.Size)
		if err == nil {
			err = verifier.CheckConsistency(cp.Size, now.Size, proof, cp.Root, now.Root)
		}
		if err != nil {
			m.t.Fatalf("from a receipt's head of size %d to size %d: %v", cp.Size, now.Size, err)
		}
	}
}

// mustAnswerAgain sends events again: the same is a duplicate, another one a conflict; and
// presents a token.
func (m *move) mustAnswerAgain() {
	m.t.Helper()
	n := 0
	for id, want := range m.told.byID {
		if r := m.to.submit(submitter("default"), id, "x", Integrated); r.Status != StatusDuplicate || r.Index != want.Index {
			m.t.Errorf("%s again: %+v, want entry %d", id, r, want.Index)
		}
		if r := m.to.submit(submitter("default"), id, "other", Integrated); r.Status != StatusConflict || r.Index != want.Index {
			m.t.Errorf("another %s: %+v, want entry %d", id, r, want.Index)
		}
		if n++; n == 10 {
			break
		}
	}
	if _, err := m.to.svc.Authenticate(m.t.Context(), m.token); err != nil {
		m.t.Errorf("the token: %v", err)
	}
	unsigned := Submission{Event: bytes.ReplaceAll(eventJSON("signs", "x"), []byte("cron://node-1"), []byte("cron://signs/1"))}
	if _, err := m.to.svc.Admit(m.t.Context(), submitter("default"), unsigned); !errors.Is(err, ErrUnsigned) {
		m.t.Errorf("the source key: %v", err)
	}
}

// TestMigrate moves a log of several tiles between all storages.
func TestMigrate(t *testing.T) {
	for _, way := range slices.Concat(ways, clusterWays) {
		t.Run(way.from+" to "+way.to, func(t *testing.T) {
			t.Parallel()
			m := newMove(t, way.from, way.to, 1100)
			var seen []MigrateProgress
			cfg := m.config()
			cfg.Progress = func(p MigrateProgress) { seen = append(seen, p) }
			done, err := Migrate(t.Context(), cfg)
			size := m.heads[0].Size
			if err != nil || done.Size != size || done.Copied != size || done.Root != m.heads[0].Root || done.Already || done.WithoutOpening != 0 {
				t.Fatalf("%+v, %v; want %+v", done, err, m.heads[0])
			}
			if n := len(seen); n < 4 || !seen[n-1].Checking || seen[n-1].Done != size || seen[0].Checking {
				t.Errorf("progress %+v", seen)
			}
			for path, mode := range map[string]fs.FileMode{m.to.cfg.Dir: 0o700, filepath.Join(m.to.cfg.Dir, keyFile): 0o600, m.to.cfg.Dir + ".anchor": 0o600} {
				if info, err := os.Stat(path); err != nil || info.Mode().Perm() != mode {
					t.Errorf("%s: %v, %v", path, info, err)
				}
			}
			if done, err := Migrate(t.Context(), m.config()); err != nil || !done.Already || done.Size != size {
				t.Errorf("again: %+v, %v", done, err)
			}
			m.mustHaveMoved()
		})
	}
}

// TestMigrateEmpty moves a log without an entry, and one of exactly a tile.
func TestMigrateEmpty(t *testing.T) {
	for _, entries := range []int{0, tileWidth - 1, tileWidth} {
		m := newMove(t, "embedded", "mysql", entries)
		m.migrate()
		m.mustHaveMoved()
	}
	l := newTestLog(t)
	m := &move{testLog: l, to: &testLog{t: t, cfg: storedIn(t, "embedded"), vkey: l.vkey, policy: l.policy}}
	if done := m.migrate(); done.Size != 0 {
		t.Errorf("%+v", done)
	}
	m.open(nil)
	m.mustRefuse("this log has moved")
	m.close()
	m.to.open(nil)
	m.to.mustSubmit("a", "x")
	m.to.mustAudit()
	m.to.close()
}

// TestMigrateBack: a log that has moved moves on, to a third place.
func TestMigrateBack(t *testing.T) {
	m := newMove(t, "embedded", "mysql", 20)
	m.migrate()
	next := &move{testLog: m.to, to: &testLog{t: t, cfg: storedIn(t, "embedded"), vkey: m.vkey, policy: m.policy}, token: m.token}
	next.open(nil)
	next.fill("f", 20)
	next.close()
	next.migrate()
	for id, r := range m.told.byID {
		next.told.add(t, id, r)
	}
	next.receipts = append(next.receipts, m.receipts...)
	next.open(nil)
	next.mustRefuse("this log has moved to the new place")
	next.close()
	next.to.open(nil)
	next.to.mustHold(&next.told)
	next.mustExtend()
	next.mustAnswerAgain()
	next.to.close()
}

// TestMigrateOldCopy: a copy of the old log from before it moved, put back in its place,
// doesn't know that. It lacks its anchor, and refuses.
func TestMigrateOldCopy(t *testing.T) {
	m := newMove(t, "embedded", "embedded", 20)
	backup := m.cfg.Dir + ".backup"
	check(t, os.CopyFS(backup, os.DirFS(m.cfg.Dir)))
	m.migrate()
	check(t, os.RemoveAll(m.cfg.Dir))
	check(t, os.Rename(backup, m.cfg.Dir))
	check(t, os.Chmod(m.cfg.Dir, 0o700))
	check(t, os.Chmod(filepath.Join(m.cfg.Dir, keyFile), 0o600))
	m.open(nil)
	m.mustRefuse("is missing")
	m.close()
	m.mustNotMove(ErrNotMigrated, "is missing")
}

// TestMigrateUnpublished: what a crash left stored and not published moves too.
func TestMigrateUnpublished(t *testing.T) {
	for _, from := range []string{"embedded", "mysql"} {
		m := newMove(t, from, "embedded", 10)
		f := &fault{}
		m.open(withFaults(f))
		f.next("publish", repeat(failed, 10_000)...)
		r := m.submit(submitter("default"), "durable", "x", Durable)
		if r.Err != nil {
			t.Fatal(r.Err)
		}
		m.told.add(t, "durable", r)
		m.abandon()
		if done := m.migrate(); done.Size != m.heads[0].Size+1 {
			t.Errorf("%+v", done)
		}
		m.mustHaveMoved()
	}
}

// TestMigrateOpenings: an opening that has lost values moves as it is, also where it was
// copied before it lost them; one that is gone is gone.
func TestMigrateOpenings(t *testing.T) {
	for _, way := range ways {
		t.Run(way.from+" to "+way.to, func(t *testing.T) {
			t.Parallel()
			m := newMove(t, way.from, way.to, 300)
			m.open(nil)
			m.withhold("e1")
			m.close()
			m.interruptAt("anchor", false)
			m.open(nil)
			m.withhold("e2")
			m.close()
			done := m.migrate()
			if done.WithoutOpening != 0 || done.Copied != 0 {
				t.Errorf("%+v", done)
			}
			m.to.open(nil)
			r := m.to.mustAudit()
			if r.Openings.Redacted != 2 {
				t.Errorf("audit: openings %+v", r.Openings)
			}
			m.to.close()
		})
	}
	m := newMove(t, "embedded", "mysql", 300)
	for _, id := range []string{"e1", "e5"} {
		m.loseOpening(m.told.byID[id])
	}
	if done := m.migrate(); done.WithoutOpening != 2 {
		t.Errorf("%+v", done)
	}
	m.to.open(nil)
	if r, err := m.to.audit(); err == nil && r.Openings.Verified != r.Size-2 {
		t.Errorf("audit: %+v, openings %+v", r, r.Openings)
	}
	m.to.close()
}

// withhold takes a value out of an event's stored opening.
func (m *move) withhold(id string) {
	m.t.Helper()
	r := m.told.byID[id]
	stored := must(m.svc.store.Opening(m.t.Context(), r.Index, r.LeafHash))
	less, err := must(seal.ParseOpening(stored)).Withhold("/details/note")
	if err != nil {
		m.t.Fatal(err)
	}
	if err := m.svc.store.ReplaceOpening(m.t.Context(), r.Index, r.LeafHash, stored, less.Bytes()); err != nil {
		m.t.Fatal(err)
	}
}

// loseOpening deletes an opening of the closed, embedded log.
func (m *move) loseOpening(r Result) {
	m.t.Helper()
	key := append([]byte("po"), make([]byte, 8)...)
	for i := range 8 {
		key[2+i] = byte(r.Index >> (56 - 8*i))
	}
	m.edit(append(key, r.LeafHash[:]...), func([]byte) []byte { return nil })
}

// interruptAt runs the migration up to a step of its own, which happens or not.
func (m *move) interruptAt(step string, applied bool) {
	m.t.Helper()
	_, err := m.migrateWith(m.t.Context(), func(run *migration) {
		run.step = func(name string, f func() error) error {
			if name != step {
				return f()
			}
			if applied {
				return errors.Join(f(), errFault)
			}
			return errFault
		}
	})
	if !errors.Is(err, errFault) {
		m.t.Fatalf("interrupted at %s: %v", step, err)
	}
}
