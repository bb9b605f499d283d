package recorder

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// strictQueue takes valid events alone, as they are when they have been masked, and remembers what it was given.
type strictQueue struct {
	mu      sync.Mutex
	taken   int
	refused error
}

func (q *strictQueue) Enqueue(_ context.Context, e event.Event, _ client.Mode) (client.Enqueued, error) {
	e.ID, e.Source = "1", "test://x"
	q.mu.Lock()
	defer q.mu.Unlock()
	if _, err := mask.Default().Event(e).Fields(); err != nil {
		q.refused = err
		return client.Enqueued{}, errors.Join(client.ErrRefused, err)
	}
	q.taken++
	return client.Enqueued{ID: "1"}, nil
}

// FuzzExchange: whatever a client and a scheduler write, nothing panics, each event is valid, and what the scheduler is
// asked to change is in one.
func FuzzExchange(f *testing.F) {
	f.Add("PUT /jobs/a HTTP/1.1\r\nHost: x\r\nCookie: sid=1\r\nX-Api-Key: k\r\nContent-Length: 7\r\n\r\n{\"a\":1}", `{"a":2}`, 200)
	f.Add("POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 6\r\n\r\nuser=x", "", 302)
	f.Add("POST //jobs/..;/a%2Frun?_method=PUT&x=%zz HTTP/1.1\r\nX-HTTP-Method-Override: PUT\r\nHost: x\r\n\r\n", "[1,2", 404)
	f.Add("DELETE http://y/jobs/\xff HTTP/1.1\r\nHost: \x01\r\nAuthorization: Bearer a.e30.c\r\nUser-Agent: \xff\r\n\r\n", "", 500)
	var mu sync.Mutex
	var answer string
	var status int
	seen := false
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		mu.Lock()
		defer mu.Unlock()
		seen = seen || !rules.Safe(r.Method)
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	f.Cleanup(upstream.Close)
	q := &strictQueue{}
	p, err := New(config(f, upstream.URL, parsedRules(f, jobRules), q))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, request, body string, code int) {
		r, err := http.ReadRequest(bufio.NewReader(strings.NewReader(request)))
		if err != nil || r.Header.Get("Upgrade") != "" || r.Header.Get("Expect") != "" {
			return
		}
		r.RemoteAddr = "192.0.2.1:1"
		mu.Lock()
		answer, status, seen = body, 200+(code&0x7fffffff)%400, false
		mu.Unlock()
		q.taken, q.refused = 0, nil
		p.ServeHTTP(httptest.NewRecorder(), r)
		mu.Lock()
		defer mu.Unlock()
		if q.refused != nil {
			t.Errorf("an event isn't valid: %v", q.refused)
		}
		if seen && q.taken == 0 {
			t.Error("a change isn't recorded")
		}
	})
}
