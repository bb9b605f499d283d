// Package gossiptest is for tests of what talks to monitors: histories of a log that are signed with
// one key, and a monitor that follows one of them.
package gossiptest

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// Key is a log's key.
type Key struct {
	Signer note.Signer
	Policy *verifier.Policy // that names it, and needs no witnesses
}

// NewKey makes a key for an origin.
func NewKey(tb testing.TB, origin string) Key {
	tb.Helper()
	skey, vkey, err := note.GenerateKey(nil, origin)
	if err != nil {
		tb.Fatal(err)
	}
	s, err := note.NewSigner(skey)
	if err != nil {
		tb.Fatal(err)
	}
	p, err := verifier.ParsePolicy([]byte("log " + vkey + "\nquorum none\n"))
	if err != nil {
		tb.Fatal(err)
	}
	return Key{s, p}
}

// Tree is a history: the leaf hashes. It is a [verifier.TileReader] of every size up to its own.
type Tree []verifier.Hash

// NewTree has n leaves. Those from index fork on are another history's.
func NewTree(n, fork int) Tree {
	t := make(Tree, n)
	for i := range t {
		t[i] = verifier.LeafHash(fmt.Appendf(nil, "leaf %d %t", i, i >= fork))
	}
	return t
}

// ReadTile implements [verifier.TileReader].
func (t Tree) ReadTile(_ context.Context, tile verifier.Tile) ([]byte, error) {
	row := []verifier.Hash(t)
	for range tile.Level {
		var next []verifier.Hash
		for part := range slices.Chunk(row, verifier.TileWidth) {
			if len(part) == verifier.TileWidth {
				next = append(next, Tree(part).root(len(part)))
			}
		}
		row = next
	}
	from := int(tile.N) * verifier.TileWidth
	if from+tile.Width > len(row) {
		return nil, fmt.Errorf("no tile %s in a tree of %d", tile.Path(), len(t))
	}
	return verifier.EncodeTile(row[from : from+tile.Width]), nil
}

func (t Tree) root(n int) verifier.Hash {
	var r verifier.CompactRange
	for _, h := range t[:n] {
		r.Append(h)
	}
	return r.Root()
}

// Head signs the tree's head at a size.
func (k Key) Head(tb testing.TB, t Tree, n int) []byte {
	tb.Helper()
	b, err := verifier.SignCheckpoint(verifier.Checkpoint{Origin: k.Policy.Origin(), Size: uint64(n), Root: t.root(n)}, k.Signer)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

// Monitor is a monitor of one log, in memory, that can be made to lie.
type Monitor struct {
	// URL is where it is served.
	URL string

	policy *verifier.Policy
	tiles  verifier.TileReader // of the history that it follows

	mu       sync.Mutex
	checked  []byte
	open     [][]byte
	evidence map[string][]byte
	asked    []string
	instead  func(w http.ResponseWriter, r *http.Request) bool
}

// NewMonitor serves a monitor that has checked the log up to a head, from tiles. Without a head it has
// checked nothing.
func NewMonitor(tb testing.TB, p *verifier.Policy, tiles verifier.TileReader, checked []byte) *Monitor {
	tb.Helper()
	return ServeMonitor(p, tiles, checked, tb.Cleanup)
}

// ServeMonitor is NewMonitor for tests that have another way to clean up.
func ServeMonitor(p *verifier.Policy, tiles verifier.TileReader, checked []byte, cleanup func(func())) *Monitor {
	m := &Monitor{policy: p, tiles: tiles, checked: checked, evidence: map[string][]byte{}}
	srv := httptest.NewServer(m)
	cleanup(srv.Close)
	m.URL = srv.URL
	return m
}

// Client makes a client of the monitor.
func (m *Monitor) Client(tb testing.TB) *gossip.Client {
	tb.Helper()
	c, err := gossip.New(gossip.Config{URL: m.URL})
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// Instead has f asked before each answer; true means that it has answered.
func (m *Monitor) Instead(f func(w http.ResponseWriter, r *http.Request) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.instead = f
}

// Set replaces what the monitor holds. Evidence is taken as it is.
func (m *Monitor) Set(checked []byte, open [][]byte, evidence ...[]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.checked, m.open = checked, open
	for _, file := range evidence {
		m.evidence[gossip.EvidenceID(file)] = file
	}
}

// Evidence returns the files that it holds.
func (m *Monitor) Evidence() (files [][]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, file := range m.evidence {
		files = append(files, file)
	}
	return files
}

// Open returns the heads that it couldn't bring together with its own.
func (m *Monitor) Open() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.open)
}

// Asked returns the requests, as "METHOD path".
func (m *Monitor) Asked() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.asked)
}

func (m *Monitor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	instead := m.instead
	m.asked = append(m.asked, r.Method+" "+r.URL.Path)
	m.mu.Unlock()
	if instead != nil && instead(w, r) {
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(verifier.MaxEvidenceBytes)))
	if err != nil {
		http.Error(w, "too large", http.StatusRequestEntityTooLarge)
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	id, isFile := strings.CutPrefix(r.URL.Path, "/gossip/v1/evidence/")
	switch call := r.Method + " " + r.URL.Path; {
	case call == "GET /gossip/v1/logs/"+gossip.LogID(m.policy.Origin())+"/heads":
		h := gossip.Heads{Origin: m.policy.Origin(), Checked: string(m.checked), Open: []string{}}
		for _, o := range m.open {
			h.Open = append(h.Open, string(o))
		}
		reply(w, h)
	case call == "POST /gossip/v1/heads":
		m.takeHead(w, r, body)
	case call == "GET /gossip/v1/evidence":
		l := gossip.List{Evidence: []gossip.Listed{}}
		for id := range m.evidence {
			l.Evidence = append(l.Evidence, gossip.Listed{ID: id, Origin: m.policy.Origin()})
		}
		reply(w, l)
	case isFile && r.Method == http.MethodGet && m.evidence[id] != nil:
		_, _ = w.Write(m.evidence[id])
	case call == "POST /gossip/v1/evidence":
		m.takeEvidence(w, body)
	default:
		http.NotFound(w, r)
	}
}

func reply(w http.ResponseWriter, v any) { _ = json.NewEncoder(w).Encode(v) }

// takeHead answers as docs/spec/gossip.md has it.
func (m *Monitor) takeHead(w http.ResponseWriter, r *http.Request, body []byte) {
	head, bare, err := signedHead(m.policy, body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	a := gossip.Answer{Origin: head.Origin, Size: head.Size, Verdict: gossip.Unknown, Checked: string(m.checked)}
	switch agrees, file := m.judge(r.Context(), head, bare); {
	case file != nil:
		id := gossip.EvidenceID(file)
		m.evidence[id], a.Verdict, a.Evidence = file, gossip.Contradicts, []string{id}
	case agrees:
		a.Verdict = gossip.Agrees
	default:
		a.Reason = "it is larger than what this monitor has read"
		m.open = append(m.open, bare)
	}
	reply(w, a)
}

func signedHead(p *verifier.Policy, note []byte) (verifier.Checkpoint, []byte, error) {
	bare, err := p.Log().Bare(note)
	if err != nil {
		return verifier.Checkpoint{}, nil, err
	}
	c, _, err := p.Log().Verify(bare)
	return c, bare, err
}

// judge holds a head against the checked one, with the tiles that the monitor has.
func (m *Monitor) judge(ctx context.Context, head verifier.Checkpoint, bare []byte) (agrees bool, evidence []byte) {
	checked, _, err := signedHead(m.policy, m.checked)
	if err != nil {
		return false, nil
	}
	if head.Size <= checked.Size {
		proof, err := verifier.ProveConsistency(ctx, m.tiles, head.Size, checked.Size)
		if err == nil && verifier.CheckConsistency(head.Size, checked.Size, proof, head.Root, checked.Root) == nil {
			return true, nil
		}
	}
	e, err := verifier.GatherEvidence(ctx, m.tiles, m.policy, m.checked, bare)
	if err != nil {
		return false, nil
	}
	if _, err := e.Check(m.policy); err != nil {
		return false, nil
	}
	return false, e.Text()
}

func (m *Monitor) takeEvidence(w http.ResponseWriter, body []byte) {
	e, err := verifier.ParseEvidence(body)
	if err == nil {
		_, err = e.Check(m.policy)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	m.evidence[gossip.EvidenceID(body)] = body
	reply(w, gossip.Taken{ID: gossip.EvidenceID(body)})
}
