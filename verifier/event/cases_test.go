package event

import (
	"fmt"
	"strings"
)

// minimal is the smallest event there is; with adds members to it, and edit
// replaces text in it.
const minimal = `{"schema":"prooftrail.event/1","id":"e-1","source":"cron://a.example","time":"2026-01-31T23:59:59Z",` +
	`"action":"auth.login","outcome":"success","actor":{"type":"user","id":"u-1"},"target":[{"type":"session","id":"s-1"}]}`

func with(members string) string { return strings.TrimSuffix(minimal, "}") + "," + members + "}" }

func edit(old, new string) string { return editIn(minimal, old, new) }

func editIn(text, old, new string) string {
	if !strings.Contains(text, old) {
		panic("no " + old + " in " + text)
	}
	return strings.Replace(text, old, new, 1)
}

// stamp adds the server's members.
func stamp(event string) string {
	return strings.TrimSuffix(event, "}") + `,"tenant":"default","received_at":"2026-01-31T23:59:59.5Z",` +
		`"ingest":{"principal":"token-1","peer_ip":"198.51.100.7"}}`
}

// A vector is a case of testdata/vectors/event, from which its file is written.
type vector struct {
	name, desc    string
	how           string // submitted, stamped, value
	input         string
	code, pointer string // of the refusal; code is "" for what is accepted
}

func ok(name, desc, input string) vector {
	return vector{name: name, desc: desc, how: "submitted", input: input}
}

func bad(name, desc, code, pointer, input string) vector {
	return vector{name: name, desc: desc, how: "submitted", input: input, code: code, pointer: pointer}
}

func (v vector) as(how string) vector { v.how = how; return v }

// eventVectors are all of them, written by hand.
func eventVectors() []vector {
	var all []vector
	for _, list := range [][]vector{goodEvents, textVectors(), badText, structureVectors(), formatVectors, neededVectors, serverVectors} {
		all = append(all, list...)
	}
	return all
}

var goodEvents = []vector{
	ok("minimal", "the least that an event holds", minimal),
	ok("usual", "an event of usual size, with white space and members in no order", sample),
	ok("full", "every member that a source may set", with(`"seq":"0","reason":{"code":"ok","text":""},`+
		`"origin":{"ip":"2001:db8::1","port":65535,"forwarded":["10.0.0.1","unknown",""],"user_agent":"","host":"h","request_id":"r","trace_id":"t"},`+
		`"job":{"id":"j","name":"","schedule":"@daily","tz":"Europe/Berlin","command_sha256":"`+zeros+`","run_id":"r",`+
		`"scheduled_for":"2026-02-01T00:00:00+01:00","trigger":"catchup","exit_code":-1,"duration_ms":9007199254740991,"node":"n"},`+
		`"change":{"before_sha256":"`+zeros+`","after_sha256":"`+zeros+`","patch":[{"op":"add","path":"/a~1b/~0","value":[]},`+
		`{"op":"remove","path":""},{"op":"move","from":"/a","path":"/b"}]},`+
		`"labels":{"A":"","b-c.d_9":"x"},"details":{"deep":{"list":[1,true,false,"x",{}]}}`)),
	ok("target-order", "eleven targets: the tenth comes before the second by bytes, not in the event",
		edit(`[{"type":"session","id":"s-1"}]`, manyTargets(11))),
	ok("targets-32", "as many targets as there may be", edit(`[{"type":"session","id":"s-1"}]`, manyTargets(32))),
	ok("escapes", "escapes that have shorter forms, and the solidus, which has none",
		with(`"details":{"a":"\u0041\/\u00e9\u20ac\ud83d\ude00\u0000\u001F\u007f\b\f\n\r\t\"\\"}`)),
	ok("patch-names", "names inside a patch are any, and are put in order of UTF-16 code units",
		with(`"change":{"patch":[{"op":"test","path":"/","value":{"\ufb33":1,"\ud83d\ude00":2,"\u20ac":3,"\r":4,"1":5,"":6,"ö":7}}]}`)),
	ok("time-offset", "a time with an offset and nine digits is kept as it is spelled",
		edit("2026-01-31T23:59:59Z", "2026-01-31T23:59:59.000000000-00:30")),
	ok("leap-day", "29 February of a leap year", edit("2026-01-31T", "2024-02-29T")),
	ok("reason-unless-success", "a failure with its reason", edit(`"success"`, `"failure","reason":{"code":"bad_password"}`)),
	ok("update-denied", "an update that was denied changed nothing",
		edit(`"auth.login","outcome":"success"`, `"config.update","outcome":"denied","reason":{"code":"acl"}`)),
	ok("run", "a run with its job", edit(`"auth.login"`, `"run.start","job":{"id":"j-1"}`)),
	ok("depth-16", "as deep as it goes", with(`"details":{"a":`+strings.Repeat("[", 14)+strings.Repeat("]", 14)+`}`)),
	ok("ip-zone", "an IPv6 address with a zone", with(`"origin":{"ip":"fe80::1%eth0.7"}`)),
	ok("fields-256", "as many fields as a source may submit", with(`"labels":{`+manyLabels(256-10)+`}`)),
	ok("integers", "the largest numbers of either sign", with(`"details":{"a":9007199254740991,"b":-9007199254740991,"c":0,"d":-1}`)),
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"

func manyTargets(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`{"id":"s-%d","type":"session"}`, i))
	}
	return "[" + strings.Join(list, ",") + "]"
}

func manyLabels(n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`"l%d":""`, i))
	}
	return strings.Join(list, ",")
}

// textVectors are single JSON values and the tokeniser's refusals of them.
func textVectors() []vector {
	list := []vector{
		ok("value-order", "names in the order of UTF-16 code units (RFC 8785 section 3.2.3)",
			`{"\u20ac":"Euro Sign","\r":"Carriage Return","\ufb33":"Hebrew Letter Dalet With Dagesh","1":"One","\ud83d\ude00":"Emoji: Grinning Face","\u0080":"Control","\u00f6":"Latin Small Letter O With Diaeresis"}`),
		ok("value-string", "a string on its own", ` "\u000a\u003c\u2028" `),
		ok("value-nested", "order at every depth", `{"b":[{"d":1,"c":{"z":0,"y":[]}}],"a":{}}`),
		ok("value-number", "a number on its own", `-12`),
	}
	for _, c := range badValues {
		list = append(list, bad(c.name, c.desc, c.code, c.pointer, c.input))
	}
	for i := range list {
		list[i].how = "value"
	}
	return list
}

var badValues = []struct{ name, desc, code, pointer, input string }{
	{"value-empty", "nothing", "syntax", "", ""},
	{"value-two", "two values", "syntax", "", "1 2"},
	{"value-comma", "a comma at the end", "syntax", "/1", "[1,]"},
	{"value-comment", "a comment", "syntax", "", "[1/*x*/]"},
	{"value-quotes", "single quotes", "syntax", "/0", "['a']"},
	{"value-nan", "NaN", "syntax", "/0", "[NaN]"},
	{"value-control", "a line feed inside a string", "syntax", "/0", "[\"a\nb\"]"},
	{"value-escape", "an escape that JSON doesn't have", "syntax", "/0", `["\x41"]`},
	{"value-unclosed", "a string without an end", "syntax", "", `"abc`},
	{"value-bom", "a byte order mark", "syntax", "", "\ufeff{}"},
	{"value-space", "a space that JSON doesn't know", "syntax", "/1", "[1,\u00a02]"},
	{"value-null", "null", "null", "/a/1", `{"a":[1,null]}`},
	{"value-fraction", "a fraction", "number", "/a", `{"a":1.0}`},
	{"value-exponent", "an exponent", "number", "/a", `{"a":1E3}`},
	{"value-minus-zero", "minus zero", "number", "/a", `{"a":-0}`},
	{"value-leading-zero", "a zero in front", "number", "/a", `{"a":01}`},
	{"value-plus", "a plus sign", "syntax", "/a", `{"a":+1}`},
	{"value-too-large", "2^53", "number", "/a", `{"a":9007199254740992}`},
	{"value-too-small", "-2^53", "number", "/a", `{"a":-9007199254740992}`},
	{"value-overflow", "more than 2^64", "number", "/a", `{"a":36893488147419103233}`},
	{"value-duplicate", "a name twice", "duplicate", "/a", `{"a":1,"b":2,"a":3}`},
	{"value-duplicate-escaped", "a name twice, once escaped", "duplicate", "/x/a", `{"x":{"\u0061":1,"a":3}}`},
	{"value-surrogate-high", "a high surrogate alone", "utf8", "/0", `["\ud83d"]`},
	{"value-surrogate-low", "a low surrogate alone", "utf8", "/0", `["\ude00x"]`},
	{"value-surrogate-order", "surrogates the wrong way round", "utf8", "/0", `["\ude00\ud83d"]`},
	{"value-surrogate-pair-broken", "a high surrogate and another escape", "utf8", "/0", `["\ud83d\u0041"]`},
	{"value-utf8", "a byte that isn't UTF-8", "utf8", "/0", "[\"\xff\"]"},
	{"value-utf8-long", "an overlong encoding", "utf8", "/0", "[\"\xc0\xaf\"]"},
	{"value-utf8-surrogate", "a surrogate encoded in UTF-8", "utf8", "/0", "[\"\xed\xa0\x80\"]"},
	{"value-utf8-name", "a name that isn't UTF-8", "utf8", "", "{\"\xff\":1}"},
	{"value-depth-17", "one level too many", "depth", strings.Repeat("/0", 16), strings.Repeat("[", 17) + strings.Repeat("]", 17)},
	{"value-pointer-escape", "the pointer of a name with ~ and /", "null", "/a~1b~0c", `{"a/b~c":null}`},
}

// badText are events whose text is refused.
var badText = []vector{
	bad("not-object", "an array of events", "type", "", "["+minimal+"]"),
	bad("empty-object", "an empty object", "missing", "/schema", "{}"),
	bad("truncated", "an event without its last byte", "syntax", "", strings.TrimSuffix(minimal, "}")),
	bad("trailing", "an event and something behind it", "syntax", "", minimal+"{}"),
	bad("null-member", "null instead of leaving a member out", "null", "/seq", with(`"seq":null`)),
	bad("float", "a number with a fraction in details", "number", "/details/load", with(`"details":{"load":0.5}`)),
	bad("depth-17", "one level too many", "depth", "/details/a"+strings.Repeat("/0", 14),
		with(`"details":{"a":`+strings.Repeat("[", 15)+strings.Repeat("]", 15)+`}`)),
	bad("duplicate-top", "a top-level member twice", "duplicate", "/id", with(`"id":"e-2"`)),
	bad("duplicate-top-escaped", "a top-level member twice, once escaped", "duplicate", "/id", with(`"\u0069d":"e-1"`)),
	bad("duplicate-object", "an object twice, with other members", "duplicate", "/actor", with(`"actor":{"name":"n"}`)),
	bad("duplicate-member", "a member of an object twice", "duplicate", "/actor/id", edit(`"id":"u-1"`, `"id":"u-1","id":"u-2"`)),
	bad("duplicate-target", "a member of a target twice", "duplicate", "/target/0/id", edit(`"id":"s-1"`, `"id":"s-1","\u0069d":"s-2"`)),
	bad("duplicate-detail", "a name twice, deep inside details", "duplicate", "/details/a/1/x", with(`"details":{"a":[0,{"x":1,"y":2,"x":1}]}`)),
	bad("name-space", "a name in labels with a space", "name", "/labels/a b", with(`"labels":{"a b":""}`)),
	bad("name-empty", "an empty name in details", "name", "/details/", with(`"details":{"":1}`)),
	bad("name-digit", "a name that begins with a digit", "name", "/details/1", with(`"details":{"1":1}`)),
	bad("name-slash", "a name that would be two tokens", "name", "/details/a~1b", with(`"details":{"a/b":1}`)),
	bad("name-deep", "a name in an array in details", "name", "/details/a/0/ü", with(`"details":{"a":[{"ü":1}]}`)),
	bad("name-long", "a name of 129 characters", "name", "/labels/"+strings.Repeat("x", 128)+"…", with(`"labels":{"`+strings.Repeat("x", 129)+`":""}`)),
	bad("utf8-member", "a byte that isn't UTF-8 in a value", "utf8", "/actor/id", edit("u-1", "u-\xff")),
	bad("surrogate-member", "half a surrogate pair in a value", "utf8", "/details/a", with(`"details":{"a":"\udead"}`)),
}

// structureVectors are events whose members are the wrong ones.
func structureVectors() []vector {
	return []vector{
		bad("unknown-top", "a top-level member that the schema doesn't have", "unknown", "/severity", with(`"severity":"high"`)),
		bad("unknown-case", "names are told apart by case", "unknown", "/Labels", with(`"Labels":{"a":"b"}`)),
		bad("unknown-member", "a member of an object that the schema doesn't have", "unknown", "/actor/email", edit(`"id":"u-1"`, `"id":"u-1","email":"x"`)),
		bad("unknown-target", "a member of a target that the schema doesn't have", "unknown", "/target/0/kind", edit(`"id":"s-1"`, `"id":"s-1","kind":"x"`)),
		bad("object-for-string", "an object where a string belongs", "type", "/id", edit(`"id":"e-1"`, `"id":{"a":1}`)),
		bad("array-for-string", "an array where a string belongs", "type", "/action", edit(`"auth.login"`, `["auth.login"]`)),
		bad("number-for-string", "a number where a string belongs", "type", "/seq", with(`"seq":7`)),
		bad("string-for-object", "a string where an object belongs", "type", "/actor", edit(`{"type":"user","id":"u-1"}`, `"u-1"`)),
		bad("array-for-object", "an array where an object belongs", "type", "/labels", with(`"labels":["a"]`)),
		bad("object-for-target", "one target without its array", "type", "/target", edit(`[{"type":"session","id":"s-1"}]`, `{"type":"session","id":"s-1"}`)),
		bad("string-for-target", "a string as target", "type", "/target/1", edit(`"id":"s-1"}`, `"id":"s-1"},"s-2"`)),
		bad("number-for-label", "a label that isn't a string", "type", "/labels/a", with(`"labels":{"a":1}`)),
		bad("string-for-integer", "a string where a number belongs", "type", "/origin/port", with(`"origin":{"ip":"10.0.0.1","port":"80"}`)),
		bad("string-for-forwarded", "a string where an array belongs", "type", "/origin/forwarded", with(`"origin":{"forwarded":"10.0.0.1"}`)),
		bad("number-in-forwarded", "a number in forwarded", "type", "/origin/forwarded/1", with(`"origin":{"forwarded":["10.0.0.1",2]}`)),
		bad("empty-labels", "an empty object", "empty", "/labels", with(`"labels":{}`)),
		bad("empty-actor", "an empty object where members are needed", "empty", "/actor", edit(`{"type":"user","id":"u-1"}`, `{}`)),
		bad("empty-target", "no target", "empty", "/target", edit(`[{"type":"session","id":"s-1"}]`, `[]`)),
		bad("empty-target-element", "an empty target", "empty", "/target/0", edit(`{"type":"session","id":"s-1"}`, `{}`)),
		bad("targets-33", "one target too many", "size", "/target", edit(`[{"type":"session","id":"s-1"}]`, manyTargets(33))),
		bad("fields-257", "one field too many", "size", "", with(`"labels":{`+manyLabels(256-9)+`}`)),
		bad("patch-object", "a patch that isn't an array", "type", "/change/patch", with(`"change":{"patch":{"op":"remove","path":"/a"}}`)),
		bad("patch-element", "an operation that isn't an object", "type", "/change/patch/0", with(`"change":{"patch":["remove"]}`)),
		bad("patch-op", "an operation that JSON Patch doesn't have", "enum", "/change/patch/0/op", with(`"change":{"patch":[{"op":"set","path":"/a","value":1}]}`)),
		bad("patch-no-op", "an operation without op", "missing", "/change/patch/1/op", with(`"change":{"patch":[{"op":"remove","path":"/a"},{"path":"/a"}]}`)),
		bad("patch-no-path", "an operation without path", "missing", "/change/patch/0/path", with(`"change":{"patch":[{"op":"remove"}]}`)),
		bad("patch-path", "a path that isn't a pointer", "format", "/change/patch/0/path", with(`"change":{"patch":[{"op":"remove","path":"a"}]}`)),
		bad("patch-path-escape", "a path with a bad escape", "format", "/change/patch/0/path", with(`"change":{"patch":[{"op":"remove","path":"/a~2"}]}`)),
		bad("patch-no-value", "add without a value", "missing", "/change/patch/0/value", with(`"change":{"patch":[{"op":"add","path":"/a"}]}`)),
		bad("patch-value", "remove with a value", "unknown", "/change/patch/0/value", with(`"change":{"patch":[{"op":"remove","path":"/a","value":1}]}`)),
		bad("patch-no-from", "move without from", "missing", "/change/patch/0/from", with(`"change":{"patch":[{"op":"move","path":"/a"}]}`)),
		bad("patch-from", "add with from", "unknown", "/change/patch/0/from", with(`"change":{"patch":[{"op":"add","path":"/a","from":"/b","value":1}]}`)),
		bad("patch-unknown", "a member that operations don't have", "unknown", "/change/patch/0/old", with(`"change":{"patch":[{"op":"remove","path":"/a","old":1}]}`)),
	}
}
