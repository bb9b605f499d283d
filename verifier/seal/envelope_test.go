package seal

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/internal/vectors"
)

// asSent is an event as a source has it, on one line.
func asSent(t testing.TB, text string) (raw []byte, f event.Fields) {
	t.Helper()
	raw = whole(t, text).Submitted().JSON()
	f, err := event.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	return raw, f
}

// seedEnvelope is the envelope of an event with salts that anybody can make again.
func seedEnvelope(t testing.TB, text string, s note.Signer) *Envelope {
	t.Helper()
	raw, f := asSent(t, text)
	e := &Envelope{Event: raw, Salts: seedSalts("seed").chosen(f)}
	n, root, err := SourceRoot(f, e.Salts)
	if err == nil {
		e.Signature, err = SignSource(n, root, s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestSignEvent(t *testing.T) {
	s, v := sourceKey(t, 'a')
	for _, text := range []string{minimal, full} {
		raw, f := asSent(t, text)
		e, err := SignEvent(raw, f, s)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseEnvelope(e.Append(nil))
		if err != nil || !bytes.Equal(again.Append(nil), e.Append(nil)) || !bytes.Equal(again.Event, raw) || !IsEnvelope(e.Append(nil)) {
			t.Fatalf("%s\nwas read as\n%s: %v", e.Append(nil), again.Append(nil), err)
		}
		if err := again.Check(f, v); err != nil {
			t.Error(err)
		}
		other, err := SignEvent(raw, f, s)
		if err != nil || other.Salts["/id"] == e.Salts["/id"] {
			t.Errorf("two envelopes have the same salt, or %v", err)
		}
	}
}

// TestEnvelopeForged changes each part of an envelope that holds.
func TestEnvelopeForged(t *testing.T) {
	s, v := sourceKey(t, 'a')
	_, f := asSent(t, full)
	for i := range f {
		e := seedEnvelope(t, full, s)
		e.Salts[f[i].Pointer] = [16]byte{1}
		wantRefused(t, f[i].Pointer+" with another salt", e.Check(f, v), CodeSignature, "/signature")
		delete(e.Salts, f[i].Pointer)
		wantRefused(t, f[i].Pointer+" without a salt", e.Check(f, v), event.CodeMissing, "/salts/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(f[i].Pointer))
		less := append(append(event.Fields{}, f[:i]...), f[i+1:]...)
		wantRefused(t, f[i].Pointer+" left out", seedEnvelope(t, full, s).Check(less, v), event.CodeUnknown, "/salts/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(f[i].Pointer))
		changed := append(event.Fields{}, f...)
		changed[i].Value = []byte(`"another"`)
		wantRefused(t, f[i].Pointer+" changed", seedEnvelope(t, full, s).Check(changed, v), CodeSignature, "/signature")
	}
	e := seedEnvelope(t, full, s)
	_, other := sourceKey(t, 'b')
	wantRefused(t, "another key", e.Check(f, other), CodeSignature, "/signature")
	e.Salts["/tenant"] = [16]byte{1}
	wantRefused(t, "a salt for a server's field", e.Check(f, v), event.CodeUnknown, "/salts/~1tenant")
	e = seedEnvelope(t, full, s)
	e.Signature = seedEnvelope(t, minimal, s).Signature
	wantRefused(t, "the signature of another event", e.Check(f, v), CodeSignature, "/signature")
}

func wantRefused(t *testing.T, what string, err error, code, pointer string) {
	t.Helper()
	var refused *EnvelopeError
	if !errors.As(err, &refused) || refused.Code != code || refused.Pointer != pointer {
		t.Errorf("%s: %v, want %s at %s", what, err, code, pointer)
	}
}

// TestIsEnvelope: an envelope is told from an event by its first name, as it stands.
func TestIsEnvelope(t *testing.T) {
	for text, want := range map[string]bool{
		`{"event":{`: true, " \t\r\n{ \n\"event\" : 1": true, `{"event"`: false, `{"event" `: false, `{"events":`: false,
		`{"Event":`: false, `{"\u0065vent":`: false, `{"id":1,"event":{}}`: false, `["event":`: false, ``: false, `{`: false, `{"eve`: false,
	} {
		if got := IsEnvelope([]byte(text)); got != want {
			t.Errorf("%q: %v", text, got)
		}
	}
	if minimalRaw, _ := asSent(t, minimal); IsEnvelope(minimalRaw) {
		t.Error("an event")
	}
}

func runEnvelope(c vectors.Case) (map[string]string, error) {
	v, err := note.NewVerifier(c.Header["vkey"])
	if err != nil {
		return nil, err
	}
	var f event.Fields
	e, err := ParseEnvelope(c.Blocks["envelope"])
	if err == nil {
		f, err = event.Parse(e.Event)
	}
	if err == nil {
		err = e.Check(f, v)
	}
	var refused *EnvelopeError
	if errors.As(err, &refused) {
		return nil, (*event.Error)(refused)
	}
	if err != nil {
		return nil, err
	}
	n, root, err := SourceRoot(f, e.Salts)
	return map[string]string{"event": string(f.JSON()), "signed": string(sourceText(v.Name(), n, root))}, err
}

func envelopeVectors(t testing.TB) []vectors.Case {
	s, _ := sourceKey(t, 'a')
	e := seedEnvelope(t, minimal, s)
	_, key := keyTexts(t, 'a')
	good := string(e.Append(nil))
	other := seedEnvelope(t, edits(t, minimal, `"e-1"`, `"e-2"`), s)
	const idSalt, nextSalt = `"/id":"`, `"/outcome":"`
	saltAt := func(name string) string { i := strings.Index(good, name) + len(name); return good[i : i+saltLen] }
	event, salts, signature := string(e.Event), good[strings.Index(good, `"salts"`):strings.Index(good, `,"signature"`)], good[strings.Index(good, `"signature"`):len(good)-1]
	var all []vectors.Case
	for _, c := range []struct{ name, desc, text, code, pointer string }{
		{"envelope", "an event with its salts and signature", good, "", ""},
		{"envelope-order", "salts and signature the other way round, white space, an escaped solidus", " {\n\"event\" : " + event + " ,\t" + strings.ReplaceAll(signature, "/", `\/`) + ",\r\n" + strings.ReplaceAll(salts, "/", `\/`) + "} ", "", ""},
		{"envelope-event-only", "an event without salts", `{"event":` + event + `}`, "missing", ""},
		{"envelope-no-salts", "a signature without salts", `{"event":` + event + "," + signature + `}`, "missing", "/salts"},
		{"envelope-no-signature", "salts without a signature", `{"event":` + event + "," + salts + `}`, "missing", "/signature"},
		{"envelope-member", "a member more", edits(t, good, `,"signature"`, `,"key":"","signature"`), "unknown", "/key"},
		{"envelope-twice", "salts twice", edits(t, good, `,"signature"`, ","+salts+`,"signature"`), "duplicate", "/salts"},
		{"envelope-event-twice", "another event behind", edits(t, good, `,"signature"`, `,"event":{},"signature"`), "unknown", "/event"},
		{"envelope-behind", "something behind the end", good + "{}", "syntax", ""},
		{"envelope-event-array", "an array in the event's place", edits(t, good, `"event":{`, `"event":[{`), "type", "/event"},
		{"envelope-salt-missing", "a field without a salt", edits(t, good, idSalt+saltAt(idSalt)+`",`, ""), "missing", "/salts/~1id"},
		{"envelope-salt-more", "a salt for a field that isn't there", edits(t, good, idSalt, `"/idd":"AAAAAAAAAAAAAAAAAAAAAA",`+idSalt), "unknown", "/salts/~1idd"},
		{"envelope-salt-server", "a salt for a field of the server's", edits(t, good, idSalt, `"/tenant":"AAAAAAAAAAAAAAAAAAAAAA",`+idSalt), "unknown", "/salts/~1tenant"},
		{"envelope-salt-twice", "one salt for two fields", edits(t, good, saltAt(idSalt), saltAt(nextSalt)), "duplicate", "/salts"},
		{"envelope-salt-name-twice", "two salts for one field", edits(t, good, idSalt, `"/id":"AAAAAAAAAAAAAAAAAAAAAA",`+idSalt), "duplicate", "/salts/~1id"},
		{"envelope-salt-short", "a salt of 15 bytes", edits(t, good, saltAt(idSalt), "AAAAAAAAAAAAAAAAAAAA"), "salt", "/salts/~1id"},
		{"envelope-salt-long", "a salt of 17 bytes", edits(t, good, saltAt(idSalt), "AAAAAAAAAAAAAAAAAAAAAAA"), "salt", "/salts/~1id"},
		{"envelope-salt-bits", "a salt with unused bits that aren't zero", edits(t, good, saltAt(idSalt), "AAAAAAAAAAAAAAAAAAAAAB"), "salt", "/salts/~1id"},
		{"envelope-salt-alphabet", "a salt in the other alphabet", edits(t, good, saltAt(idSalt), "////////////////////+A"), "salt", "/salts/~1id"},
		{"envelope-salt-number", "a number in a salt's place", edits(t, good, `"`+saltAt(idSalt)+`"`, "1"), "salt", "/salts/~1id"},
		{"envelope-salt-changed", "another salt than was signed", edits(t, good, saltAt(idSalt), "AAAAAAAAAAAAAAAAAAAAAA"), "signature", "/signature"},
		{"envelope-value", "a value that the source didn't sign", edits(t, good, `"u-1"`, `"u-2"`), "signature", "/signature"},
		{"envelope-other", "the signature of another event of the source", edits(t, good, e.Signature, other.Signature), "signature", "/signature"},
		{"envelope-signature-form", "a signature without its key's hash", edits(t, good, e.Signature, "node-7.example.com "+strings.Repeat("A", 86)+"=="), "format", "/signature"},
		{"envelope-null", "no signature, with null for it", edits(t, good, `"`+e.Signature+`"`, "null"), "null", "/signature"},
		{"envelope-event-bad", "an event that isn't valid", edits(t, good, `"auth.login"`, `"auth"`), "format", "/action"},
	} {
		v := vectors.Case{
			Name:   c.name,
			Header: map[string]string{"desc": c.desc, "expect": "ok", "kind": "envelope", "vkey": key},
			Blocks: map[string][]byte{"envelope": []byte(c.text)},
		}
		if c.code != "" {
			refuse(v, c.code, c.pointer)
		}
		all = append(all, v)
	}
	return all
}

// FuzzParseEnvelope: what is read is written again as something that reads the same, and
// whatever is read, the signature is good only of the event that it was made of.
func FuzzParseEnvelope(f *testing.F) {
	s, v := sourceKey(f, 'a')
	good := seedEnvelope(f, minimal, s)
	for _, c := range envelopeVectors(f) {
		f.Add(c.Blocks["envelope"])
	}
	_, want := asSent(f, minimal)
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEnvelope(data)
		if err != nil {
			var refused *EnvelopeError
			if !errors.As(err, &refused) {
				t.Errorf("error %v", err)
			}
			return
		}
		if !IsEnvelope(data) {
			t.Error("an envelope that isn't told from an event")
		}
		again, err := ParseEnvelope(e.Append(nil))
		if err != nil || !bytes.Equal(again.Append(nil), e.Append(nil)) || again.Signature != e.Signature || !bytes.Equal(again.Event, e.Event) {
			t.Fatalf("%s was read again as %s: %v", e.Append(nil), again.Append(nil), err)
		}
		fields, err := event.Parse(e.Event)
		if err == nil && e.Check(fields, v) == nil && (!bytes.Equal(fields.JSON(), want.JSON()) || e.Signature != good.Signature) {
			t.Errorf("the signature of another event is good: %s", data)
		}
	})
}
