package mask_test

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// FuzzText: whatever stands around it, a secret that is named goes.
func FuzzText(f *testing.F) {
	f.Add("sh -c '", "'")
	f.Add("password=", " token=")
	f.Fuzz(func(t *testing.T, before, after string) {
		secret := "hunter2hunter2"
		for strings.Contains(before+" --password= "+after, secret) { // it isn't one then
			secret += "2"
		}
		if got := mask.Default().Text(before + " --password=" + secret + " " + after); strings.Contains(got, secret) {
			t.Errorf("%q", got)
		}
	})
}

// FuzzTextAgain: a masked text stays as it is, and UTF-8 stays UTF-8.
func FuzzTextAgain(f *testing.F) {
	for _, s := range texts(f) {
		f.Add(s.text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		once := mask.Default().Text(text)
		if again := mask.Default().Text(once); again != once {
			t.Errorf("%q became %q, and that %q", text, once, again)
		}
	})
}

// FuzzEvent: masking changes neither the given event nor its names, makes a valid event of a valid one, and done again
// changes nothing.
func FuzzEvent(f *testing.F) {
	f.Add("nightly", "mysql -phunter2", "password", `{"a": ["--token", "x"], "b": {"secret": 1}}`)
	f.Add("token=x", "", "c", `{"env": [{"name": "PGPASSWORD", "value": "x"}]}`)
	f.Fuzz(func(t *testing.T, id, text, label, details string) {
		e := valid()
		e.Job = &event.Job{ID: id, Name: text, Schedule: text}
		e.Actor.ID, e.Actor.AuthMethod, e.Target[0].ID = id, text, id
		e.Labels = map[string]string{label: text}
		e.Reason = &event.Reason{Code: "x", Text: text}
		e.Origin = &event.Origin{UserAgent: text, Forwarded: []string{text}}
		if json.Unmarshal([]byte(details), &e.Details) != nil || len(details) > event.MaxBytes/8 || len(text) > event.MaxBytes/80 {
			return
		}
		e.Change = &event.Change{Patch: []event.Operation{{Op: "add", Path: "/" + label, Value: text}}}
		before, err := json.Marshal(e)
		if err != nil {
			return
		}
		_, invalid := e.Fields()
		once := mask.Default().Event(e)
		if after, err := json.Marshal(e); err != nil || string(after) != string(before) {
			t.Fatalf("%s became %s (%v)", before, after, err)
		}
		if _, err := once.Fields(); err != nil && invalid == nil {
			t.Errorf("%s isn't valid any more: %v", before, err)
		}
		if again := mask.Default().Event(once); invalid == nil && !reflect.DeepEqual(again, once) {
			t.Errorf("%+v and then %+v", once, again)
		}
	})
}

// TestLinear: a text that is ten times as long takes no more than some forty times as long, whatever it is made of.
func TestLinear(t *testing.T) {
	for _, piece := range []string{"password=", "token:", "--token ", `"password":`, "[", "{\"token\":{", "://a:b", "://", "mysql -p", "a'", `\"`, "$(", "eyJa.",
		"-----BEGIN PRIVATE KEY-----", "bearer aaaaaaa", "SG.", "echo a|", "arn:secret:", "x,token=", "x%3Dtoken%3D", "<password>", "set-cookie: a\\", "[masked]", "AAAAtoken", "Token",
		"token:\n", "token: |\n  x\n", "token:\n\n", "a:b@", " a:b@c.d", "token=\\", "token=\\\"", "${", "token=${", "stringData:", "kind: Secret data:", "<token a", "token%3A%20", "token='a''",
		"--from-literal=", "token('", "--stdin<<<", "LS0tLS1CRUdJTiBQUklW", "setx ", "with x by "} {
		took := func(n int) time.Duration {
			text := strings.Repeat(piece, n/len(piece))
			best := time.Hour
			for range 3 {
				began := time.Now()
				mask.Default().Text(text)
				best = min(best, time.Since(began))
			}
			return best
		}
		var short, long time.Duration
		for range 5 { // others use this machine too
			if short, long = took(20_000), took(200_000); long <= 40*max(short, 100*time.Microsecond) {
				break
			}
		}
		if long > 40*max(short, 100*time.Microsecond) {
			t.Errorf("%q: %v for 20 kB, %v for 200 kB", piece, short, long)
		}
	}
}
