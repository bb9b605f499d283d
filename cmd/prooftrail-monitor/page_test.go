package main

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// hostile is what a log, a peer or an error may be called.
const hostile = "</title></style><script>alert(1)</script>\"'><img src=x onerror=alert(1)> javascript:alert(1) {{.}} \u202e\x00"

// secretText is in each text that only the operator may see.
const secretText = "10.9.8.7:6543"

// fullView has everything in it that a page can show, each text hostile.
func fullView() view {
	now := time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)
	head := func(size uint64) *verifier.Checkpoint { return &verifier.Checkpoint{Origin: hostile, Size: size} }
	err := errors.New(hostile + secretText)
	s := monitor.Status{
		Started: now.Add(-time.Hour),
		Logs: []monitor.LogStatus{
			{Origin: hostile, ID: strings.Repeat("a", 64), URL: hostile, Checked: head(5), Seen: head(9), Served: head(9), ServedAt: now, LookedAt: now,
				Grown: now, Err: err, ReadErr: err, BookErr: err, Cosigned: []verifier.Cosignature{{Witness: hostile, Time: now}}, Quorum: verifier.Quorum,
				Witnesses: 2, Read: 7, Forked: true, Mirrored: 5},
			{Origin: "example.com/new", ID: strings.Repeat("b", 64)},
		},
		Peers: []monitor.PeerStatus{{Name: hostile, Kind: monitor.Gossip, URL: hostile, OK: now, Err: err, Views: map[string]gossip.Verdict{hostile: gossip.Contradicts, "": ""}},
			{Name: "new", Views: map[string]gossip.Verdict{}}},
		Evidence: []monitor.EvidenceStatus{{ID: strings.Repeat("c", 64), File: hostile + secretText, Origin: hostile, Fork: &verifier.Fork{}}, {ID: "d"}},
	}
	a := alarm.Alarm{Name: "fork", Log: hostile, Peer: hostile, Severity: alarm.Critical, Summary: hostile + secretText, Details: map[string]string{"from": secretText},
		Since: now, Ack: &alarm.Ack{By: hostile + secretText, Note: hostile + secretText}}
	v := makeView(hostile, now, s, []alarm.Alarm{a, {Name: hostile, Severity: alarm.Severity(hostile)}})
	v.NotReady = []string{hostile + secretText}
	v.Sinks = []alarm.SinkHealth{{Name: hostile, LastError: hostile + secretText}}
	v.Witness = &witnessView{VerifierKeys: []string{hostile}, Cosigned: []witnessHead{{Origin: hostile, Head: &headView{1, hostile}}, {Origin: hostile}}}
	return v
}

func show(t *testing.T, v view) (string, http.Header) {
	t.Helper()
	w := httptest.NewRecorder()
	servePage(func(*http.Request) view { return v }, slog.New(slog.DiscardHandler))(w, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	return w.Body.String(), w.Header()
}

// TestPageEscapes: whatever logs and peers are called, the page has the elements and attributes of the
// template, and no others.
func TestPageEscapes(t *testing.T) {
	for name, v := range map[string]view{"operator": fullView(), "public": fullView().public()} {
		t.Run(name, func(t *testing.T) {
			text, header := show(t, v)
			if csp := header.Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'none'; style-src 'unsafe-inline'") {
				t.Errorf("Content-Security-Policy: %s", csp)
			}
			doc, err := html.Parse(strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			elements := strings.Fields("html head meta title style body h1 h2 p div table tbody tr th td span br code a pre")
			attributes := strings.Fields("lang charset name content http-equiv class colspan href download")
			found := 0
			for n := range doc.Descendants() {
				if n.Type == html.ElementNode && !slices.Contains(elements, n.Data) {
					t.Errorf("an element %s", n.Data)
				}
				for _, a := range n.Attr {
					if !slices.Contains(attributes, a.Key) {
						t.Errorf("an attribute %s of %s", a.Key, n.Data)
					}
					if a.Key == "href" && !regexp.MustCompile(`^/(gossip/v1/(logs/[0-9a-f]+/heads|evidence/[0-9a-f]+)|mirror/[0-9a-f]+/checkpoint)$`).MatchString(a.Val) {
						t.Errorf("a link to %q", a.Val)
					}
				}
				if n.Type == html.TextNode && strings.Contains(n.Data, "<script>alert(1)</script>") {
					found++
				}
			}
			if found < 8 {
				t.Errorf("the hostile text is shown %d times as text", found)
			}
		})
	}
}

// TestPublicPage: addresses, errors and notes are the operator's alone.
func TestPublicPage(t *testing.T) {
	full, _ := show(t, fullView())
	public, _ := show(t, fullView().public())
	if n := strings.Count(full, secretText); n < 8 {
		t.Errorf("the operator's page shows %d of the texts that it is to show", n)
	}
	if strings.Contains(public, secretText) {
		t.Error("the public page shows what only the operator may see")
	}
	if !strings.Contains(public, meanings["fork"]) || !strings.Contains(public, "prooftrail-verify evidence "+strings.Repeat("c", 64)+".evidence") {
		t.Error("the public page lacks the alarm's meaning, or how to check the evidence")
	}
	var b bytes.Buffer
	v := fullView()
	v.text(&b)
	if strings.ContainsAny(b.String(), "\x00\u202e") || !strings.Contains(b.String(), "log   ") {
		t.Errorf("the text has characters that do something to a terminal: %q", b.String())
	}
}

// TestStates: one word for a log.
func TestStates(t *testing.T) {
	head := &verifier.Checkpoint{Size: 5}
	for want, l := range map[string]monitor.LogStatus{
		"follows": {Served: head, Seen: head, Checked: head},
		"reading": {Served: head, Seen: head, Checked: &verifier.Checkpoint{Size: 4}},
		"silent":  {Served: head, Seen: head, Checked: head, Err: io.EOF},
		"forked":  {Served: head, Forked: true},
		"wrong":   {Origin: "o", Served: head, Seen: head, Checked: head},
	} {
		if got := viewLog(&l, []alarm.Alarm{{Log: "o", Severity: alarm.Critical}, {Log: "p", Severity: alarm.Critical}}).State; got != want {
			t.Errorf("%s, expected %s", got, want)
		}
	}
}

// TestMeanings: each alarm that there is has its meaning and its section in docs/operate/monitor.md.
func TestMeanings(t *testing.T) {
	watch, err := os.ReadFile("../../verifier/monitor/watch.go")
	if err != nil {
		t.Fatal(err)
	}
	names := map[string]bool{witnessFailing: true, alarm.Overflow: true, alarm.SinkFailing: true, alarm.StateUnwritable: true, alarm.StateDamaged: true}
	for _, m := range regexp.MustCompile(`\n\talarm[A-Z]\w+ += "([a-z-]+)"`).FindAllStringSubmatch(string(watch), -1) {
		names[m[1]] = true
	}
	if len(names) < 20 {
		t.Fatalf("only %d names were found", len(names))
	}
	for n := range names {
		if meanings[n] == "" {
			t.Errorf("%s has no meaning", n)
		}
	}
	for n := range meanings {
		if !names[n] {
			t.Errorf("there is no alarm %s", n)
		}
	}
}
