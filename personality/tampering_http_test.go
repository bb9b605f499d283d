package personality_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/httpapi"
	"github.com/prooftrail/prooftrail/verifier"
)

// server is an open log behind its HTTP API, as its clients and auditors see it.
type server struct {
	t    *testing.T
	v    *victims
	svc  *personality.Service
	http *httptest.Server
}

func serve(t *testing.T, v *victims, svc *personality.Service) *server {
	t.Helper()
	api, err := httpapi.New(httpapi.Config{Log: httpapi.Of(svc), AnswerTimeout: 3 * time.Second})
	check(t, err)
	return &server{t, v, svc, httptest.NewServer(api)}
}

func (s *server) close() { s.http.Close() }

// end closes server and log, and doesn't wait for a log that can't publish.
func (s *server) end() {
	s.http.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := s.svc.Close(ctx); err != nil {
		s.t.Errorf("close: %v", err)
	}
}

// do sends a request and returns the answer's status and body. No answer may be 500.
func (s *server) do(method, path, token string, body []byte) (status int, answer []byte) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), method, s.http.URL+path, bytes.NewReader(body))
	check(s.t, err)
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	check(s.t, err)
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	check(s.t, err)
	if resp.StatusCode == http.StatusInternalServerError {
		s.t.Errorf("%s %s: 500 %s", method, path, answer)
	}
	return resp.StatusCode, answer
}

// ready is what /readyz says.
func (s *server) ready() (r personality.Readiness) {
	s.t.Helper()
	status, body := s.do(http.MethodGet, "/readyz", "", nil)
	check(s.t, json.Unmarshal(body, &r))
	if (status == http.StatusOK) != r.Ready {
		s.t.Errorf("/readyz: %d %s", status, body)
	}
	return r
}

// answer is what is answered for an event.
type answer struct {
	Status  any // text; of a problem, a number
	Index   uint64
	Receipt string
	Problem struct{ Type string }
	Type    string // of a problem
}

// send submits one event. The receipt, if one is answered, holds.
func (s *server) send(id, note string) (status int, got answer) {
	s.t.Helper()
	status, body := s.do(http.MethodPost, "/v1/events", s.v.submit, tamperEvent(id, note))
	check(s.t, json.Unmarshal(body, &got))
	s.checkReceipt(id, got)
	return status, got
}

func (s *server) checkReceipt(id string, got answer) {
	s.t.Helper()
	if got.Receipt == "" {
		return
	}
	v, err := verifier.VerifyReceipt([]byte(got.Receipt), s.v.policy)
	if err != nil || v.Index != got.Index || v.Event.Text("/id") != id {
		s.t.Errorf("the receipt answered for %s at entry %d: %+v, %v", id, got.Index, v, err)
	}
}

// sendMany submits events as one request and returns how many were accepted as new.
func (s *server) sendMany(prefix string, n int) (accepted int) {
	s.t.Helper()
	events := []byte(`{"events":[`)
	for i := range n {
		if i > 0 {
			events = append(events, ',')
		}
		events = append(events, tamperEvent(fmt.Sprint(prefix, i), "x")...)
	}
	_, body := s.do(http.MethodPost, "/v1/events", s.v.submit, append(events, "]}"...))
	var got struct{ Results []answer }
	check(s.t, json.Unmarshal(body, &got))
	for i, r := range got.Results {
		s.checkReceipt(fmt.Sprint(prefix, i), r)
		if r.Status == "accepted" && r.Receipt != "" {
			accepted++
		}
	}
	return accepted
}

// read gets an entry as its submitter, which adds none. What is shown holds.
func (s *server) read(id string) (status int) {
	s.t.Helper()
	if _, known := s.v.index[id]; !known {
		return http.StatusOK
	}
	status, body := s.do(http.MethodGet, fmt.Sprint("/v1/logs/audit/entries/", s.v.index[id]), s.v.submit, nil)
	if status != http.StatusOK {
		return status
	}
	var e struct {
		Entry, Receipt string
		Opening        json.RawMessage
	}
	check(s.t, json.Unmarshal(body, &e))
	v, err := verifier.VerifyReceiptLeaf([]byte(e.Receipt), []byte(e.Entry), s.v.policy)
	if err != nil || v.Index != s.v.index[id] || v.Event.Text("/id") != id {
		s.t.Errorf("entry of %s: %+v, %v", id, v, err)
	}
	return status
}

// readByID gets an event by its id, likewise. What is shown is that event.
func (s *server) readByID(id string) (status int) {
	s.t.Helper()
	if _, known := s.v.index[id]; !known {
		return http.StatusOK
	}
	status, body := s.do(http.MethodGet, "/v1/events/"+id+"?source="+url.QueryEscape(tamperSource), s.v.submit, nil)
	var e struct {
		Index   uint64
		Opening json.RawMessage
	}
	check(s.t, json.Unmarshal(body, &e))
	if status == http.StatusOK && idOf(e.Opening) != id {
		s.t.Errorf("event %s: got entry %d, which is %s", id, e.Index, idOf(e.Opening))
	}
	return status
}

// audit has the verifier check all of the log over HTTP, against the head that the
// state remembers; without openings where those aren't shown.
func (s *server) audit(state string, openings bool) (*verifier.AuditReport, error) {
	s.t.Helper()
	log, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: s.http.URL + "/logs/audit", Token: s.v.read, Attempts: 1})
	check(s.t, err)
	cfg := verifier.AuditConfig{Source: log, Policy: s.v.policy, State: verifier.FileState(state), FromStart: true}
	if openings {
		cfg.Openings = log
	}
	return verifier.Audit(s.t.Context(), cfg)
}

// published returns what is served of the tiles that whole had, by their paths.
func (s *server) published(paths []string) map[string][]byte {
	s.t.Helper()
	got := map[string][]byte{}
	for _, path := range paths {
		if status, b := s.do(http.MethodGet, "/logs/audit/"+path, "", nil); status == http.StatusOK {
			got[path] = b
		}
	}
	return got
}

// openings returns the ids of all entries in order, as far as their openings are
// shown, and the openings.
func (s *server) openings(size uint64) (ids []string, openings [][]byte, err error) {
	s.t.Helper()
	log, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: s.http.URL + "/logs/audit", Token: s.v.read, Attempts: 1})
	check(s.t, err)
	body, err := log.Openings(context.WithoutCancel(s.t.Context()), 0, size)
	if err != nil {
		return nil, nil, err
	}
	defer body.Close()
	all, err := io.ReadAll(body)
	for line := range bytes.Lines(all) {
		l, parseErr := verifier.ParseOpeningLine(bytes.TrimSuffix(line, []byte("\n")))
		err = errors.Join(err, parseErr)
		ids, openings = append(ids, idOf(l.Opening)), append(openings, l.Opening)
	}
	return ids, openings, err
}
