package rules

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/doc"
)

// Bounds of a file.
const (
	maxFile  = 1 << 20
	maxRules = 1000
)

// file is a file as it is written.
type file struct {
	Version   int     `yaml:"version"`
	Base      string  `yaml:"base"`
	Scheduler string  `yaml:"scheduler"`
	Actor     []Actor `yaml:"actor"`
	Default   struct {
		Safe   Mode `yaml:"safe"`
		Unsafe Mode `yaml:"unsafe"`
	} `yaml:"default"`
	// Of rules that have none of their own.
	Outcomes []Choice `yaml:"outcomes"`
	Reason   Reason   `yaml:"reason"`

	Rules []*Rule `yaml:"rules"`
}

// Parse reads a file of rules. An error says where in the file something is wrong.
func Parse(data []byte) (*Set, error) {
	f, err := read(data)
	if err != nil {
		return nil, err
	}
	var base *Set
	if f.Base != "" {
		if base, err = Ready(f.Base); err != nil {
			return nil, fmt.Errorf("base: %w", err)
		}
	}
	return f.set(base)
}

func read(data []byte) (*file, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("more than %d bytes", maxFile)
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	var f file
	if err := dec.Decode(&f); err != nil {
		return nil, err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("expected one document")
	}
	if f.Version != 1 {
		return nil, fmt.Errorf("version %d: expected 1", f.Version)
	}
	if len(f.Rules) > maxRules {
		return nil, fmt.Errorf("more than %d rules", maxRules)
	}
	return &f, nil
}

// set makes the set: the file's own rules, then those of the base that it doesn't replace, then the defaults.
func (f *file) set(base *Set) (*Set, error) {
	s := &Set{Scheduler: f.Scheduler, Actor: f.Actor}
	names := map[string]bool{}
	for i, r := range f.Rules {
		if r == nil {
			return nil, fmt.Errorf("rules[%d]: expected a rule", i)
		}
		f.inherit(r)
		if err := r.check(); err != nil {
			return nil, fmt.Errorf("rules[%d] %q: %w", i, r.Name, err)
		}
		if names[r.Name] {
			return nil, fmt.Errorf("rules[%d]: the name %q comes twice", i, r.Name)
		}
		names[r.Name] = true
		s.Rules = append(s.Rules, r)
	}
	for i := range f.Actor {
		if err := f.Actor[i].check(); err != nil {
			return nil, fmt.Errorf("actor[%d]: %w", i, err)
		}
	}
	safe, unsafe := defaultRule(true, f.Default.Safe), defaultRule(false, f.Default.Unsafe)
	f.inherit(safe)
	f.inherit(unsafe)
	if base != nil {
		for _, r := range base.Rules {
			if r.generic && r.safe && f.Default.Safe == Unset {
				safe = r
			} else if r.generic && !r.safe && f.Default.Unsafe == Unset {
				unsafe = r
			} else if !r.generic && !names[r.Name] {
				s.Rules = append(s.Rules, r)
			}
		}
		if len(s.Actor) == 0 {
			s.Actor = base.Actor
		}
		if s.Scheduler == "" {
			s.Scheduler = base.Scheduler
		}
	}
	s.Rules = append(s.Rules, safe, unsafe)
	return s, nil
}

// inherit gives a rule what the file says for all.
func (f *file) inherit(r *Rule) {
	if len(r.Outcomes) == 0 {
		r.Outcomes = f.Outcomes
	}
	if len(r.Reason.Code) == 0 && len(r.Reason.Text) == 0 {
		r.Reason = f.Reason
	}
}

// defaultRule is what a request gets that no rule matches.
func defaultRule(safe bool, mode Mode) *Rule {
	r := &Rule{Name: "default.unsafe", Action: "api.write", Mode: mode, generic: true, safe: safe, Body: true}
	if safe {
		r.Name, r.Action, r.Body = "default.safe", "api.read", false
		if mode == Unset {
			r.Mode = Ignore
		}
	}
	r.Target.Type = "api"
	return r
}

var (
	ruleName   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
	actionName = regexp.MustCompile(`^[a-z][a-z0-9_-]*(\.[a-z][a-z0-9_-]*)+$`)
	methodName = regexp.MustCompile(`^[A-Z]{1,32}$`)
	typeName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$`)
	triggers   = []string{"", "schedule", "manual", "api", "retry", "catchup"}
	outcomes   = []string{"success", "failure", "denied", "unknown"}
)

func (r *Rule) check() error {
	switch {
	case !ruleName.MatchString(r.Name):
		return errors.New("name: expected up to 64 of a to z, digits, . and -")
	case r.Path.text == "":
		return errors.New("path: expected a pattern")
	case slices.ContainsFunc(r.Methods, func(m string) bool { return !methodName.MatchString(m) }):
		return errors.New("method: expected a list of names in capitals")
	case r.Mode == Ignore && r.Action == "":
		return r.checkSelectors()
	case !typeName.MatchString(r.Target.Type):
		return errors.New("target: type: expected 1 to 64 of letters, digits, _ . : -")
	case !slices.Contains(triggers, r.Job.Trigger):
		return fmt.Errorf("job: trigger %q: expected schedule, manual, api, retry or catchup", r.Job.Trigger)
	case r.Learn != nil && (len(r.Learn.Session) == 0 || len(r.Learn.User) == 0):
		return errors.New("learn: expected session and user")
	}
	if err := checkAction(r.Action); err != nil {
		return fmt.Errorf("action: %w", err)
	}
	for i, c := range r.Actions {
		if err := checkAction(c.Then); err != nil {
			return fmt.Errorf("actions[%d]: %w", i, err)
		}
	}
	for i, c := range r.Outcomes {
		if !slices.Contains(outcomes, c.Then) {
			return fmt.Errorf("outcomes[%d]: then %q: expected success, failure, denied or unknown", i, c.Then)
		}
	}
	if err := r.Change.check(); err != nil {
		return fmt.Errorf("change: %w", err)
	}
	return r.checkSelectors()
}

func checkAction(action string) error {
	if len(action) < 3 || len(action) > 128 || !actionName.MatchString(action) || strings.HasPrefix(action, "audit.") {
		return fmt.Errorf("%q: expected dotted lower case, such as job.update, and not audit", action)
	}
	return nil
}

// checkSelectors finds tests of the request that look at its answer, and names that the pattern doesn't have.
func (r *Rule) checkSelectors() error {
	names := map[string]bool{}
	for _, p := range r.Path.parts {
		names[p.capture] = true
	}
	known := func(where string, v ...Selector) error {
		for _, s := range v {
			if s.In == InPath && !names[s.Name] {
				return fmt.Errorf("%s: path:%s: the pattern has no {%s}", where, s.Name, s.Name)
			}
		}
		return nil
	}
	for _, t := range r.If {
		if late[t.Of.In] || t.Of.In == InBefore {
			return fmt.Errorf("if: %s isn't known before the answer", t.Of.In)
		}
		if err := known("if", t.Of); err != nil {
			return err
		}
	}
	for where, v := range map[string]Value{
		"target": slices.Concat(r.Target.ID, r.Target.Name), "job": slices.Concat(r.Job.ID, r.Job.Name, r.Job.Schedule, r.Job.TZ, r.Job.RunID), "actor": r.Actor,
	} {
		if err := known(where, v...); err != nil {
			return err
		}
	}
	if r.Change == nil {
		return nil
	}
	for _, p := range r.Change.Get.parts {
		if err := known("change: get", p.value...); err != nil {
			return err
		}
	}
	return nil
}

func (c *Change) check() error {
	if c == nil {
		return nil
	}
	if c.Get.text == "" && c.After == "" {
		return errors.New("expected get or after")
	}
	for _, p := range []string{c.At, c.After} {
		if _, err := doc.ParsePointer(p); err != nil {
			return err
		}
	}
	return nil
}

func (a *Actor) check() error {
	n := 0
	for _, set := range []bool{a.Header != "", a.Basic, a.JWT != nil, len(a.Session) > 0, len(a.Key) > 0} {
		if set {
			n++
		}
	}
	if n != 1 {
		return errors.New("expected one of header, basic, jwt, session and key")
	}
	if a.JWT != nil && (len(a.JWT.In) == 0 || len(a.JWT.Claim) == 0) {
		return errors.New("jwt: expected in and claim")
	}
	return nil
}
