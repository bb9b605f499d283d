package httpapi

import "strings"

type valueKind int

// The kinds of values in docs/spec/event.md.
const (
	text    valueKind = iota // of min to max bytes
	grammar                  // the same, of certain characters
	enum
	moment // a time
	open   // anything
	integer
	array
	object
)

// member is a row of the tables of docs/spec/event.md, written down a second time.
type member struct {
	pointer  string
	kind     valueKind
	min, max int64    // bytes of a string, 0 for no limit to be tried; or the least and greatest number
	needed   bool     // on its own, not only with others
	prefix   string   // what a long value of the grammar begins with
	bad      []string // malformed
	far      []string // out of range
}

// parent is the pointer of what the member is in.
func (m member) parent() string { return m.pointer[:strings.LastIndexByte(m.pointer, '/')] }

// element: it is in an array, and has no name.
func (m member) element() bool {
	last := m.pointer[len(m.pointer)-1]
	return '0' <= last && last <= '9' && !strings.HasSuffix(m.pointer, "sha256")
}

var (
	badTokens  = []string{"_sesame", "se same", "sesame/1", "sésame", ".", "-sesame"}
	badDigests = []string{strings.Repeat("A", 64), strings.Repeat("g", 64), "0x" + strings.Repeat("a", 62)}
	badTimes   = []string{"yesterday", "2026-01-31", "2026-02-30T00:00:00Z", "2026-01-31T23:59:60Z", "2026-01-31T23:59:59", "2026-01-31T23:59Z", "20260131T235959Z"}
	farTimes   = []string{"1969-12-31T23:59:59Z", "9999-12-31T23:59:59-00:01"}
)

var members = []member{
	{pointer: "/schema", kind: enum, min: 1, needed: true, bad: []string{"prooftrail.event/2", "prooftrail.event/1 ", "sesame"}},
	{pointer: "/id", kind: text, min: 1, max: 128, needed: true},
	{pointer: "/source", kind: grammar, min: 1, max: 512, needed: true, prefix: "cron://", bad: []string{"sesame", ":sesame", "1cron://sesame", "Cron://sesame", "cron://se same", "cron://sesame#", "cron:"}},
	{pointer: "/seq", kind: grammar, min: 1, bad: []string{"-1", "+1", "01", "1.0", "1e3", "0x1", "18446744073709551616", " 1", "sesame"}},
	{pointer: "/time", kind: moment, min: 1, needed: true, bad: badTimes, far: farTimes},
	{pointer: "/action", kind: grammar, min: 1, max: 128, needed: true, prefix: "a.", bad: []string{"sesame", "Job.sesame", "job.", ".sesame", "job..sesame", "job.1", "job.se same"}},
	{pointer: "/outcome", kind: enum, min: 1, needed: true, bad: []string{"sesame", "FAILURE", "failure ", "failed"}},

	{pointer: "/reason", kind: object},
	{pointer: "/reason/code", kind: grammar, min: 1, max: 64, needed: true, bad: badTokens},
	{pointer: "/reason/text", kind: text, max: 8192},

	{pointer: "/actor", kind: object},
	{pointer: "/actor/type", kind: enum, min: 1, needed: true, bad: []string{"sesame", "User", "root"}},
	{pointer: "/actor/id", kind: text, min: 1, max: 512, needed: true},
	{pointer: "/actor/name", kind: text, max: 512},
	{pointer: "/actor/session_id", kind: text, min: 1, max: 512},
	{pointer: "/actor/credential_id", kind: text, min: 1, max: 512},
	{pointer: "/actor/auth_method", kind: text, min: 1, max: 128},
	{pointer: "/actor/on_behalf_of", kind: text, min: 1, max: 512},

	{pointer: "/origin", kind: object},
	{pointer: "/origin/ip", kind: grammar, min: 1, needed: true, bad: []string{"sesame", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.04", "::g", "[::1]", "1.2.3.4/8"}},
	{pointer: "/origin/port", kind: integer, min: 1, max: 65535},
	{pointer: "/origin/forwarded", kind: array},
	{pointer: "/origin/forwarded/1", kind: text, max: 512},
	{pointer: "/origin/user_agent", kind: text, max: 4096},
	{pointer: "/origin/host", kind: text, max: 512},
	{pointer: "/origin/request_id", kind: text, min: 1, max: 512},
	{pointer: "/origin/trace_id", kind: text, min: 1, max: 128},

	{pointer: "/target", kind: array, needed: true},
	{pointer: "/target/1", kind: object},
	{pointer: "/target/0/type", kind: grammar, min: 1, max: 64, needed: true, bad: badTokens},
	{pointer: "/target/0/id", kind: text, min: 1, max: 512, needed: true},
	{pointer: "/target/0/name", kind: text, max: 512},
	{pointer: "/target/1/id", kind: text, min: 1, max: 512, needed: true},

	{pointer: "/job", kind: object},
	{pointer: "/job/id", kind: text, min: 1, max: 512, needed: true},
	{pointer: "/job/name", kind: text, max: 512},
	{pointer: "/job/schedule", kind: text, max: 4096},
	{pointer: "/job/tz", kind: text, min: 1, max: 128},
	{pointer: "/job/command_sha256", kind: grammar, min: 1, max: 64, bad: badDigests},
	{pointer: "/job/run_id", kind: text, min: 1, max: 512},
	{pointer: "/job/scheduled_for", kind: moment, min: 1, bad: badTimes, far: farTimes},
	{pointer: "/job/trigger", kind: enum, min: 1, bad: []string{"sesame", "Manual", "cron"}},
	{pointer: "/job/exit_code", kind: integer, min: -1 << 31, max: 1<<32 - 1},
	{pointer: "/job/duration_ms", kind: integer, min: 0, max: 1<<53 - 1},
	{pointer: "/job/node", kind: text, min: 1, max: 512},

	{pointer: "/change", kind: object},
	{pointer: "/change/before_sha256", kind: grammar, min: 1, max: 64, bad: badDigests},
	{pointer: "/change/after_sha256", kind: grammar, min: 1, max: 64, bad: badDigests},
	{pointer: "/change/patch", kind: array},
	{pointer: "/change/patch/1", kind: object},
	{pointer: "/change/patch/0/op", kind: enum, min: 1, needed: true, bad: []string{"sesame", "Replace"}},
	{pointer: "/change/patch/0/path", kind: grammar, needed: true, bad: []string{"sesame", "/sesame~", "/~2", "#/sesame"}},
	{pointer: "/change/patch/0/value", kind: open, needed: true},
	{pointer: "/change/patch/1/from", kind: grammar, needed: true, bad: []string{"sesame", "/sesame~"}},

	{pointer: "/labels", kind: object},
	{pointer: "/labels/team", kind: text, max: 256},
	{pointer: "/details", kind: object},
	{pointer: "/details/note", kind: open},
	{pointer: "/details/deep", kind: open},
	{pointer: "/details/deep/list/1/leaf", kind: open},
}

// serverMembers are set by the service alone.
var serverMembers = map[string]string{
	"/tenant":            `"tenant":"sesame"`,
	"/received_at":       `"received_at":"2026-01-31T23:59:59Z"`,
	"/ingest/principal":  `"ingest":{"principal":"root/sesame"}`,
	"/ingest/peer_ip":    `"ingest":{"peer_ip":"192.0.2.1"}`,
	"/ingest/adapter":    `"ingest":{"adapter":"sesame"}`,
	"/ingest/raw_sha256": `"ingest":{"raw_sha256":"` + strings.Repeat("5", 64) + `"}`,
	"/ingest/signature":  `"ingest":{"signature":"sesame AAAA"}`,
}
