package monitor_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// hostilePeer answers what it likes.
type hostilePeer struct {
	t       testing.TB
	heads   func() any // of GET …/heads
	list    func() any // of GET …/evidence
	file    []byte     // of GET …/evidence/{id}
	verdict func() any // of POST …/heads
	other   http.HandlerFunc

	rounds  atomic.Int64
	fetched atomic.Int64 // evidence files
}

func (p *hostilePeer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	isHeads := strings.HasSuffix(r.URL.Path, "/heads")
	if isHeads && r.Method == http.MethodGet {
		p.rounds.Add(1)
	}
	answer := func(f func() any) {
		if f == nil {
			http.NotFound(w, r)
			return
		}
		b, err := json.Marshal(f())
		if err != nil {
			p.t.Error(err)
		}
		_, _ = w.Write(b)
	}
	switch {
	case p.other != nil:
		p.other(w, r)
	case isHeads && r.Method == http.MethodGet:
		answer(p.heads)
	case isHeads:
		answer(p.verdict)
	case strings.HasSuffix(r.URL.Path, "/evidence") && r.Method == http.MethodGet:
		answer(p.list)
	case strings.Contains(r.URL.Path, "/evidence/"):
		p.fetched.Add(1)
		_, _ = w.Write(p.file)
	default:
		http.NotFound(w, r)
	}
}

// lists says that it has n evidence files about a log.
func lists(origin string, n int) func() any {
	return func() any {
		var l gossip.List
		for i := range n {
			l.Evidence = append(l.Evidence, gossip.Listed{ID: gossip.EvidenceID(fmt.Appendf(nil, "%d", i)), Origin: origin, FirstSize: 1, SecondSize: 2})
		}
		return l
	}
}

// has says that it has one file.
func has(origin string, file []byte) func() any {
	return func() any {
		return gossip.List{Evidence: []gossip.Listed{{ID: gossip.EvidenceID(file), Origin: origin, FirstSize: 1, SecondSize: 2}}}
	}
}

// TestHostilePeers: whatever a peer sends, nobody is accused, nothing of it is kept, the log is followed, and evidence
// comes from another peer all the same.
func TestHostilePeers(t *testing.T) {
	key, otherKey := logtest.NewKey(t, testOrigin), logtest.NewKey(t, "example.com/other")
	sample := logtest.New(t, key, "a", sceneSize)
	other := logtest.New(t, otherKey, "a", 20)
	otherFork := (&verifier.Evidence{First: other.Note(20), Second: logtest.New(t, otherKey, "b", 20).Note(20)}).Text()
	noProof := (&verifier.Evidence{First: sample.Note(100), Second: sample.Note(200)}).Text()
	twice := (&verifier.Evidence{First: sample.Note(100), Second: sample.Note(100)}).Text()
	forged := (&verifier.Evidence{First: sample.Note(20), Second: bytes.ReplaceAll(other.Note(20), []byte("example.com/other"), []byte(testOrigin))}).Text()
	heads := func(checked string, open ...string) func() any {
		return func() any { return gossip.Heads{Origin: testOrigin, Checked: checked, Open: open} }
	}
	none := func() any { return gossip.List{} }
	for name, p := range map[string]*hostilePeer{
		"garbage for notes":           {heads: heads("x", "", "\n\n", "y\n\n— z AAAAAAAA\n"), list: none},
		"another key's notes":         {heads: heads(testOrigin+"\n5\n", string(bytes.ReplaceAll(other.Note(20), []byte("example.com/other"), []byte(testOrigin)))), list: none},
		"another log's notes":         {heads: heads(string(other.Note(20)), string(other.Note(7))), list: none},
		"ten thousand heads":          {heads: heads("", strings.Split(strings.Repeat("x,", 10000), ",")...), list: none},
		"another log for the one":     {heads: func() any { return gossip.Heads{Origin: "example.com/other"} }, list: none},
		"no JSON":                     {other: text([]byte("<html>"))},
		"evidence about another log":  {heads: heads(""), list: has(testOrigin, otherFork), file: otherFork},
		"evidence for another origin": {heads: heads(""), list: has("example.com/other", otherFork), file: otherFork},
		"evidence without a proof":    {heads: heads(""), list: has(testOrigin, noProof), file: noProof},
		"evidence of one head":        {heads: heads(""), list: has(testOrigin, twice), file: twice},
		"forged evidence":             {heads: heads(""), list: has(testOrigin, forged), file: forged},
		"another file than the id's":  {heads: heads(""), list: has(testOrigin, noProof), file: twice},
		"a thousand useless files":    {heads: heads(""), list: lists(testOrigin, 1000), file: noProof},
		"ten thousand files":          {heads: heads(""), list: lists(testOrigin, 10000)},
		"ids that are paths":          {heads: heads(""), list: func() any { return gossip.List{Evidence: []gossip.Listed{{ID: "../../../x", Origin: testOrigin}}} }, file: noProof},
		"lies about heads": {heads: heads(""), list: none, verdict: func() any {
			return gossip.Answer{Origin: testOrigin, Verdict: gossip.Contradicts, Evidence: strings.Split(strings.Repeat("x,", 10000), ",")}
		}, file: noProof},
		"answers without end": {other: endless},
		"packed answers":      {other: packed},
		"stalls":              {other: stall},
		"drips":               {other: drip(10, 20*time.Millisecond)},
		"too many requests":   {other: status(429)},
		"redirects": {other: func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "http://127.0.0.2:1/", http.StatusTemporaryRedirect)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := logtest.New(t, key, "a", sceneSize)
			fork := h.Fork("b", 100)
			fork.Grow(200)
			p.t = t
			evil := httptest.NewServer(p)
			t.Cleanup(evil.Close)
			good := start(t, t.TempDir(), nil, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, h)})
			good.checked(sceneSize)
			r := start(t, t.TempDir(), func(c *monitor.Config) {
				c.Peers = []monitor.PeerConfig{
					{Name: "evil", URL: evil.URL, Timeout: 200 * time.Millisecond, Silent: 100 * time.Millisecond, Mirrors: true},
					{Name: "good", URL: good.url},
				}
			}, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, h)})
			r.checked(sceneSize)
			if p.other == nil {
				rounds := p.rounds.Load()
				wait(t, "rounds", func() bool { return p.rounds.Load() >= rounds+3 })
				if n := p.fetched.Load(); n > 9*p.rounds.Load() && p.verdict == nil {
					t.Errorf("%d files fetched in %d rounds", n, p.rounds.Load())
				}
			} else if name != "no JSON" {
				wait(t, "silent", func() bool { return r.alarms.ringed("peer-silent") })
			}
			h.Grow(200)
			r.checked(sceneSize + 200)
			if n := r.Status(); len(n.Evidence) > 0 || n.Logs[0].Heads.Forked > 0 || n.Logs[0].Heads.Agreed > 2 || r.alarms.ringed("fork") {
				t.Errorf("%+v", n)
			}
			if size := diskUse(t, r.dir); size > 1<<20 {
				t.Errorf("%d bytes on the disk", size)
			}
			if _, err := good.Observe(t.Context(), fork.Note(300), "test"); err != nil {
				t.Fatal(err)
			}
			wait(t, "evidence by the other peer", func() bool { return len(r.Status().Evidence) == 1 })
			r.stop()
			convictsApart(t, key, r.Status().Evidence[0].File)
		})
	}
}

// TestOneBadNote: a peer that has nothing good to say about one log is asked about the others.
func TestOneBadNote(t *testing.T) {
	var logs []monitor.LogConfig
	notes := map[string][]byte{}
	for i := range 3 {
		key := logtest.NewKey(t, fmt.Sprintf("example.com/%d", i))
		h := logtest.New(t, key, "a", 30)
		logs = append(logs, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, h)})
		notes["/"+gossip.LogID(key.Origin)+"/checkpoint"] = logtest.New(t, key, "b", 20).Note(20)
	}
	notes["/"+gossip.LogID("example.com/0")+"/checkpoint"] = []byte("garbage")
	witness := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write(notes[r.URL.Path]) }))
	t.Cleanup(witness.Close)
	r := start(t, t.TempDir(), func(c *monitor.Config) {
		c.Peers = []monitor.PeerConfig{{Name: "witness", Kind: monitor.WitnessKind, URL: witness.URL}}
	}, logs...)
	wait(t, "evidence about both", func() bool { return len(r.Status().Evidence) == 2 })
	for _, e := range r.Status().Evidence {
		if e.Origin == "example.com/0" {
			t.Errorf("%+v", e)
		}
	}
}

// TestHostilePosts: what anybody sends is answered as docs/spec/gossip.md says, and nothing of it is kept.
func TestHostilePosts(t *testing.T) {
	key, otherKey := logtest.NewKey(t, testOrigin), logtest.NewKey(t, "example.com/other")
	h := logtest.New(t, key, "a", sceneSize)
	other := logtest.New(t, otherKey, "a", 20)
	r := start(t, t.TempDir(), nil, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, h)})
	r.checked(sceneSize)
	evidence := func(a, b []byte) []byte { return (&verifier.Evidence{First: a, Second: b}).Text() }
	before := diskUse(t, r.dir)
	large := bytes.Repeat([]byte("x"), 2<<20)
	id := gossip.LogID(testOrigin)
	for _, tt := range []struct {
		name, method, path string
		body               []byte
		want               int
	}{
		{"nothing", "POST", "/gossip/v1/heads", nil, 404},
		{"garbage", "POST", "/gossip/v1/heads", []byte{0, 1, 2}, 404},
		{"unknown origin", "POST", "/gossip/v1/heads", other.Note(20), 404},
		{"not signed", "POST", "/gossip/v1/heads", []byte(h.Head(300).Text() + "\n— x AAAAAAAA\n"), 403},
		{"forged", "POST", "/gossip/v1/heads", bytes.ReplaceAll(other.Note(20), []byte("example.com/other"), []byte(testOrigin)), 403},
		{"no note", "POST", "/gossip/v1/heads", []byte(testOrigin + "\n"), 400},
		{"too large", "POST", "/gossip/v1/heads", append([]byte(testOrigin+"\n"), large...), 413},
		{"evidence: garbage", "POST", "/gossip/v1/evidence", []byte("x"), 400},
		{"evidence: nothing proven", "POST", "/gossip/v1/evidence", evidence(h.Note(100), h.Note(200)), 422},
		{"evidence: one head", "POST", "/gossip/v1/evidence", evidence(h.Note(100), h.Note(100)), 422},
		{"evidence: unknown origin", "POST", "/gossip/v1/evidence", evidence(other.Note(20), logtest.New(t, otherKey, "b", 20).Note(20)), 404},
		{"evidence: too large", "POST", "/gossip/v1/evidence", large, 413},
		{"distributor: unknown witness", "PUT", "/distributor/v0/logs/" + id + "/byWitness/x/checkpoint", h.Note(300), 404},
		{"distributor: unknown log", "PUT", "/distributor/v0/logs/" + gossip.LogID("x") + "/byWitness/x/checkpoint", h.Note(300), 404},
		{"mirror: not mirrored", "GET", "/mirror/" + id + "/checkpoint", nil, 404},
		{"evidence: a path", "GET", "/gossip/v1/evidence/..%2f..%2fbook", nil, 404},
		{"checkpoint: no number", "GET", "/distributor/v0/logs/" + id + "/checkpoint.-1", nil, 400},
		{"no such method", "DELETE", "/gossip/v1/heads", nil, 405},
		{"no such path", "GET", "/", nil, 404},
	} {
		for range 5 {
			req, err := http.NewRequestWithContext(t.Context(), tt.method, r.url+tt.path, bytes.NewReader(tt.body))
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			text, _ := io.ReadAll(resp.Body)
			resp.Body.Close()
			if resp.StatusCode != tt.want || len(text) > 2000 {
				t.Errorf("%s: %d %s, expected %d", tt.name, resp.StatusCode, text, tt.want)
			}
		}
	}
	if n := r.Status(); len(n.Evidence) > 0 || n.Logs[0].Heads.Forked > 0 || n.Logs[0].Heads.Open > 0 {
		t.Errorf("%+v", n)
	}
	if size := diskUse(t, r.dir); size != before {
		t.Errorf("%d bytes on the disk, and %d before", size, before)
	}
}

// TestFlood: an address that asks too often is sent away, others aren't; and a flood from everywhere is bounded.
func TestFlood(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", sceneSize)
	var mu sync.Mutex
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	r := prepare(t, t.TempDir(), func(c *monitor.Config) {
		c.Rate = 5
		c.Now = func() time.Time { mu.Lock(); defer mu.Unlock(); return now }
	}, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, h)})
	handler := r.Handler()
	get := func(from string) *httptest.ResponseRecorder {
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/gossip/v1/evidence", nil)
		req.RemoteAddr = from
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, req)
		return w
	}
	count := func(n int, from func(int) string) (ok, refused int) {
		for i := range n {
			switch w := get(from(i)); {
			case w.Code == 200:
				ok++
			case w.Code == 429 && w.Header().Get("Retry-After") != "":
				refused++
			default:
				t.Errorf("status %d", w.Code)
			}
		}
		return ok, refused
	}
	same := func(from string) func(int) string { return func(int) string { return from } }
	if ok, refused := count(100, same("192.0.2.1:5")); ok != 20 || refused != 80 {
		t.Errorf("one address: %d answered, %d refused", ok, refused)
	}
	if ok, _ := count(30, func(i int) string { return fmt.Sprintf("[2001:db8::%x]:7", i) }); ok != 20 {
		t.Errorf("one network: %d answered", ok)
	}
	if ok, _ := count(10, same("192.0.2.2:5")); ok != 10 {
		t.Errorf("another address: %d answered", ok)
	}
	everywhere := func(i int) string { return fmt.Sprintf("[2001:db8:%x:%x::1]:7", i>>8+1, i&255) }
	peak := heapPeak(func() {
		// Past 10,000 they share the bucket of their network.
		if ok, refused := count(15000, everywhere); ok > 10020 || ok+refused != 15000 {
			t.Errorf("everywhere: %d answered, %d refused", ok, refused)
		}
	})
	if peak > 100<<20 {
		t.Errorf("%d bytes of memory", peak)
	}
	if ok, _ := count(1, same("192.0.2.2:5")); ok != 1 {
		t.Error("who was known before the flood is refused")
	}
	for _, d := range []time.Duration{10 * time.Second, -time.Hour} { // also if the clock is set back
		mu.Lock()
		now = now.Add(d)
		mu.Unlock()
		if ok, _ := count(1, same("192.0.2.9:5")); ok != 1 {
			t.Errorf("after %s: still refused", d)
		}
		count(15000, everywhere)
	}
	r.stop()
}

// TestDrip: bodies that drip don't last, don't add up, and keep nobody else out.
func TestDrip(t *testing.T) {
	t.Parallel()
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", sceneSize)
	r := start(t, t.TempDir(), nil, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, h)})
	r.checked(sceneSize)
	addr := strings.TrimPrefix(r.url, "http://")
	var wg sync.WaitGroup
	var refused, ended atomic.Int64
	for range 40 {
		wg.Go(func() {
			conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 3)}}).DialContext(t.Context(), "tcp", addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST /gossip/v1/evidence HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
			over := make(chan struct{})
			wg.Go(func() {
				defer close(over)
				b, _ := io.ReadAll(conn)
				if strings.HasPrefix(string(b), "HTTP/1.1 429") {
					refused.Add(1)
				} else {
					ended.Add(1)
				}
			})
			for {
				if _, err := conn.Write([]byte("x")); err != nil {
					<-over
					return
				}
				select {
				case <-over:
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		})
	}
	wait(t, "refused", func() bool { return refused.Load() == 32 })
	c, err := gossip.New(gossip.Config{URL: r.url})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := c.PostHead(t.Context(), h.Note(200)); err != nil || a.Verdict != gossip.Agrees {
		t.Errorf("another address: %+v, %v", a, err)
	}
	wg.Wait()
	if refused.Load() != 32 || ended.Load() != 8 {
		t.Errorf("%d refused, %d ended", refused.Load(), ended.Load())
	}
}

// TestManyLogs: with more logs than a peer takes calls at once, all are compared.
func TestManyLogs(t *testing.T) {
	t.Parallel()
	const logs = 40
	var here, there []monitor.LogConfig
	for i := range logs {
		key := logtest.NewKey(t, fmt.Sprintf("example.com/%d", i))
		a := logtest.New(t, key, "a", 10)
		b := a.Fork("b", 5)
		b.Grow(5)
		here = append(here, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, a)})
		there = append(there, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, b)})
	}
	one := start(t, t.TempDir(), func(c *monitor.Config) { c.Rate, c.Interval = 8, time.Second }, here...)
	wait(t, "read", func() bool {
		return !slices.ContainsFunc(one.Status().Logs, func(l monitor.LogStatus) bool { return l.Checked == nil })
	})
	two := start(t, t.TempDir(), func(c *monitor.Config) {
		c.Interval = time.Second
		c.Peers = []monitor.PeerConfig{{Name: "one", URL: one.url}}
	}, there...)
	wait(t, "evidence", func() bool { return len(two.Status().Evidence) == logs })
	if err := two.Status().Peers[0].Err; err != nil && !errors.As(err, new(*gossip.StatusError)) {
		t.Error(err)
	}
}
