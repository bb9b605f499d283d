package client

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strconv"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/vectors"
)

// examplePolicy is the policy of testdata/example, whose receipt is seed too.
func examplePolicy(f *testing.F) (*verifier.Policy, []byte) {
	f.Helper()
	text, err := os.ReadFile("../testdata/example/policy.txt")
	if err != nil {
		f.Fatal(err)
	}
	receipt, err2 := os.ReadFile("../testdata/example/run-000001.tlog-proof")
	p, err := verifier.ParsePolicy(text)
	if err := errors.Join(err, err2); err != nil {
		f.Fatal(err)
	}
	return p, receipt
}

// FuzzParseProblem: whatever a failed answer holds, the status that came is what counts, and
// the error says it.
func FuzzParseProblem(f *testing.F) {
	f.Add(422, "application/problem+json", `{"type":"/problems/invalid-event","title":"t","status":200,"pointer":"/id","code":"size","expected":"less"}`, "")
	f.Add(503, "application/problem+json; charset=utf-8", `{"status":"x","index":-1}`, "1")
	f.Add(502, "text/html", "<html>", "65536")
	f.Add(299, "application/problem+json", `{"type":"/problems/refusing"}`, "-1")
	f.Fuzz(func(t *testing.T, status int, contentType, body, retry string) {
		p := parseProblem(status, contentType, []byte(body))
		if p.Status != status || !bytes.Contains([]byte(p.Error()), []byte(strconv.Itoa(status))) {
			t.Errorf("status %d became %+v: %v", status, p, p)
		}
		if p.Title == "" && http.StatusText(status) != "" || errors.Unwrap(p) == nil {
			t.Errorf("%+v has no title or is of no kind", p)
		}
		if _, known := kinds[status]; p.Retryable() && !known {
			t.Errorf("%d is sent again", status)
		}
		if d := retryAfter(http.Header{"Retry-After": {retry}}); d < 0 || d > 65535*time.Second {
			t.Errorf("Retry-After %q: %v", retry, d)
		}
	})
}

// FuzzParseResults: each event has one result, which is stored with an index or refused with
// a problem, never half of both.
func FuzzParseResults(f *testing.F) {
	f.Add([]byte(`{"status":"accepted","index":0,"leaf_hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","receipt":"x"}`+"\n"), 1)
	f.Add([]byte(`{"status":"conflict","index":3,"problem":{"title":"conflict","status":409,"index":3,"conflict_index":4}}`+"\n"+
		`{"status":"rejected","problem":{"status":422}}`), 2)
	f.Add([]byte(`{"status":"accepted"}`), 1)
	f.Add([]byte(`{"status":"rejected","problem":{"status":200}}`), 1)
	f.Fuzz(func(t *testing.T, body []byte, n int) {
		if n < 0 || n > 500 {
			return
		}
		results, err := parseResults(body, n)
		if err != nil {
			if !errors.Is(err, ErrServer) {
				t.Errorf("%q: error %v", body, err)
			}
			return
		}
		if len(results) != n {
			t.Fatalf("%q: %d results", body, len(results))
		}
		for _, r := range results {
			var p *Problem
			stored := r.Status == Accepted || r.Status == Duplicate
			if stored != (r.Err == nil) || !stored && (!errors.As(r.Err, &p) || p.Status < 400) || r.Verified() {
				t.Errorf("%q: %+v", body, r)
			}
		}
	})
}

// FuzzCheckReceipt: a checker that remembers signatures finds what [verifier.VerifyReceipt]
// finds, which doesn't.
func FuzzCheckReceipt(f *testing.F) {
	p, receipt := examplePolicy(f)
	f.Add(receipt)
	cases, err := vectors.Load("../testdata/vectors/receipt")
	if err != nil {
		f.Fatal(err)
	}
	for _, c := range cases {
		f.Add(c.Blocks["receipt"])
		if c.Name == "verified" { // its log is in most of the others
			if p, err = verifier.ParsePolicy(c.Blocks["policy"]); err != nil {
				f.Fatal(err)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		want, wantErr := verifier.VerifyReceipt(b, p)
		k := NewChecker(p)
		for range 2 { // the second time its checkpoint is known
			got, err := k.Check(b, nil)
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%q: %v, without a memory: %v", b, err, wantErr)
			}
			if err != nil {
				if !errors.Is(err, verifier.ErrFailed) {
					t.Errorf("%q: error %v", b, err)
				}
				continue
			}
			if got.Parsed != want.Parsed || got.Index != want.Index || got.Size != want.Size || got.LeafHash != want.LeafHash || got.Content != want.Content ||
				!got.Time.Equal(want.Time) || !reflect.DeepEqual(got.Withheld, want.Withheld) || got.Witnesses.Status != want.Witnesses.Status {
				t.Errorf("%q: %+v, without a memory: %+v", b, got, want)
			}
		}
	})
}

// sameAnswer answers each request with the same body.
type sameAnswer []byte

func (a sameAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Request: r, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a))}, nil
}

// FuzzReadAnswers: what is read without an error is what was asked for, and was checked.
func FuzzReadAnswers(f *testing.F) {
	p, receipt := examplePolicy(f)
	note, err := os.ReadFile("../testdata/example/log/checkpoint")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(receipt)
	f.Add(note)
	f.Add([]byte(`{"index":1,"entry":"x","leaf_hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","opening":null,"receipt":"` + "x" + `"}`))
	f.Add([]byte(`{"index":1,"opening":{},"reason":""}` + "\n" + `{"index":2,"opening":null,"reason":"tenant"}` + "\n"))
	f.Add([]byte(`{"proof":["AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="]}`))
	f.Add([]byte(`{"tokens":[{"id":"a","created_at":"2026-01-31T00:00:00Z"}],"id":"a","token":"pt_a_b"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := New(Config{URL: "https://log.example.com", Policy: p, Attempts: 1, HTTPClient: &http.Client{Transport: sameAnswer(body)}})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if e, err := c.Entry(ctx, 1); err == nil && (e.Index != 1 || e.Verdict == nil || e.Verdict.LeafHash != e.LeafHash) {
			t.Errorf("%q: entry %+v", body, e)
		}
		if e, err := c.Event(ctx, "cron://n", "a"); err == nil && e.Verdict.Event.Text("/id") != "a" {
			t.Errorf("%q: event %+v", body, e)
		}
		if _, v, err := c.Receipt(ctx, 1); err == nil && (v == nil || v.Index != 1) {
			t.Errorf("%q: receipt of %+v", body, v)
		}
		if n, cp, _, err := c.Checkpoint(ctx); err == nil && (!bytes.Equal(n, body) || cp.Origin != p.Origin()) {
			t.Errorf("%q: checkpoint %+v", body, cp)
		}
		next := uint64(1)
		err = c.Openings(ctx, 1, 10, func(l OpeningLine) error {
			if l.Index != next {
				t.Errorf("%q: opening %d for %d", body, l.Index, next)
			}
			next++
			return nil
		})
		if err != nil && !errors.Is(err, ErrServer) {
			t.Errorf("%q: openings: %v", body, err)
		}
		if _, err := c.ConsistencyProof(ctx, 1, 2); err != nil && !errors.Is(err, ErrServer) {
			t.Errorf("%q: proof: %v", body, err)
		}
		if tok, secret, err := c.AddToken(ctx, TokenRequest{}); err == nil && (tok.ID == "" || secret == "") {
			t.Errorf("%q: token %+v", body, tok)
		}
		if _, err := c.Tokens(ctx); err != nil && !errors.Is(err, ErrServer) {
			t.Errorf("%q: tokens: %v", body, err)
		}
	})
}

// FuzzServerURL: whatever URL is taken, the token goes to that host, and not in the clear.
func FuzzServerURL(f *testing.F) {
	for _, s := range []string{"https://log.example.com", "http://localhost:8080/", "http://127.0.0.1/x", "https://u@h", "https://h/a%2Fb?x#y", "http://[::ffff:127.0.0.1]:1", "h:80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		c, err := New(Config{URL: raw, Token: "pt_1_secret"})
		if err != nil {
			return
		}
		given, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		r, err := c.newRequest(t.Context(), request{method: "GET", path: "/v1/tokens"})
		if err != nil {
			return
		}
		if r.URL.Hostname() != given.Hostname() || r.URL.Port() != given.Port() || r.URL.Scheme != "https" && !isLoopback(r.URL.Hostname()) || r.URL.User != nil || r.URL.RawQuery != "" {
			t.Errorf("%q: asks %s", raw, r.URL)
		}
	})
}

// FuzzHeadsFile: what is taken for a heads file holds only what the log has signed, and is written as
// it was read.
func FuzzHeadsFile(f *testing.F) {
	p, _ := examplePolicy(f)
	head, err := os.ReadFile("../testdata/example/log/checkpoint")
	fork, err2 := os.ReadFile("../testdata/example/fork/checkpoint")
	if err := errors.Join(err, err2); err != nil {
		f.Fatal(err)
	}
	for _, j := range []headsJSON{
		{headsVersion, string(head), []string{}}, {headsVersion, "", []string{string(head), string(fork)}},
		{headsVersion, string(fork), []string{string(head)}}, {headsVersion, string(head), []string{string(head)}}, {"", "", nil},
	} {
		b, err := j.bytes()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		proven, seen, err := parseHeads(b, p)
		if err != nil {
			return
		}
		h := heads{proven: proven, newest: proven}
		for _, s := range seen {
			if err := h.see(s.Checkpoint, s.Note); err != nil {
				t.Errorf("%q: %v", b, err)
			}
		}
		if again, err := h.file(p); err != nil || !bytes.Equal(again, b) && len(b) < maxFileNote {
			t.Errorf("%q became %q, %v", b, again, err)
		}
		for _, s := range append(seen, proven) {
			if s == nil {
				continue
			}
			if bare, err := p.Log().Bare(s.Note); err != nil || s.Checkpoint.Origin != p.Origin() {
				t.Errorf("%q: %+v, %q, %v", b, s.Checkpoint, bare, err)
			}
		}
	})
}
