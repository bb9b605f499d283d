package httpapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// signedSample is sample in an envelope.
func signedSample(t *testing.T, s note.Signer, id string) string {
	t.Helper()
	raw := []byte(sample(id, "x"))
	f, err := event.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	e, err := seal.SignEvent(raw, f, s)
	if err != nil {
		t.Fatal(err)
	}
	return string(e.Append(nil))
}

// newSource makes a source's key and registers it, and returns the answer's ID of it.
func newSource(t *testing.T, h *harness, more string) (s note.Signer, key *verifier.SourceKey, id string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(nil, "node-1.example.com")
	if err != nil {
		t.Fatal(err)
	}
	if s, err = note.NewSigner(skey); err != nil {
		t.Fatal(err)
	}
	if key, err = verifier.ParseSourceKey(vkey); err != nil {
		t.Fatal(err)
	}
	a := h.do(call{method: "POST", path: "/v1/source-keys", token: "admin", body: fmt.Sprintf(`{"tenant":"default","source":"cron://","vkey":%q%s}`, vkey, more)})
	a.want(t, 201)
	var made personality.SourceKey
	if err := json.Unmarshal(a.body, &made); err != nil || made.VKey != vkey || !made.Required {
		t.Fatalf("%+v, %v", made, err)
	}
	return s, key, made.ID
}

// mustBeSigned checks that a receipt shows the source's signature.
func mustBeSigned(t *testing.T, receipt string, key *verifier.SourceKey, id string) {
	t.Helper()
	r, err := verifier.ParseReceipt([]byte(receipt))
	if err != nil {
		t.Fatal(err)
	}
	o, err := seal.ParseOpening(r.Extra)
	if err == nil {
		err = seal.CheckSource(o, key)
	}
	if err != nil || o.Text("/id") != id {
		t.Errorf("event %s: %v", id, err)
	}
}

// TestEnvelopes: signed events alone, in a batch and in lines, among others that are refused.
func TestEnvelopes(t *testing.T) {
	h := withReal(t, nil)
	s, key, _ := newSource(t, h, "")
	a := h.post("submit", "/v1/events", "", signedSample(t, s, "a"), 201).result(t)
	mustBeSigned(t, a.Receipt, key, "a")
	dup := h.post("submit", "/v1/events", "", signedSample(t, s, "a"), 200).result(t)
	if dup.Index != a.Index {
		t.Errorf("sent again: entry %d, not %d", dup.Index, a.Index)
	}
	mustBeSigned(t, dup.Receipt, key, "a")
	refused := h.post("submit", "/v1/events", "", sample("b", "x"), 403).result(t)
	if refused.Type != "/problems/source-signature" || refused.Code != "unsigned" {
		t.Errorf("unsigned: %+v", refused)
	}
	wrong := strings.Replace(signedSample(t, s, "b"), `"id":"b"`, `"id":"c"`, 1)
	if r := h.post("submit", "/v1/events", "", wrong, 400).result(t); r.Type != "/problems/invalid-request" || r.Code != "signature" || *r.Pointer != "/signature" {
		t.Errorf("a wrong signature: %+v", r)
	}
	items := []string{signedSample(t, s, "d"), sample("e", "x"), wrong, signedSample(t, s, "f"), sample("a", "x")}
	want := []string{"accepted", "rejected /problems/source-signature", "rejected /problems/invalid-request", "accepted", "duplicate"}
	batch := h.post("submit", "/v1/events", "", `{"events":[`+strings.Join(items, ", ")+`]}`, 200).results(t)
	items[0], items[3] = signedSample(t, s, "g"), " "+signedSample(t, s, "h")+"\r"
	for name, rs := range map[string][]result{"batch": batch, "lines": h.post("submit", "/v1/events", ndjsonType, strings.Join(items, "\n"), 200).lines(t)} {
		var got []string
		for _, r := range rs {
			status := fmt.Sprint(r.Status)
			if r.Problem != nil {
				status += " " + r.Problem.Type
			}
			got = append(got, status)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: %q, want %q", name, got, want)
		}
		ids := map[string]string{"batch": "dfa", "lines": "gha"}[name]
		for i, at := range []int{0, 3, 4} {
			mustBeSigned(t, rs[at].Receipt, key, ids[i:i+1])
		}
	}
	h.audit(t)
}

// TestLargestEnvelope: the largest event goes into an envelope, alone and as a line.
func TestLargestEnvelope(t *testing.T) {
	h := withReal(t, nil)
	s, key, _ := newSource(t, h, "")
	for i, contentType := range []string{"", ndjsonType} {
		id := fmt.Sprint("large", i)
		raw := largeEvent(t, id)
		f, err := event.Parse([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		e, err := seal.SignEvent([]byte(raw), f, s)
		if err != nil {
			t.Fatal(err)
		}
		body := string(e.Append(nil))
		if len(raw) != event.MaxBytes || len(body) <= event.MaxBytes || len(body) > seal.MaxEnvelopeBytes || len(f) != event.MaxFields {
			t.Fatalf("an event of %d bytes and %d fields, %d with its envelope", len(raw), len(f), len(body))
		}
		if contentType == "" {
			mustBeSigned(t, h.post("submit", "/v1/events", "", body, 201).result(t).Receipt, key, id)
		} else {
			mustBeSigned(t, h.post("submit", "/v1/events", ndjsonType, body, 200).lines(t)[0].Receipt, key, id)
		}
		h.post("submit", "/v1/events", "", strings.Replace(body, `{"event":{`, `{"event":{ `, 1), 413)
	}
}

// largeEvent has as many bytes and as many fields with long names as there may be.
func largeEvent(t *testing.T, id string) string {
	t.Helper()
	text := strings.TrimSuffix(sample(id, "x"), "}")
	f, err := event.Parse([]byte(text + "}"))
	if err != nil {
		t.Fatal(err)
	}
	var labels []string
	for i := len(f); i < event.MaxFields; i++ {
		labels = append(labels, fmt.Sprintf(`"l%0127d":""`, i))
	}
	text += `,"labels":{` + strings.Join(labels, ",") + `}`
	return text + strings.Repeat(" ", event.MaxBytes-len(text)-1) + "}"
}

// TestSourceKeyCalls: keys are registered, listed and revoked by admins; what is malformed is named.
func TestSourceKeyCalls(t *testing.T) {
	h := withReal(t, nil)
	s, _, id := newSource(t, h, `,"required":true,"from":"2026-01-01T00:00:00+01:00"`)
	path := "/v1/source-keys/" + id
	for _, token := range []string{"submit", "read"} {
		for _, c := range []call{{method: "GET", path: "/v1/source-keys"}, {method: "DELETE", path: path}, {method: "POST", path: "/v1/source-keys", body: "{}"}} {
			c.token = token
			h.do(c).want(t, 403)
		}
	}
	for body, pointer := range map[string]string{
		`{}`: "/tenant", `[]`: "", `{"tenant":"default","source":"cron://"}`: "/vkey", `{"tenant":"default","vkey":"x"}`: "/source",
		`{"tenant":"*","source":"cron://","vkey":"x"}`: "/tenant", `{"key":"x"}`: "/key", `{"required":1}`: "/required", `{"from":"today"}`: "/from",
		`{"from":null}`: "/from", `{"tenant":"default","source":"cron://","vkey":"example.com/audit+8e223ac8+BAAA"}`: "/vkey",
	} {
		a := h.do(call{method: "POST", path: "/v1/source-keys", token: "admin", body: body})
		if a.want(t, 400); *a.result(t).Pointer != pointer {
			t.Errorf("%s: %s", body, a.body)
		}
	}
	h.do(call{method: "DELETE", path: path + "?release=yes", token: "admin"}).want(t, 400)
	h.do(call{method: "DELETE", path: path + "?relase=true", token: "admin"}).want(t, 400)
	h.do(call{method: "DELETE", path: path, token: "admin"}).want(t, 204)
	h.do(call{method: "DELETE", path: path, token: "admin"}).want(t, 404)
	if r := h.post("submit", "/v1/events", "", signedSample(t, s, "a"), 403).result(t); r.Code != "key" {
		t.Errorf("by a revoked key: %+v", r)
	}
	h.post("submit", "/v1/events", "", sample("a", "x"), 403)
	h.do(call{method: "DELETE", path: path + "?release=true", token: "admin"}).want(t, 204)
	h.post("submit", "/v1/events", "", sample("a", "x"), 201)
	list := string(h.get("admin", "/v1/source-keys").body)
	if !strings.Contains(list, `"id":"`+id+`"`) || !strings.Contains(list, `"from":"2025-12-31T23:00:00Z"`) || !strings.Contains(list, `"revoked_at":"`) || !strings.Contains(list, `"released":true`) {
		t.Error(list)
	}
	h.audit(t)
}
