package personality

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"testing"
	"time"
)

// migrateCalls are all calls of a migration that change something, in their order: of the old
// log's parts, of the new one's, and what it does itself. skip is how many of the same come
// before.
var migrateCalls = []struct {
	part, op string
	skip     int
}{
	{"step", "files", 0}, {"step", "create", 0},
	{"new", "token", 0}, {"new", "source key", 0},
	{"new", "openings", 0}, {"new", "append", 0}, {"new", "integrate", 0}, {"new", "publish", 0},
	{"new", "openings", 1}, {"new", "append", 1}, {"new", "integrate", 1}, {"new", "publish", 1},
	{"new", "checkpoint", 0}, {"step", "anchor", 0},
	{"old", "hold", 0}, {"old", "append", 0}, {"step", "aside", 0}, {"new", "hold", 0},
	{"new", "openings", 2}, {"new", "append", 2}, {"new", "integrate", 2}, {"new", "publish", 2},
	{"step", "event", 0}, {"step", "name", 0},
}

// The crash table at Migrate: the migration dies just before and just after each call. At no
// such moment can two servers sign, and the old log may go on unless it is held. The next
// run ends well.
func TestMigrateCrash(t *testing.T) {
	for i, c := range migrateCalls {
		for _, applied := range []bool{false, true} {
			for _, way := range slices.Concat(ways, clusterWays) {
				shared, onCluster := way.from != "embedded", slices.Contains(clusterWays, way)
				if c.part == "old" && c.op == "append" && !shared {
					continue // doesn't occur: there is no fence
				}
				if testing.Short() && (i%7 > 0 || onCluster) || way.from == way.to && i%2 > 0 || onCluster && i%8 > 0 {
					continue
				}
				t.Run(fmt.Sprintf("%s %s %d, applied %v, %s to %s", c.part, c.op, c.skip, applied, way.from, way.to), func(t *testing.T) {
					t.Parallel()
					m := newMove(t, way.from, way.to, 300)
					m.dieAt(c.part, c.op, c.skip, applied)
					m.mustBeOne()
					m.migrate()
					m.mustHaveMoved()
				})
			}
		}
	}
}

// dieAt runs the migration until it dies at a call, or just after.
func (m *move) dieAt(part, op string, skip int, applied bool) {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), time.Minute)
	defer cancel()
	faults := map[string]*fault{"old": {}, "new": {}, "step": {}}
	d := faults[part].dieAt(op, applied, func() {
		for name, f := range faults {
			if name != part {
				f.mu.Lock()
				f.gone = true
				f.mu.Unlock()
			}
		}
		cancel()
	})
	d.skip = skip
	_, err := m.migrateWith(ctx, func(run *migration) {
		run.tiles = 1
		run.step = func(name string, f func() error) error { return faults["step"].do(name, f) }
		run.change = func(old bool, p *parts) {
			f := faults["new"]
			if old {
				f = faults["old"]
			}
			p.tree, p.store = faultyTree{p.tree, f}, faultyStore{p.store, f}
		}
	})
	select {
	case <-d.over:
	default:
		m.t.Fatalf("no call of %s: %v", op, err)
	}
	if err == nil {
		m.t.Fatal("it died, and says that it is done")
	}
}

// mustBeOne checks that one server at most can go on from what a crash has left, and
// lets the old one, where that is it.
func (m *move) mustBeOne() {
	m.t.Helper()
	can := 0
	if m.canSign(m.cfg) {
		can++
		m.open(nil)
		m.fill("more", 3)
		m.close()
	}
	building := m.to.cfg
	if _, err := os.Lstat(building.Dir); errors.Is(err, fs.ErrNotExist) {
		building.Anchor = building.Dir + ".anchor"
		building.Dir += ".migrating"
	}
	if m.canSign(building) {
		can++
	}
	if can > 1 {
		m.t.Fatal("two servers can sign")
	}
	// Nor can one that is given the old directory, with its key and anchor, and the new storage.
	if m.to.cfg.Database != nil && can > 0 && m.canSign(m.cfg) {
		crossed := m.cfg
		crossed.Database = m.to.cfg.Database
		if m.canSign(crossed) {
			m.t.Fatal("a server can sign on the new storage, and another one on the old")
		}
	}
}

// canSign reports whether a server goes on from what is stored there.
func (m *move) canSign(cfg Config) bool {
	m.t.Helper()
	svc, err := Open(m.t.Context(), cfg)
	if err != nil {
		return false
	}
	ok := svc.refusing() == nil
	if err := svc.Close(m.t.Context()); err != nil {
		m.t.Error(err)
	}
	return ok
}

// TestMigrateLostAnswers: each call fails once, with or without effect, and nothing dies. What
// can be told at once isn't an error; the rest is one, and the next run ends well.
func TestMigrateLostAnswers(t *testing.T) {
	for _, way := range slices.Concat(ways[:2], clusterWays) {
		for _, o := range []outcome{failed, failedButStored} {
			t.Run(fmt.Sprintf("%s to %s, %s", way.from, way.to, o), func(t *testing.T) {
				t.Parallel()
				m := newMove(t, way.from, way.to, 300)
				old, dst := &fault{}, &fault{}
				for _, op := range []string{"token", "source key", "openings", "append", "integrate", "publish", "checkpoint", "hold"} {
					dst.next(op, o, passed, o)
					if op == "hold" || op == "append" {
						old.next(op, o)
					}
				}
				runs := 0
				for ; runs < 30; runs++ {
					_, err := m.migrateWith(t.Context(), func(run *migration) {
						run.tiles = 1
						run.change = func(isOld bool, p *parts) {
							f := dst
							if isOld {
								f = old
							}
							p.tree, p.store = faultyTree{p.tree, f}, faultyStore{p.store, f}
						}
					})
					if err == nil {
						break
					}
					if !errors.Is(err, errFault) {
						t.Fatalf("run %d: %v", runs, err)
					}
				}
				t.Logf("%d runs", runs+1)
				m.mustHaveMoved()
			})
		}
	}
}
