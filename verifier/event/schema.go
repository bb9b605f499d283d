package event

import (
	"slices"
	"strconv"
	"strings"
)

// A rule says what one field may hold. Exactly one of the groups is set.
type rule struct {
	bit    int    // which bit of a set of rules stands for this one; 0 for none
	rank   int    // place of its pointers among those of all rules, by bytes
	target int    // 1 + 3 times the element + the member, for a member of target; 0 for others
	want   string // for people
	server bool   // only the server may set it

	min, max int                    // a string of so many bytes …
	format   func(text []byte) bool // … in this grammar …
	values   []string               // … or one of these
	time     bool                   // … or a time

	integer bool // an integer
	lo, hi  int64

	value func(v []byte) *Error // anything else, checked by a function
}

// The kinds of top-level members.
type kind int

const (
	kindField  kind = iota // one field
	kindObject             // an object of known members
	kindOpen               // an object of any members: labels, details
	kindTarget
)

// A top is a top-level member of an event.
type top struct {
	name    string
	kind    kind
	pointer string
	rule    *rule // of kindField and kindOpen
	members []known
}

// A known is a known member of a top-level object.
type known struct {
	name string
	place
}

// Enumerations of the schema, in its order.
var (
	outcomes   = []string{"success", "failure", "denied", "attempt", "unknown"}
	actorTypes = []string{"user", "service", "schedule", "anonymous"}
	triggers   = []string{"schedule", "manual", "api", "retry", "catchup"}
)

// schemaRules are the rules by pointer, but for target, labels and details.
// The package comment has the same table for people.
var schemaRules = number(map[string]*rule{
	"/schema": oneOf(Schema),
	"/id":     ident(128),
	"/tenant": server(grammar(1, 128, validTenant, "1 to 128 bytes that match [A-Za-z0-9][A-Za-z0-9_.-]*")),
	"/source": grammar(3, 512, validSource, "a URI with a scheme in lower case, RFC 3986, at most 512 bytes"),
	"/seq":    grammar(1, 20, validSeq, "a decimal number in a string, 0 to 18446744073709551615, no leading zeros"),
	"/time":   moment(),
	"/action": grammar(3, 128, validAction, "dotted lower case, [a-z][a-z0-9_-]*(.[a-z][a-z0-9_-]*)+, at most 128 bytes"),

	"/outcome":     oneOf(outcomes...),
	"/reason/code": grammar(1, 64, validToken, "1 to 64 bytes that match [A-Za-z0-9][A-Za-z0-9_.:-]*"),
	"/reason/text": text(0, 8192),

	"/actor/type":          oneOf(actorTypes...),
	"/actor/id":            text(1, 512),
	"/actor/name":          text(0, 512),
	"/actor/session_id":    text(1, 512),
	"/actor/credential_id": text(1, 512),
	"/actor/auth_method":   text(1, 128),
	"/actor/on_behalf_of":  text(1, 512),

	"/origin/ip":         grammar(2, 64, validIP, "an IPv4 or IPv6 address"),
	"/origin/port":       integer(1, 65535),
	"/origin/forwarded":  {value: checkForwarded, want: "an array of at most 32 strings of 0 to 512 bytes"},
	"/origin/user_agent": text(0, 4096),
	"/origin/host":       text(0, 512),
	"/origin/request_id": text(1, 512),
	"/origin/trace_id":   text(1, 128),

	"/job/id":             text(1, 512),
	"/job/name":           text(0, 512),
	"/job/schedule":       text(0, 4096),
	"/job/tz":             text(1, 128),
	"/job/command_sha256": digest(),
	"/job/run_id":         text(1, 512),
	"/job/scheduled_for":  moment(),
	"/job/trigger":        oneOf(triggers...),
	"/job/exit_code":      integer(-1<<31, 1<<32-1),
	"/job/duration_ms":    integer(0, MaxInteger),
	"/job/node":           text(1, 512),

	"/change/before_sha256": digest(),
	"/change/after_sha256":  digest(),
	"/change/patch":         {value: checkPatch, want: "an array of at most 1024 operations of JSON Patch, RFC 6902"},

	"/received_at":       server(stampTime()),
	"/ingest/principal":  server(text(1, 512)),
	"/ingest/peer_ip":    server(grammar(2, 64, validIP, "an IPv4 or IPv6 address")),
	"/ingest/adapter":    server(grammar(1, 64, validToken, "1 to 64 bytes that match [A-Za-z0-9][A-Za-z0-9_.:-]*")),
	"/ingest/raw_sha256": server(digest()),
	"/ingest/signature":  server(ident(1024)),
})

// Rules of fields that a pointer's pattern names.
var (
	targetMembers = []string{"type", "id", "name"}
	targetRules   = func() (rules [MaxTargets][3]*rule) {
		for i := range rules {
			rules[i] = [3]*rule{
				grammar(1, 64, validToken, "1 to 64 bytes that match [A-Za-z0-9][A-Za-z0-9_.:-]*"),
				text(1, 512),
				text(0, 512),
			}
			for j, r := range rules[i] {
				r.target = 1 + 3*i + j
			}
		}
		return rules
	}()
	labelRule  = text(0, 256)
	detailRule = &rule{value: func([]byte) *Error { return nil }}
)

// targetPointers are the pointers of the members of target, by index and member.
var targetPointers = func() (p [MaxTargets][3]string) {
	for i := range p {
		for j, name := range targetMembers {
			p[i][j] = "/target/" + strconv.Itoa(i) + "/" + name
		}
	}
	return p
}()

// places are the places of all fields but those of labels and details.
var places = func() map[string]place {
	all := map[string]place{}
	for p, r := range schemaRules {
		all[p] = place{p, r}
	}
	for i := range targetPointers {
		for j, p := range targetPointers[i] {
			all[p] = place{p, targetRules[i][j]}
		}
	}
	rank(all)
	return all
}()

// rank gives each rule its rank, those of labels and details too.
func rank(all map[string]place) {
	ordered := []place{{"/labels/", labelRule}, {"/details/", detailRule}}
	for _, at := range all {
		ordered = append(ordered, at)
	}
	slices.SortFunc(ordered, func(a, b place) int { return strings.Compare(a.pointer, b.pointer) })
	for i, at := range ordered {
		at.rule.rank = i
	}
}

// targetPointer is the pointer of an element of target.
func targetPointer(index int) string {
	return strings.TrimSuffix(targetPointers[index][0], "/type")
}

// topLevel are the top-level members in the order of the schema.
var topLevel = []top{
	topMember("schema"), topMember("id"), topMember("tenant"), topMember("source"), topMember("seq"),
	topMember("time"), topMember("action"), topMember("outcome"),
	topMember("reason", "code", "text"),
	topMember("actor", "type", "id", "name", "session_id", "credential_id", "auth_method", "on_behalf_of"),
	topMember("origin", "ip", "port", "forwarded", "user_agent", "host", "request_id", "trace_id"),
	{name: "target", pointer: "/target", kind: kindTarget},
	topMember("job", "id", "name", "schedule", "tz", "command_sha256", "run_id", "scheduled_for", "trigger",
		"exit_code", "duration_ms", "node"),
	topMember("change", "before_sha256", "after_sha256", "patch"),
	{name: "labels", pointer: "/labels", kind: kindOpen, rule: labelRule},
	{name: "details", pointer: "/details", kind: kindOpen, rule: detailRule},
	topMember("received_at"),
	topMember("ingest", "principal", "peer_ip", "adapter", "raw_sha256", "signature"),
}

func topMember(name string, members ...string) top {
	t := top{name: name, pointer: "/" + name}
	t.rule = schemaRules[t.pointer]
	for _, m := range members {
		t.kind = kindObject
		p := t.pointer + "/" + m
		t.members = append(t.members, known{m, place{p, schemaRules[p]}})
	}
	return t
}

// ruleOf returns the rule of the field at a pointer; nil if the schema has no
// field there. This is where a pointer with too few or too many tokens, a hole
// in its spelling or a foreign name is found out.
func ruleOf(pointer string) *rule {
	if at, ok := places[pointer]; ok {
		return at.rule
	}
	if name, ok := strings.CutPrefix(pointer, "/labels/"); ok && validName([]byte(name)) {
		return labelRule
	}
	if name, ok := strings.CutPrefix(pointer, "/details/"); ok && validName([]byte(name)) {
		return detailRule
	}
	return nil
}

// targetOf takes the pointer of a member of target apart: the element's index
// and the member's place in targetMembers. It may take odd spellings too.
func targetOf(pointer string) (index, member int, ok bool) {
	rest, ok := strings.CutPrefix(pointer, "/target/")
	if !ok {
		return 0, 0, false
	}
	number, name, _ := strings.Cut(rest, "/")
	index, err := strconv.Atoi(number)
	if err != nil || index < 0 || index >= MaxTargets {
		return 0, 0, false
	}
	for j, m := range targetMembers {
		if m == name {
			return index, j, true
		}
	}
	return 0, 0, false
}

// number gives each rule its bit.
func number(rules map[string]*rule) map[string]*rule {
	bit := 0
	for _, r := range rules {
		bit++
		r.bit = bit
	}
	return rules
}

func text(lo, hi int) *rule {
	return &rule{min: lo, max: hi, want: "a string of " + strconv.Itoa(lo) + " to " + strconv.Itoa(hi) + " bytes"}
}

func ident(hi int) *rule {
	return grammar(1, hi, validIdent, "1 to "+strconv.Itoa(hi)+" bytes without control characters")
}

func grammar(lo, hi int, format func([]byte) bool, want string) *rule {
	return &rule{min: lo, max: hi, format: format, want: want}
}

func digest() *rule {
	return grammar(64, 64, validDigest, "a SHA-256 in 64 lower-case hexadecimal digits")
}

func oneOf(values ...string) *rule {
	return &rule{values: values, want: "one of: " + strings.Join(values, ", ")}
}

func moment() *rule {
	return &rule{time: true, want: "a time of RFC 3339 from 1970 to 9999, T and Z in upper case, at most 9 digits of a second"}
}

func stampTime() *rule {
	return grammar(20, 30, validStampTime, "a time of RFC 3339 in UTC with Z, without zeros at the end of a fraction")
}

func integer(lo, hi int64) *rule {
	return &rule{integer: true, lo: lo, hi: hi, want: "an integer from " + strconv.FormatInt(lo, 10) + " to " + strconv.FormatInt(hi, 10)}
}

func server(r *rule) *rule {
	r.server = true
	return r
}
