package event

import "strings"

var longText = strings.Repeat("x", 513)

// formatVectors are values that don't fit their member.
var formatVectors = []vector{
	bad("schema", "another schema", "enum", "/schema", edit("event/1", "event/2")),
	bad("id-empty", "an empty id", "size", "/id", edit(`"e-1"`, `""`)),
	bad("id-long", "an id of 129 bytes", "size", "/id", edit(`"e-1"`, `"`+longText[:129]+`"`)),
	bad("id-bytes", "lengths count UTF-8 bytes: 65 characters of two", "size", "/id", edit(`"e-1"`, `"`+strings.Repeat("é", 65)+`"`)),
	bad("id-control", "a control character in an id", "format", "/id", edit("e-1", `e\u0009`)),
	bad("id-control-c1", "a control character past ASCII in an id", "format", "/id", edit("e-1", "e\u0085")),
	bad("source-relative", "a source without a scheme", "format", "/source", edit("cron://a.example", "a.example")),
	bad("source-scheme-upper", "a scheme in upper case", "format", "/source", edit("cron:", "Cron:")),
	bad("source-space", "a space in a URI", "format", "/source", edit("cron://a", "cron://a b")),
	bad("source-percent", "half a percent-encoding", "format", "/source", edit("cron://a.example", "cron://a%2")),
	bad("source-fragment", "a fragment in a source", "format", "/source", edit("a.example", "a.example#x")),
	bad("source-iri", "letters past ASCII in a URI", "format", "/source", edit("a.example", "ä.example")),
	bad("source-long", "a source of 513 bytes", "size", "/source", edit("cron://a.example", "cron:"+longText[:508])),
	bad("seq-zero", "a zero in front", "format", "/seq", with(`"seq":"007"`)),
	bad("seq-negative", "a negative counter", "format", "/seq", with(`"seq":"-1"`)),
	bad("seq-overflow", "2^64", "format", "/seq", with(`"seq":"18446744073709551616"`)),
	bad("time-date", "a day that doesn't exist", "format", "/time", edit("2026-01-31T", "2026-02-29T")),
	bad("time-month", "month 13", "format", "/time", edit("2026-01-31T", "2026-13-01T")),
	bad("time-century", "1900 was no leap year, nor will 2100 be", "format", "/time", edit("2026-01-31T", "2100-02-29T")),
	bad("time-hour", "hour 24", "format", "/time", edit("T23:59:59", "T24:00:00")),
	bad("time-leap-second", "a leap second", "format", "/time", edit("23:59:59", "23:59:60")),
	bad("time-lower", "t and z in lower case", "format", "/time", edit("31T23:59:59Z", "31t23:59:59z")),
	bad("time-no-zone", "no zone", "format", "/time", edit("59:59Z", "59:59")),
	bad("time-zone", "an offset without its colon", "format", "/time", edit("59:59Z", "59:59+0100")),
	bad("time-zone-range", "an offset of 24 hours", "format", "/time", edit("59:59Z", "59:59+24:00")),
	bad("time-fraction", "ten digits of a second", "format", "/time", edit("59:59Z", "59:59.0123456789Z")),
	bad("time-fraction-empty", "a point and no digit", "format", "/time", edit("59:59Z", "59:59.Z")),
	bad("time-comma", "a comma before the fraction", "format", "/time", edit("59:59Z", "59:59,5Z")),
	bad("time-zero", "a time that was never set", "range", "/time", edit("2026-01-31T23:59:59Z", "0001-01-01T00:00:00Z")),
	bad("time-before-1970", "before 1970 in UTC", "range", "/time", edit("2026-01-31T23:59:59Z", "1970-01-01T00:59:59+01:00")),
	bad("time-after-9999", "after 9999 in UTC", "range", "/time", edit("2026-01-31T23:59:59Z", "9999-12-31T23:30:00-01:00")),
	bad("action-single", "an action without a dot", "format", "/action", edit("auth.login", "login")),
	bad("action-upper", "an action in upper case", "format", "/action", edit("auth.login", "auth.Login")),
	bad("action-dots", "two dots", "format", "/action", edit("auth.login", "auth..login")),
	bad("action-end", "a dot at the end", "format", "/action", edit("auth.login", "auth.")),
	bad("action-newline", "a line feed at the end", "format", "/action", edit("auth.login", `auth.login\n`)),
	bad("outcome", "an outcome that doesn't exist", "enum", "/outcome", edit(`"success"`, `"ok"`)),
	bad("actor-type", "a type of actor that doesn't exist", "enum", "/actor/type", edit(`"user"`, `"root"`)),
	bad("actor-id-long", "an actor's id of 513 bytes", "size", "/actor/id", edit(`"u-1"`, `"`+longText+`"`)),
	bad("ip-name", "a host name as address", "format", "/origin/ip", with(`"origin":{"ip":"localhost"}`)),
	bad("ip-zeros", "zeros in front in an IPv4 address", "format", "/origin/ip", with(`"origin":{"ip":"010.0.0.1"}`)),
	bad("ip-port", "an address with its port", "format", "/origin/ip", with(`"origin":{"ip":"10.0.0.1:80"}`)),
	bad("ip-brackets", "an IPv6 address in brackets", "format", "/origin/ip", with(`"origin":{"ip":"[::1]"}`)),
	bad("ip-prefix", "a network", "format", "/origin/ip", with(`"origin":{"ip":"10.0.0.0/8"}`)),
	bad("ip-zone-text", "a zone with other characters", "format", "/origin/ip", with(`"origin":{"ip":"fe80::1%<b>"}`)),
	bad("ip-mapped-zone", "an IPv4-mapped address with a zone", "format", "/origin/ip", with(`"origin":{"ip":"::ffff:10.0.0.1%eth0"}`)),
	bad("port-zero", "port 0", "range", "/origin/port", with(`"origin":{"ip":"::1","port":0}`)),
	bad("port-large", "port 65536", "range", "/origin/port", with(`"origin":{"ip":"::1","port":65536}`)),
	bad("forwarded-33", "one too many in forwarded", "size", "/origin/forwarded", with(`"origin":{"forwarded":[`+strings.Repeat(`"",`, 32)+`""]}`)),
	bad("digest-upper", "a digest in upper case", "format", "/job/command_sha256", with(`"job":{"id":"j","command_sha256":"`+strings.Repeat("A", 64)+`"}`)),
	bad("digest-short", "a digest of 63 digits", "size", "/change/before_sha256", with(`"change":{"before_sha256":"`+zeros[1:]+`"}`)),
	bad("trigger", "a trigger that doesn't exist", "enum", "/job/trigger", with(`"job":{"id":"j","trigger":"cron"}`)),
	bad("duration-negative", "a negative duration", "range", "/job/duration_ms", with(`"job":{"id":"j","duration_ms":-1}`)),
	bad("exit-code-large", "an exit code of 33 bits", "range", "/job/exit_code", with(`"job":{"id":"j","exit_code":4294967296}`)),
	bad("scheduled-for", "a date without a time", "format", "/job/scheduled_for", with(`"job":{"id":"j","scheduled_for":"2026-01-31"}`)),
	bad("label-long", "a label of 257 bytes", "size", "/labels/a", with(`"labels":{"a":"`+longText[:257]+`"}`)),
	bad("reason-code", "a reason's code with a space", "format", "/reason/code", with(`"reason":{"code":"not found"}`)),
}

// neededVectors are events that lack something.
var neededVectors = []vector{
	bad("no-schema", "no schema", "missing", "/schema", edit(`"schema":"prooftrail.event/1",`, ``)),
	bad("no-id", "no id", "missing", "/id", edit(`"id":"e-1",`, ``)),
	bad("no-source", "no source", "missing", "/source", edit(`"source":"cron://a.example",`, ``)),
	bad("no-time", "no time", "missing", "/time", edit(`"time":"2026-01-31T23:59:59Z",`, ``)),
	bad("no-action", "no action", "missing", "/action", edit(`"action":"auth.login",`, ``)),
	bad("no-outcome", "no outcome", "missing", "/outcome", edit(`"outcome":"success",`, ``)),
	bad("no-actor", "no actor", "missing", "/actor/type", edit(`"actor":{"type":"user","id":"u-1"},`, ``)),
	bad("no-actor-id", "no actor's id", "missing", "/actor/id", edit(`,"id":"u-1"`, ``)),
	bad("no-target", "no target", "missing", "/target", edit(`,"target":[{"type":"session","id":"s-1"}]`, ``)),
	bad("no-target-type", "a target without a type", "missing", "/target/0/type", edit(`"type":"session",`, ``)),
	bad("no-target-id", "a second target without an id", "missing", "/target/1/id", edit(`"id":"s-1"}`, `"id":"s-1"},{"type":"user"}`)),
	bad("no-reason", "a failure without a reason", "missing", "/reason/code", edit(`"success"`, `"failure"`)),
	bad("no-reason-attempt", "an attempt without a reason", "missing", "/reason/code", edit(`"success"`, `"attempt"`)),
	bad("no-reason-code", "a reason in words alone", "missing", "/reason/code", with(`"reason":{"text":"because"}`)),
	bad("no-job", "a run without its job", "missing", "/job/id", edit("auth.login", "run.finish")),
	bad("no-job-id", "a job without its id", "missing", "/job/id", with(`"job":{"name":"nightly"}`)),
	bad("no-change", "a successful update that doesn't say of what", "missing", "/change", edit("auth.login", "config.update")),
	bad("no-ip", "a port without an address", "missing", "/origin/ip", with(`"origin":{"port":80}`)),
}

// serverVectors are about what only the server may set, and whole events.
var serverVectors = []vector{
	bad("reserved-tenant", "a tenant set by the source", "reserved", "/tenant", with(`"tenant":"default"`)),
	bad("reserved-received", "a time of receipt set by the source", "reserved", "/received_at", with(`"received_at":"2026-01-31T23:59:59Z"`)),
	bad("reserved-ingest", "an address of the peer set by the source", "reserved", "/ingest/peer_ip", with(`"ingest":{"peer_ip":"10.0.0.1"}`)),
	bad("reserved-action", "an action of the service", "reserved", "/action", edit("auth.login", "audit.read")),
	bad("reserved-source", "a source of the service", "reserved", "/source", edit("cron:", "prooftrail:")),
	ok("heartbeat", "a source says up to where it has said all", heartbeat),
	ok("heartbeat-interval", "and when it does so again", account(heartbeat, `"count":"8"`, `"count":"7","interval_s":"60"`)),
	ok("dropped", "a source says what won't come", dropped),
	ok("dropped-why", "and why", account(dropped, `"count":"2"`, `"count":"2","full":"1","refused":"1"`)),
	bad("heartbeat-no-seq", "an account without a seq of its own", "missing", "/seq", account(heartbeat, `"seq":"9",`, ``)),
	bad("heartbeat-no-count", "a heartbeat that doesn't say how many", "missing", "/details/count", account(heartbeat, `,"count":"8"`, ``)),
	bad("heartbeat-count", "more events than seqs", "range", "/details/count", account(heartbeat, `"count":"8"`, `"count":"9"`)),
	bad("heartbeat-last", "a last seq that isn't before its own", "range", "/details/last_seq", account(heartbeat, `"last_seq":"8"`, `"last_seq":"9"`)),
	bad("heartbeat-number", "a number that isn't written like a seq", "type", "/details/count", account(heartbeat, `"count":"8"`, `"count":8`)),
	bad("heartbeat-zero", "a number with a leading zero", "format", "/details/count", account(heartbeat, `"count":"8"`, `"count":"08"`)),
	bad("heartbeat-more", "a heartbeat with something else in it", "reserved", "/details/note", account(heartbeat, `"count":"8"`, `"count":"8","note":"x"`)),
	bad("heartbeat-label", "a heartbeat with a label", "reserved", "/labels/a", account(heartbeat, `"seq":"9"`, `"seq":"9","labels":{"a":"b"}`)),
	bad("heartbeat-targets", "a heartbeat with a second target", "reserved", "/target/1/id",
		account(heartbeat, `"id":"cron://a.example"}`, `"id":"cron://a.example"},{"type":"source","id":"x"}`)),
	bad("heartbeat-other", "a heartbeat of another source than its own", "format", "/target/0/id", account(heartbeat, `"id":"cron://a.example"`, `"id":"cron://b.example"`)),
	bad("heartbeat-outcome", "a heartbeat that failed", "enum", "/outcome", account(heartbeat, `"success"`, `"failure","reason":{"code":"x"}`)),
	bad("dropped-outcome", "something was dropped with success", "enum", "/outcome", account(dropped, `"failure"`, `"success"`)),
	bad("dropped-none", "nothing was dropped", "range", "/details/count", account(dropped, `"count":"2"`, `"count":"0"`)),
	bad("dropped-many", "more were dropped than there is room for", "range", "/details/count", account(dropped, `"count":"2"`, `"count":"4"`)),
	bad("dropped-order", "the last seq before the first", "range", "/details/first_seq", account(dropped, `"first_seq":"5"`, `"first_seq":"8"`)),
	bad("dropped-first", "a first seq of 0", "range", "/details/first_seq", account(dropped, `"first_seq":"5"`, `"first_seq":"0"`)),
	bad("account-other", "another action that begins like an account", "reserved", "/action", account(heartbeat, "audit.heartbeat", "audit.heartbeats")),
	ok("stamped-heartbeat", "a source's account, whole", stamp(heartbeat)).as("stamped"),
	ok("stamped", "a whole event", stamp(minimal)).as("stamped"),
	ok("stamped-own", "an event of the service's own",
		stamp(strings.Replace(edit("auth.login", "audit.read"), "cron:", "prooftrail:", 1))).as("stamped"),
	bad("stamped-audit-foreign", "an action of the service with another source", "reserved", "/action", stamp(edit("auth.login", "audit.read"))).as("stamped"),
	bad("stamped-no-tenant", "a whole event without a tenant", "missing", "/tenant", minimal).as("stamped"),
	bad("stamped-no-received", "a whole event without a time of receipt", "missing", "/received_at", with(`"tenant":"default"`)).as("stamped"),
	bad("stamped-received-offset", "a time of receipt that isn't in UTC", "format", "/received_at",
		strings.Replace(stamp(minimal), ".5Z", "+00:00", 1)).as("stamped"),
	bad("stamped-received-zeros", "a time of receipt with a zero at the end", "format", "/received_at",
		strings.Replace(stamp(minimal), ".5Z", ".50Z", 1)).as("stamped"),
	bad("stamped-tenant", "a tenant with other characters", "format", "/tenant", strings.Replace(stamp(minimal), `"default"`, `"*"`, 1)).as("stamped"),
}

// A source's accounts, and account with something replaced.
const (
	heartbeat = `{"schema":"prooftrail.event/1","id":"h-1","source":"cron://a.example","seq":"9","time":"2026-01-31T23:59:59Z",` +
		`"action":"audit.heartbeat","outcome":"success","actor":{"type":"service","id":"cron"},` +
		`"target":[{"type":"source","id":"cron://a.example"}],"details":{"last_seq":"8","count":"8"}}`
	dropped = `{"schema":"prooftrail.event/1","id":"d-1","source":"cron://a.example","seq":"9","time":"2026-01-31T23:59:59Z",` +
		`"action":"audit.dropped","outcome":"failure","reason":{"code":"dropped"},"actor":{"type":"service","id":"cron"},` +
		`"target":[{"type":"source","id":"cron://a.example"}],"details":{"first_seq":"5","last_seq":"7","count":"2"}}`
)

func account(of, old, new string) string {
	if !strings.Contains(of, old) {
		panic("no " + old + " in the account")
	}
	return strings.Replace(of, old, new, 1)
}
