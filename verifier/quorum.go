package verifier

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
)

func (pp *policyParser) groupLine(args []string) error {
	name, threshold, members := args[0], args[1], args[2:]
	r := &rule{witness: -1}
	for _, m := range members {
		// "The special name `none` […] is invalid as a group member."
		// "a group definition can only refer to names defined on preceding lines."
		member := pp.p.names[m]
		if member == nil {
			return fmt.Errorf("group %q: member %q is not defined on a preceding line", name, m)
		}
		// "Each defined name can be listed as a group member at most once. This ensures that
		// each witness can contribute to a group, or to the quorum in particular, in only one
		// way."
		if member.taken {
			return fmt.Errorf("group %q: %q is already a member of a group", name, m)
		}
		member.taken = true
		r.members = append(r.members, member)
	}
	k, err := parseThreshold(threshold, len(members))
	if err != nil {
		return fmt.Errorf("group %q: %w", name, err)
	}
	r.k = k
	return pp.define(name, r)
}

// parseThreshold: "The `any` variant is a shorthand for k = 1, and the `all` variant is a
// shorthand for k = n. If k is given numerically, it must be written in decimal, and it is
// required that 1 <= k <= n."
func parseThreshold(s string, n int) (int, error) {
	switch s {
	case "any":
		return 1, nil
	case "all":
		return n, nil
	}
	k, err := strconv.ParseUint(s, 10, 31)
	if err != nil || s[0] == '0' {
		return 0, fmt.Errorf("threshold %q, expected all, any or a decimal number", s)
	}
	if k > uint64(n) {
		return 0, fmt.Errorf("threshold %d of %d members", k, n)
	}
	return int(k), nil
}

func (pp *policyParser) quorumLine(args []string) error {
	if pp.hasQuorum {
		return errors.New("a second quorum line, expected exactly one")
	}
	pp.hasQuorum = true
	// "To not require any cosignatures at all, one can use the predefined name `none`".
	if args[0] == "none" {
		return nil
	}
	// "the quorum line must specify a witness or group defined earlier."
	if pp.p.quorum = pp.p.names[args[0]]; pp.p.quorum == nil {
		return fmt.Errorf("quorum: %q is not defined on a preceding line", args[0])
	}
	return nil
}

// met reports whether the rule holds for the set of witnesses that have cosigned: "the
// group is considered to witness a checkpoint if and only if at least k of its n members
// have witnessed that checkpoint". It ends, for a member is defined before its group; and
// its cost is that of the policy, for a name is a member only once.
func (r *rule) met(cosigned map[int]bool) bool {
	if r.witness >= 0 {
		return cosigned[r.witness]
	}
	n := 0
	for _, m := range r.members {
		if m.met(cosigned) {
			n++
		}
	}
	return n >= r.k
}

// MetBy reports whether cosignatures of these witnesses, by their names in the policy, would
// meet the quorum. Under "quorum none" those of nobody do.
func (p *Policy) MetBy(names ...string) bool {
	if p.quorum == nil {
		return true
	}
	cosigned := map[int]bool{}
	for i, w := range p.witnesses {
		cosigned[i] = slices.Contains(names, w.name)
	}
	return p.quorum.met(cosigned)
}
