package gossip_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip/gossiptest"
)

// compare compares a head of a tree with one monitor.
func compare(t *testing.T, m *gossiptest.Monitor, k gossiptest.Key, tree gossiptest.Tree, size int) gossip.Comparison {
	t.Helper()
	return compareOwn(t, m, gossip.Own{Policy: k.Policy, Note: k.Head(t, tree, size), Tiles: tree})
}

// compareOwn compares with one monitor. Whatever comes of it, a conviction has its evidence, and
// nothing else has any.
func compareOwn(t *testing.T, m *gossiptest.Monitor, own gossip.Own) gossip.Comparison {
	t.Helper()
	rs, err := gossip.Compare(t.Context(), []*gossip.Client{m.Client(t)}, own)
	if err != nil || len(rs) != 1 || rs[0].Monitor != m.URL {
		t.Fatalf("%+v, %v", rs, err)
	}
	r := rs[0]
	if (r.Status == gossip.StatusContradicts) != (r.Evidence != nil) || r.Agreement() != (r.Status == gossip.StatusAgrees || r.Status == gossip.StatusBehind) {
		t.Errorf("%+v", r)
	}
	if r.Evidence != nil {
		if _, err := r.Evidence.Check(own.Policy); err != nil {
			t.Errorf("the evidence doesn't convict: %v", err)
		}
	}
	if len(r.Reason) > 700 {
		t.Errorf("a reason of %d bytes", len(r.Reason))
	}
	return r
}

// TestCompare: for all small sizes, a monitor of the same history agrees, and one of another history
// is found out, by whoever has the larger tree.
func TestCompare(t *testing.T) {
	k := gossiptest.NewKey(t, origin)
	for _, size := range [][2]int{{1, 1}, {1, 2}, {2, 1}, {3, 8}, {8, 3}, {7, 7}, {4, 16}, {300, 256}, {256, 300}, {255, 600}, {0, 3}, {3, 0}, {0, 0}} {
		ours, theirs := size[0], size[1]
		honest := gossiptest.NewTree(max(ours, theirs), 1000)
		m := gossiptest.NewMonitor(t, k.Policy, honest[:theirs], k.Head(t, honest, theirs))
		r := compare(t, m, k, honest, ours)
		want := gossip.StatusAgrees
		if theirs < ours {
			want = gossip.StatusBehind
		}
		if r.Status != want || !r.Posted || r.Checked == nil || *r.Checked != uint64(theirs) || r.Reason != "" {
			t.Errorf("%d and %d: %+v", ours, theirs, r)
		}
		if ours == 0 || theirs == 0 {
			continue
		}
		fork := gossiptest.NewTree(theirs, min(ours, theirs)-1)
		m = gossiptest.NewMonitor(t, k.Policy, fork, k.Head(t, fork, theirs))
		if r := compare(t, m, k, honest[:ours], ours); r.Status != gossip.StatusContradicts || !strings.HasPrefix(r.Reason, "the log signed two histories") {
			t.Errorf("%d and %d, forked: %+v", ours, theirs, r)
		}
		if len(m.Evidence()) == 0 {
			t.Errorf("%d and %d, forked: the monitor wasn't told", ours, theirs)
		}
	}
}

// TestCompareOpen: heads that the monitor couldn't place count as much as its checked one.
func TestCompareOpen(t *testing.T) {
	k := gossiptest.NewKey(t, origin)
	honest, fork := gossiptest.NewTree(40, 40), gossiptest.NewTree(60, 20)
	m := gossiptest.NewMonitor(t, k.Policy, honest[:8], k.Head(t, honest, 8))
	m.Set(k.Head(t, honest, 8), [][]byte{k.Head(t, honest, 35), k.Head(t, honest, 40)})
	if r := compare(t, m, k, honest, 30); r.Status != gossip.StatusBehind || *r.Checked != 8 {
		t.Errorf("of one history: %+v", r)
	}
	m.Set(k.Head(t, honest, 8), [][]byte{k.Head(t, honest, 35), k.Head(t, fork, 25)})
	if r := compare(t, m, k, honest, 30); r.Status != gossip.StatusContradicts {
		t.Errorf("of another history: %+v", r)
	}
	// Larger than ours, of another history: we haven't its tiles, nor has the monitor.
	m = gossiptest.NewMonitor(t, k.Policy, honest[:8], k.Head(t, honest, 8))
	m.Set(k.Head(t, honest, 8), [][]byte{k.Head(t, fork, 60)})
	if r := compare(t, m, k, honest, 30); r.Status != gossip.StatusUnproven || !strings.Contains(r.Reason, "size 60 and ours of size 30") || *r.Checked != 8 {
		t.Errorf("of another history, without its tiles: %+v", r)
	}
}

// TestCompareNothing: a monitor that knows nothing yet is told, and proves nothing.
func TestCompareNothing(t *testing.T) {
	k := gossiptest.NewKey(t, origin)
	tree := gossiptest.NewTree(9, 9)
	m := gossiptest.NewMonitor(t, k.Policy, tree, nil)
	r := compare(t, m, k, tree, 9)
	if r.Status != gossip.StatusUnproven || !r.Posted || r.Checked != nil || r.Reason != "it shows no head up to which it has checked this log" {
		t.Errorf("%+v", r)
	}
	if open := m.Open(); len(open) != 1 || !bytes.Equal(open[0], k.Head(t, tree, 9)) {
		t.Errorf("%q", open)
	}
	other := gossiptest.NewKey(t, "example.com/other")
	m = gossiptest.NewMonitor(t, other.Policy, tree, other.Head(t, tree, 9))
	if r := compare(t, m, k, tree, 9); r.Status != gossip.StatusUnproven && r.Status != gossip.StatusUnreachable || r.Posted || r.Checked != nil {
		t.Errorf("of another log: %+v", r)
	}
	if _, err := gossip.Compare(t.Context(), nil, gossip.Own{Policy: k.Policy, Note: other.Head(t, tree, 9), Tiles: tree}); !errors.Is(err, verifier.ErrFailed) {
		t.Errorf("a note of another log: %v", err)
	}
}

// lies are monitors that lie about an honest log.
func lies(t *testing.T, k gossiptest.Key, honest gossiptest.Tree) map[string]func(m *gossiptest.Monitor) {
	stranger := gossiptest.NewKey(t, origin) // the same origin, another key
	other := gossiptest.NewKey(t, "example.com/other")
	fork := gossiptest.NewTree(9, 2)
	good := k.Head(t, honest, 9)
	edit := func(note []byte, old, with string) []byte { return bytes.Replace(note, []byte(old), []byte(with), 1) }
	gather := func(k gossiptest.Key, a, b []byte) []byte {
		e, err := verifier.GatherEvidence(t.Context(), fork, k.Policy, a, b)
		if err != nil {
			t.Fatal(err)
		}
		return e.Text()
	}
	holds := func(checked []byte, open [][]byte, evidence ...[]byte) func(m *gossiptest.Monitor) {
		return func(m *gossiptest.Monitor) { m.Set(checked, open, evidence...) }
	}
	answers := func(a gossip.Answer) func(m *gossiptest.Monitor) {
		return func(m *gossiptest.Monitor) {
			m.Instead(func(w http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/heads") {
					_ = json.NewEncoder(w).Encode(a)
					return true
				}
				return false
			})
		}
	}
	says := func(status int, body string) func(m *gossiptest.Monitor) {
		return func(m *gossiptest.Monitor) {
			m.Instead(func(w http.ResponseWriter, _ *http.Request) bool {
				w.WriteHeader(status)
				w.Write([]byte(body))
				return true
			})
		}
	}
	return map[string]func(m *gossiptest.Monitor){
		"forged head":                 holds(stranger.Head(t, fork, 9), nil),
		"head changed":                holds(edit(good, "\n9\n", "\n10\n"), nil),
		"head of another log":         holds(other.Head(t, fork, 9), nil),
		"not a note":                  holds([]byte("checked\x00\xff"), [][]byte{{}, []byte("\n\n")}),
		"forged open heads":           holds(good, [][]byte{stranger.Head(t, fork, 9), other.Head(t, fork, 5), edit(good, "example", "exbmple")}),
		"evidence of another log":     holds(good, nil, gather(other, other.Head(t, honest, 5), other.Head(t, fork, 9))),
		"evidence of a stranger":      holds(good, nil, gather(stranger, stranger.Head(t, honest, 5), stranger.Head(t, fork, 9))),
		"evidence of nothing":         holds(good, nil, (&verifier.Evidence{First: k.Head(t, honest, 5), Second: good}).Text()),
		"evidence without a proof":    holds(good, nil, (&verifier.Evidence{First: k.Head(t, honest, 5), Second: good, Proof: make([]verifier.Hash, 3)}).Text()),
		"evidence that isn't a file":  holds(good, nil, []byte("prooftrail.evidence/1\n\n\n")),
		"claims a contradiction":      answers(gossip.Answer{Origin: origin, Size: 7, Verdict: gossip.Contradicts, Checked: string(good)}),
		"names files that aren't":     answers(gossip.Answer{Origin: origin, Size: 7, Verdict: gossip.Contradicts, Checked: string(good), Evidence: []string{"x", strings.Repeat("0", 64), "../heads"}}),
		"is about another head":       answers(gossip.Answer{Origin: origin, Size: 8, Verdict: gossip.Agrees, Checked: string(good)}),
		"is about another log":        answers(gossip.Answer{Origin: "example.com/other", Size: 7, Verdict: gossip.Contradicts}),
		"a long reason":               answers(gossip.Answer{Origin: origin, Size: 7, Verdict: gossip.Unknown, Reason: strings.Repeat("\x1b[2J", 1<<15)}),
		"agrees, and shows a forgery": answers(gossip.Answer{Origin: origin, Size: 7, Verdict: gossip.Agrees, Checked: string(stranger.Head(t, fork, 9))}),
		"no JSON":                     says(200, "<html>"),
		"empty":                       says(200, "{}"),
		"refuses":                     says(403, "no"),
		"unavailable":                 says(503, "later"),
		"doesn't follow the log":      says(404, "no"),
	}
}

// TestLyingMonitors: no lie convicts an honest log, or crashes anything. Nor does one pass for
// agreement, unless the monitor shows besides what proves it.
func TestLyingMonitors(t *testing.T) {
	k := gossiptest.NewKey(t, origin)
	honest := gossiptest.NewTree(9, 9)
	good := k.Head(t, honest, 9)
	mayAgree := []string{"forged open heads", "is about another head", "is about another log", "a long reason", "agrees, and shows a forgery"}
	for name, lie := range lies(t, k, honest) {
		t.Run(name, func(t *testing.T) {
			m := gossiptest.NewMonitor(t, k.Policy, honest, good)
			lie(m)
			r := compare(t, m, k, honest, 7)
			agrees := false
			for _, may := range mayAgree {
				agrees = agrees || may == name
			}
			if r.Agreement() != agrees || r.Status == gossip.StatusContradicts || r.Reason == "" && name != "a long reason" {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestCompareUnreachable: a monitor that isn't there is just that, and asked once.
func TestCompareUnreachable(t *testing.T) {
	k := gossiptest.NewKey(t, origin)
	tree := gossiptest.NewTree(9, 9)
	c, err := gossip.New(gossip.Config{URL: "http://127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	good := gossiptest.NewMonitor(t, k.Policy, tree, k.Head(t, tree, 9))
	rs, err := gossip.Compare(t.Context(), []*gossip.Client{c, good.Client(t)}, gossip.Own{Policy: k.Policy, Note: k.Head(t, tree, 4), Tiles: tree})
	if err != nil || rs[0].Status != gossip.StatusUnreachable || rs[0].Reason == "" || rs[1].Status != gossip.StatusAgrees {
		t.Errorf("%+v, %v", rs, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	rs, err = gossip.Compare(ctx, []*gossip.Client{good.Client(t)}, gossip.Own{Policy: k.Policy, Note: k.Head(t, tree, 4), Tiles: tree})
	if err != nil || rs[0].Status != gossip.StatusUnreachable {
		t.Errorf("%+v, %v", rs, err)
	}
}

// noTiles is a log that shows none.
type noTiles struct{ lies bool }

func (n noTiles) ReadTile(_ context.Context, tile verifier.Tile) ([]byte, error) {
	if n.lies {
		return make([]byte, 32*tile.Width), nil
	}
	return nil, fmt.Errorf("no %s", tile.Path())
}

// TestCompareWithoutProofs: where the log's tiles prove nothing, nothing is proven, but for two
// roots of one size, and for what the monitor can prove.
func TestCompareWithoutProofs(t *testing.T) {
	k := gossiptest.NewKey(t, origin)
	honest, fork := gossiptest.NewTree(9, 9), gossiptest.NewTree(9, 3)
	for _, tiles := range []noTiles{{false}, {true}} {
		own := gossip.Own{Policy: k.Policy, Note: k.Head(t, honest, 9), Tiles: tiles}
		m := gossiptest.NewMonitor(t, k.Policy, honest, k.Head(t, honest, 6))
		if r := compareOwn(t, m, own); r.Status != gossip.StatusUnproven || !strings.Contains(r.Reason, "size 6 and ours of size 9") {
			t.Errorf("%+v", r)
		}
		m = gossiptest.NewMonitor(t, k.Policy, fork, k.Head(t, fork, 6))
		if r := compareOwn(t, m, own); r.Status != gossip.StatusUnproven {
			t.Errorf("%+v", r)
		}
		m = gossiptest.NewMonitor(t, k.Policy, noTiles{}, k.Head(t, fork, 9))
		if r := compareOwn(t, m, own); r.Status != gossip.StatusContradicts {
			t.Errorf("%+v", r)
		}
		own.Note = k.Head(t, honest, 5)
		m = gossiptest.NewMonitor(t, k.Policy, fork, k.Head(t, fork, 9))
		if r := compareOwn(t, m, own); r.Status != gossip.StatusContradicts || !strings.Contains(r.Reason, "evidence that it holds") {
			t.Errorf("%+v", r)
		}
	}
}

// TestSpread: what one monitor knows, the others are told; and no monitor is given others'
// signatures, or what one of them may not take.
func TestSpread(t *testing.T) {
	k := gossiptest.NewKey(t, origin)
	honest, fork := gossiptest.NewTree(9, 9), gossiptest.NewTree(12, 3)
	one := gossiptest.NewMonitor(t, k.Policy, fork, k.Head(t, fork, 12))
	two := gossiptest.NewMonitor(t, k.Policy, honest, k.Head(t, honest, 9))
	note := append(k.Head(t, honest, 8), "— someone.else AAAAAAAAAAAA\n"...)
	rs, err := gossip.Compare(t.Context(), []*gossip.Client{one.Client(t), two.Client(t)}, gossip.Own{Policy: k.Policy, Note: note, Tiles: honest})
	if err != nil || rs[0].Status != gossip.StatusContradicts || rs[1].Status != gossip.StatusAgrees || len(two.Evidence()) != 1 {
		t.Errorf("%+v, %v, %q", rs, err, two.Evidence())
	}
	// The next time the other one says so itself.
	rs, err = gossip.Compare(t.Context(), []*gossip.Client{two.Client(t)}, gossip.Own{Policy: k.Policy, Note: note, Tiles: honest})
	if err != nil || rs[0].Status != gossip.StatusContradicts {
		t.Errorf("%+v, %v", rs, err)
	}
	bare := gossiptest.NewMonitor(t, k.Policy, honest, nil)
	if r := compareOwn(t, bare, gossip.Own{Policy: k.Policy, Note: note, Tiles: honest}); !r.Posted {
		t.Fatalf("%+v", r)
	}
	if open := bare.Open(); len(open) != 1 || bytes.Contains(open[0], []byte("someone.else")) {
		t.Errorf("%q", open)
	}
}

// TestCompareFetchesFew: however many files a monitor names, eight are fetched, each once.
func TestCompareFetchesFew(t *testing.T) {
	k := gossiptest.NewKey(t, origin)
	tree := gossiptest.NewTree(9, 9)
	m := gossiptest.NewMonitor(t, k.Policy, tree, k.Head(t, tree, 9))
	a := gossip.Answer{Origin: origin, Size: 9, Verdict: gossip.Contradicts}
	var l gossip.List
	for i := range gossip.MaxListed {
		id := gossip.EvidenceID(fmt.Append(nil, i/2))
		a.Evidence = append(a.Evidence, id)
		l.Evidence = append(l.Evidence, gossip.Listed{ID: id, Origin: origin})
	}
	m.Instead(func(w http.ResponseWriter, r *http.Request) bool {
		switch r.Method + r.URL.Path {
		case "POST/gossip/v1/heads":
			_ = json.NewEncoder(w).Encode(a)
		case "GET/gossip/v1/evidence":
			_ = json.NewEncoder(w).Encode(l)
		default:
			return false
		}
		return true
	})
	if r := compare(t, m, k, tree, 9); r.Status != gossip.StatusUnproven {
		t.Errorf("%+v", r)
	}
	fetched := map[string]int{}
	for _, asked := range m.Asked() {
		if strings.HasPrefix(asked, "GET /gossip/v1/evidence/") {
			fetched[asked]++
		}
	}
	for asked, n := range fetched {
		if n > 1 {
			t.Errorf("%d times %s", n, asked)
		}
	}
	if len(fetched) != 8 {
		t.Errorf("%d files were fetched", len(fetched))
	}
}
