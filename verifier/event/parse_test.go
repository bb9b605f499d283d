package event

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// sample is an event of usual size: 29 fields, some 1000 bytes.
const sample = `{
 "schema":"prooftrail.event/1","id":"0198f2a4-7c3e-7b1a-9f00-5d0c8a1e2b3c","source":"cron://node-7.example.com/main",
 "seq":"18234","time":"2026-01-31T23:59:58.123456789Z","action":"job.update","outcome":"success",
 "actor":{"type":"user","id":"u-1842","name":"Zoë Müller","session_id":"s-99","auth_method":"oidc"},
 "origin":{"ip":"203.0.113.9","port":50412,"user_agent":"curl/8.5.0","request_id":"req-7f3a"},
 "target":[{"type":"job","id":"job-77","name":"nightly-backup"}],
 "job":{"id":"job-77","name":"nightly-backup","schedule":"*/5 * * * *","tz":"Europe/Berlin"},
 "change":{"before_sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","patch":[{"op":"replace","path":"/schedule","value":"*/5 * * * *"}]},
 "labels":{"env":"prod","team":"data"},
 "details":{"ticket":"OPS-1","attempts":3}}`

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	data := []byte(sample)
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := Parse(data); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStamp(b *testing.B) {
	b.ReportAllocs()
	f := mustParse(b, sample)
	for b.Loop() {
		if _, err := f.Stamp(testStamp); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkJSON(b *testing.B) {
	b.ReportAllocs()
	f := mustParse(b, sample)
	for b.Loop() {
		f.JSON()
	}
}

var testStamp = Stamp{
	Tenant: "default", ReceivedAt: time.Date(2026, 1, 31, 23, 59, 59, 120_000_000, time.FixedZone("", 3600)),
	Principal: "token-1", PeerIP: "198.51.100.7", Adapter: "syslog", RawSHA256: zeros, Signature: "key AAAA",
}

func mustParse(t testing.TB, event string) Fields {
	t.Helper()
	f, err := Parse([]byte(event))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// refusal returns err's Error, whose text must not hold secret.
func refusal(t *testing.T, err error) *Error {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("error %v, want an *Error", err)
	}
	return e
}

func TestRoundTrip(t *testing.T) {
	for _, v := range eventVectors() {
		if v.code != "" || v.how != "submitted" || strings.HasPrefix(v.name, "value-") {
			continue
		}
		f := mustParse(t, v.input)
		again := mustParse(t, string(f.JSON()))
		if !reflect.DeepEqual(f, again) {
			t.Errorf("%s: fields differ after a round trip", v.name)
		}
		if canonical, err := Canonical(f.JSON()); err != nil || !bytes.Equal(canonical, f.JSON()) {
			t.Errorf("%s: JSON isn't canonical: %v", v.name, err)
		}
		if canonical, err := Canonical([]byte(v.input)); err == nil && !bytes.Equal(canonical, f.JSON()) {
			t.Errorf("%s: JSON differs from the canonical form of the input", v.name)
		}
	}
}

// TestTruncated cuts events everywhere: nothing but the whole is an event.
func TestTruncated(t *testing.T) {
	for _, event := range []string{sample, goodEvents[2].input} {
		for n := range len(event) {
			if _, err := Parse([]byte(event[:n])); err == nil {
				t.Fatalf("the first %d bytes are an event", n)
			}
		}
	}
}

// TestEveryByte puts every byte at every place: whatever is still an event
// has the same meaning to a decoder that isn't ours.
func TestEveryByte(t *testing.T) {
	event := []byte(minimal)
	for i := range event {
		for c := range 256 {
			changed := bytes.Clone(event)
			changed[i] = byte(c)
			f, err := Parse(changed)
			if err != nil {
				continue
			}
			var got, want any
			if json.Unmarshal(f.JSON(), &got) != nil || json.Unmarshal(changed, &want) != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("byte %d as %#x: %s", i, c, f.JSON())
			}
		}
	}
}

func TestInputIsNotKept(t *testing.T) {
	data := []byte(sample)
	f, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	want := string(f.JSON())
	clear(data)
	if got := string(f.JSON()); got != want {
		t.Errorf("the event changed with the input: %s", got)
	}
}

func TestValuesDontOverlap(t *testing.T) {
	f := mustParse(t, sample)
	want := string(f.JSON())
	for i := range f {
		_ = append(f[i].Value, "overflow"...)
	}
	if got := string(f.JSON()); got != want {
		t.Errorf("appending to a value changed another: %s", got)
	}
}

func TestErrorHoldsNoValue(t *testing.T) {
	const secret = "hunter2"
	for _, event := range []string{
		edit("cron:", secret+":"+secret+" "), edit("auth.login", secret), edit(`"success"`, `"`+secret+`"`),
		edit("2026-01-31T23:59:59Z", secret), edit(`"u-1"`, `["`+secret+`"]`), edit(`"u-1"`, secret),
		with(`"seq":"` + secret + `"`), with(`"labels":"` + secret + `"`), with(`"origin":{"ip":"` + secret + `"}`),
		with(`"change":{"patch":[{"op":"` + secret + `","path":"/a"}]}`),
		with(`"change":{"patch":[{"op":"remove","path":"` + secret + `"}]}`),
		with(`"details":{"a":["` + secret + `",null]}`), with(`"details":{"a":"` + secret + "\xff" + `"}`),
	} {
		_, err := Parse([]byte(event))
		if e := refusal(t, err); strings.Contains(e.Error(), secret) {
			t.Errorf("%v repeats the value", e)
		}
	}
}

func TestLongNamesAreCut(t *testing.T) {
	name := strings.Repeat("é", 10_000)
	_, err := Parse([]byte(with(`"` + name + `":1`)))
	if e := refusal(t, err); e.Code != CodeUnknown || len(e.Pointer) > 140 {
		t.Errorf("refused with %s and a pointer of %d bytes", e.Code, len(e.Pointer))
	}
}

func TestStamp(t *testing.T) {
	submitted := mustParse(t, sample)
	whole, err := submitted.Stamp(testStamp)
	if err != nil {
		t.Fatal(err)
	}
	for pointer, want := range map[string]string{
		"/tenant": "default", "/received_at": "2026-01-31T22:59:59.12Z", "/ingest/principal": "token-1",
		"/ingest/peer_ip": "198.51.100.7", "/ingest/adapter": "syslog", "/ingest/raw_sha256": zeros, "/ingest/signature": "key AAAA",
	} {
		if got := whole.Text(pointer); got != want {
			t.Errorf("%s is %q, want %q", pointer, got, want)
		}
	}
	if got := whole.Submitted(); !reflect.DeepEqual(got, submitted) {
		t.Errorf("Submitted of the stamped event: %v", got)
	}
	again, err := ParseStamped(whole.JSON())
	if err != nil || !reflect.DeepEqual(again, whole) {
		t.Errorf("ParseStamped of the stamped event: %v", err)
	}
	if err := Validate(whole); err != nil {
		t.Errorf("Validate: %v", err)
	}
	if _, err := whole.Stamp(testStamp); refusal(t, err).Code != CodeReserved {
		t.Errorf("stamped twice: %v", err)
	}
}

func TestStampRefuses(t *testing.T) {
	f := mustParse(t, minimal)
	for pointer, change := range map[string]func(*Stamp){
		"/tenant":            func(s *Stamp) { s.Tenant = "*" },
		"/received_at":       func(s *Stamp) { s.ReceivedAt = time.Time{} },
		"/ingest/peer_ip":    func(s *Stamp) { s.PeerIP = "10.0.0.1:80" },
		"/ingest/raw_sha256": func(s *Stamp) { s.RawSHA256 = "00" },
		"/ingest/signature":  func(s *Stamp) { s.Signature = "a\nb" },
		"/ingest/principal":  func(s *Stamp) { s.Principal = strings.Repeat("x", 513) },
	} {
		s := testStamp
		change(&s)
		if _, err := f.Stamp(s); err == nil || refusal(t, err).Pointer != pointer {
			t.Errorf("stamp with a bad %s: %v", pointer, err)
		}
	}
}

// TestStampedLimits: the largest submitted event, by fields and by bytes, can
// be stamped, and quoted by an event of the service's own.
func TestStampedLimits(t *testing.T) {
	f := mustParse(t, with(`"labels":{`+manyLabels(256-10)+`}`))
	if whole, err := f.Stamp(testStamp); err != nil || len(whole) != 263 {
		t.Errorf("stamp of 256 fields: %d fields, %v", len(whole), err)
	}
	quoted := strings.Repeat(`\"`, MaxBytes/2)
	own := stamp(strings.Replace(edit("auth.login", "audit.conflict"), "cron:", "prooftrail:", 1))
	own = strings.TrimSuffix(own, "}") + `,"details":{"attempt":` + string(AppendString(nil, quoted)) + `}}`
	if _, err := ParseStamped([]byte(own)); err != nil {
		t.Errorf("an event that quotes one of 256 KiB: %v", err)
	}
	own = strings.Replace(own, `"attempt":"`, `"attempt":"`+strings.Repeat("x", 130<<10), 1)
	if _, err := ParseStamped([]byte(own)); err == nil || refusal(t, err).Code != CodeSize {
		t.Errorf("an event of 642 KiB: %v", err)
	}
}

func TestValidate(t *testing.T) {
	whole, err := mustParse(t, sample).Stamp(testStamp)
	if err != nil {
		t.Fatal(err)
	}
	for i, field := range whole {
		without := slices.Delete(slices.Clone(whole), i, i+1)
		withheld := slices.Clone(whole)
		withheld[i].Value = nil
		if err := readFields(withheld); err != nil {
			t.Errorf("%s withheld: %v", field.Pointer, err)
		}
		if err := Validate(withheld); err == nil {
			t.Errorf("%s without a value is valid", field.Pointer)
		}
		if readFields(without) == nil != (Validate(without) == nil) {
			t.Errorf("%s left out: a Reader makes a difference", field.Pointer)
		}
		twice := slices.Insert(slices.Clone(whole), i, field)
		for _, err := range []error{Validate(twice), readFields(twice)} {
			if err == nil || refusal(t, err).Code != CodeOrder {
				t.Errorf("%s twice: %v", field.Pointer, err)
			}
		}
	}
	if Validate(nil) == nil || readFields(nil) == nil {
		t.Error("no fields are valid")
	}
}

// readFields has a Reader read the fields, of which those without a value are withheld.
func readFields(f Fields) error {
	var r Reader
	for _, field := range f {
		_, _, err := r.Pointer([]byte(field.Pointer + `"`))
		if err == nil && field.Value != nil {
			_, _, err = r.Value(field.Value)
		}
		if err != nil {
			return err
		}
	}
	return r.End()
}

// A Reader that has been reset knows nothing of the event before.
func TestReaderReset(t *testing.T) {
	whole, err := mustParse(t, sample).Stamp(testStamp)
	if err != nil {
		t.Fatal(err)
	}
	var r Reader
	for range 2 {
		for _, field := range whole {
			if _, _, err := r.Pointer([]byte(field.Pointer + `"`)); err != nil {
				t.Fatal(err)
			}
			if _, _, err := r.Value(field.Value); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.End(); err != nil {
			t.Fatal(err)
		}
		r.Reset()
	}
	if r.End() == nil {
		t.Error("no fields are valid")
	}
}

// TestWithheldDecides: where a withheld value would decide what else is needed,
// nothing else is.
func TestWithheldDecides(t *testing.T) {
	whole, err := ParseStamped([]byte(stamp(edit(`"auth.login","outcome":"success"`, `"run.finish","outcome":"success","job":{"id":"j"}`))))
	if err != nil {
		t.Fatal(err)
	}
	whole = slices.DeleteFunc(whole, func(f Field) bool { return f.Pointer == "/job/id" })
	if readFields(whole) == nil {
		t.Error("a run without a job is valid")
	}
	for i := range whole {
		if whole[i].Pointer == "/action" {
			whole[i].Value = nil
		}
	}
	if err := readFields(whole); err != nil {
		t.Errorf("a withheld action without a job: %v", err)
	}
}

func TestPointers(t *testing.T) {
	for pointer, want := range map[string]bool{
		"/id": true, "/actor/id": true, "/target/0/id": true, "/target/31/name": true, "/labels/a.b-c_D": true, "/details/x": true,
		"": false, "id": false, "/": false, "/actor": false, "/target": false, "/target/0": false, "/labels": false, "/details/": false,
		"/actor/id/x": false, "/actor/": false, "/target/00/id": false, "/target/01/id": false, "/target/+1/id": false,
		"/target/-1/id": false, "/target/32/id": false, "/target/0/id/": false, "/target/0/ID": false, "/target//id": false,
		"/target/1_0/id": false, "/target/0x1/id": false, "/details/a/b": false, "/details/a~1b": false, "/details/1": false,
		"/labels/" + strings.Repeat("x", 129): false, "/labels/é": false,
	} {
		if _, _, err := new(Reader).Pointer([]byte(pointer + `"`)); err == nil != want {
			t.Errorf("pointer %q: %v, want to accept it: %v", pointer, err, want)
		}
	}
}

func TestTargetsWithoutHoles(t *testing.T) {
	whole, err := ParseStamped([]byte(stamp(edit(`[{"type":"session","id":"s-1"}]`, manyTargets(12)))))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 12 {
		hole := slices.DeleteFunc(slices.Clone(whole), func(f Field) bool { return strings.HasPrefix(f.Pointer, targetPointer(i)+"/") })
		if got, want := readFields(hole) == nil, i == 11; got != want {
			t.Errorf("without target %d of 12: valid %v, want %v", i, got, want)
		}
	}
}

func TestReaderValue(t *testing.T) {
	for _, c := range []struct {
		pointer, data, value string // value is "" for a refusal
	}{
		{"/id", `"a","x"`, `"a"`}, {"/origin/port", `12}`, `12`}, {"/details/a", `{"a":[1]}]`, `{"a":[1]}`},
		{"/id", ` "a"`, ""}, {"/id", `"\u0041"`, ""}, {"/details/a", `{"b":1,"a":2}`, ""}, {"/details/a", `[1, 2]`, ""},
		{"/details/a", `{"a b":1}`, ""}, {"/id", ``, ""}, {"/id", `"`, ""}, {"/id", `"a`, ""},
		{"/change/patch", `[{"op":"add","path":"","value":{"a b":1}}]`, `[{"op":"add","path":"","value":{"a b":1}}]`},
		{"/actor/id", `"é\"\\\u0001"}`, `"é\"\\\u0001"`}, {"/actor/id", `"é\u0022"`, ""}, {"/actor/id", `"\/"`, ""}, {"/actor/id", `"\t"`, `"\t"`},
		{"/actor/id", `"\u0009"`, ""}, {"/actor/id", "\"\t\"", ""}, {"/actor/id", "\"a\xff\"", ""}, {"/actor/id", `"a\ud800"`, ""}, {"/details/a", `null`, ""},
		{"/details/a", strings.Repeat("[", 14) + strings.Repeat("]", 14), strings.Repeat("[", 14) + strings.Repeat("]", 14)},
		{"/details/a", strings.Repeat("[", 15) + strings.Repeat("]", 15), ""},
	} {
		var r Reader
		if _, _, err := r.Pointer([]byte(c.pointer + `"`)); err != nil {
			t.Fatal(err)
		}
		value, rest, err := r.Value([]byte(c.data))
		if (err == nil) != (c.value != "") || string(value) != c.value || err == nil && string(value)+string(rest) != c.data {
			t.Errorf("Value(%s, %s) = %s, %s, %v", c.pointer, c.data, value, rest, err)
		}
	}
}
