// Package rules says what requests to a scheduler's REST API mean: which action they are, on what, by whom, and how one
// tells from the answer what came of it.
//
// A file of rules is YAML; docs/proxy.md describes it for those who write one. Parse refuses what it doesn't know, and says
// where. There are ready files for some schedulers: [Ready].
//
// # Which rule a request gets
//
// The first that matches method, path and conditions. What decides is what the scheduler reads, and that
// isn't known for certain: some decode %2F before they split a path, some drop ;parameters, some take a method or a path from a
// header. So a request is matched in each way that it can be read ([Readings], [Methods], [Paths]), and where these differ, the
// strictest rule counts: required over best effort over ignored. [Decision] says that it was so.
package rules

import (
	"fmt"
	"slices"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/doc"
)

// Mode says whether requests are recorded, and what happens when one can't be.
type Mode int

// The modes, each stricter than the one before.
const (
	Unset      Mode = iota // as the file says, or the command line
	Ignore                 // not recorded
	BestEffort             // recorded, and passed on whatever becomes of the record
	Required               // passed on only once the attempt is in the log
)

var modeNames = map[Mode]string{Unset: "", Ignore: "ignore", BestEffort: "best-effort", Required: "required"}

// String is the mode's name in files.
func (m Mode) String() string { return modeNames[m] }

// ParseMode reads a mode's name.
func ParseMode(text string) (Mode, error) {
	for m, name := range modeNames {
		if name == text && m != Unset {
			return m, nil
		}
	}
	return Unset, fmt.Errorf("mode %q: expected ignore, best-effort or required", text)
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (m *Mode) UnmarshalText(text []byte) (err error) {
	*m, err = ParseMode(string(text))
	return err
}

// Set is a file of rules, ready to be used.
type Set struct {
	Scheduler string
	Actor     []Actor
	Rules     []*Rule // the defaults last: one of them matches everything
}

// Rule is what one kind of request means.
type Rule struct {
	Name     string   `yaml:"name"`
	Methods  []string `yaml:"method"`
	Path     Pattern  `yaml:"path"`
	Mode     Mode     `yaml:"mode"`
	If       Tests    `yaml:"if"`
	Action   string   `yaml:"action"`
	Actions  []Choice `yaml:"actions"` // instead of Action, where their tests hold
	Outcomes []Choice `yaml:"outcomes"`
	Reason   Reason   `yaml:"reason"`
	Target   Target   `yaml:"target"`
	Job      Job      `yaml:"job"`
	Change   *Change  `yaml:"change"`
	Actor    Value    `yaml:"actor"`
	Learn    *Learn   `yaml:"learn"`
	Forget   Value    `yaml:"forget"`
	Body     bool     `yaml:"body"` // put the request's body, masked, into the event
	generic  bool     // one of the defaults
	safe     bool     // of those, the one of safe methods
}

// Choice is a word with the tests that choose it.
type Choice struct {
	If   Tests  `yaml:"if"`
	Then string `yaml:"then"`
}

// Reason says where an answer has the reason of a failure.
type Reason struct {
	Code Value `yaml:"code"`
	Text Value `yaml:"text"`
}

// Target is what the action is on.
type Target struct {
	Type string `yaml:"type"`
	ID   Value  `yaml:"id"`
	Name Value  `yaml:"name"`
}

// Job is what fills the event's job.
type Job struct {
	ID       Value  `yaml:"id"`
	Name     Value  `yaml:"name"`
	Schedule Value  `yaml:"schedule"`
	TZ       Value  `yaml:"tz"`
	RunID    Value  `yaml:"run_id"`
	Trigger  string `yaml:"trigger"`
}

// Change says where the resource is found before and after a change.
type Change struct {
	Get    Template         `yaml:"get"`
	With   map[string]Value `yaml:"with"`   // parameters of the query that Get is asked with: credentials that aren't in headers
	At     string           `yaml:"at"`     // a pointer into the answer of Get
	After  string           `yaml:"after"`  // a pointer into the answer of the change itself, "/" being all of it; "": Get is asked again
	Ignore []doc.Pointer    `yaml:"ignore"` // pointers into the resource: no change
	Secret []doc.Pointer    `yaml:"secret"` // pointers into it: masked, also in the request's body
}

// Learn says which session belongs to whom, from a login that succeeded.
type Learn struct {
	Session Value `yaml:"session"`
	User    Value `yaml:"user"`
}

// Actor is one way to tell who makes a request: exactly one of its members is set.
type Actor struct {
	Header  string `yaml:"header"` // a name that a trusted proxy has put there
	Basic   bool   `yaml:"basic"`
	JWT     *JWT   `yaml:"jwt"`
	Session Value  `yaml:"session"`
	Key     Value  `yaml:"key"`
}

// JWT is a JSON web token. Its signature isn't checked here.
type JWT struct {
	In    Value    `yaml:"in"`
	Claim []string `yaml:"claim"`
}

// Generic reports whether the rule is one of the defaults.
func (r *Rule) Generic() bool { return r.generic }

// Secrets reports whether the rule shows something of a place as an HMAC only.
func (r *Rule) Secrets(in string) bool {
	for _, v := range []Value{r.Target.ID, r.Target.Name, r.Job.ID, r.Job.RunID} {
		for _, s := range v {
			if s.Secret && s.In == in {
				return true
			}
		}
	}
	return false
}

// Looks reports whether a place is looked at to tell what a request is, by whom, and on what.
func (s *Set) Looks(r *Rule, in string) bool {
	all := []Value{r.Target.ID, r.Target.Name, r.Job.ID, r.Job.Name, r.Job.Schedule, r.Job.TZ, r.Job.RunID, r.Actor, r.Forget}
	if r.Learn != nil {
		all = append(all, r.Learn.User, r.Learn.Session)
	}
	if r.Change != nil {
		for _, p := range r.Change.Get.parts {
			all = append(all, p.value)
		}
	}
	for _, a := range s.Actor {
		all = append(all, a.Session, a.Key)
		if a.JWT != nil {
			all = append(all, a.JWT.In)
		}
	}
	tests := slices.Clone(r.If)
	for _, c := range r.Actions {
		tests = append(tests, c.If...)
	}
	return slices.ContainsFunc(all, func(v Value) bool { return v.Uses(in) }) ||
		slices.ContainsFunc(tests, func(t Test) bool { return t.Of.In == in })
}
