package mask_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// TestTooLarge: an event that is as large as one may be is no larger for its secrets, however many and short they are.
func TestTooLarge(t *testing.T) {
	const size = event.MaxBytes - 2048
	number := []any{}
	for range size / 10 {
		number = append(number, map[string]any{"pw": 7})
	}
	for name, v := range map[string]any{
		"a text":       strings.Repeat("pw=a ", size/5),
		"JSON":         "[" + strings.TrimSuffix(strings.Repeat(`{'pw':'a'},`, size/11), ",") + "]",
		"a list":       map[string]any{"secrets": strings.Split(strings.Repeat("a", size/4), "")},
		"numbers":      number,
		"command line": strings.Split(strings.TrimSuffix(strings.Repeat("--pw a ", size/15), " "), " "),
		"in a struct":  []struct{ Pw []string }{{strings.Split(strings.Repeat("a", size/4), "")}},
	} {
		t.Run(name, func(t *testing.T) {
			e := valid()
			e.Details = map[string]any{"a": v}
			if _, err := e.Fields(); err != nil {
				t.Fatal(err)
			}
			masked := mask.Default().Event(e)
			raw, err := json.Marshal(masked)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := masked.Fields(); err != nil || len(raw) > event.MaxBytes-64 {
				t.Errorf("%d bytes, %v", len(raw), err)
			}
			if strings.Contains(string(raw), `"a",`) || strings.Contains(string(raw), "7") || strings.Contains(string(raw), "pw=a") {
				t.Errorf("%.200s", raw)
			}
			if again := mask.Default().Event(masked); !reflect.DeepEqual(again, masked) {
				t.Error("masked again it is another")
			}
		})
	}
	e := valid()
	e.Details, e.Reason = map[string]any{"a": strings.Repeat("x ", size/2)}, &event.Reason{Code: "x", Text: strings.Repeat("pw=a ", 240)}
	if masked := mask.Default().Event(e); strings.Contains(masked.Reason.Text, "[") {
		t.Errorf("there is no room for %s", masked.Reason.Text)
	}
	e = valid()
	e.Details = map[string]any{"a": strings.Repeat("x ", size/2), "password": "hunter2"}
	if got := mask.Default().Event(e).Details["password"]; got != mask.Masked {
		t.Errorf("there is room for more than %v", got)
	}
}
