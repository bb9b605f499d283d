package slogaudit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client/internal/enqueuetest"
	"github.com/prooftrail/prooftrail/verifier/client/slogaudit"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// stubborn has methods that panic where it is nil.
type stubborn struct{ text string }

func (s *stubborn) Error() string { return s.text }

// broken panics when it is written as JSON.
type broken struct{}

func (broken) MarshalJSON() ([]byte, error) { panic("ouch") }

// TestHostileValues: whoever logs doesn't die of a value that slog's own handlers get along with.
func TestHostileValues(t *testing.T) {
	loop := map[string]any{}
	loop["again"] = loop
	l, _, r, h := logger(t, slogaudit.Config{})
	l.Info("", "action", "config.read", "error", (*stubborn)(nil), "broken", broken{}, "loop", loop, "chan", make(chan int), "fine", 1)
	if err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	d := r.Wait("config.read", 1)[0].Details
	for name, want := range map[string]string{"error": "!PANIC: ", "broken": "!PANIC: ", "loop": "!ERROR: ", "chan": "!ERROR: "} {
		if got, ok := d[name].(string); !ok || !strings.HasPrefix(got, want) {
			t.Errorf("%s is %v", name, d[name])
		}
	}
	if d["fine"] != json.Number("1") {
		t.Errorf("%v", d)
	}
}

// TestNothingIsLost: of two names that become one in an event.
func TestNothingIsLost(t *testing.T) {
	l, _, r, h := logger(t, slogaudit.Config{})
	l.Info("said", "action", "config.read", "message", "meant", "a b", 1, "a_b", 2)
	if err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := json.Marshal(r.Wait("config.read", 1)[0].Details)
	if want := `{"a_b":1,"a_b_":2,"message":"meant","message_":"said"}`; err != nil || string(got) != want {
		t.Errorf("%s, expected %s (%v)", got, want, err)
	}
}

// TestClosed: what is no event any more is in the other log, and says so.
func TestClosed(t *testing.T) {
	l, passed, r, h := logger(t, slogaudit.Config{})
	h.Close()
	l.Info("too late", "action", "config.read")
	if len(r.Actions()) > 0 || !strings.Contains(passed.String(), `"audit_error"`) {
		t.Errorf("%q, %s", r.Actions(), passed)
	}
}

// own is a logger's handler that is there later.
type own struct{ slog.Handler }

// TestOwnLogger: a refusal that is logged here again makes no event, which would say that what was refused had happened,
// and be refused in its turn.
func TestOwnLogger(t *testing.T) {
	r := enqueuetest.New(t)
	var b bytes.Buffer
	refused := 0
	r.Fault(func(event.Event) error {
		if refused++; refused > 3 {
			return nil
		}
		return errors.New("no room")
	})
	late := &own{slog.DiscardHandler}
	h := slogaudit.New(r, slog.NewJSONHandler(&b, nil), slogaudit.Config{Logger: slog.New(late)})
	late.Handler = h
	slog.New(h).Info("", "action", "config.read")
	if err := h.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	h.Close()
	if refused != 1 || strings.Count(b.String(), "an event isn't logged") != 1 {
		t.Errorf("%d refusals, logged: %s", refused, &b)
	}
}
