package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// words is an adapter of a form of its own: a line is an item, and its words say what becomes of it.
//
//	login NAME [NOTE]   an event with an id made of the line and no time
//	id ID NOTE          an event with this id
//	from SOURCE         an event of that source
//	skip                nothing
//	panic               a panic, if it is the first line
//
// Anything else can't be translated.
type words struct{}

func (words) Name() string { return "words" }

func (words) Translate(r *ingest.Request) ([]ingest.Item, error) {
	if len(r.Body) == 0 {
		return nil, errors.New("the body: expected lines")
	}
	if r.Header.Get("Authorization") != "" || r.Header.Get("Cookie") != "" {
		return nil, errors.New("the header: expected no credentials")
	}
	if strings.HasPrefix(string(r.Body), "panic") {
		panic("at this body")
	}
	var items []ingest.Item
	for line := range bytes.Lines(r.Body) {
		items = append(items, word(r, bytes.TrimSpace(line)))
	}
	return items, nil
}

func word(r *ingest.Request, line []byte) ingest.Item {
	it := ingest.Item{Raw: line, Event: event.Event{Source: r.Source, Time: time.Unix(1e9, 0).UTC(), Action: "auth.login", Outcome: "success",
		Actor: event.Actor{Type: "user", ID: "u"}, Target: []event.Target{{Type: "session", ID: "s"}}, Labels: map[string]string{"ingest.sender": "forged"}}}
	w := strings.Fields(string(line))
	switch {
	case len(w) >= 2 && w[0] == "login":
		it.Untimed, it.Event.Time, it.Event.ID, it.Event.Actor.ID = true, r.Received, r.ID(string(line)), w[1]
		it.Event.Details = map[string]any{"line": strings.Join(w[2:], " ")}
	case len(w) == 3 && w[0] == "id":
		it.Event.ID, it.Event.Actor.ID = w[1], w[2]
	case len(w) == 2 && w[0] == "from":
		it.Event.ID, it.Event.Source = r.ID(string(line)), w[1]
	case len(w) == 1 && w[0] == "skip":
		it.Skip = true
	default:
		it.Err = errors.New("the first word: expected login, id, from or skip")
	}
	return it
}

// withWords serves a real log that knows the adapter.
func withWords(t testing.TB, change func(*personality.Config), api func(*Config)) *harness {
	t.Helper()
	r := newRealLogWith(t, func(c *personality.Config) {
		c.Adapters = []ingest.Adapter{words{}}
		if change != nil {
			change(c)
		}
	})
	h := serve(t, Of(r.svc), api)
	h.real = r
	return h
}

type itemResult struct {
	Status     ingest.Status
	Index      uint64
	Quarantine string
	Reason     string
}

func (a *reply) items(t testing.TB) []itemResult {
	t.Helper()
	return decode[struct{ Results []itemResult }](t, a.body).Results
}

const wordsPath = "/v1/ingest/words?source=cron://node1"

func statuses(items []itemResult) string {
	var s []string
	for _, it := range items {
		s = append(s, string(it.Status))
	}
	return strings.Join(s, " ")
}

// quarantineList is the items that a token sees.
func (h *harness) quarantineList(token string) []client.Quarantined {
	h.t.Helper()
	return decode[struct{ Items []client.Quarantined }](h.t, h.get(token, "/v1/quarantine?count=1000").body).Items
}

// opened is the event at an index as the token read sees it.
func (h *harness) opened(index uint64) event.Fields {
	h.t.Helper()
	if index >= decode[personality.Readiness](h.t, h.get("", "/readyz").body).PublishedSize {
		// Deliveries are answered once they are durable; what comes behind them and is published publishes them.
		h.post("submit", "/v1/events", "", sample("behind-"+strconv.FormatUint(index, 10), "x"), 201)
	}
	e := decode[struct{ Opening json.RawMessage }](h.t, h.get("all", "/v1/logs/audit/entries/"+strconv.FormatUint(index, 10)).body)
	o, err := seal.ParseOpening(e.Opening)
	if err != nil {
		h.t.Fatal(err)
	}
	return o.Event()
}

// TestIngest: each item of a delivery comes to its end, the log says how it came, and sending it again
// changes nothing.
func TestIngest(t *testing.T) {
	h := withWords(t, nil, nil)
	const body = "login ann --password hunter2\nskip\nnonsense here\nid one a\nid one b\nfrom nobody://x\nlogin bob"
	first := h.post("submit", wordsPath, "text/plain", body, 200).items(t)
	if got := statuses(first); got != "accepted skipped quarantined accepted conflict rejected accepted" {
		t.Fatalf("got %s", got)
	}
	f := h.opened(first[0].Index)
	for pointer, want := range map[string]string{
		"/ingest/adapter": "words", "/labels/ingest.sender": "token", "/actor/id": "ann", "/source": "cron://node1",
		"/details/line": "--password [masked]", "/tenant": "default",
	} {
		if got := f.Text(pointer); got != want {
			t.Errorf("%s is %q, want %q", pointer, got, want)
		}
	}
	if got := f.Text("/ingest/raw_sha256"); len(got) != 64 || got == f.Text("/id") {
		t.Errorf("raw_sha256 is %q", got)
	}
	again := h.post("submit", wordsPath, "text/plain", body, 200).items(t)
	if got := statuses(again); got != "duplicate skipped quarantined duplicate conflict rejected duplicate" {
		t.Errorf("again: got %s", got)
	}
	for i := range again {
		if again[i].Index != first[i].Index || again[i].Quarantine != first[i].Quarantine {
			t.Errorf("item %d: %+v, at first %+v", i, again[i], first[i])
		}
	}
	if list := h.quarantineList("admin"); len(list) != 3 {
		t.Errorf("%d items in the quarantine, want 3", len(list))
	}
	// Another tenant's id for the same item is another.
	other := h.post("other", wordsPath, "text/plain", "login ann --password hunter2", 200).items(t)
	if id := h.opened(other[0].Index).Text("/id"); id == f.Text("/id") {
		t.Errorf("two tenants have the same id %s of the same item", id)
	}
}

// TestIngestRefuses what can't be a delivery, and says why.
func TestIngestRefuses(t *testing.T) {
	h := withWords(t, nil, func(c *Config) { c.EventsPerSecond, c.BurstEvents = 1e-6, MaxEvents })
	refill := func() { h.server.api.tokens = newLimiters(1e-6, MaxEvents) }
	for _, c := range []struct {
		name   string
		call   call
		status int
		says   string
	}{
		{"no such adapter", call{path: "/v1/ingest/none", token: "submit", body: "skip"}, 404, "not found"},
		{"no body", call{path: wordsPath, token: "submit"}, 400, "expected lines"},
		{"no role", call{path: wordsPath, token: "read", body: "skip"}, 403, "submit"},
		{"source twice", call{path: wordsPath + "&source=cron://b", token: "submit", body: "skip"}, 400, "source: expected it once"},
		{"coding", call{path: wordsPath, token: "submit", body: "skip", header: map[string]string{"Content-Encoding": "br"}}, 415, "gzip"},
		{"no gzip", call{path: wordsPath, token: "submit", body: "skip", header: map[string]string{"Content-Encoding": "gzip"}}, 400, "gzip"},
		{"too many for the rate", call{path: wordsPath, token: "submit", body: strings.Repeat("skip\n", MaxEvents+1)}, 413, "500"},
		{"too many", call{path: wordsPath, token: "submit", body: strings.Repeat("skip\n", ingest.MaxItems+1)}, 413, "10000"},
		{"too long", call{path: wordsPath, token: "submit", body: strings.Repeat("skip\n", MaxIngestBytes/5+1)}, 413, "16777216"},
	} {
		refill()
		c.call.method = "POST"
		if a := h.do(c.call); a.status != c.status || !strings.Contains(string(a.body), c.says) {
			t.Errorf("%s: status %d, want %d with %q: %s", c.name, a.status, c.status, c.says, a.body)
		}
	}
	refill()
	h.post("submit", wordsPath, "", strings.Repeat("skip\n", 400), 200)
	h.post("submit", wordsPath, "", strings.Repeat("skip\n", 200), 429)
}

func zipped(t testing.TB, text []byte) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestIngestGzip: a coded body is read within the same limit, whatever it becomes; and no memory stays counted.
func TestIngestGzip(t *testing.T) {
	h := withWords(t, nil, nil)
	coded := map[string]string{"Content-Encoding": "gzip"}
	good := zipped(t, []byte("login ann\nlogin bob"))
	for _, c := range []struct {
		name, body string
		status     int
	}{
		{"whole", good, 200},
		{"two members", zipped(t, []byte("login cid\n")) + zipped(t, []byte("skip")), 200},
		{"cut", good[:len(good)-4], 400},
		{"sum", good[:len(good)-8] + "12345678", 400},
		{"rest", good + "rest", 400},
		{"bomb", zipped(t, make([]byte, 1<<30)), 413},
		{"empty members", strings.Repeat(zipped(t, nil), MaxIngestBytes/len(zipped(t, nil))+10), 413},
	} {
		if a := h.do(call{method: "POST", path: wordsPath, token: "submit", body: c.body, header: coded}); a.status != c.status {
			t.Errorf("%s: status %d, want %d: %.300s", c.name, a.status, c.status, a.body)
		}
	}
	if n := h.server.api.bodyMemory.Load(); n != 0 {
		t.Errorf("%d bytes of bodies are counted and no request is under way", n)
	}
}

// TestIngestPanic: what an adapter panics at isn't lost, and doesn't come again and again.
func TestIngestPanic(t *testing.T) {
	h := withWords(t, nil, nil)
	items := h.post("submit", wordsPath, "", "panic now\nlogin ann", 200).items(t)
	if statuses(items) != "quarantined" {
		t.Fatalf("got %+v", items)
	}
	q := decode[client.Quarantined](t, h.get("admin", "/v1/quarantine/"+items[0].Quarantine).body)
	if q.Raw != "panic now\nlogin ann" || q.Reason != "the adapter failed on it" {
		t.Errorf("got %+v", q)
	}
}

// TestQuarantine: an operator sees, replays and drops; each is an entry of the log; nobody else may, nor
// another tenant's operator.
func TestQuarantine(t *testing.T) {
	h := withWords(t, nil, nil)
	items := h.post("submit", wordsPath, "", "from nobody://x\nsecret: hunter2\nid one a\nid one b", 200).items(t)
	if statuses(items) != "rejected quarantined accepted conflict" {
		t.Fatalf("got %+v", items)
	}
	foreign, secret := items[0].Quarantine, items[1].Quarantine
	for _, token := range []string{"submit", "read", "other"} {
		for _, c := range []call{{method: "GET", path: "/v1/quarantine"}, {method: "GET", path: "/v1/quarantine/" + secret},
			{method: "POST", path: "/v1/quarantine/" + secret + "/replay"}, {method: "DELETE", path: "/v1/quarantine/" + secret}} {
			c.token = token
			h.do(c).want(t, 403)
		}
	}
	for _, c := range []call{{method: "GET", path: "/v1/quarantine/" + secret},
		{method: "POST", path: "/v1/quarantine/" + secret + "/replay"}, {method: "DELETE", path: "/v1/quarantine/" + secret}} {
		c.token = "otheradmin"
		h.do(c).want(t, 404)
	}
	if list := h.quarantineList("otheradmin"); len(list) != 0 {
		t.Errorf("another tenant's operator sees %+v", list)
	}
	q := decode[client.Quarantined](t, h.get("admin", "/v1/quarantine/"+secret).body)
	if q.Raw != "secret: [masked]" || q.Status != "quarantined" || q.Source != "cron://node1" || q.Sender != "token" || !strings.HasPrefix(q.Principal, "submit/") {
		t.Errorf("shown: %+v", q)
	}
	replay := func(id string) []itemResult {
		return h.do(call{method: "POST", path: "/v1/quarantine/" + id + "/replay", token: "admin"}).items(t)
	}
	if r := replay(secret); statuses(r) != "quarantined" || r[0].Quarantine != secret {
		t.Errorf("replayed what can't be translated: %+v", r)
	}
	r := replay(foreign)
	if statuses(r) != "accepted" {
		t.Fatalf("replayed: %+v", r)
	}
	if f := h.opened(r[0].Index); f.Text("/source") != "nobody://x" || !strings.HasPrefix(f.Text("/ingest/principal"), "admin/") || f.Text("/tenant") != "default" {
		t.Errorf("replayed as %s", f.JSON())
	}
	h.do(call{method: "POST", path: "/v1/quarantine/" + foreign + "/replay", token: "admin"}).want(t, 404)
	h.do(call{method: "DELETE", path: "/v1/quarantine/" + secret, token: "admin"}).want(t, 204)
	h.do(call{method: "DELETE", path: "/v1/quarantine/" + secret, token: "admin"}).want(t, 404)
	if list := h.quarantineList("admin"); len(list) != 1 || list[0].Status != "conflict" {
		t.Errorf("left: %+v", list)
	}
	h.wantLogged(map[string]string{
		"audit.quarantine.show success": secret, "audit.quarantine.replay failure": secret,
		"audit.quarantine.replay success": foreign, "audit.quarantine.drop success": secret,
	})
}

// wantLogged finds events of the service's own by action and outcome, with their target.
func (h *harness) wantLogged(want map[string]string) {
	h.t.Helper()
	size := decode[personality.Readiness](h.t, h.get("", "/readyz").body).PublishedSize
	for i := range size {
		f := h.opened(i)
		key := f.Text("/action") + " " + f.Text("/outcome")
		if id, ok := want[key]; ok && id == f.Text("/target/0/id") && f.Text("/tenant") == "default" {
			delete(want, key)
		}
	}
	for key := range want {
		h.t.Errorf("%s isn't logged", key)
	}
}

// TestReplayFailsAgain: what fails again, under another source too, stays where it is and becomes no second item.
func TestReplayFailsAgain(t *testing.T) {
	h := withWords(t, nil, nil)
	h.post("submit", wordsPath, "", "panic", 200)
	items := h.post("submit", wordsPath, "", "nonsense", 200).items(t)
	a := h.do(call{method: "POST", path: "/v1/quarantine/" + items[0].Quarantine + "/replay?source=cron://node2", token: "admin"}).items(t)
	if statuses(a) != "quarantined" || a[0].Quarantine != items[0].Quarantine {
		t.Errorf("got %+v", a)
	}
	if list := h.quarantineList("admin"); len(list) != 2 {
		t.Errorf("%d items, want 2", len(list))
	}
}

// TestQuarantineFull: the delivery is refused as a whole, and is taken once there is room.
func TestQuarantineFull(t *testing.T) {
	h := withWords(t, func(c *personality.Config) { c.QuarantineItems = 2 }, nil)
	h.post("submit", wordsPath, "", "bad one\nbad two", 200)
	h.post("submit", wordsPath, "", "bad one\nlogin ann", 200)
	const more = "login bob\nbad three"
	a := h.post("submit", wordsPath, "", more, 503)
	if r := a.result(t); r.Type != "/problems/quarantine-full" || a.header.Get("Retry-After") == "" {
		t.Errorf("got %s", a.body)
	}
	h.post("other", wordsPath, "", "bad one", 200) // another tenant has room of its own
	h.post("submit", wordsPath, "", "login cid", 200)
	list := h.quarantineList("admin")
	if len(list) != 3 {
		t.Fatalf("%d items, want 3", len(list))
	}
	for _, q := range list {
		if q.Tenant == "default" {
			h.do(call{method: "DELETE", path: "/v1/quarantine/" + q.ID, token: "admin"}).want(t, 204)
			break
		}
	}
	if got := statuses(h.post("submit", wordsPath, "", more, 200).items(t)); got != "duplicate quarantined" {
		t.Errorf("sent again: %s", got)
	}
	h.post("submit", wordsPath, "", "bad "+strings.Repeat("x", 1<<20), 503)
}

// TestIngestMany: a delivery of as many items as there may be.
func TestIngestMany(t *testing.T) {
	h := withWords(t, nil, nil)
	var body strings.Builder
	const n = ingest.MaxItems
	for i := range n {
		fmt.Fprintf(&body, "login user%d\n", i)
	}
	seen := map[uint64]bool{}
	for _, it := range h.post("submit", wordsPath, "", body.String(), 200).items(t) {
		if it.Status != ingest.Accepted || seen[it.Index] {
			t.Fatalf("got %+v", it)
		}
		seen[it.Index] = true
	}
	if len(seen) != n {
		t.Errorf("%d results, want %d", len(seen), n)
	}
}

// TestIngestAtOnce: deliveries of the same item, which has no time, are one entry however close together they come.
func TestIngestAtOnce(t *testing.T) {
	h := withWords(t, nil, nil)
	for round := range 20 {
		var wg sync.WaitGroup
		results := make([][]itemResult, 6)
		for i := range results {
			wg.Go(func() {
				results[i] = h.post("submit", wordsPath, "text/plain", fmt.Sprintf("login ann %d", round), 200).items(t)
			})
		}
		wg.Wait()
		accepted := 0
		for _, r := range results {
			if len(r) != 1 || r[0].Status != ingest.Accepted && r[0].Status != ingest.Duplicate || r[0].Index != results[0][0].Index {
				t.Fatalf("round %d: %+v", round, results)
			}
			if r[0].Status == ingest.Accepted {
				accepted++
			}
		}
		if accepted != 1 {
			t.Errorf("round %d: %d were accepted", round, accepted)
		}
	}
	if list := h.quarantineList("admin"); len(list) != 0 {
		t.Errorf("in the quarantine: %+v", list)
	}
}
