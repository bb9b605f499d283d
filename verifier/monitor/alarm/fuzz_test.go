package alarm

import (
	"bytes"
	"maps"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// FuzzClean: whatever is raised is bounded, can be printed, and is the same when cleaned again.
func FuzzClean(f *testing.F) {
	f.Add("fork", "example.com/audit", "m2", "two histories", "size", "42")
	f.Add("", "", "", "", "", "")
	f.Add("Not-Kebab_", "\x1b[2J", "\u202e", "a\nb\tc\xff", strings.Repeat("ü", 300), strings.Repeat("€", 3000))
	f.Add(strings.Repeat("a-", 60), strings.Repeat("x", 257), strings.Repeat("€", 86), strings.Repeat("\xff", 600), "k\n", "\u2028")
	f.Fuzz(func(t *testing.T, name, log, peer, summary, k, v string) {
		d := map[string]string{k: v}
		for i := range 20 {
			d[k+strconv.Itoa(i)] = v + v
		}
		a := clean(Alarm{Name: name, Log: log, Peer: peer, Summary: summary, Severity: Severity(k), Details: d, Since: time.Now(), Ack: &Ack{}})
		if a.Ack != nil || !a.Since.IsZero() {
			t.Error("the board's members passed")
		}
		texts := []string{a.Name, a.Log, a.Peer, a.Summary}
		total := 0
		for k, v := range a.Details {
			texts, total = append(texts, k, v), total+len(k)+len(v)
			if len(k) > maxDetailKey || len(v) > maxDetailValue {
				t.Errorf("detail of %d and %d bytes", len(k), len(v))
			}
		}
		for _, s := range texts {
			if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
				t.Errorf("%q", s)
			}
		}
		if len(a.Name) > maxName || a.Name == "" || len(a.Log) > maxIdentity || len(a.Peer) > maxIdentity || len(a.Summary) > maxSummary || len(a.Details) > maxDetails || total > maxDetailsBytes {
			t.Errorf("too much: %+v", a)
		}
		b := clean(a)
		if a.key() != b.key() || a.ID() != b.ID() || a.Summary != b.Summary || a.Severity != b.Severity || !maps.Equal(a.Details, b.Details) {
			t.Errorf("%+v became %+v", a, b)
		}
		if log != peer && a.Log == a.Peer {
			t.Errorf("%q and %q are both %q", log, peer, a.Log)
		}
	})
}

func someState() []stateAlarm {
	at := time.Date(2026, 1, 31, 23, 59, 58, 5e6, time.UTC)
	a := clean(Alarm{Name: "fork", Log: "example.com/audit", Severity: Critical, Summary: "<two> \"histories\"", Details: map[string]string{"size": "42", "b": "c"}})
	a.Since, a.Ack = at, &Ack{By: "alice", Note: "known", At: at}
	b := clean(Alarm{Name: "peer-silent", Peer: "m2"})
	b.Since = at
	return []stateAlarm{
		{Alarm: a, Sent: map[string]sentJSON{"webhook": {At: at, Since: at, Severity: Warning}, "am": {At: at, Since: at, Severity: Critical, Resolved: true}}},
		{Alarm: b, Resolved: at},
	}
}

func addStates(f *testing.F, part func(b []byte) []byte) {
	for _, s := range [][]stateAlarm{nil, someState(), someState()[:1], someState()[1:]} {
		b, err := stateBytes(s)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := parseState(b); err != nil {
			f.Fatalf("%s: %v", b, err)
		}
		f.Add(part(b))
	}
}

// FuzzState: what is accepted is what is written, byte for byte.
func FuzzState(f *testing.F) {
	addStates(f, func(b []byte) []byte { return b })
	f.Add([]byte(`{"v":"prooftrail.alarms/1","sha256":"","alarms":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseState(b)
		if err != nil {
			return
		}
		if again, err := stateBytes(all); err != nil || !bytes.Equal(again, b) {
			t.Errorf("%s became %s, %v", b, again, err)
		}
	})
}

// FuzzStateAlarms: a board made of any list that is accepted, with a good digest in front of it,
// has bounded alarms and writes a list that is accepted.
func FuzzStateAlarms(f *testing.F) {
	addStates(f, func(b []byte) []byte { return b[bytes.Index(b, []byte(`"alarms":`))+9 : len(b)-2] })
	f.Add([]byte(`[{"alarm":{"name":"a","severity":"info","summary":"","since":"0000-01-01T00:00:00Z"}}]`))
	f.Add([]byte(`[{"alarm":{"name":"a","severity":"info","summary":"","since":"2026-01-01T00:00:00+01:00"}}]`))
	f.Add([]byte(`[{"alarm":{"name":"alarm-overflow","severity":"info","summary":"","since":"2026-01-01T00:00:00Z"}},null]`))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, err := parseAlarms(b)
		if err != nil {
			return
		}
		board, err := New(Config{Sinks: []Sink{NewLogSink(nil)}})
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			board.adopt(s)
		}
		for _, a := range board.Active() {
			board.Raise(a)
			if err := board.Acknowledge(a.ID(), "x", ""); err != nil {
				t.Error(err)
			}
			board.Clear(a.Name, a.Log, a.Peer)
		}
		if a := board.Active(); len(a) > 0 {
			t.Errorf("still active: %v", a)
		}
		data, err := stateBytes(board.snapshot())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseState(data); err != nil {
			t.Errorf("%s: %v", data, err)
		}
	})
}

// FuzzCheckSignature: of all values only the one that was made is good.
func FuzzCheckSignature(f *testing.F) {
	body, secret, at := []byte("{}"), []byte("0123456789abcdef"), time.Unix(1770000000, 0)
	good := Sign(body, secret, at)
	f.Add(good)
	f.Add("t=,v1=")
	f.Add(good + ",v1=")
	f.Fuzz(func(t *testing.T, value string) {
		if err := CheckSignature(value, body, secret, at, time.Hour); (err == nil) != (value == good) {
			t.Errorf("%q: %v", value, err)
		}
	})
}

// TestStateFits: the largest alarm is smaller than what the file has for it.
func TestStateFits(t *testing.T) {
	quotes := strings.Repeat(`"`, maxDetailsBytes)
	at := time.Date(2026, 1, 31, 23, 59, 58, 5e6, time.UTC)
	a := clean(Alarm{Name: strings.Repeat("a", maxName), Log: quotes[:maxIdentity], Peer: quotes[:maxIdentity], Severity: Critical, Summary: quotes})
	a.Since, a.Ack = at, &Ack{By: quotes[:maxBy], Note: quotes[:maxNote], At: at}
	d := map[string]string{}
	for i := range maxDetails {
		d[strings.Repeat(`\`, i+1)] = quotes
	}
	a.Details = details(d)
	s := stateAlarm{Alarm: a, Resolved: at, Sent: map[string]sentJSON{}}
	for i := range maxSinks {
		s.Sent[quotes[:maxName-1]+strconv.Itoa(i)] = sentJSON{at, at, Critical, true}
	}
	if err := s.check(); err != nil {
		t.Fatal(err)
	}
	b, err := marshal(s)
	if err != nil || len(b) > maxStateAlarmBytes {
		t.Errorf("%d bytes, %v", len(b), err)
	}
	b, err = Notice{Alarm: a, Status: Resolved, Reason: Repeated, ResolvedAt: at, At: at}.message(quotes[:maxIdentity])
	if err != nil || len(b) > 12<<10 { // as docs/spec/alarms.md says
		t.Errorf("a message of %d bytes, %v", len(b), err)
	}
}

// TestParseStateErrors: each member is checked.
func TestParseStateErrors(t *testing.T) {
	for name, change := range map[string]func(s []stateAlarm){
		"name":        func(s []stateAlarm) { s[0].Alarm.Name = "A" },
		"severity":    func(s []stateAlarm) { s[0].Alarm.Severity = "bad" },
		"summary":     func(s []stateAlarm) { s[0].Alarm.Summary = "\x1b" },
		"log":         func(s []stateAlarm) { s[0].Alarm.Log = strings.Repeat("x", 300) },
		"details":     func(s []stateAlarm) { s[0].Alarm.Details["x"] = "\n" },
		"since":       func(s []stateAlarm) { s[0].Alarm.Since = time.Time{} },
		"nanoseconds": func(s []stateAlarm) { s[0].Alarm.Since = s[0].Alarm.Since.Add(1) },
		"zone":        func(s []stateAlarm) { s[0].Alarm.Since = s[0].Alarm.Since.In(time.FixedZone("", 3600)) },
		"by":          func(s []stateAlarm) { s[0].Alarm.Ack.By = "" },
		"sink":        func(s []stateAlarm) { s[0].Sent["a\n"] = s[0].Sent["am"] },
		"sent":        func(s []stateAlarm) { s[0].Sent["am"] = sentJSON{} },
		"twice":       func(s []stateAlarm) { s[1].Alarm = s[0].Alarm },
	} {
		s := someState()
		change(s)
		b, err := stateBytes(s)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseState(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	good, err := stateBytes(someState())
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		b := bytes.Clone(good)
		b[i] ^= 1
		if _, err := parseState(b); err == nil {
			t.Errorf("byte %d changed, accepted", i)
		}
	}
}
