package verifier

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

const (
	// MaxPolicyBytes is the largest policy file that is read.
	MaxPolicyBytes = 1 << 20
	// MaxPolicyNames is the largest number of witnesses and groups together. "It is strongly
	// recommended that an implementation supports at least up to 32 logs, 32 witnesses, and
	// 32 groups."
	MaxPolicyNames = 1024
)

// Policy says which checkpoints are valid: whose log, which witnesses, how many of them
// (c2sp.org/tlog-policy). It is immutable and safe for concurrent use.
type Policy struct {
	log    *LogKey
	logURL string

	witnesses []witness
	names     map[string]*rule // witnesses and groups "share a single namespace"
	quorum    *rule            // nil: "quorum none"
}

// witness is one witness line.
type witness struct {
	name string
	url  string
	text string // the vkey
	key  vkey
}

// rule is what a name stands for: a witness, or k of the members.
type rule struct {
	witness int // index into Policy.witnesses, -1 for a group
	k       int
	members []*rule
	taken   bool // is a member of some group
}

// PolicyWitness is a witness that a policy names.
type PolicyWitness struct {
	Name    string // in the policy
	KeyName string // of its verifier key
	// VerifierKey is the key as the policy has it.
	VerifierKey string
	URL         string // submission prefix (c2sp.org/tlog-witness), may be empty
}

// Origin returns the origin of the one log of the policy.
func (p *Policy) Origin() string { return p.log.Origin() }

// Log returns the key of the one log of the policy.
func (p *Policy) Log() *LogKey { return p.log }

// LogURL returns the URL on the log line, or "".
func (p *Policy) LogURL() string { return p.logURL }

// Witnesses returns the witnesses of the policy in the order of its lines.
func (p *Policy) Witnesses() []PolicyWitness {
	ws := make([]PolicyWitness, len(p.witnesses))
	for i, w := range p.witnesses {
		ws[i] = PolicyWitness{Name: w.name, KeyName: w.key.name, VerifierKey: w.text, URL: w.url}
	}
	return ws
}

// RequiresWitnesses reports whether the quorum is anything but none.
func (p *Policy) RequiresWitnesses() bool { return p.quorum != nil }

// ParsePolicy reads a policy file. Beyond c2sp.org/tlog-policy it demands exactly one log
// line, for a log of this project has one origin and one key for ever, and a newline at
// the end of the last line, for a file that was cut short may mean something else. An
// error names the line.
func ParsePolicy(b []byte) (*Policy, error) {
	if len(b) > MaxPolicyBytes {
		return nil, fmt.Errorf("parse policy: more than %d bytes", MaxPolicyBytes)
	}
	// "The policy file is line based, where each line is terminated by ASCII newline".
	if len(b) > 0 && b[len(b)-1] != '\n' {
		return nil, errors.New("parse policy: the last line is not ended by a newline: is the file cut short?")
	}
	pp := policyParser{p: &Policy{names: map[string]*rule{}}}
	for i, line := range bytes.Split(b, []byte("\n")) {
		if err := pp.line(string(line)); err != nil {
			return nil, fmt.Errorf("parse policy: line %d: %w", i+1, err)
		}
	}
	if pp.p.log == nil {
		return nil, errors.New("parse policy: no log line, expected exactly one")
	}
	// "A policy file must include exactly one quorum line."
	if !pp.hasQuorum {
		return nil, errors.New("parse policy: no quorum line, expected exactly one")
	}
	return pp.p, nil
}

// policyParser is a policy being read line by line.
type policyParser struct {
	p         *Policy
	hasQuorum bool
}

// policyLines maps the first item of a line to its method and the number of items after it.
var policyLines = map[string]struct {
	min, max int
	usage    string
	read     func(*policyParser, []string) error
}{
	"log":     {1, 2, "log <vkey> [<url>]", (*policyParser).logLine},
	"witness": {2, 3, "witness <name> <vkey> [<url>]", (*policyParser).witnessLine},
	// "At least one member must be listed (i.e., n >= 1)."
	"group":  {3, 2 + MaxPolicyNames, "group <name> all|any|<k> <name>...", (*policyParser).groupLine},
	"quorum": {1, 1, "quorum <name>|none", (*policyParser).quorumLine},
}

func (pp *policyParser) line(line string) error {
	// "the allowed octet values are 0x09 (tab), 0x0A (newline), 0x20-0x7E, and 0x80-0xFF."
	for i := range len(line) {
		if c := line[i]; c != '\t' && (c < 0x20 || c == 0x7f) {
			return fmt.Errorf("octet %#04x is not allowed", c)
		}
	}
	// "the items on each line are separated by "whitespace", which in this specification
	// means sequences of ASCII space and tab characters *only*. Leading and trailing
	// whitespace is allowed."
	items := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	// "Empty lines (whitespace only) and comment lines (lines starting with "#", possibly
	// preceded by whitespace) are allowed and ignored."
	if len(items) == 0 || items[0][0] == '#' {
		return nil
	}
	def, ok := policyLines[items[0]]
	if !ok {
		return fmt.Errorf("unknown keyword %q, expected log, witness, group or quorum", items[0])
	}
	if args := items[1:]; len(args) >= def.min && len(args) <= def.max {
		return def.read(pp, args)
	}
	return fmt.Errorf("expected: %s", def.usage)
}

func (pp *policyParser) logLine(args []string) error {
	if pp.p.log != nil {
		return errors.New("a second log line, expected exactly one")
	}
	key, err := ParseLogKey(args[0])
	if err != nil {
		return err
	}
	pp.p.log = key
	if len(args) == 2 {
		pp.p.logURL = args[1]
	}
	return pp.checkCollision(key.key)
}

func (pp *policyParser) witnessLine(args []string) error {
	key, err := parseVkey(args[1], typeCosignature, typeMLDSA44)
	if err != nil {
		return fmt.Errorf("witness %q: %w", args[0], err)
	}
	for _, w := range pp.p.witnesses {
		// "Duplicate witnesses, i.e., multiple witness lines with the same public key, are not
		// allowed." "Two vkeys are considered *duplicate* if they wrap the same underlying
		// public key, even if they differ by key name and key id."
		if bytes.Equal(w.key.public, key.public) {
			return fmt.Errorf("witness %q: same public key as witness %q", args[0], w.name)
		}
	}
	if err := pp.checkCollision(key); err != nil {
		return fmt.Errorf("witness %q: %w", args[0], err)
	}
	if err := pp.define(args[0], &rule{witness: len(pp.p.witnesses)}); err != nil {
		return err
	}
	w := witness{name: args[0], text: args[1], key: key}
	if len(args) == 3 {
		w.url = args[2]
	}
	pp.p.witnesses = append(pp.p.witnesses, w)
	return nil
}

// checkCollision refuses two keys that a signature line can't tell apart: "Accidental
// collisions of *both* key name and key ID can lead to errors if signatures from colliding
// keys pairs are applied to the same note."
func (pp *policyParser) checkCollision(key vkey) error {
	same := func(o vkey) bool { return o.name == key.name && o.keyID == key.keyID }
	if key.typ != typeEd25519 && pp.p.log != nil && same(pp.p.log.key) {
		return errors.New("same key name and key ID as the log")
	}
	for _, w := range pp.p.witnesses {
		if same(w.key) {
			return fmt.Errorf("same key name and key ID as witness %q", w.name)
		}
	}
	return nil
}

// define adds a name to the namespace of witnesses and groups.
func (pp *policyParser) define(name string, r *rule) error {
	// "The special name `none` is predefined".
	if name == "none" {
		return errors.New("the name none is predefined")
	}
	if pp.p.names[name] != nil {
		return fmt.Errorf("the name %q is already defined", name)
	}
	if len(pp.p.names) == MaxPolicyNames {
		return fmt.Errorf("more than %d witnesses and groups", MaxPolicyNames)
	}
	pp.p.names[name] = r
	return nil
}
