package event

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
)

// A stage is how far an event has come, which decides what must be there.
type stage int

const (
	stamped   stage = iota // by the server: with its members
	submitted              // by a source: without them
)

// A set is a set of rules of schemaRules, by their bits.
type set uint64

func setOf(pointers ...string) (s set) {
	for _, p := range pointers {
		s |= 1 << schemaRules[p].bit
	}
	return s
}

// group is the set of the members of a top-level object.
func group(name string) (s set) {
	for p, r := range schemaRules {
		if strings.HasPrefix(p, "/"+name+"/") {
			s |= 1 << r.bit
		}
	}
	return s
}

// What is needed, and with what.
var (
	alwaysNeeded = []string{"/schema", "/id", "/source", "/time", "/action", "/outcome", "/actor/type", "/actor/id"}
	serverNeeded = []string{"/tenant", "/received_at"}

	alwaysSet, serverSet         = setOf(alwaysNeeded...), setOf(serverNeeded...)
	reasonSet, jobSet, changeSet = group("reason"), group("job"), group("change")
	reasonCodeSet, jobIDSet      = setOf("/reason/code"), setOf("/job/id")
	portSet, ipSet               = setOf("/origin/port"), setOf("/origin/ip")

	actionRule, outcomeRule, sourceRule = schemaRules["/action"], schemaRules["/outcome"], schemaRules["/source"]
)

// A checker looks at fields one after the other and remembers what the rules
// between them need.
type checker struct {
	stage   stage
	last    string // pointer of the field before
	seen    set
	targets [3]uint32 // bit i: target i has a type, an id, a name
	size    int       // of pointers and values
	sourced int       // fields that aren't the server's

	action, outcome, source []byte // nil if withheld or not there
}

// check validates the fields of an event at a stage.
func check(f Fields, at stage) *Error {
	c := checker{stage: at}
	for i := range f {
		if err := c.field(f[i].Pointer, ruleOf(f[i].Pointer), f[i].Value); err != nil {
			return err
		}
	}
	return c.end()
}

// field takes note of a field and checks its value.
func (c *checker) field(pointer string, r *rule, v []byte) *Error {
	if err := c.place(pointer, r); err != nil {
		return err
	}
	return c.value(pointer, r, v)
}

// place takes note of a field by its pointer, which has this rule; nil if the schema
// doesn't know it.
func (c *checker) place(pointer string, r *rule) *Error {
	switch {
	case r == nil:
		return unknownPointer(pointer)
	case pointer <= c.last:
		return &Error{Pointer: pointer, Code: CodeOrder, Expected: "pointers strictly increasing by bytes"}
	case r.server && c.stage == submitted:
		return &Error{Pointer: pointer, Code: CodeReserved, Expected: "no member that the server sets"}
	}
	c.last = pointer
	c.size += len(pointer)
	if !r.server {
		if c.sourced++; c.sourced > MaxFields {
			return tooMany()
		}
	}
	if r.bit != 0 {
		c.seen |= 1 << r.bit
	} else if r.target != 0 {
		c.targets[(r.target-1)%3] |= 1 << ((r.target - 1) / 3)
	}
	return nil
}

// value checks the value of a field, which is canonical, by the field's rule.
func (c *checker) value(pointer string, r *rule, v []byte) *Error {
	if r.isText() && len(v) > 0 && v[0] == '"' {
		return c.text(pointer, r, textOf(v), len(v))
	}
	c.size += len(v)
	if err := r.check(v); err != nil {
		err.Pointer = pointer + err.Pointer
		return err
	}
	return nil
}

// text is value for a text, whose rule is one for texts and which is so many bytes long
// as a JSON string.
func (c *checker) text(pointer string, r *rule, text []byte, size int) *Error {
	c.size += size
	if err := r.checkText(text); err != nil {
		err.Pointer = pointer + err.Pointer
		return err
	}
	switch r {
	case actionRule:
		c.action = text
	case outcomeRule:
		c.outcome = text
	case sourceRule:
		c.source = text
	}
	return nil
}

// end checks the event as a whole.
func (c *checker) end() *Error {
	if err := c.fits(); err != nil {
		return err
	}
	if err := c.whole(); err != nil {
		return err
	}
	return c.reserved()
}

// fits checks the size of the whole event.
func (c *checker) fits() *Error {
	if c.size > MaxStampedBytes {
		return &Error{Code: CodeSize, Expected: "at most " + strconv.Itoa(MaxStampedBytes) + " bytes in pointers and values"}
	}
	return nil
}

// whole checks that what is needed is there. A withheld field is there; and
// where its value decides what else is needed, nothing else is.
func (c *checker) whole() *Error {
	if c.seen&alwaysSet != alwaysSet {
		return c.missing(alwaysNeeded)
	}
	if c.stage != submitted && c.seen&serverSet != serverSet {
		return c.missing(serverNeeded)
	}
	if err := c.wholeTargets(); err != nil {
		return err
	}
	success := string(c.outcome) == "success"
	reason := c.outcome != nil && !success
	job := hasPrefix(c.action, "job.") || hasPrefix(c.action, "run.")
	switch {
	case (reason || c.seen&reasonSet != 0) && c.seen&reasonCodeSet == 0:
		return missing("/reason/code")
	case (job || c.seen&jobSet != 0) && c.seen&jobIDSet == 0:
		return missing("/job/id")
	case success && bytes.HasSuffix(c.action, []byte(".update")) && c.seen&changeSet == 0:
		return &Error{Pointer: "/change", Code: CodeMissing, Expected: "what a successful update changed: before_sha256, after_sha256 or patch"}
	case c.seen&portSet != 0 && c.seen&ipSet == 0:
		return missing("/origin/ip")
	}
	return nil
}

// missing names the first of the pointers that isn't there.
func (c *checker) missing(pointers []string) *Error {
	i := slices.IndexFunc(pointers, func(p string) bool { return c.seen&setOf(p) == 0 })
	return missing(pointers[i])
}

// wholeTargets checks that the indices of target are 0 to n-1 and that each
// has a type and an id.
func (c *checker) wholeTargets() *Error {
	all := c.targets[0] | c.targets[1] | c.targets[2]
	if all == 0 {
		return &Error{Pointer: "/target", Code: CodeMissing, Expected: "1 to 32 targets"}
	}
	for i := 0; all>>i != 0; i++ {
		for j, name := range targetMembers[:2] {
			if c.targets[j]>>i&1 == 0 {
				return &Error{Pointer: targetPointer(i) + "/" + name, Code: CodeMissing, Expected: targetRules[i][j].want}
			}
		}
	}
	return nil
}

// reserved keeps the service's own names for the service.
func (c *checker) reserved() *Error {
	own := hasPrefix(c.source, "prooftrail:")
	audit := hasPrefix(c.action, "audit.") && !isAccount(c.action)
	switch {
	case c.stage == submitted && own:
		return &Error{Pointer: "/source", Code: CodeReserved, Expected: "another scheme than prooftrail"}
	case c.stage == submitted && audit:
		return &Error{Pointer: "/action", Code: CodeReserved, Expected: "another action than audit.*, but for audit.heartbeat and audit.dropped"}
	case audit && c.source != nil && !own:
		return &Error{Pointer: "/action", Code: CodeReserved, Expected: "audit.*, but for audit.heartbeat and audit.dropped, only from a source with the scheme prooftrail"}
	}
	return nil
}

func hasPrefix(text []byte, prefix string) bool {
	return len(text) >= len(prefix) && string(text[:len(prefix)]) == prefix
}

// check checks a canonical value.
func (r *rule) check(v []byte) *Error {
	switch {
	case len(v) == 0:
		return r.refuse(CodeType)
	case r.value != nil:
		return r.value(v)
	case r.integer:
		return r.checkInteger(v)
	case v[0] != '"':
		return r.refuse(CodeType)
	}
	return r.checkText(textOf(v))
}

// isText reports whether the rule is one for texts.
func (r *rule) isText() bool { return r.value == nil && !r.integer }

// checkText checks a text by a rule for texts.
func (r *rule) checkText(text []byte) *Error {
	switch {
	case r.time:
		if _, fault := parseTime(text); fault != "" {
			return r.refuse(fault)
		}
	case r.values != nil:
		for _, value := range r.values {
			if string(text) == value {
				return nil
			}
		}
		return r.refuse(CodeEnum)
	case len(text) < r.min || len(text) > r.max:
		return r.refuse(CodeSize)
	case r.format != nil && !r.format(text):
		return r.refuse(CodeFormat)
	}
	return nil
}

func (r *rule) checkInteger(v []byte) *Error {
	if v[0] != '-' && !isDigit(v[0]) {
		return r.refuse(CodeType)
	}
	n, err := strconv.ParseInt(string(v), 10, 64)
	if err != nil || n < r.lo || n > r.hi {
		return r.refuse(CodeRange)
	}
	return nil
}

func (r *rule) refuse(code string) *Error {
	return &Error{Code: code, Expected: r.want}
}

func missing(pointer string) *Error {
	return &Error{Pointer: pointer, Code: CodeMissing, Expected: schemaRules[pointer].want}
}

// unknownPointer refuses a pointer that no field has: of an object where one
// of its members is meant, or the other way round, or of nothing at all. It
// isn't repeated if it may be anything but a pointer.
func unknownPointer(pointer string) *Error {
	if len(pointer) > 2*maxToken || strings.ContainsFunc(pointer, func(r rune) bool { return r <= ' ' || r > '~' }) {
		pointer = ""
	}
	return &Error{Pointer: pointer, Code: CodeUnknown, Expected: "the pointer of a field of the schema"}
}
