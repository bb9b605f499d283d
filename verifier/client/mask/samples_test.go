package mask_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// sample is a text, with what must be gone from it and what must stay.
type sample struct {
	What, text string
	Gone, Stay []string
	Details    map[string]any
}

// unsplit takes out the marks that keep scanners from seeing secrets.
func unsplit(s string) string { return strings.ReplaceAll(s, "¦", "") }

// texts reads testdata/texts.txt.
func texts(tb testing.TB) (all []sample) {
	tb.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "texts.txt"))
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(unsplit(string(b))) {
		line = strings.TrimSuffix(line, "\n")
		if what, ok := strings.CutPrefix(line, "== "); ok {
			all = append(all, sample{What: what})
			continue
		}
		s := &all[len(all)-1]
		gone, isGone := strings.CutPrefix(line, "- ")
		stay, isStay := strings.CutPrefix(line, "+ ")
		switch {
		case isGone && !strings.HasPrefix(gone, "name:"): // YAML
			if !strings.Contains(s.text, gone) {
				tb.Fatalf("%s: %q isn't in the sample", s.What, gone)
			}
			s.Gone = append(s.Gone, gone)
		case isStay:
			if !strings.Contains(s.text, stay) {
				tb.Fatalf("%s: %q isn't in the sample", s.What, stay)
			}
			s.Stay = append(s.Stay, stay)
		default:
			s.text += line + "\n"
		}
	}
	for i := range all {
		all[i].text = strings.TrimSuffix(all[i].text, "\n")
	}
	return all
}

// check reports what is there and must not, and the other way round.
func (s *sample) check(t *testing.T, where, got string, stay bool) {
	t.Helper()
	for _, gone := range s.Gone {
		if strings.Contains(got, gone) {
			t.Errorf("%s, %s: %q is still there:\n%s", s.What, where, gone, got)
		}
	}
	for _, keep := range s.Stay {
		if stay && !strings.Contains(got, keep) {
			t.Errorf("%s, %s: %q is gone:\n%s", s.What, where, keep, got)
		}
	}
}

// valid returns an event that is.
func valid() event.Event {
	return event.Event{ID: "e1", Source: "cron://test/", Time: time.Unix(1767225600, 0), Action: "job.delete", Outcome: "success",
		Actor: event.Actor{Type: "user", ID: "ada"}, Target: []event.Target{{Type: "job", ID: "nightly"}}, Job: &event.Job{ID: "nightly"}}
}

// TestSampleTexts: also where a text stands within JSON, and in the members of an event.
func TestSampleTexts(t *testing.T) {
	m := mask.Default()
	all := texts(t)
	if len(all) < 80 {
		t.Fatalf("only %d samples", len(all))
	}
	for _, s := range all {
		got := m.Text(s.text)
		s.check(t, "text", got, true)
		if again := m.Text(got); again != got {
			t.Errorf("%s: masked again it became\n%s\nfrom\n%s", s.What, again, got)
		}
		inJSON, err := json.Marshal(map[string]string{"line": s.text, "z": "end"})
		if err != nil {
			t.Fatal(err)
		}
		s.check(t, "JSON", m.Text(string(inJSON)), false)
		e := valid()
		e.Details = map[string]any{"a": []any{map[string]any{"b": s.text}}, "c": []string{"sh", "-c", s.text}}
		e.Reason = &event.Reason{Code: "x", Text: s.text}
		e.Job.Schedule = s.text
		e.Origin = &event.Origin{UserAgent: s.text}
		e.Change = &event.Change{Patch: []event.Operation{{Op: "replace", Path: "/command", Value: s.text}}}
		masked := m.Event(e)
		for where, got := range map[string]string{"details": masked.Details["a"].([]any)[0].(map[string]any)["b"].(string), "reason": masked.Reason.Text,
			"schedule": masked.Job.Schedule, "user agent": masked.Origin.UserAgent, "patch": masked.Change.Patch[0].Value.(string)} {
			s.check(t, where, got, true)
		}
		args, err := json.Marshal(masked.Details["c"])
		if err != nil {
			t.Fatal(err)
		}
		s.check(t, "arguments", string(args), false)
	}
}

// TestSampleDetails: objects as schedulers and others write them.
func TestSampleDetails(t *testing.T) {
	files, err := filepath.Glob(filepath.Join("testdata", "*.json"))
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, path := range files {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var s sample
		if err := json.Unmarshal([]byte(unsplit(string(b))), &s); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		s.What = path + ": " + s.What
		before, err := json.Marshal(s.Details)
		if err != nil {
			t.Fatal(err)
		}
		for _, gone := range s.Gone {
			if !strings.Contains(string(before), gone) {
				t.Errorf("%s: %q isn't in the sample", s.What, gone)
			}
		}
		e := valid()
		e.Details = s.Details
		got, err := json.Marshal(mask.Default().Event(e).Details)
		if err != nil {
			t.Fatal(err)
		}
		s.check(t, "details", string(got), true)
		if _, err := mask.Default().Event(e).Fields(); err != nil {
			t.Errorf("%s: %v", s.What, err)
		}
		if after, err := json.Marshal(e.Details); err != nil || string(after) != string(before) {
			t.Errorf("%s: the given event was changed (%v)", s.What, err)
		}
		s.check(t, "as a text", mask.Default().Text(string(before)), false)
		s.Details = nil
	}
}
