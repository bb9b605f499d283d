package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
)

type entryAnswer struct {
	Index    uint64
	Entry    string
	LeafHash []byte `json:"leaf_hash"`
	Opening  json.RawMessage
	Receipt  string
}

// lastEntry returns the newest event in the log, by a token that sees all.
func lastEntry(t *testing.T, h *harness) event.Fields {
	t.Helper()
	// What follows it is published only with it.
	next := h.post("submit", "/v1/events", jsonType, sample("next", "x"), 201).result(t).Index
	a := h.get("all", fmt.Sprintf("/v1/logs/audit/entries/%d", next-1))
	return h.real.verify(t, decode[entryAnswer](t, a.body).Receipt, next-1).Event
}

func TestReadEntry(t *testing.T) {
	h := withReal(t, nil)
	index := h.post("submit", "/v1/events", jsonType, sample("a/b ü", "x"), 201).result(t).Index
	path := fmt.Sprintf("/v1/logs/audit/entries/%d", index)
	a := h.get("read", path)
	e := decode[entryAnswer](t, a.body)
	v := h.real.verify(t, e.Receipt, index)
	if v.Event.Text("/reason/text") != "x" || !bytes.Equal(v.LeafHash[:], e.LeafHash) || !strings.Contains(e.Entry, "prooftrail.leaf/1") {
		t.Errorf("%+v", e)
	}
	read := lastEntry(t, h)
	if read.Text("/action") != "audit.read" || read.Text("/tenant") != "default" {
		t.Errorf("not logged: %s", read.JSON())
	}
	byID := h.get("read", "/v1/events/"+url.PathEscape("a/b ü")+"?source="+url.QueryEscape("cron://node1"))
	if got := decode[entryAnswer](t, byID.body); got.Index != index || !bytes.Equal(got.LeafHash, e.LeafHash) {
		t.Errorf("by id: %+v", got)
	}
	h.get("submit", path) // its own event
}

// TestReadAnotherTenants: leaf and proof, never the opening.
func TestReadAnotherTenants(t *testing.T) {
	h := withReal(t, nil)
	index := h.post("submit", "/v1/events", jsonType, sample("a", "x"), 201).result(t).Index
	e := decode[entryAnswer](t, h.get("other", fmt.Sprintf("/v1/logs/audit/entries/%d", index)).body)
	if string(e.Opening) != "null" {
		t.Errorf("opening %s", e.Opening)
	}
	receipt := h.get("other", fmt.Sprintf("/v1/logs/audit/receipts/%d", index)).body
	if _, err := verifier.VerifyReceipt(receipt, h.real.policy); !errors.Is(err, verifier.ErrNoOpening) {
		t.Errorf("receipt: %v", err)
	}
	h.do(call{method: "GET", path: "/v1/events/a?source=cron://node1", token: "other"}).want(t, 404)
	for _, l := range openings(t, h, "other", 0, 100) {
		if l.Index == index && (string(l.Opening) != "null" || l.Reason != "tenant") {
			t.Errorf("%+v", l)
		}
	}
}

type openingAnswer struct {
	Index   uint64
	Opening json.RawMessage
	Reason  string
}

func openings(t *testing.T, h *harness, token string, start, count int) (all []openingAnswer) {
	t.Helper()
	a := h.get(token, fmt.Sprintf("/v1/logs/audit/openings?start=%d&count=%d", start, count))
	for l := range bytes.Lines(a.body) {
		all = append(all, decode[openingAnswer](t, l))
	}
	return all
}

func TestOpenings(t *testing.T) {
	h := withReal(t, nil)
	for i := range 20 {
		h.post("submit", "/v1/events", jsonType, sample(fmt.Sprint(i), "x"), 201)
	}
	size := int(h.real.svc.Ready(t.Context()).PublishedSize)
	all := openings(t, h, "all", 0, 10000)
	if len(all) != size {
		t.Errorf("%d of %d", len(all), size)
	}
	for i, l := range all {
		if l.Index != uint64(i) || string(l.Opening) == "null" {
			t.Errorf("%d: %+v", i, l)
		}
	}
	if some := openings(t, h, "read", 3, 4); len(some) != 4 || some[0].Index != 3 {
		t.Errorf("%+v", some)
	}
}

// TestOpeningsFailInTheMiddle: the answer ends after a whole line.
func TestOpeningsFailInTheMiddle(t *testing.T) {
	h := withFake(t, nil)
	h.fake.fault = func(call string) (bool, error) { return true, onlyFor(call, "Openings") }
	for _, count := range []int{3, 5000} { // in one chunk, and after several
		a := h.get("fake", fmt.Sprintf("/v1/logs/audit/openings?start=0&count=%d", count))
		if n := bytes.Count(a.body, []byte("\n")); n != count {
			t.Errorf("%d lines of %d", n, count)
		}
	}
}

func onlyFor(call, want string) error {
	if call == want {
		return errors.New("broken in the middle")
	}
	return nil
}

func TestProofs(t *testing.T) {
	h := withReal(t, nil)
	for i := range 20 {
		h.post("submit", "/v1/events", jsonType, sample(fmt.Sprint(i), "x"), 201)
	}
	cp := checkpoint(t, h)
	type proof struct {
		LeafHash []byte `json:"leaf_hash"`
		Proof    [][]byte
	}
	for index := range cp.Size {
		p := decode[proof](t, h.get("", fmt.Sprintf("/v1/logs/audit/proofs/inclusion?index=%d&size=%d", index, cp.Size)).body)
		if err := verifier.CheckInclusion(index, cp.Size, verifier.Hash(p.LeafHash), hashes(p.Proof), cp.Root); err != nil {
			t.Error(err)
		}
	}
	// The root of a tree of one leaf is its hash.
	first := decode[proof](t, h.get("", "/v1/logs/audit/proofs/inclusion?index=0&size=1").body)
	a := h.get("", fmt.Sprintf("/v1/logs/audit/proofs/consistency?first=1&second=%d", cp.Size))
	if err := verifier.CheckConsistency(1, cp.Size, hashes(decode[proof](t, a.body).Proof), verifier.Hash(first.LeafHash), cp.Root); err != nil {
		t.Error(err)
	}
	if a.header.Get("Cache-Control") != valueImmutable[0] {
		t.Errorf("Cache-Control %q", a.header.Get("Cache-Control"))
	}
}

func hashes(raw [][]byte) (hs []verifier.Hash) {
	for _, b := range raw {
		hs = append(hs, verifier.Hash(b))
	}
	return hs
}

func checkpoint(t *testing.T, h *harness) verifier.Checkpoint {
	t.Helper()
	a := h.get("", "/logs/audit/checkpoint")
	if a.header.Get("Content-Type") != "text/plain; charset=utf-8" || a.header.Get("Cache-Control") != "no-cache" {
		t.Errorf("%v", a.header)
	}
	cp, _, err := h.real.policy.Verify(a.body)
	if err != nil {
		t.Fatal(err)
	}
	return cp
}

// TestTiles holds every partial width of the first tiles against the full ones,
// and the headers against c2sp.org/tlog-tiles and the design.
func TestTiles(t *testing.T) {
	h := withReal(t, nil)
	var batch []string
	for i := range 300 {
		batch = append(batch, sample(fmt.Sprint(i), "x"))
	}
	h.post("submit", "/v1/events", ndjsonType, strings.Join(batch, "\n"), 200)
	cp := checkpoint(t, h)
	hashesOf := h.get("", "/logs/audit/tile/0/000").body
	bundle := h.get("", "/logs/audit/tile/entries/000").body
	if len(hashesOf) != 8192 {
		t.Fatalf("full tile of %d bytes", len(hashesOf))
	}
	for w := 1; w < 256; w++ {
		part := h.get("", fmt.Sprintf("/logs/audit/tile/0/000.p/%d", w)).body
		if !bytes.Equal(part, hashesOf[:32*w]) {
			t.Errorf("width %d: %d bytes", w, len(part))
		}
		entries := h.get("", fmt.Sprintf("/logs/audit/tile/entries/000.p/%d", w)).body
		if !bytes.HasPrefix(bundle, entries) || len(entries) != w*(len(bundle)/256) {
			t.Errorf("width %d: bundle of %d bytes", w, len(entries))
		}
	}
	last := h.get("", fmt.Sprintf("/logs/audit/tile/0/001.p/%d", cp.Size-256))
	if h1 := last.header; h1.Get("Content-Type") != "application/octet-stream" || h1.Get("Cache-Control") != valueImmutable[0] {
		t.Errorf("%v", h1)
	}
	h.get("", "/logs/audit/tile/1/000.p/1")
	for _, missing := range []string{
		fmt.Sprintf("0/001.p/%d", cp.Size-256+1), "0/001", "1/000", "1/000.p/2", "2/000.p/1", "0/000.p/0", "0/000.p/256", "0/0",
		"0/000.p/01", "64/000", "00/000", "-1/000", "0/x000/000", "entries/001", "entries/000.p/0", "0/002", "x/000", "0/000/", "8/0/000",
		"0/000%2ep/1x", "63/999", "0/x999/x999/x999/x999/x999/999",
	} {
		a := h.do(call{method: "GET", path: "/logs/audit/tile/" + missing})
		if a.status != 404 || a.header.Get("Cache-Control") != "no-store" || a.header.Get("Access-Control-Allow-Origin") != "*" {
			t.Errorf("%s: %d %v", missing, a.status, a.header)
		}
	}
}

func TestBundleCompressed(t *testing.T) {
	h := withFake(t, nil)
	plain := h.get("", "/logs/audit/tile/entries/000").body
	for accept, want := range map[string]bool{"gzip": true, "br, GZIP;q=0.5": true, "gzip;q=0": false, "gzip; q=0.00": false, "br": false, "xgzip": false} {
		a := h.do(call{method: "GET", path: "/logs/audit/tile/entries/000", header: map[string]string{"Accept-Encoding": accept}})
		body := a.body
		if got := a.header.Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("%q: compressed %v", accept, got)
		} else if got {
			z, err := gzip.NewReader(bytes.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			if body, err = io.ReadAll(z); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(body, plain) || a.header.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: %d bytes, %v", accept, len(body), a.header)
		}
	}
}

func TestHead(t *testing.T) {
	h := withFake(t, nil)
	for _, op := range operations {
		if op.call.method != "GET" {
			continue
		}
		get := h.do(op.call)
		head := h.do(with(op.call, func(c *call) { c.method = "HEAD" }))
		if head.status != get.status || len(head.body) != 0 ||
			op.call.path != "/metrics" && head.header.Get("Content-Length") != get.header.Get("Content-Length") {
			t.Errorf("HEAD %s: %d, %v", op.call.path, head.status, head.header)
		}
	}
}

func TestTokens(t *testing.T) {
	h := withReal(t, nil)
	a := h.do(call{method: "POST", path: "/v1/tokens", token: "admin",
		body: `{"name":"ci","tenant":"default","roles":["submit"],"sources":["cron://ci"]}`})
	a.want(t, 201)
	made := decode[struct{ ID, Token string }](t, a.body)
	event := strings.Replace(sample("a", "x"), "cron://node1", "cron://ci", 1)
	h.post(made.Token, "/v1/events", jsonType, event, 201)
	h.post(made.Token, "/v1/events", jsonType, sample("b", "x"), 403)
	list := h.get("admin", "/v1/tokens").body
	if !bytes.Contains(list, []byte(`"`+made.ID+`"`)) || bytes.Contains(list, []byte(made.Token)) {
		t.Errorf("list: %s", list)
	}
	h.do(call{method: "DELETE", path: "/v1/tokens/" + made.ID, token: "admin"}).want(t, 204)
	h.post(made.Token, "/v1/events", jsonType, event, 401)
	h.do(call{method: "DELETE", path: "/v1/tokens/" + made.ID, token: "admin"}).want(t, 404)
}

func TestHealth(t *testing.T) {
	h := withReal(t, nil)
	h.get("", "/healthz")
	if r := decode[struct{ Ready bool }](t, h.get("", "/readyz").body); !r.Ready {
		t.Error("not ready")
	}
	h.server.api.draining.Store(true)
	a := h.do(call{method: "GET", path: "/readyz"})
	a.want(t, 503)
	for _, k := range kinds {
		if !bytes.Contains(h.get("", "/problems/"+k.slug).body, []byte(k.title)) {
			t.Errorf("problem %s", k.slug)
		}
	}
	if !bytes.Equal(h.get("", "/openapi.json").body, openAPIDocument) {
		t.Error("another document")
	}
}

// TestForgedOpening: whatever stands in the database, an answer keeps its form.
func TestForgedOpening(t *testing.T) {
	h := withFake(t, nil)
	for _, forged := range []string{"{}}\n{\"index\":7,\"opening\":{}", `null,"reason":"missing"`, "\xff", "", "{\n}"} {
		h.fake.opening = []byte(forged)
		all := decode[openingAnswer](t, h.get("fake", "/v1/logs/audit/openings?start=0&count=1").body)
		if all.Index != 0 || all.Reason != "" || all.Opening[0] != '"' {
			t.Errorf("%q: %+v", forged, all)
		}
	}
}

// TestAudit: the verifier audits the whole log, openings too, over HTTP.
func TestAudit(t *testing.T) {
	h := withReal(t, nil)
	var batch []string
	for i := range 400 {
		batch = append(batch, sample(fmt.Sprint(i), strings.Repeat("x", i)))
	}
	h.post("submit", "/v1/events", ndjsonType, strings.Join(batch, "\n"), 200)
	log, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: "http://" + h.addr + "/logs/audit", Token: h.secret("all")})
	if err != nil {
		t.Fatal(err)
	}
	report, err := verifier.Audit(t.Context(), verifier.AuditConfig{Source: log, Openings: log, Policy: h.real.policy})
	if err != nil || report.Entries < 400 || report.FailureCount != 0 {
		t.Errorf("%v: %+v", err, report)
	}
}
