package httpapi

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// TestRace: many clients send the same ids at once, each over a connection of its own,
// singly, in batches, in lines, and twice in one request. With the same content: one
// is told accepted, the others duplicate, all with receipts of the same entry.
// With different content: one is accepted, every other one a conflict with that entry.
// Afterwards the log is verified, and has each event once, and one audit.conflict
// event for each content that was refused.
func TestRace(t *testing.T) {
	h := withReal(t, nil)
	run := &race{t: t, h: h, ids: map[string]*raced{}}
	const rounds = 5
	for round := range rounds {
		for _, how := range raceModes {
			for _, contents := range []int{1, raceClients, 3} {
				run.round(fmt.Sprintf("%s-%d-%d", how.name, contents, round), how, contents)
			}
		}
	}
	run.check()
}

const raceClients = 8

// raceMode is a way to send events; it returns what was said of each of them.
type raceMode struct {
	name string
	ids  int // in one request
	send func(h *harness, events []string) ([]raceAnswer, error)
}

var raceModes = []raceMode{
	{"single", 1, (*harness).sendSingle},
	{"batch", 3, func(h *harness, events []string) ([]raceAnswer, error) {
		return h.sendMany(jsonType, `{"events":[`+strings.Join(events, ",")+`]}`)
	}},
	{"lines", 3, func(h *harness, events []string) ([]raceAnswer, error) {
		return h.sendMany(ndjsonType, strings.Join(events, "\n"))
	}},
}

// raceAnswer is what one client was told of one event.
type raceAnswer struct {
	status  string
	index   uint64
	leaf    string // hash, base64
	receipt string
	logged  uint64 // index of the audit.conflict entry
}

func (h *harness) sendSingle(events []string) ([]raceAnswer, error) {
	a, err := h.try(call{method: "POST", path: "/v1/events", token: "submit", body: events[0]})
	if err != nil {
		return nil, err
	}
	r := a.result(h.t)
	if status := map[int]string{201: "accepted", 200: "duplicate"}[a.status]; status != "" {
		if r.Status != status {
			return nil, fmt.Errorf("status %d with %v", a.status, r.Status)
		}
		return []raceAnswer{{status, r.Index, r.LeafHash, r.Receipt, 0}}, nil
	}
	if a.status != 409 || r.ConflictIndex == nil {
		return nil, fmt.Errorf("status %d: %s", a.status, a.body)
	}
	return []raceAnswer{{"conflict", r.Index, "", "", *r.ConflictIndex}}, nil
}

func (h *harness) sendMany(contentType, body string) (answers []raceAnswer, err error) {
	a, err := h.try(call{method: "POST", path: "/v1/events", token: "submit", contentType: contentType, body: body})
	if err != nil || a.status != 200 {
		return nil, fmt.Errorf("%w, %+v", err, a)
	}
	results := a.lines
	if contentType == jsonType {
		results = a.results
	}
	for _, r := range results(h.t) {
		status, _ := r.Status.(string)
		answer := raceAnswer{status, r.Index, r.LeafHash, r.Receipt, 0}
		if status == "conflict" {
			answer = raceAnswer{"conflict", r.Problem.Index, "", "", *r.Problem.ConflictIndex}
		}
		answers = append(answers, answer)
	}
	return answers, nil
}

// race is what has been sent, and what was said of it.
type race struct {
	t   *testing.T
	h   *harness
	mu  sync.Mutex
	ids map[string]*raced
}

// raced is what was said of one id.
type raced struct {
	answers map[string][]raceAnswer // by content
}

// round has all clients send the round's ids at once; client c sends content c modulo contents.
func (r *race) round(name string, how raceMode, contents int) {
	r.t.Helper()
	begin := make(chan struct{})
	var wg sync.WaitGroup
	for c := range raceClients {
		wg.Go(func() {
			note := fmt.Sprint("content ", c%contents)
			var ids, events []string
			for i := range how.ids {
				id := fmt.Sprintf("%s-%d", name, i)
				ids = append(ids, id)
				if how.ids > 1 && i == 0 {
					ids = append(ids, id) // twice in one request
				}
			}
			rand.Shuffle(len(ids), func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
			for _, id := range ids {
				events = append(events, sample(id, note))
			}
			<-begin
			answers, err := how.send(r.h, events)
			if err != nil || len(answers) != len(ids) {
				r.t.Errorf("%s: %d answers to %d events, %v", name, len(answers), len(ids), err)
				return
			}
			for i, id := range ids {
				r.note(id, note, answers[i])
			}
		})
	}
	close(begin)
	wg.Wait()
	if r.t.Failed() {
		r.t.FailNow()
	}
}

func (r *race) note(id, note string, a raceAnswer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ids[id] == nil {
		r.ids[id] = &raced{answers: map[string][]raceAnswer{}}
	}
	r.ids[id].answers[note] = append(r.ids[id].answers[note], a)
}

// check holds the answers against each other and against the log.
func (r *race) check() {
	events, conflicts := r.read()
	refused := 0
	for id, x := range r.ids {
		first := x.first(r.t, id)
		entries := events[id]
		if len(entries) != 1 || entries[0] != first.index {
			r.t.Errorf("%s is at %v, answered as %d", id, entries, first.index)
		}
		for note, answers := range x.answers {
			for _, a := range answers {
				if a.index != first.index {
					r.t.Errorf("%s with %s: %+v; the first is entry %d", id, note, a, first.index)
				}
				if a.status != "conflict" {
					r.receipt(id, note, a, first)
				}
			}
			if answers[0].status != "conflict" {
				continue
			}
			refused++
			logged := conflicts[id+" "+note]
			if len(logged) != 1 || logged[0] != answers[0].logged {
				r.t.Errorf("%s with %s is logged at %v, answered as %d", id, note, logged, answers[0].logged)
			}
		}
	}
	if len(events) != len(r.ids) || len(conflicts) != refused || refused == 0 {
		r.t.Errorf("%d events of %d ids, %d conflicts of %d contents refused", len(events), len(r.ids), len(conflicts), refused)
	}
	r.t.Logf("%d ids, %d conflicts", len(events), len(conflicts))
}

// first is the answer that says accepted. There is one, all of the same content are
// duplicates, and all of another one conflicts that are logged in one place.
func (x *raced) first(t *testing.T, id string) (first raceAnswer) {
	t.Helper()
	accepted := 0
	for note, answers := range x.answers {
		counts := map[string]int{}
		for _, a := range answers {
			if counts[a.status]++; a.status == "accepted" {
				first = a
			}
			if a.logged != answers[0].logged {
				t.Errorf("%s with %s is logged at %d and %d", id, note, a.logged, answers[0].logged)
			}
		}
		accepted += counts["accepted"]
		if n := len(answers); counts["conflict"] != n && counts["accepted"]+counts["duplicate"] != n {
			t.Errorf("%s with %s: %v", id, note, counts)
		}
	}
	if accepted != 1 {
		t.Errorf("%s was accepted %d times", id, accepted)
	}
	return first
}

func (r *race) receipt(id, note string, a, first raceAnswer) {
	r.t.Helper()
	v := r.h.real.verify(r.t, a.receipt, first.index)
	if leaf := base64.StdEncoding.EncodeToString(v.LeafHash[:]); leaf != first.leaf || a.leaf != leaf ||
		v.Content != seal.Verified || v.Event.Text("/id") != id || v.Event.Text("/reason/text") != note {
		r.t.Errorf("%s with %s: receipt of %s at %d, leaf %s", id, note, v.Event.JSON(), v.Index, leaf)
	}
}

// read verifies the whole log and returns at which indices each id is, and each
// refused content, by id and content.
func (r *race) read() (events, conflicts map[string][]uint64) {
	r.t.Helper()
	source, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: "http://" + r.h.addr + "/logs/audit", Token: r.h.real.tokens["all"]})
	if err != nil {
		r.t.Fatal(err)
	}
	report, err := verifier.Audit(r.t.Context(), verifier.AuditConfig{Source: source, Openings: source, Policy: r.h.real.policy})
	if err != nil || report.Openings.Verified != report.Size {
		r.t.Fatalf("audit: %v, %+v", err, report)
	}
	events, conflicts = map[string][]uint64{}, map[string][]uint64{}
	for start := uint64(0); start < report.Size; start += MaxOpenings {
		a := r.h.get("all", fmt.Sprintf("/v1/logs/audit/openings?start=%d&count=%d", start, MaxOpenings))
		for text := range strings.Lines(string(a.body)) {
			line, err := verifier.ParseOpeningLine([]byte(strings.TrimSpace(text)))
			if err != nil {
				r.t.Fatal(err)
			}
			o, err := seal.ParseOpening(line.Opening)
			if err != nil {
				r.t.Fatal(err)
			}
			switch e := o.Event(); e.Text("/action") {
			case "run.finish":
				events[e.Text("/id")] = append(events[e.Text("/id")], line.Index)
			case "audit.conflict":
				attempt, err := event.Parse([]byte(e.Text("/details/attempt")))
				if err != nil {
					r.t.Fatal(err)
				}
				key := attempt.Text("/id") + " " + attempt.Text("/reason/text")
				conflicts[key] = append(conflicts[key], line.Index)
				if first := strconv.FormatUint(events[attempt.Text("/id")][0], 10); !strings.Contains(string(o.Event().JSON()), `"id":"`+first+`"`) {
					r.t.Errorf("the conflict of %s doesn't name entry %s", key, first)
				}
			}
		}
	}
	return events, conflicts
}
