package client

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// ReceiptError is a receipt that doesn't hold, or that is of another event. It
// matches [verifier.ErrFailed], and carries what the server answered: a receipt
// that the log signed for another event than the one sent is worth keeping.
type ReceiptError struct {
	Receipt []byte // as answered
	Err     error
}

func (e *ReceiptError) Error() string { return "receipt: " + e.Err.Error() }

// Unwrap gives [verifier.ErrFailed] and the reason.
func (e *ReceiptError) Unwrap() []error { return []error{verifier.ErrFailed, e.Err} }

// Checker checks receipts against a policy and against the events that were
// sent, and remembers the heads that they showed. It is safe for concurrent use.
type Checker struct {
	policy *verifier.Policy
	heads  heads

	mu    sync.Mutex
	notes [8]verifiedNote // the last ones verified: the receipts of a batch share one
	next  int             // place of the next one
}

// verifiedNote is a signed note whose signatures have been checked.
type verifiedNote struct {
	note       string
	checkpoint verifier.Checkpoint
	witnesses  verifier.Witnesses
}

// NewChecker makes a checker that has seen no head yet.
func NewChecker(p *verifier.Policy) *Checker { return &Checker{policy: p} }

// Check verifies a receipt in full: signatures, inclusion proof, opening. With
// sent, the opening must show each submitted field with the same value, and no
// others: a field that is withheld is not taken for equal. nil accepts any
// event. The error is a *ReceiptError or an *EvidenceError.
//
// Cost: about two hashes a field and one a level of the tree; the checkpoint's
// signatures only when it isn't one of the last few seen.
func (k *Checker) Check(receipt []byte, sent event.Fields) (*verifier.Verdict, error) {
	v, _, err := k.checkSent(receipt, sent, Accepted)
	return v, err
}

// checkSent is Check for an event that the server called accepted or duplicate.
// Of a duplicate fields may have been erased since it was accepted; they
// couldn't be compared, and are returned.
func (k *Checker) checkSent(receipt []byte, sent event.Fields, status Status) (v *verifier.Verdict, uncompared []string, err error) {
	if v, err = k.check(receipt); err == nil && sent != nil {
		uncompared, err = compare(v, sent, status)
	}
	if err != nil {
		return nil, nil, receiptError(receipt, err)
	}
	return v, uncompared, nil
}

// receiptError makes err, which isn't nil, a *ReceiptError unless it is an
// *EvidenceError.
func receiptError(receipt []byte, err error) error {
	var evidence *EvidenceError
	if errors.As(err, &evidence) {
		return err
	}
	return &ReceiptError{Receipt: receipt, Err: err}
}

// compare holds what a receipt shows against the event that was sent.
//
// The one who answers chooses what it shows. If what isn't shown counted as
// equal, it could throw an event away and answer with the redacted receipt of
// any other that has the same pointers. So for an event that has just been
// accepted everything must be shown. A duplicate may lack what was erased, which
// is never what names the event, says what was done, and when.
func compare(v *verifier.Verdict, sent event.Fields, status Status) (uncompared []string, err error) {
	c := v.Opening.Compare(sent)
	switch {
	case len(c.Differ) > 0:
		return nil, fmt.Errorf("it is of another event than the one sent: %s", strings.Join(c.Differ, " "))
	case len(c.Withheld) > 0:
		return nil, fmt.Errorf("it withholds what was sent, so it may be of another event: %s", strings.Join(c.Withheld, " "))
	case len(c.Erased) > 0 && status != Duplicate:
		return nil, fmt.Errorf("it says erased of what has only just been sent: %s", strings.Join(c.Erased, " "))
	}
	return c.Erased, nil
}

// check does the steps of [verifier.VerifyReceipt], apart from the checkpoint's
// signatures where they have been checked already: a batch's receipts share one
// checkpoint, and the signatures cost more than all the rest.
func (k *Checker) check(receipt []byte) (*verifier.Verdict, error) {
	r, err := verifier.ParseReceipt(receipt)
	if err != nil {
		return nil, err
	}
	head, err := k.checkpoint(r.Checkpoint)
	if err != nil {
		return nil, err
	}
	if r.Extra == nil {
		return nil, errors.New("it holds no opening")
	}
	o, err := seal.ParseOpening(r.Extra)
	if err != nil {
		return nil, err
	}
	cp, leaf := head.checkpoint, o.LeafHash()
	if err := verifier.CheckInclusion(r.Index, cp.Size, leaf, r.Proof, cp.Root); err != nil {
		return nil, err
	}
	v := &verifier.Verdict{
		Parsed: true, Inclusion: true, Witnesses: head.witnesses,
		Origin: cp.Origin, Index: r.Index, Size: cp.Size, LeafHash: leaf, Time: o.Time,
	}
	if err := show(v, o); err != nil {
		return nil, err
	}
	return v, nil
}

// show fills in what an opening of the verdict's entry shows. The leaf doesn't bind which
// entry records an erasure; that it comes later is all that can be checked here.
func show(v *verifier.Verdict, o *seal.Opening) error {
	for i := range o.Fields {
		if by := o.Fields[i].ErasedBy; by != nil && *by <= v.Index {
			return fmt.Errorf("it says that entry %d erased a field of entry %d, which isn't before it", *by, v.Index)
		}
	}
	v.Opening, v.Event, v.Withheld, v.Content = o, o.Event(), o.Withheld(), seal.Verified
	if len(v.Withheld) > 0 {
		v.Content = seal.VerifiedRedacted
	}
	return nil
}

// checkpoint verifies a signed note against the policy and remembers its head.
func (k *Checker) checkpoint(note []byte) (*verifiedNote, error) {
	if n := k.seen(note); n != nil {
		return n, nil
	}
	cp, witnesses, err := k.policy.Verify(note)
	if err != nil {
		return nil, err
	}
	if err := k.heads.see(cp, note); err != nil {
		return nil, err
	}
	n := verifiedNote{string(note), cp, witnesses}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.notes[k.next] = n
	k.next = (k.next + 1) % len(k.notes)
	return &n, nil
}

func (k *Checker) seen(note []byte) *verifiedNote {
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.notes {
		if k.notes[i].note == string(note) && len(note) > 0 {
			n := k.notes[i]
			return &n
		}
	}
	return nil
}

// checkLeaf verifies a receipt for a leaf that came beside it, with or without
// the opening.
func (k *Checker) checkLeaf(receipt, leaf []byte, index uint64) (*verifier.Verdict, error) {
	r, err := verifier.ParseReceipt(receipt)
	if err != nil {
		return nil, err
	}
	if r.Index != index {
		return nil, fmt.Errorf("it is of entry %d, asked for %d", r.Index, index)
	}
	if _, err := k.checkpoint(r.Checkpoint); err != nil {
		return nil, err
	}
	v, err := r.VerifyLeaf(leaf, k.policy)
	if err != nil {
		return nil, err
	}
	return &v, nil
}
