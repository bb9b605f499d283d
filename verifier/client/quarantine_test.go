package client_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client"
)

// TestQuarantinePages: the list is read to its end, whatever its length, and a server that leads round in circles is told from one that
// doesn't.
func TestQuarantinePages(t *testing.T) {
	var ids []string
	for i := range 2500 {
		ids = append(ids, fmt.Sprintf("%064x", i))
	}
	circles := false
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var items []client.Quarantined
		for _, id := range ids {
			if (id > r.URL.Query().Get("after") || circles) && len(items) < 1000 {
				items = append(items, client.Quarantined{ID: id})
			}
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"items": items}); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	c, err := client.New(client.Config{URL: s.URL, Token: "pt_x", Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	all, err := c.Quarantine(t.Context())
	if err != nil || len(all) != len(ids) || all[2499].ID != ids[2499] {
		t.Errorf("%d items, %v; want %d", len(all), err, len(ids))
	}
	circles = true
	if all, err := c.Quarantine(t.Context()); err == nil {
		t.Errorf("a server that leads round in circles: %d items", len(all))
	}
}

// TestQuarantineAnswers: an answer that isn't one is an error, and never an item that is gone.
func TestQuarantineAnswers(t *testing.T) {
	answer, status := "", http.StatusOK
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		fmt.Fprint(w, answer)
	}))
	defer s.Close()
	c, err := client.New(client.Config{URL: s.URL, Token: "pt_x", Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, answer = range []string{"", "null", "{}", `{"id":"other"}`, `{"results":null}`, `{"results":5}`, `[]`} {
		if q, err := c.Quarantined(t.Context(), "x"); err == nil {
			t.Errorf("%s: read as %+v", answer, q)
		}
		if r, err := c.Replay(t.Context(), "x", ""); err == nil {
			t.Errorf("%s: read as %+v", answer, r)
		}
	}
	answer, status = `{"type":"/problems/not-found","title":"not found","status":404}`, http.StatusNotFound
	if err := c.DropQuarantined(t.Context(), "x"); !errors.Is(err, client.ErrNotFound) {
		t.Errorf("dropped: %v", err)
	}
}

// TestQuarantineLongSources: a page of items with the longest source that a request's line has room for, each byte of which is escaped,
// is read: else one delivery would keep an operator from seeing what is there.
func TestQuarantineLongSources(t *testing.T) {
	source := strings.Repeat("\x01", 5400) // %01 in 16 KiB
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		items := []client.Quarantined{}
		for i := range 1000 {
			if r.URL.Query().Get("after") == "" {
				items = append(items, client.Quarantined{ID: fmt.Sprintf("%064x", i), Source: source})
			}
		}
		if err := json.NewEncoder(w).Encode(map[string]any{"items": items}); err != nil {
			t.Error(err)
		}
	}))
	defer s.Close()
	c, err := client.New(client.Config{URL: s.URL, Token: "pt_x", Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if all, err := c.Quarantine(t.Context()); err != nil || len(all) != 1000 {
		t.Errorf("%d items, %v", len(all), err)
	}
}
