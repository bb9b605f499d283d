package verifier

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"
)

// errNotSent ends a request that only was to be looked at.
var errNotSent = errors.New("not sent")

// recordedTransport keeps requests and sends none.
type recordedTransport []*http.Request

func (rt *recordedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	*rt = append(*rt, r)
	return nil, errNotSent
}

// FuzzLogURL: whatever URL is taken, the token goes to that host alone, to the openings
// alone, and not in the clear.
func FuzzLogURL(f *testing.F) {
	for _, s := range []string{"https://audit.example.com/logs/audit", "https://a.example/x/logs/b/", "http://127.0.0.1:8080/logs/audit",
		"http://[::1]/logs/a%2Fb", "https://h/logs/a?b", "https://h/mirror", "https://u@h/logs/a", "https://h/logs/a%3Fb%20c", "http://h/logs/a"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		var sent recordedTransport
		l, err := NewHTTPLog(HTTPConfig{URL: raw, Token: "pt_1_secret", Attempts: 1, Transport: &sent})
		if err != nil {
			return
		}
		given, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := l.Get(context.Background(), "checkpoint", 1); err == nil {
			t.Fatal("answered by nobody")
		}
		if _, err := l.Openings(context.Background(), 17, 3); err == nil {
			t.Fatal("answered by nobody")
		}
		for i, r := range sent {
			u := r.URL
			if u.Hostname() != given.Hostname() || u.Port() != given.Port() || u.Scheme != given.Scheme || u.Scheme != "https" && !isLoopback(u.Hostname()) {
				t.Errorf("%q: asked %s", raw, u)
			}
			if i == 0 && (r.Header.Get("Authorization") != "" || !strings.HasSuffix(u.Path, "/checkpoint") || u.RawQuery != "") {
				t.Errorf("%q: checkpoint asked for with %v of %s", raw, r.Header, u)
			}
			if i > 0 && (!strings.HasSuffix(u.Path, "/openings") || u.RawQuery != "start=17&count=3" || u.Fragment != "") {
				t.Errorf("%q: openings asked for of %s", raw, u)
			}
		}
	})
}

// FuzzRetryAfter: a server's wish to wait is honoured up to a minute, and no other.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "0", "59", "61", "-1", "9223372037", "9223372036854775807", "Wed, 21 Oct 2026 07:28:00 GMT"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got := retryAfter(http.Header{"Retry-After": {s}})
		want := time.Duration(0)
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
			want = time.Duration(min(n, 60)) * time.Second
		}
		if got != want {
			t.Errorf("Retry-After %q: %v, expected %v", s, got, want)
		}
	})
}

// sameOpenings answers every request with the same bytes.
type sameOpenings []byte

func (s sameOpenings) Openings(context.Context, uint64, uint64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(s)), nil
}

// FuzzOpeningStream: each entry is judged once, and none is verified whose opening the server
// didn't show.
func FuzzOpeningStream(f *testing.F) {
	l := fuzzLog(f)
	var all []byte
	for i, o := range l.openings {
		all = AppendOpeningLine(all, OpeningLine{Index: uint64(i), Opening: o})
	}
	f.Add(all)
	f.Add(all[:len(all)-1])
	f.Add([]byte(`{"index":0,"opening":null,"reason":"tenant"}` + "\n\n" + `{"index":2,"opening":null,"reason":"missing"}` + "\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		u := &unit{end: 3}
		a := &auditor{cfg: AuditConfig{Openings: sameOpenings(body)}, head: Checkpoint{Size: 3}}
		c := &openingChecker{worker: &worker{auditor: a}, unit: u}
		for _, leaf := range l.leaves {
			c.leaves = append(c.leaves, LeafHash(leaf))
		}
		err := c.run(context.Background())
		judged := u.counts.Verified + u.counts.Redacted + u.counts.Failed + u.counts.NotShown + uint64(len(c.late))
		if err == nil && judged != 3 || judged > 3 || u.counts.Failed != u.nfail {
			t.Errorf("%q: %d of 3 judged, %+v, %v", body, judged, u.counts, err)
		}
		shown := uint64(0)
		for _, o := range l.openings {
			if bytes.Contains(body, o) {
				shown++
			}
		}
		if u.counts.Verified > shown {
			t.Errorf("%q: %d verified, %d shown", body, u.counts.Verified, shown)
		}
	})
}
