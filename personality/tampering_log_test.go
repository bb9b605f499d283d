package personality_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier"
)

// victims are a log that is going to be tampered with, as it lay on disk at several
// times, and what others than its operator keep of it.
type victims struct {
	dir string

	// What others keep.
	policy   *verifier.Policy
	receipts map[string][]byte // by event id, as they were answered
	index    map[string]uint64
	state    string // file of an auditor who has seen whole

	// Tokens' texts; and the row of one that was revoked, as it was before that.
	submit, read string
	revoked      string // its id
	unrevoked    []byte

	size   uint64 // of whole, as published
	forked []byte // the checkpoint of fork
	params pubstore.Log
	rows   map[string][]byte // of whole
}

// The copies on disk. Each is a directory with the data directory in data, and the
// anchor beside it.
const (
	older      = "older"      // some time ago
	whole      = "whole"      // all of it published, and the service stopped
	stored     = "stored"     // whole, and a tail of two batches that is stored, not integrated
	integrated = "integrated" // the same, and Trillian has integrated the tail
	unanchored = "unanchored" // the same, and the head has been moved, but not the anchor
	fork       = "fork"       // grown from older with other events, past whole
)

// The log holds more than one full tile, so that one isn't on its edge.
const (
	olderEvents = 200
	wholeEvents = 300
	tailEvents  = 5
)

func (v *victims) path(which string) string { return filepath.Join(v.dir, which) }

func dataDir(dir string) string { return filepath.Join(dir, "data") }

func makeVictims(t *testing.T) *victims {
	t.Helper()
	v := &victims{dir: t.TempDir(), receipts: map[string][]byte{}, index: map[string]uint64{}}
	work := v.path("work")
	check(t, os.Mkdir(work, 0o700))
	made, err := personality.Create(t.Context(), personality.CreateConfig{Config: config(t, work), Origin: "example.com/audit"})
	check(t, err)
	policy, err := os.ReadFile(made.PolicyFile)
	check(t, err)
	v.policy, err = verifier.ParsePolicy(policy)
	check(t, err)

	v.with(t, work, func(svc *personality.Service) {
		v.makeTokens(t, work, svc)
		v.sendAll(t, svc, "e", 0, olderEvents)
	})
	copyTree(t, work, v.path(older))
	v.unrevoked = readRows(t, work)["pk"+v.revoked]
	v.with(t, work, func(svc *personality.Service) {
		check(t, svc.RevokeToken(t.Context(), personality.OperatorCaller(), v.revoked))
		v.sendAll(t, svc, "e", olderEvents, wholeEvents)
		v.state = v.path("auditor.state")
		s := serve(t, v, svc)
		if report, err := s.audit(v.state, true); err != nil {
			t.Fatalf("audit before anything was changed: %+v, %v", report, err)
		}
		s.close()
	})
	copyTree(t, work, v.path(whole))
	v.rows = readRows(t, work)
	check(t, json.Unmarshal(v.rows["pl"], &v.params))
	for which, step := range map[string]string{stored: "integrate", integrated: "publish", unanchored: "anchor"} {
		copyTree(t, work, v.path(which))
		v.leaveTail(t, which, step)
	}
	v.size = binary.BigEndian.Uint64(v.rows["ph"][1:])
	copyTree(t, v.path(older), v.path(fork))
	v.with(t, v.path(fork), func(svc *personality.Service) {
		other := &victims{receipts: map[string][]byte{}, index: map[string]uint64{}}
		other.sendAll(t, svc, "f", 0, wholeEvents)
	})
	v.forked = readRows(t, v.path(fork))["pc"]
	return v
}

// leaveTail adds a tail of two batches, the second one of several events, to a copy of
// whole, and stops before a step of its publication.
func (v *victims) leaveTail(t *testing.T, which, step string) {
	t.Helper()
	hold := make(chan struct{})
	svc, err := personality.OpenStalled(t.Context(), config(t, v.path(which)), step, hold)
	check(t, err)
	all := v.admit(t, svc, "t", 0, 1)
	for svc.Ready(t.Context()).OldestUnpublished == 0 { // until the first batch is being stored
	}
	all = append(all, v.admit(t, svc, "t", 1, tailEvents)...)
	close(hold)
	for i, p := range all {
		r := p.Wait(t.Context(), personality.Durable)
		check(t, r.Err)
		v.index[fmt.Sprint("t", i)] = r.Index
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel() // nothing more is published: don't wait for it
	check(t, svc.Close(ended))
}

// with opens the log in dir, uses it, and closes it.
func (v *victims) with(t *testing.T, dir string, use func(*personality.Service)) {
	t.Helper()
	svc, err := personality.Open(t.Context(), config(t, dir))
	check(t, err)
	use(svc)
	check(t, svc.Close(t.Context()))
}

func config(t *testing.T, dir string) personality.Config {
	return personality.Config{Dir: dataDir(dir), CacheBytes: 8 << 20,
		Logger: slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))}
}

func (v *victims) makeTokens(t *testing.T, dir string, svc *personality.Service) {
	t.Helper()
	add := func(r personality.TokenRequest) (*personality.Token, string) {
		tok, text, err := svc.AddToken(t.Context(), personality.OperatorCaller(), r)
		check(t, err)
		return tok, text
	}
	_, v.submit = add(personality.TokenRequest{Name: "cron", Tenant: "default", Roles: []personality.Role{personality.RoleSubmit}, Sources: []string{"cron://"}})
	_, v.read = add(personality.TokenRequest{Name: "auditor", Tenant: personality.AllTenants, Roles: []personality.Role{personality.RoleRead}})
	gone, _ := add(personality.TokenRequest{Name: "gone", Tenant: "default", Roles: []personality.Role{personality.RoleRead}})
	v.revoked = gone.ID
}

// admit submits the events prefix+from to prefix+(to-1).
func (v *victims) admit(t *testing.T, svc *personality.Service, prefix string, from, to int) (all []*personality.Pending) {
	t.Helper()
	token, err := svc.Authenticate(t.Context(), v.submit)
	if err != nil { // of a fork, whose receipts nobody keeps
		token = &personality.Token{ID: "other", Name: "other", Tenant: "default", Roles: []personality.Role{personality.RoleSubmit}, Sources: []string{"cron://"}}
	}
	caller := personality.Caller{Token: token, PeerIP: netip.MustParseAddr("127.0.0.1")}
	for i := from; i < to; i++ {
		p, err := svc.Admit(t.Context(), caller, personality.Submission{Event: tamperEvent(fmt.Sprint(prefix, i), "x")})
		check(t, err)
		all = append(all, p)
	}
	return all
}

// sendAll submits events and keeps their receipts.
func (v *victims) sendAll(t *testing.T, svc *personality.Service, prefix string, from, to int) {
	t.Helper()
	for i, p := range v.admit(t, svc, prefix, from, to) {
		r := p.Wait(t.Context(), personality.Integrated)
		check(t, r.Err)
		id := fmt.Sprint(prefix, from+i)
		v.index[id], v.receipts[id] = r.Index, r.Receipt.Bytes()
	}
}

const tamperSource = "cron://node-1"

func tamperEvent(id, note string) []byte {
	return fmt.Appendf(nil, `{"schema":"prooftrail.event/1","id":%q,"source":%q,"seq":"1","time":"2026-01-31T23:59:59.5Z",`+
		`"action":"run.finish","outcome":"success","actor":{"type":"schedule","id":"backup"},`+
		`"target":[{"type":"job","id":"backup"}],"job":{"id":"backup","exit_code":0},"details":{"note":%q}}`, id, tamperSource, note)
}

// readRows returns all rows of a database.
func readRows(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	rows := map[string][]byte{}
	db := openDatabase(t, dir)
	it, err := db.NewIter(nil)
	check(t, err)
	for ok := it.First(); ok; ok = it.Next() {
		rows[string(it.Key())] = slices.Clone(it.Value())
	}
	check(t, errors.Join(it.Close(), db.Close()))
	return rows
}

// openDatabase opens the database of a log that is closed.
func openDatabase(t *testing.T, dir string) *pebble.DB {
	t.Helper()
	opts := &pebble.Options{ErrorIfNotExists: true, Logger: pebbleQuiet{t}}
	pebblestore.Configure(opts)
	db, err := pebble.Open(filepath.Join(dataDir(dir), "store"), opts)
	check(t, err)
	return db
}

type pebbleQuiet struct{ t *testing.T }

func (pebbleQuiet) Infof(string, ...any)                {}
func (q pebbleQuiet) Errorf(format string, args ...any) { q.t.Logf(format, args...) }
func (q pebbleQuiet) Fatalf(format string, args ...any) { q.t.Fatalf(format, args...) }

// copyTree copies a directory with the modes that its files have.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	check(t, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		target := filepath.Join(to, strings.TrimPrefix(path, from))
		info, err := d.Info()
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(target, info.Mode().Perm())
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.OpenFile(target, os.O_CREATE|os.O_EXCL|os.O_WRONLY, info.Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(out, in)
		return errors.Join(err, out.Close())
	}))
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
