package verifier

import "github.com/prooftrail/prooftrail/verifier/seal"

const (
	// MaxListedRedactions is how many entries with fields withheld or erased a report lists;
	// it counts all.
	MaxListedRedactions = 20
	// MaxListedFields is how many fields of each are listed.
	MaxListedFields = 16
)

// OpeningCounts counts entries by what their openings turned out to be.
type OpeningCounts struct {
	Verified uint64 `json:"verified"` // all fields shown
	Redacted uint64 `json:"redacted"` // verified, with fields withheld or erased
	Withheld uint64 `json:"withheld"` // of Redacted, those with fields withheld
	Erased   uint64 `json:"erased"`   // of Redacted, those with fields erased
	// NotShown are those that the server says are other tenants'. Nothing shows that they are.
	NotShown uint64 `json:"not_shown"`
	Failed   uint64 `json:"failed"`
	// NotChecked are those whose leaf hashes could not be had.
	NotChecked uint64 `json:"not_checked,omitempty"`
}

// Asked is how many openings were asked for.
func (c OpeningCounts) Asked() uint64 { return c.Verified + c.Redacted + c.NotShown + c.Failed }

func (c *OpeningCounts) add(o OpeningCounts) {
	c.Verified += o.Verified
	c.Redacted += o.Redacted
	c.Withheld += o.Withheld
	c.Erased += o.Erased
	c.NotShown += o.NotShown
	c.Failed += o.Failed
	c.NotChecked += o.NotChecked
}

// Redaction is an entry of whose fields some aren't shown. That they exist, and where, is
// proven; that the log's operator had a reason isn't.
type Redaction struct {
	Index    uint64    `json:"index"`
	Withheld []string  `json:"withheld,omitempty"` // pointers
	Erased   []Erasure `json:"erased,omitempty"`
	More     int       `json:"more,omitempty"` // fields behind the first MaxListedFields, not listed

	withheld, erased bool // listed or not
}

// Erasure is a field that was erased, by the server's word.
type Erasure struct {
	Pointer string `json:"pointer"`
	// By is the entry that is said to record it. It is behind the field's own entry and in
	// the log; what it says wasn't looked at.
	By uint64 `json:"by"`
}

// redactionOf lists what an opening doesn't show, and the farthest entry that is said to
// record an erasure (0: none). It returns nil if all is shown.
func redactionOf(o *seal.Opening, index uint64) (r *Redaction, by uint64) {
	for i := range o.Fields {
		f := &o.Fields[i]
		if f.Shown {
			continue
		}
		if r == nil {
			r = &Redaction{Index: index}
		}
		if f.ErasedBy != nil {
			by = max(by, *f.ErasedBy)
		}
		r.withheld = r.withheld || f.ErasedBy == nil
		r.erased = r.erased || f.ErasedBy != nil
		switch {
		case len(r.Withheld)+len(r.Erased) == MaxListedFields:
			r.More++
		case f.ErasedBy == nil:
			r.Withheld = append(r.Withheld, f.Pointer)
		default:
			r.Erased = append(r.Erased, Erasure{f.Pointer, *f.ErasedBy})
		}
	}
	return r, by
}

// bare is r without its lists: what is counted, but not listed.
func (r Redaction) bare() Redaction {
	return Redaction{Index: r.Index, withheld: r.withheld, erased: r.erased}
}
