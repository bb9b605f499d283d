package verifier

import (
	"errors"
	"time"

	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// NotShown is the content part of a verdict on a receipt without an opening: the leaf is
// in the log, what it stands for wasn't shown.
const NotShown seal.Content = "not shown"

// ErrNoOpening is returned by [VerifyReceipt] for a receipt without an opening, as other
// tenants get it: give the leaf to [VerifyReceiptLeaf].
var ErrNoOpening = errors.New("receipt has no opening")

// Verdict is what a receipt proves. Its three parts are Content, Inclusion and Witnesses.
type Verdict struct {
	Content  seal.Content // verified, verified-redacted, FAILED or NotShown
	Reason   string       // why it FAILED, else ""
	Withheld []string     // pointers of the fields that were withheld or erased

	Inclusion bool // the leaf is in the tree whose root the log signed

	Witnesses Witnesses // zero if the checkpoint itself FAILED

	// Parsed: the receipt could be read. Else nothing is known, Index neither.
	Parsed bool

	// What was verified; set as far as verification came.
	Origin   string
	Index    uint64
	Size     uint64 // of the tree that the checkpoint is about
	LeafHash Hash
	Time     time.Time    // when the entry was sequenced, by the log's clock
	Event    event.Fields // the fields shown; nil if nothing is

	Signature *SignatureVerdict // of its source; nil unless CheckSignature was called

	Opening *seal.Opening // what was opened; nil without one or if anything FAILED
}

// Verified reports whether all three parts are as good as they can be: content (if shown)
// verified, included, and the quorum of the policy met. A provisional receipt isn't.
func (v Verdict) Verified() bool {
	return v.Reason == "" && v.Inclusion && v.Witnesses.Status == Quorum
}

// VerifyReceipt verifies a receipt with its opening, offline.
//
// The error is nil exactly when the content is verified (perhaps redacted) and included;
// whether the witnesses' quorum is met is for the caller to judge: see
// [Verdict.Verified]. The error matches [ErrFailed] when the receipt doesn't hold, and is
// [ErrNoOpening] when there is nothing to recompute.
func VerifyReceipt(receipt []byte, p *Policy) (Verdict, error) {
	r, err := ParseReceipt(receipt)
	if err != nil {
		return failed(Verdict{}, failedf("%w", err))
	}
	return r.Verify(p)
}

// VerifyReceiptLeaf verifies a receipt for a leaf that was obtained elsewhere, such as the
// entry of a bundle or of `GET …/entries/{index}`. If the receipt has an opening too, it
// must open this leaf. The content of a receipt without one is [NotShown].
func VerifyReceiptLeaf(receipt, leaf []byte, p *Policy) (Verdict, error) {
	r, err := ParseReceipt(receipt)
	if err != nil {
		return failed(Verdict{}, failedf("%w", err))
	}
	return r.VerifyLeaf(leaf, p)
}

// Verify is [VerifyReceipt] for a receipt already parsed.
func (r *Receipt) Verify(p *Policy) (Verdict, error) {
	if r.Extra == nil {
		return Verdict{}, ErrNoOpening
	}
	return r.verify(nil, p)
}

// VerifyLeaf is [VerifyReceiptLeaf] for a receipt already parsed.
func (r *Receipt) VerifyLeaf(leaf []byte, p *Policy) (Verdict, error) {
	if leaf == nil {
		leaf = []byte{}
	}
	return r.verify(leaf, p)
}

// verify follows the steps of c2sp.org/tlog-proof. The checkpoint comes first, so that
// nothing signed by a stranger is worth parsing.
func (r *Receipt) verify(leaf []byte, p *Policy) (Verdict, error) {
	v := Verdict{Parsed: true, Index: r.Index}
	// "2. Check that the checkpoint origin line is acceptable, and that the checkpoint is
	// signed by a log public key configured for that origin line."
	// "3. Verify all cosignatures for witnesses known to the verifier."
	c, witnesses, err := p.Verify(r.Checkpoint)
	if err != nil {
		return failed(v, err)
	}
	v.Origin, v.Size, v.Witnesses = c.Origin, c.Size, witnesses
	// "1. Compute the leaf hash. This step is application specific."
	opening, err := v.recompute(leaf, r.Extra)
	if err != nil {
		return failed(v, err)
	}
	// "4. Check that the inclusion proof is valid, to bind the leaf hash computed in step 1 to
	// the the root hash of the signed checkpoint."
	if err := CheckInclusion(r.Index, c.Size, v.LeafHash, r.Proof, c.Root); err != nil {
		return failed(v, err)
	}
	v.Inclusion = true
	v.Content = NotShown
	if opening != nil {
		v.Opening, v.Event, v.Withheld = opening, opening.Event(), opening.Withheld()
		v.Content = contentOf(v.Withheld)
	}
	return v, nil
}

// recompute fills in time and leaf hash from the leaf, the opening or both, which then
// must agree.
func (v *Verdict) recompute(leaf, extra []byte) (*seal.Opening, error) {
	if leaf != nil {
		t, err := ParseLeaf(leaf)
		if err != nil {
			return nil, failedf("%w", err)
		}
		v.Time, v.LeafHash = t, LeafHash(leaf)
	}
	if extra == nil {
		return nil, nil
	}
	opening, err := seal.ParseOpening(extra)
	if err != nil {
		return nil, failedf("opening is malformed: %w", err)
	}
	h := opening.LeafHash()
	if leaf != nil && h != v.LeafHash {
		return nil, failedf("opening does not match the leaf")
	}
	// That the erasing entry is in the log isn't checked: it may be behind this checkpoint.
	if err := checkErasures(opening, v.Index); err != nil {
		return nil, err
	}
	v.Time, v.LeafHash = opening.Time, h
	return opening, nil
}

func contentOf(withheld []string) seal.Content {
	if len(withheld) > 0 {
		return seal.VerifiedRedacted
	}
	return seal.Verified
}

// failed makes a verdict FAILED, with the reason in it too.
func failed(v Verdict, err error) (Verdict, error) {
	v.Content, v.Reason, v.Inclusion = seal.Failed, err.Error(), false
	return v, err
}
