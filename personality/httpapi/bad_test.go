package httpapi

import (
	"strconv"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/httpapi/badtest"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
)

func loadCorpus(t testing.TB) *badtest.Corpus {
	t.Helper()
	c, err := badtest.Load(badDir)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestBadRequests: each request of the corpus is refused with its own problem that names
// what is wrong, and leaves the log as it was.
func TestBadRequests(t *testing.T) {
	corpus := loadCorpus(t)
	generated := 0
	for _, k := range corpus.Cases {
		if k.Base == "full.json" && k.Slug == "invalid-event" {
			generated++
		}
	}
	if len(corpus.Cases) < 1500 || generated < 900 {
		t.Errorf("%d requests, %d of them generated", len(corpus.Cases), generated)
	}
	h := withReal(t, func(c *Config) { c.AuthFailuresPerMinute, c.EventsPerSecond = -1, -1 })
	corpus.Run(t, &badtest.Server{
		Addr: h.addr, Tokens: h.real.tokens, Document: theDocument().check,
		Size: func() uint64 { return h.real.svc.Ready(t.Context()).TreeSize },
	})
	before := h.real.svc.Ready(t.Context()).TreeSize
	if r := h.post("submit", "/v1/events", "", sample("good", "x"), 201).result(t); r.Index != before {
		t.Errorf("the next event is entry %d; of the bad ones %d are stored", r.Index, r.Index-before)
	}
	h.audit(t)
}

// audit has the verifier go through the whole log.
func (h *harness) audit(t *testing.T) {
	t.Helper()
	log, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: "http://" + h.addr + "/logs/audit", Token: h.real.tokens["all"]})
	if err != nil {
		t.Fatal(err)
	}
	report, err := verifier.Audit(t.Context(), verifier.AuditConfig{Source: log, Openings: log, Policy: h.real.policy})
	if err != nil || report.FailureCount > 0 || report.Openings.Verified != report.Size {
		t.Errorf("audit: %+v, %v", report, err)
	}
}

// TestBadEventsAmongGood sends the bad events of the corpus in few requests, each between
// two good ones: those are accepted, it is rejected with the same problem as alone.
func TestBadEventsAmongGood(t *testing.T) {
	corpus := loadCorpus(t)
	h := withReal(t, func(c *Config) { c.EventsPerSecond = -1 })
	var bad []*badtest.Case
	var bodies []string
	for _, k := range corpus.Events() {
		body, err := corpus.BodyOf(k)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(body, "\n") || strings.TrimSpace(body) == "" {
			continue // not one line
		}
		bad, bodies = append(bad, k), append(bodies, body)
	}
	if len(bad) < 1000 {
		t.Errorf("%d events", len(bad))
	}
	const most = MaxEvents / 2
	for start := 0; start < len(bad); start += most {
		end := min(start+most, len(bad))
		var lines strings.Builder
		for i := start; i < end; i++ {
			lines.WriteString(sample("good"+strconv.Itoa(i), "x") + "\n" + bodies[i] + "\n")
		}
		rs := h.post("submit", "/v1/events", ndjsonType, lines.String(), 200).lines(t)
		if len(rs) != 2*(end-start) {
			t.Fatalf("%d results for %d events", len(rs), 2*(end-start))
		}
		for i, k := range bad[start:end] {
			good, r := rs[2*i], rs[2*i+1]
			if good.Status != string(personality.StatusAccepted) {
				t.Errorf("the good event before %s: %+v", k.Name, good)
			}
			if r.Status != string(personality.StatusRejected) || r.Problem.Type != "/problems/"+k.Slug || r.Problem.Pointer == nil ||
				*r.Problem.Pointer != k.Pointer || k.Code != "" && r.Problem.Code != k.Code {
				t.Errorf("%s: %+v of %+v", k.Name, r.Problem, r)
			}
		}
	}
	h.audit(t)
}

// TestCorpusIsNearlyGood: what the corpus breaks is valid as long as it isn't broken.
func TestCorpusIsNearlyGood(t *testing.T) {
	corpus := loadCorpus(t)
	for _, name := range []string{"full.json", "plain.json"} {
		if _, err := event.Parse([]byte(corpus.File(name))); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	f, err := event.Parse([]byte(corpus.File("full.json")))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range members {
		if m.kind == text && !m.element() && !strings.Contains(strings.ToLower(f.Text(m.pointer)), badtest.Secret) {
			t.Errorf("%s isn't marked as a secret", m.pointer)
		}
	}
}

// TestOverfullLines: past the limit the request is refused; what came before
// is in the log, and sending it in good order gives the receipts.
func TestOverfullLines(t *testing.T) {
	h := withFake(t, nil)
	var all []string
	for i := range MaxEvents + 1 {
		all = append(all, sample("e"+strings.Repeat("x", i%100)+string(rune('a'+i/100)), "x"))
	}
	a := h.post("fake", "/v1/events", ndjsonType, strings.Join(all, "\n"), 413)
	if a.result(t).Type != "/problems/request-too-large" || h.fake.size() != MaxEvents {
		t.Errorf("%d admitted: %s", h.fake.size(), a.body)
	}
	for _, r := range h.post("fake", "/v1/events", ndjsonType, strings.Join(all[:MaxEvents], "\n"), 200).lines(t) {
		if r.Status != string(personality.StatusDuplicate) {
			t.Fatalf("%+v", r)
		}
	}
}
