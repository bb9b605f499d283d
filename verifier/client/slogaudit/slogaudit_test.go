package slogaudit_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/internal/enqueuetest"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/client/slogaudit"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// password is a value that doesn't show itself.
type password string

func (password) LogValue() slog.Value { return slog.StringValue("REDACTED") }

// logger returns one with the handler, what was passed on, and what was enqueued.
func logger(t *testing.T, cfg slogaudit.Config) (*slog.Logger, *bytes.Buffer, *enqueuetest.Recorder, *slogaudit.Handler) {
	t.Helper()
	r := enqueuetest.New(t)
	var b bytes.Buffer
	h := slogaudit.New(r, slog.NewJSONHandler(&b, nil), cfg)
	t.Cleanup(h.Close)
	return slog.New(h), &b, r, h
}

// TestEvents: what attributes become, written as JSON without id, source and time.
func TestEvents(t *testing.T) {
	ada := client.WithCaller(t.Context(), client.Caller{Actor: event.Actor{Type: "user", ID: "ada"}, Origin: &event.Origin{IP: "192.0.2.7"}})
	type config struct {
		Name string
		Rate float64
		Next *int
	}
	for name, c := range map[string]struct {
		log  func(*slog.Logger)
		want string
	}{
		"texts": {func(l *slog.Logger) {
			l.Info("deleted", "action", "job.delete", "job", "j-42", "actor", "ada")
		}, `{"action":"job.delete","outcome":"success","actor":{"type":"user","id":"ada"},"target":[{"type":"job","id":"j-42"}],"job":{"id":"j-42"},"details":{"message":"deleted"}}`},
		"groups": {func(l *slog.Logger) {
			l.Info("", "action", "access.grant", slog.Group("actor", "type", "service", "id", "ci"), slog.Group("target", "type", "role", "id", "admin", "name", "Admins"),
				slog.Group("origin", "ip", "192.0.2.1", "port", 80), slog.Group("labels", "team", "ops"), slog.Group("more", "a", 1, slog.Group("deep", "b", true)))
		}, `{"action":"access.grant","outcome":"success","actor":{"type":"service","id":"ci"},"origin":{"ip":"192.0.2.1","port":80},"target":[{"type":"role","id":"admin","name":"Admins"}],"labels":{"team":"ops"},"details":{"more":{"a":1,"deep":{"b":true}}}}`},
		"the context says who": {func(l *slog.Logger) {
			l.InfoContext(ada, "", "action", "config.read")
		}, `{"action":"config.read","outcome":"success","actor":{"type":"user","id":"ada"},"origin":{"ip":"192.0.2.7"},"target":[{"type":"user","id":"ada"}]}`},
		"an error": {func(l *slog.Logger) {
			l.Error("no room", "action", "run.finish", "job", "j", "error", errors.New("disk full"))
		}, `{"action":"run.finish","outcome":"failure","reason":{"code":"error","text":"no room"},"actor":{"type":"service","id":"slog"},"target":[{"type":"job","id":"j"}],"job":{"id":"j"},"details":{"error":"disk full","message":"no room"}}`},
		"outcome and reason": {func(l *slog.Logger) {
			l.Warn("", "action", "auth.login", "outcome", "denied", "reason", "bad_password")
		}, `{"action":"auth.login","outcome":"denied","reason":{"code":"bad_password"},"actor":{"type":"service","id":"slog"},"target":[{"type":"service","id":"slog"}]}`},
		"an update": {func(l *slog.Logger) {
			l.Info("", "action", "job.update", "job", "j", "change", event.Change{Patch: []event.Operation{{Op: "replace", Path: "/schedule", Value: "@daily"}}})
		}, `{"action":"job.update","outcome":"success","actor":{"type":"service","id":"slog"},"target":[{"type":"job","id":"j"}],"job":{"id":"j"},"change":{"patch":[{"op":"replace","path":"/schedule","value":"@daily"}]}}`},
		"With and WithGroup": {func(l *slog.Logger) {
			l.With("action", "config.read", "a", 1).WithGroup("g").With("b", 2).WithGroup("empty").Info("", slog.Group("", "c", 3))
		}, `{"action":"config.read","outcome":"success","actor":{"type":"service","id":"slog"},"target":[{"type":"service","id":"slog"}],"details":{"a":1,"g":{"b":2,"empty":{"c":3}}}}`},
		"values": {func(l *slog.Logger) {
			l.Info("", "action", "config.read", "half", 0.5, "big", uint64(math.MaxUint64), "three", 3.0, "took", time.Second, "at", time.Unix(0, 0), "nil", nil,
				"config", config{"x", 0.25, nil}, "list", []any{1, nil, "a"}, "bad name!", true, "7", "digit", "f", func() {} == nil, "password", password("hunter2"))
		}, `{"action":"config.read","outcome":"success","actor":{"type":"service","id":"slog"},"target":[{"type":"service","id":"slog"}],"details":{"at":"1970-01-01T00:00:00Z","bad_name_":true,"big":"18446744073709551615","config":{"Name":"x","Rate":"0.25"},"f":false,"half":"0.5","list":[1,"a"],"password":"REDACTED","three":3,"took":"1s","x7":"digit"}}`},
		"what doesn't fit its member": {func(l *slog.Logger) {
			l.Info("", "action", "config.read", "job", 7, "outcome", true)
		}, `{"action":"config.read","outcome":"success","actor":{"type":"service","id":"slog"},"target":[{"type":"service","id":"slog"}],"details":{"job":7,"outcome":true}}`},
	} {
		t.Run(name, func(t *testing.T) {
			l, passed, r, h := logger(t, slogaudit.Config{})
			c.log(l)
			if err := h.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			events, modes := r.Events()
			if len(events) != 1 || modes[0] != client.BestEffort || passed.Len() > 0 {
				t.Fatalf("%d events; passed on: %s", len(events), passed)
			}
			raw, err := json.Marshal(events[0])
			if err != nil {
				t.Fatal(err)
			}
			at := bytes.Index(raw, []byte(`"action"`))
			if got := "{" + string(raw[at:]); got != c.want {
				t.Errorf("%s\nexpected\n%s", got, c.want)
			}
		})
	}
}

// TestPassedOn: what is no event, as slog demands it of a handler.
func TestPassedOn(t *testing.T) {
	var b bytes.Buffer
	r := enqueuetest.New(t)
	slogtest.Run(t, func(t *testing.T) slog.Handler {
		b.Reset()
		h := slogaudit.New(r, slog.NewJSONHandler(&b, nil), slogaudit.Config{})
		t.Cleanup(h.Close)
		return h
	}, func(t *testing.T) map[string]any {
		var m map[string]any
		if err := json.Unmarshal(b.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		return m
	})
	if len(r.Actions()) > 0 {
		t.Errorf("events %q", r.Actions())
	}
}

// TestNoEvent: a record that makes none is passed on, and says why where it meant to.
func TestNoEvent(t *testing.T) {
	for name, c := range map[string]struct {
		log  func(*slog.Logger)
		want string
	}{
		"in a group":  {func(l *slog.Logger) { l.WithGroup("g").Info("x", "action", "job.delete") }, `"g":{"action":"job.delete"}`},
		"no text":     {func(l *slog.Logger) { l.Info("x", "action", 7) }, `"action":7`},
		"no action":   {func(l *slog.Logger) { l.Info("x", "action", "Delete it!") }, `"audit_error":"/action`},
		"ours":        {func(l *slog.Logger) { l.Info("x", "action", "audit.read") }, `"audit_error":"/action`},
		"no job":      {func(l *slog.Logger) { l.Info("x", "action", "job.delete") }, `"audit_error":"/job/id`},
		"too large":   {func(l *slog.Logger) { l.Info(strings.Repeat("x", event.MaxBytes), "action", "config.read") }, `"audit_error":`},
		"not so deep": {func(l *slog.Logger) { l.Debug("x", "action", "config.read") }, ``},
	} {
		t.Run(name, func(t *testing.T) {
			l, passed, r, h := logger(t, slogaudit.Config{})
			c.log(l)
			if err := h.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if len(r.Actions()) > 0 || !strings.Contains(passed.String(), c.want) || (c.want == "") != (passed.Len() == 0) {
				t.Errorf("events %q, passed on %.300s", r.Actions(), passed)
			}
		})
	}
}

func TestPassOn(t *testing.T) {
	l, passed, r, h := logger(t, slogaudit.Config{PassOn: true, Key: "audit", Level: slog.LevelWarn})
	l.Info("x", "audit", "config.read")
	l.Warn("y", "audit", "config.read")
	if err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.Actions()) != 1 || strings.Count(passed.String(), "config.read") != 2 {
		t.Errorf("%q, %s", r.Actions(), passed)
	}
}

// TestDiskHangs: logging goes on.
func TestDiskHangs(t *testing.T) {
	l, _, r, _ := logger(t, slogaudit.Config{Memory: 10})
	hangs := make(chan struct{})
	r.Fault(func(event.Event) error { <-hangs; return nil })
	for i := range 100 {
		l.Info("", "action", "config.read", "i", i)
	}
	close(hangs)
	r.Wait("adapter.lost", 1)
}

// TestMasked: as the queue does it.
func TestMasked(t *testing.T) {
	l, _, r, h := logger(t, slogaudit.Config{})
	l.Info("token=hunter2", "action", "config.read", "db", map[string]any{"password": "hunter2"}, slog.Group("env", "API_KEY", "hunter2"), "url", "https://u:hunter2@h/")
	if err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	events, _ := r.Events()
	if got := fmt.Sprint(mask.Default().Event(events[0]).Details); strings.Contains(got, "hunter2") {
		t.Error(got)
	}
}

// FuzzHandle: whatever is logged, the handler makes a valid event (which the recorder checks) or passes the record on.
func FuzzHandle(f *testing.F) {
	f.Add("job.delete", "job", "j-42", "m", int64(1), 0.5)
	f.Add("config.read", "actor", "", "", int64(math.MinInt64), math.Inf(1))
	f.Fuzz(func(t *testing.T, action, name, text, message string, i int64, x float64) {
		r := enqueuetest.New(t)
		var b bytes.Buffer
		h := slogaudit.New(r, slog.NewJSONHandler(&b, nil), slogaudit.Config{})
		l := slog.New(h).With(name, text).WithGroup(text)
		l.LogAttrs(context.Background(), slog.LevelInfo, message, slog.Int64(name, i), slog.Float64(text, x))
		slog.New(h).Info(message, "action", action, name, text, text, i, message, x, slog.Group(name, text, map[string]any{name: x, text: nil}))
		h.Close()
		if events, _ := r.Events(); len(events)+bytes.Count(b.Bytes(), []byte("\n")) != 2 {
			t.Errorf("%d events, passed on %s", len(events), b.Bytes())
		}
	})
}

// BenchmarkHandle is of a record that becomes an event.
func BenchmarkHandle(b *testing.B) {
	h := slogaudit.New(nobody{}, slog.DiscardHandler, slogaudit.Config{Memory: 1 << 30})
	defer h.Close()
	l := slog.New(h)
	b.ReportAllocs()
	for b.Loop() {
		l.Info("deleted", "action", "job.delete", "job", "j-42", "actor", "ada", "attempt", 3)
	}
}

// nobody takes all events.
type nobody struct{}

func (nobody) Enqueue(context.Context, event.Event, client.Mode) (client.Enqueued, error) {
	return client.Enqueued{}, nil
}
