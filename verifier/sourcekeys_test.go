package verifier

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// sourceSigner is a source's key that is always the same for a name.
func sourceSigner(t testing.TB, name string) (s note.Signer, vkey string) {
	t.Helper()
	return testKey(t, name)
}

// sealedBy makes an entry of a source; edit, if not nil, changes the envelope before the log seals it.
func (l *testLog) sealedBy(source, tenant string, s note.Signer, edit func(*seal.Envelope)) seal.Sealed {
	l.t.Helper()
	at := testStart.Add(time.Duration(len(l.leaves)) * time.Second)
	raw := fmt.Appendf(nil, `{"schema":"prooftrail.event/1","id":"e-%d","source":%q,"time":%q,"action":"auth.login","outcome":"success",`+
		`"actor":{"type":"user","id":"u","name":"Ann"},"target":[{"type":"session","id":"s"}]}`, len(l.leaves), source, at.Format(time.RFC3339))
	f, err := event.Parse(raw)
	if err != nil {
		l.t.Fatal(err)
	}
	e := &seal.Envelope{Salts: seal.ChosenSalts{}}
	if s != nil {
		if e, err = seal.SignEvent(raw, f, s); err != nil {
			l.t.Fatal(err)
		}
	}
	if edit != nil {
		edit(e)
	}
	f, err = f.Stamp(event.Stamp{Tenant: tenant, ReceivedAt: at, Principal: "p", Signature: e.Signature})
	if err != nil {
		l.t.Fatal(err)
	}
	c, err := seal.Commit(f, e.Salts)
	if err != nil {
		l.t.Fatal(err)
	}
	return c.At(at)
}

// signs appends such an entry.
func (l *testLog) signs(source, tenant string, s note.Signer, edit func(*seal.Envelope)) *seal.Opening {
	l.t.Helper()
	sealed := l.sealedBy(source, tenant, s, edit)
	l.leaves, l.openings = append(l.leaves, sealed.Leaf), append(l.openings, sealed.Opening)
	o, err := seal.ParseOpening(sealed.Opening)
	if err != nil {
		l.t.Fatal(err)
	}
	return o
}

func mustSourceKeys(t testing.TB, text string) *SourceKeys {
	t.Helper()
	k, err := ParseSourceKeys([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestParseSourceKeys(t *testing.T) {
	_, key := sourceSigner(t, "node-7.example.com")
	_, witness := testWitness(t, "w1")
	good := "# keys\n\n \tcron://a/  " + key + "\t2026-01-31T23:59:59Z until=2027-01-31T00:00:00Z tenant=acme optional \n" +
		"cron://b " + key + " optional until=2027-01-31T00:00:00Z\n" + "cron://ü " + key + "\n"
	k := mustSourceKeys(t, good)
	if l := k.lines[0]; len(k.lines) != 3 || l.prefix != "cron://a/" || l.from.Unix() != 1769903999 || l.until.Year() != 2027 || l.tenant != "acme" || !l.optional || k.lines[2].optional {
		t.Errorf("%+v", k.lines)
	}
	for text, want := range map[string]string{
		"":                            "no key",
		"# none\n":                    "no key",
		"cron://a " + key:             "cut short",
		"\ncron://a\n":                "line 2: expected",
		"cron://a " + witness + "\n":  "signature type",
		"cron://a " + key + "A\n":     "verifier key",
		"cron://a " + key + " now\n":  `"now"`,
		"cron://a " + key + " 2026\n": `"2026"`,
		"cron://a " + key + " 2026-01-31T23:59:59+00:00\n":                               "expected a time",
		"cron://a " + key + " 2026-01-31T23:59:59.5Z\n":                                  "expected a time",
		"cron://a " + key + " 1969-01-31T23:59:59Z\n":                                    "expected a time",
		"cron://a " + key + " optional 2026-01-31T23:59:59Z\n":                           "at first",
		"cron://a " + key + " optional optional\n":                                       "each once",
		"cron://a " + key + " tenant=a tenant=b\n":                                       "each once",
		"cron://a " + key + " tenant=\n":                                                 "each once",
		"cron://a " + key + " until=2026-01-31T23:59:59Z until=2026-01-31T23:59:59Z\n":   "each once",
		"cron://a " + key + " 2026-01-31T23:59:59Z until=2026-01-31T23:59:59Z\n":         "later than from",
		"cron://a " + key + "\r\n":                                                       "not allowed",
		"cron://a " + key + "\x00\n":                                                     "not allowed",
		strings.Repeat("x", MaxSourceKeysBytes+1):                                        "more than",
		"cron://a " + strings.Replace(key, "node-7", strings.Repeat("n", 600), 1) + "\n": "verifier key",
	} {
		if _, err := ParseSourceKeys([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.200q: %v, want %q", text, err, want)
		}
	}
}

// FuzzParseSourceKeys: what is read says of each source whether it must sign, and no line that isn't there changes that.
func FuzzParseSourceKeys(f *testing.F) {
	_, key := sourceSigner(f, "node-7.example.com")
	for _, s := range []string{"", "cron://a " + key + "\n", "#\ncron://a\t" + key + " 2026-01-31T23:59:59Z until=2027-01-31T00:00:00Z tenant=acme optional\n",
		"cron://a " + key + " optional\ncron:// " + key + " 2026-01-31T23:59:59Z\n", "cron://a " + key + " until=x\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		k, err := ParseSourceKeys(b)
		if err != nil {
			return
		}
		again, err := ParseSourceKeys([]byte("# a comment\n\n" + string(b)))
		if err != nil || len(again.lines) != len(k.lines) {
			t.Fatalf("%q: %v with a comment in front", b, err)
		}
		for i := range k.lines {
			l := &k.lines[i]
			lines, required := k.of(l.tenant, l.prefix, l.from)
			if len(lines) == 0 || !required && !l.optional {
				t.Errorf("%q: line %d isn't found, or requires nothing", b, i)
			}
		}
		if strings.Count(string(b), "optional") == 0 {
			if _, required := k.of("t", "no such source", time.Now()); required {
				for i := range k.lines {
					if strings.HasPrefix("no such source", k.lines[i].prefix) {
						return
					}
				}
				t.Errorf("%q: a source without a key must sign", b)
			}
		}
	})
}

// TestSourceKeysCheck: each kind of signature, by each kind of line.
func TestSourceKeysCheck(t *testing.T) {
	l := newTestLog(t, 0)
	s, key := sourceSigner(t, "node-7.example.com")
	_, next := sourceSigner(t, "node-7.example.com/2")
	stranger, _ := sourceSigner(t, "stranger")
	const source = "cron://node-7/main"
	at := testStart.Format("2006-01-02T15:04:05Z")
	later := testStart.Add(time.Hour).Format("2006-01-02T15:04:05Z")
	signed := l.sealedOpening(source, s, nil)
	openings := map[string]*seal.Opening{
		"signed": signed, "unsigned": l.sealedOpening(source, nil, nil), "stranger": l.sealedOpening(source, stranger, nil),
		"stripped": l.sealedOpening(source, s, func(e *seal.Envelope) { e.Signature = "" }),
		"salts":    l.sealedOpening(source, s, func(e *seal.Envelope) { e.Salts = nil }),
		"swapped": l.sealedOpening(source, s, func(e *seal.Envelope) {
			e.Signature = signed.Text("/ingest/signature")
		}),
		"malformed":     l.sealedOpening(source, s, func(e *seal.Envelope) { e.Signature = "node-7.example.com AAAA" }),
		"withheld":      must(t)(signed.Withhold("/ingest/signature")),
		"erased":        must(t)(signed.Erase(9, "/ingest/signature")),
		"source hidden": must(t)(signed.Withhold("/source")),
		"tenant hidden": must(t)(signed.Withhold("/tenant")),
		"less":          must(t)(must(t)(signed.Erase(9, "/actor", "/target")).Withhold("/id", "/time", "/action")),
	}
	for _, c := range []struct {
		keys, opening string
		want          SignatureStatus
		failed        bool
		hidden        bool
	}{
		{"cron://node-7/ " + key, "signed", SignatureGood, false, false},
		{"cron://node-7/ " + key, "less", SignatureGood, false, false},
		{"cron://node-7/ " + key, "unsigned", SignatureMissing, true, false},
		{"cron://node-7/ " + key, "stripped", SignatureMissing, true, false},
		{"cron://node-7/ " + key, "stranger", SignatureOtherKey, true, false},
		{"cron://node-7/ " + key, "salts", SignatureWrong, true, false},
		{"cron://node-7/ " + key, "swapped", SignatureWrong, true, false},
		{"cron://node-7/ " + key, "malformed", SignatureWrong, true, false},
		{"cron://node-7/ " + key, "withheld", SignatureHidden, false, true},
		{"cron://node-7/ " + key, "erased", SignatureHidden, false, true},
		{"cron://node-7/ " + key, "source hidden", SignatureHidden, false, true},
		{"cron://node-7/ " + key, "tenant hidden", SignatureGood, false, false},
		{"cron://node-7/ " + key + " tenant=default", "tenant hidden", SignatureHidden, false, true},
		{"cron://node-7/ " + key + " tenant=default", "unsigned", SignatureMissing, true, false},
		{"cron://node-7/ " + key + " tenant=acme", "unsigned", SignatureNotAsked, false, false},
		{"cron://node-8/ " + key, "unsigned", SignatureNotAsked, false, false},
		{"cron://node-7/ " + next, "signed", SignatureOtherKey, true, false},
		{"cron://node-7/ " + next + "\ncron:// " + key, "signed", SignatureGood, false, false},
		{"cron://node-7/ " + key + " optional", "unsigned", SignatureMissing, false, false},
		{"cron://node-7/ " + key + " optional", "stranger", SignatureOtherKey, false, false},
		{"cron://node-7/ " + key + " optional", "swapped", SignatureWrong, true, false},
		{"cron://node-7/ " + key + " optional", "withheld", SignatureHidden, false, false},
		{"cron://node-7/ " + key + " optional\ncron:// " + key, "unsigned", SignatureMissing, true, false},
		{"cron://node-7/ " + key + " " + at, "unsigned", SignatureMissing, true, false},
		{"cron://node-7/ " + key + " " + later, "unsigned", SignatureMissing, false, false},
		{"cron://node-7/ " + key + " " + later, "signed", SignatureGood, false, false},
		{"cron://node-7/ " + key + " until=" + later, "signed", SignatureGood, false, false},
		{"cron://node-7/ " + key + " until=" + at, "signed", SignatureOtherKey, true, false},
		{"cron://node-7/ " + key + " until=" + at, "unsigned", SignatureMissing, true, false},
	} {
		v := mustSourceKeys(t, c.keys+"\n").Check(openings[c.opening])
		if v.Status != c.want || v.Failed() != c.failed || v.Hidden() != c.hidden || (c.failed || c.hidden) && v.Reason() == "" {
			t.Errorf("%s: %s: %+v, failed %v, hidden %v", strings.ReplaceAll(strings.ReplaceAll(c.keys, key, "KEY"), next, "NEXT"), c.opening, v, v.Failed(), v.Hidden())
		}
	}
}

func must(t *testing.T) func(*seal.Opening, error) *seal.Opening {
	return func(o *seal.Opening, err error) *seal.Opening {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return o
	}
}

// sealedOpening is the opening of an entry that isn't in the log.
func (l *testLog) sealedOpening(source string, s note.Signer, edit func(*seal.Envelope)) *seal.Opening {
	l.t.Helper()
	o, err := seal.ParseOpening(l.sealedBy(source, "default", s, edit).Opening)
	if err != nil {
		l.t.Fatal(err)
	}
	return o
}

// TestAuditSignatures: the audit counts, of each source, what the signatures are worth, and a log that has stripped or
// swapped one fails.
func TestAuditSignatures(t *testing.T) {
	s, key := sourceSigner(t, "node-7.example.com")
	stranger, _ := sourceSigner(t, "stranger")
	keys := mustSourceKeys(t, "cron://node-7/ "+key+"\ncron://node-8/ "+key+" optional\n")
	audit := func(l *testLog, state State) (*AuditReport, error) {
		t.Helper()
		l.publish()
		return Audit(t.Context(), AuditConfig{Source: l, Policy: l.policy, Openings: l, SourceKeys: keys, State: state})
	}
	l := newTestLog(t, 0)
	for range 300 {
		l.signs("cron://node-7/main", "default", s, nil)
		l.signs("cron://node-8/main", "default", nil, nil)
		l.signs("cron://node-9/main", "default", nil, nil)
	}
	l.signs("cron://node-8/main", "default", stranger, nil)
	r, err := audit(l, nil)
	want := []SignatureReport{{Tenant: "default", Source: "cron://node-7/main", Good: 300}, {Tenant: "default", Source: "cron://node-8/main", Unsigned: 300, OtherKey: 1}}
	if err != nil || fmt.Sprint(r.Signatures) != fmt.Sprint(want) || r.MoreSignatures != nil || r.SignaturesHidden() {
		t.Fatalf("%+v, %v", r.Signatures, err)
	}
	var withheld []byte
	for name, c := range map[string]struct {
		do     func(l *testLog)
		reason string
		want   SignatureReport
	}{
		"stripped": {func(l *testLog) {
			l.signs("cron://node-7/main", "default", s, func(e *seal.Envelope) { e.Signature = "" })
		},
			"entry 901: source signature: its source has to sign it", SignatureReport{Good: 300, Unsigned: 1, Failed: 1}},
		"swapped for another key's": {func(l *testLog) { l.signs("cron://node-7/main", "default", stranger, nil) },
			`entry 901: source signature: it is signed by another key than its source's, named "stranger"`, SignatureReport{Good: 300, OtherKey: 1, Failed: 1}},
		"swapped for another event's": {func(l *testLog) {
			other := l.sealedOpening("cron://node-7/main", s, nil).Text("/ingest/signature")
			l.signs("cron://node-7/main", "default", s, func(e *seal.Envelope) { e.Signature = other })
		}, "entry 901: source signature: its source's signature is wrong", SignatureReport{Good: 300, Wrong: 1, Failed: 1}},
		"salts of its own": {func(l *testLog) {
			l.signs("cron://node-7/main", "default", s, func(e *seal.Envelope) { e.Salts = nil })
		},
			"entry 901: source signature: its source's signature is wrong", SignatureReport{Good: 300, Wrong: 1, Failed: 1}},
		"withheld": {func(l *testLog) {
			o := must(t)(l.signs("cron://node-7/main", "default", nil, nil).Withhold("/source"))
			l.openings[901] = o.Bytes()
			withheld = o.Bytes()
		}, "", SignatureReport{Good: 300}},
		"erased": {func(l *testLog) {
			o := must(t)(l.signs("cron://node-7/main", "default", s, nil).Erase(902, "/actor", "/target"))
			l.openings[901] = o.Bytes()
			l.signs("cron://node-9/main", "default", nil, nil)
		}, "", SignatureReport{Good: 301}},
	} {
		t.Run(name, func(t *testing.T) {
			own := l.clone()
			own.t = t
			c.do(own)
			r, err := audit(own, nil)
			c.want.Tenant, c.want.Source = "default", "cron://node-7/main"
			got := SignatureReport{}
			for _, s := range r.Signatures {
				if s.Source == c.want.Source {
					got = s
				}
			}
			if got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if (c.reason != "") != errors.Is(err, ErrFailed) || c.reason != "" && !strings.Contains(err.Error(), c.reason) {
				t.Errorf("%v, want %q", err, c.reason)
			}
			if r.SignaturesHidden() != (name == "withheld") {
				t.Errorf("hidden: %v", r.SignaturesHidden())
			}
		})
	}
	if len(withheld) == 0 {
		t.Error("nothing was withheld")
	}
	state := FileState(filepath.Join(t.TempDir(), "state"))
	if _, err := audit(l, state); err != nil {
		t.Fatal(err)
	}
	own := l.clone()
	maps.Copy(own.lines, l.lines)
	own.signs("cron://node-7/main", "default", s, nil)
	if r, err := audit(own, state); err != nil || len(r.Signatures) != 1 || r.Signatures[0].Good != 1 || r.OpeningsFrom != 901 {
		t.Errorf("from a state on: %+v from %d, %v", r.Signatures, r.OpeningsFrom, err)
	}
}

// TestAuditManySignedSources: sources that somebody makes up don't fill the memory.
func TestAuditManySignedSources(t *testing.T) {
	_, key := sourceSigner(t, "node-7.example.com")
	keys := mustSourceKeys(t, "cron://node-7/ "+key+" optional\n")
	var s signatures
	for i := range maxSignatureSources + 10 {
		s.of(sourceKey{"default", fmt.Sprint("cron://node-7/", i)}).count(SignatureVerdict{Status: SignatureMissing})
	}
	list, rest := s.report()
	if len(list) != maxSignatureSources || rest == nil || rest.Unsigned != 10 {
		t.Errorf("%d sources, and %+v", len(list), rest)
	}
	var all signatures
	all.add(&s)
	all.add(&s)
	if _, rest := all.report(); rest.Unsigned != 20 {
		t.Errorf("%+v", rest)
	}
	l := newTestLog(t, 3)
	if _, err := Audit(t.Context(), AuditConfig{Source: l, Policy: l.policy, SourceKeys: keys}); err == nil || errors.Is(err, ErrFailed) {
		t.Errorf("without openings: %v", err)
	}
}

// TestAuditUnshownSignature: what isn't shown is asked for again by each audit that goes on from the same state, until it is.
func TestAuditUnshownSignature(t *testing.T) {
	s, key := sourceSigner(t, "node-7.example.com")
	keys := mustSourceKeys(t, "cron://node-7/ "+key+"\n")
	l := newTestLog(t, 0)
	for range 600 {
		l.signs("cron://node-7/main", "default", s, nil)
	}
	l.openings[300] = must(t)(must(t)(seal.ParseOpening(l.openings[300])).Withhold("/ingest/signature")).Bytes()
	l.publish()
	state := FileState(filepath.Join(t.TempDir(), "state"))
	for n := range 2 {
		r, err := Audit(t.Context(), AuditConfig{Source: l, Policy: l.policy, Openings: l, SourceKeys: keys, State: state})
		if err != nil || !r.SignaturesHidden() {
			t.Errorf("audit %d: %+v from %d, %v", n, r.Signatures, r.OpeningsFrom, err)
		}
	}
}

// TestAuditUnusedSourceKeys: a file whose keys are of no source in the log checks nothing, and that is said.
func TestAuditUnusedSourceKeys(t *testing.T) {
	s, key := sourceSigner(t, "node-7.example.com")
	l := newTestLog(t, 0)
	for range 300 {
		l.signs("cron://node-7/main", "default", s, nil)
	}
	l.publish()
	state := FileState(filepath.Join(t.TempDir(), "state"))
	for _, c := range []struct {
		file      string
		unused    []UnusedSourceKey
		unmatched bool
		state     State
	}{
		{"cron://node-7/ " + key + "\n", nil, false, nil},
		{"# keys\ncron://node7/ " + key + "\ncron://node-7/ " + key + " tenant=acme\n", []UnusedSourceKey{{2, "cron://node7/", ""}, {3, "cron://node-7/", "acme"}}, true, state},
		{"cron://node-7/ " + key + "\ncron://node-8/ " + key + "\n", []UnusedSourceKey{{2, "cron://node-8/", ""}}, false, nil},
		{"cron://node-7/ " + key + "\n", []UnusedSourceKey{{1, "cron://node-7/", ""}}, false, state}, // nothing is new
	} {
		r, err := Audit(t.Context(), AuditConfig{Source: l, Policy: l.policy, Openings: l, SourceKeys: mustSourceKeys(t, c.file), State: c.state})
		if err != nil || fmt.Sprint(r.UnusedSourceKeys) != fmt.Sprint(c.unused) || r.SignaturesUnmatched() != c.unmatched {
			t.Errorf("%q: %+v, unmatched %v, %v", c.file, r.UnusedSourceKeys, r.SignaturesUnmatched(), err)
		}
	}
}
