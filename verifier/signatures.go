package verifier

import (
	"maps"
	"slices"
	"strings"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

// SignatureReport counts, of one source, what the signatures of its entries are worth (AuditConfig.SourceKeys): those of the
// entries that this audit has checked, from AuditReport.OpeningsFrom on.
type SignatureReport struct {
	Tenant string `json:"tenant"`
	Source string `json:"source"` // "" if it isn't shown

	Good     uint64 `json:"good"`
	Unsigned uint64 `json:"unsigned"`
	OtherKey uint64 `json:"other_key"`
	Wrong    uint64 `json:"wrong"`
	NotShown uint64 `json:"not_shown"`

	Failed uint64 `json:"failed"` // of these, how many are failures
	Hidden uint64 `json:"hidden"` // and how many can't be decided: they have to be signed, and it isn't shown whether they are
}

func (r *SignatureReport) count(v SignatureVerdict) {
	switch v.Status {
	case SignatureGood:
		r.Good++
	case SignatureMissing:
		r.Unsigned++
	case SignatureOtherKey:
		r.OtherKey++
	case SignatureWrong:
		r.Wrong++
	case SignatureHidden:
		r.NotShown++
	}
	if v.Failed() {
		r.Failed++
	}
	if v.Hidden() {
		r.Hidden++
	}
}

func (r *SignatureReport) add(o *SignatureReport) {
	r.Good += o.Good
	r.Unsigned += o.Unsigned
	r.OtherKey += o.OtherKey
	r.Wrong += o.Wrong
	r.NotShown += o.NotShown
	r.Failed += o.Failed
	r.Hidden += o.Hidden
}

// maxSignatureSources bounds what is kept: whoever can submit can make sources up.
const maxSignatureSources = 4096

// signatures is the tally of all sources with keys.
type signatures struct {
	by   map[sourceKey]*SignatureReport
	rest SignatureReport // of sources that there was no room for
	used map[*sourceKeyLine]bool
}

// of returns the counts of a source.
func (s *signatures) of(key sourceKey) *SignatureReport {
	if r := s.by[key]; r != nil {
		return r
	}
	if len(s.by) >= maxSignatureSources {
		return &s.rest
	}
	if s.by == nil {
		s.by = map[sourceKey]*SignatureReport{}
	}
	r := &SignatureReport{Tenant: key.tenant, Source: key.source}
	s.by[key] = r
	return r
}

func (s *signatures) add(o *signatures) {
	for key, r := range o.by {
		s.of(key).add(r)
	}
	s.rest.add(&o.rest)
	s.use(slices.Collect(maps.Keys(o.used)))
}

// use notes that lines were about some entry.
func (s *signatures) use(lines []*sourceKeyLine) {
	if s.used == nil && len(lines) > 0 {
		s.used = map[*sourceKeyLine]bool{}
	}
	for _, l := range lines {
		s.used[l] = true
	}
}

// UnusedSourceKey is a line of the file of source keys that is about no entry.
type UnusedSourceKey struct {
	Line   int    `json:"line"` // from 1
	Source string `json:"source"`
	Tenant string `json:"tenant,omitempty"`
}

// unused lists the lines of k that were about no entry.
func (s *signatures) unused(k *SourceKeys) (list []UnusedSourceKey) {
	for i := range k.lines {
		if l := &k.lines[i]; !s.used[l] {
			list = append(list, UnusedSourceKey{l.number, l.prefix, l.tenant})
		}
	}
	return list
}

// report lists the sources, those with failures first, and then those with what isn't shown.
func (s *signatures) report() (list []SignatureReport, rest *SignatureReport) {
	for _, r := range s.by {
		list = append(list, *r)
	}
	slices.SortFunc(list, func(a, b SignatureReport) int {
		if d := rank(&a) - rank(&b); d != 0 {
			return d
		}
		return strings.Compare(a.Tenant+"\x00"+a.Source, b.Tenant+"\x00"+b.Source)
	})
	if s.rest != (SignatureReport{}) {
		more := s.rest
		rest = &more
	}
	return list, rest
}

func rank(r *SignatureReport) int {
	switch {
	case r.Failed > 0:
		return 0
	case r.Hidden > 0:
		return 1
	}
	return 2
}

// signature checks the source signature of an entry whose opening is its leaf's, if keys were given.
func (c *openingChecker) signature(index uint64, o *seal.Opening) {
	if c.cfg.SourceKeys == nil {
		return
	}
	v, lines := c.cfg.SourceKeys.check(o)
	if v.Status == SignatureNotAsked {
		return
	}
	c.unit.signatures.use(lines)
	if v.Hidden() { // what isn't shown today must be asked for the next time
		c.unit.hide(index)
	}
	c.unit.signatures.of(sourceKey{c.name(o.Text("/tenant")), c.name(o.Text("/source"))}).count(v)
	if v.Failed() {
		c.unit.fail(index, 1, "source signature: %s", v.Reason())
	}
}

// SignaturesHidden reports whether some entry had to be signed by its source and the server didn't show whether it
// is: then that wasn't checked.
func (r *AuditReport) SignaturesHidden() bool {
	return slices.ContainsFunc(r.Signatures, func(s SignatureReport) bool { return s.Hidden > 0 }) ||
		r.MoreSignatures != nil && r.MoreSignatures.Hidden > 0
}

// SignaturesUnmatched reports whether source keys were given and, in an audit of all openings from entry 0 on, were about
// none that was shown: then no signature was checked. Names of sources may be misspelt in the file.
func (r *AuditReport) SignaturesUnmatched() bool {
	return r.SourceKeys > 0 && r.OpeningsFrom == 0 && r.Openings.Asked() > 0 && len(r.UnusedSourceKeys) == r.SourceKeys
}
