package httpapi

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/personality"
)

const (
	jsonType   = "application/json"
	ndjsonType = "application/x-ndjson"
)

func TestSubmitOne(t *testing.T) {
	h := withReal(t, nil)
	a := h.post("submit", "/v1/events", jsonType, sample("e1", "first"), 201)
	first := a.result(t)
	v := h.real.verify(t, first.Receipt, first.Index)
	if v.Event.Text("/id") != "e1" || v.Event.Text("/tenant") != "default" || v.Event.Text("/ingest/peer_ip") != "127.0.0.1" {
		t.Errorf("stamped: %s", v.Event.JSON())
	}
	again := h.post("submit", "/v1/events?wait=integrated", "application/json; charset=UTF-8", sample("e1", "first"), 200).result(t)
	if again.Status != "duplicate" || again.Index != first.Index || again.LeafHash != first.LeafHash {
		t.Errorf("again: %+v", again)
	}
	h.real.verify(t, again.Receipt, first.Index)

	conflict := h.post("submit", "/v1/events", jsonType, sample("e1", "changed"), 409).result(t)
	if conflict.Index != first.Index || conflict.ConflictIndex == nil || *conflict.ConflictIndex <= first.Index {
		t.Errorf("conflict: %+v", conflict)
	}
	if fresh := h.post("other", "/v1/events", jsonType, sample("e1", "changed"), 201).result(t); fresh.Index == first.Index {
		t.Error("two tenants share an id")
	}
}

func TestSubmitWaits(t *testing.T) {
	h := withReal(t, nil)
	a := h.post("submit", "/v1/events?wait=durable", jsonType, sample("e1", "x"), 202)
	stored := a.result(t)
	if stored.Status != "accepted" || stored.Receipt != "" {
		t.Errorf("durable: %+v", stored)
	}
	h.post("submit", "/v1/events?wait=witnessed", jsonType, sample("e2", "x"), 201) // by then the first is published
	receipt := h.get("submit", a.header.Get("Location"))
	h.real.verify(t, string(receipt.body), stored.Index)
}

// TestSubmitLate: an event that is stored but not published in time is answered
// 202; one of which nothing is known 503.
func TestSubmitLate(t *testing.T) {
	h := withFake(t, nil)
	h.fake.result = func(p *fakeEvent, _ personality.Wait) personality.Result {
		switch p.index {
		case 0:
			return personality.Result{Status: personality.StatusAccepted, Index: 7}
		case 1:
			return personality.Result{Status: personality.StatusAccepted, Index: 8, Err: context.DeadlineExceeded}
		}
		return personality.Result{Err: context.DeadlineExceeded}
	}
	a := h.post("fake", "/v1/events", jsonType, sample("a", "x"), 202)
	if got := a.header.Get("Location"); got != "/v1/logs/audit/receipts/7" {
		t.Errorf("Location %q", got)
	}
	h.post("fake", "/v1/events", jsonType, sample("b", "x"), 202)
	h.post("fake", "/v1/events", jsonType, sample("c", "x"), 503)
}

func TestSubmitBatch(t *testing.T) {
	h := withReal(t, nil)
	h.post("submit", "/v1/events", jsonType, sample("old", "x"), 201)
	events := []string{
		sample("a", "x"),
		sample("old", "x"),                // duplicate
		sample("old", "y"),                // conflict
		`{"schema":"prooftrail.event/1"}`, // rejected
		strings.Replace(sample("b", "x"), "cron://", "evil://", 1), // forbidden
		`{"id":"a","id":"b"}`, // duplicate member
		sample("c", `a \"quoted\" ] } , text`),
		`nul`,
		sample("big", strings.Repeat("x", 256<<10)), // too large
		sample("d", "x"),
		sample("d", "x"), // in the same request
	}
	want := []string{"accepted", "duplicate", "conflict", "rejected 422 ", "rejected 403 ", "rejected 422 duplicate", "accepted",
		"rejected 422 syntax", "rejected 413 ", "accepted", "duplicate"}
	batch := h.post("submit", "/v1/events", jsonType, ` { "events" : [`+strings.Join(events, " ,\n")+"] }\n", 200).results(t)
	checkResults(t, h, batch, want)
	// The same again as NDJSON: what was accepted is there.
	for i := range want {
		if want[i] == "accepted" {
			want[i] = "duplicate"
		}
	}
	lines := h.post("submit", "/v1/events", ndjsonType, "\n"+strings.Join(events, "\r\n \n"), 200).lines(t)
	checkResults(t, h, lines, want)
}

func checkResults(t *testing.T, h *harness, got []result, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d results, want %d", len(got), len(want))
	}
	for i, r := range got {
		text := fmt.Sprint(r.Status)
		if r.Status == "rejected" {
			text = fmt.Sprintf("rejected %v %s", r.Problem.Status, r.Problem.Code)
		}
		if !strings.HasPrefix(text, want[i]) {
			t.Errorf("result %d: %s, want %s", i, text, want[i])
		}
		if r.Receipt != "" {
			h.real.verify(t, r.Receipt, r.Index)
		}
	}
}

// TestSubmitLinesAsTheyArrive sends a second line only after the first has been
// admitted, in one request.
func TestSubmitLinesAsTheyArrive(t *testing.T) {
	h := withFake(t, nil)
	admitted := make(chan struct{}, 2)
	h.fake.fault = func(call string) (bool, error) {
		if call == "Admit" {
			admitted <- struct{}{}
		}
		return true, nil
	}
	pr, pw := io.Pipe()
	req := h.request(call{method: "POST", path: "/v1/events", token: "fake", contentType: ndjsonType})
	req.Body = pr
	done := make(chan *http.Response, 1)
	go func() {
		resp, err := h.client.Do(req)
		if err != nil {
			t.Error(err)
		}
		done <- resp
	}()
	fmt.Fprintln(pw, sample("a", "x"))
	<-admitted
	fmt.Fprint(pw, sample("b", "x")) // no line feed at the end
	pw.Close()
	<-admitted
	resp := <-done
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || strings.Count(string(body), "accepted") != 2 {
		t.Errorf("%v: %s", err, body)
	}
}

// TestSubmitFullBatches: the greatest request of each kind passes, with answers
// that need several chunks.
func TestSubmitFullBatches(t *testing.T) {
	h := withReal(t, nil)
	var events []string
	for i := range MaxEvents {
		events = append(events, sample(fmt.Sprintf("e%d", i), strings.Repeat("y", 500)))
	}
	for _, r := range h.post("submit", "/v1/events", jsonType, `{"events":[`+strings.Join(events, ",")+`]}`, 200).results(t) {
		h.real.verify(t, r.Receipt, r.Index)
	}
	for _, r := range h.post("submit", "/v1/events", ndjsonType, strings.Join(events, "\n"), 200).lines(t) {
		if r.Status != "duplicate" {
			t.Fatalf("%+v", r)
		}
	}
}

// TestSubmitAllFail: what befalls all events of a batch for a reason of the
// service is the answer to the request; a mixture is told event by event.
func TestSubmitAllFail(t *testing.T) {
	h := withFake(t, nil)
	fail := personality.ErrClosing
	n := 0
	h.fake.fault = func(call string) (bool, error) {
		if call != "Admit" {
			return true, nil
		}
		if n++; n == 4 {
			return true, nil
		}
		return false, fail
	}
	two := `{"events":[` + sample("a", "x") + "," + sample("b", "x") + `]}`
	a := h.post("fake", "/v1/events", jsonType, two, 503)
	if p := a.result(t); p.Type != "/problems/closing" || a.header.Get("Retry-After") != "5" {
		t.Errorf("%+v, %v", p, a.header)
	}
	mixed := h.post("fake", "/v1/events", jsonType, two, 200).results(t)
	if mixed[0].Status != "rejected" || mixed[0].Problem.Type != "/problems/closing" || mixed[1].Status != "accepted" {
		t.Errorf("%+v", mixed)
	}
}

// TestSubmitStoredButFailed: the fault comes after the event was stored. The
// client is told that it isn't known, and learns the truth when it asks again.
func TestSubmitStoredButFailed(t *testing.T) {
	h := withFake(t, nil)
	h.fake.fault = func(call string) (bool, error) {
		if call == "Admit" && h.fake.events == nil {
			return true, fmt.Errorf("%w: disk on fire", personality.ErrUnavailable)
		}
		return true, nil
	}
	p := h.post("fake", "/v1/events", jsonType, sample("a", "x"), 503).result(t)
	if p.Type != "/problems/unavailable" {
		t.Errorf("%+v", p)
	}
	if r := h.post("fake", "/v1/events", jsonType, sample("a", "x"), 200).result(t); r.Status != "duplicate" {
		t.Errorf("%+v", r)
	}
}

// TestEventsFitTheirSchema: what the log takes, the document's schema takes.
func TestEventsFitTheirSchema(t *testing.T) {
	for _, text := range []string{sample("a", "x"), strings.Replace(sample("a", "x"), `"job":`, `"details":{"a":[1]},"job":`, 1)} {
		for _, where := range []string{"Event", "Batch"} {
			body := text
			if where == "Batch" {
				body = `{"events":[` + text + `]}`
			}
			if err := theDocument().validateJSON([]byte(body), []string{"components", "schemas", where}); err != nil {
				t.Error(err)
			}
		}
	}
	bad := strings.Replace(sample("a", "x"), `"outcome":"failure"`, `"outcome":"perhaps"`, 1)
	if theDocument().validateJSON([]byte(bad), []string{"components", "schemas", "Event"}) == nil {
		t.Error("the schema takes anything")
	}
}

// TestReceiptWaits: a receipt can be asked for as a witnessed one; durable is nothing that a
// receipt could be.
func TestReceiptWaits(t *testing.T) {
	h := withFake(t, nil)
	for query, want := range map[string]personality.Wait{"": personality.Integrated, "?wait=integrated": personality.Integrated, "?wait=witnessed": personality.Witnessed} {
		h.get("fake", "/v1/logs/audit/receipts/0"+query)
		if got := h.fake.wait; got != want {
			t.Errorf("%q: the log was asked for %d, want %d", query, got, want)
		}
	}
	for _, query := range []string{"?wait=durable", "?wait", "?wait=x", "?wait=witnessed&wait=witnessed", "?other=1"} {
		if a := h.do(call{method: "GET", path: "/v1/logs/audit/receipts/0" + query, token: "fake"}); a.status != 400 {
			t.Errorf("%s: %d %s", query, a.status, a.body)
		}
	}
}
