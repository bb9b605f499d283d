package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/prooftrail/prooftrail/verifier"
)

// maxSwaps is how often a request is judged anew because the store held another record
// than was loaded. With one witness at a store that never happens.
const maxSwaps = 3

// lastSecond is 9999-12-31T23:59:59Z, beyond which verifiers ignore a cosignature.
const lastSecond = 253402300799

// submission is a request whose note the log did sign.
type submission struct {
	verifier.Checkpoint
	oldSize  uint64
	proof    []verifier.Hash
	note     []byte // with the log's signature line alone
	badEmpty bool   // of size 0, with another root than the empty tree's
}

// Add cosigns a signed checkpoint and returns the cosignature lines, one for each key. When
// it returns them, the head is on stable storage, and no head that doesn't extend it will
// ever be cosigned. The same head again is cosigned again, with the time of then.
//
// Old size and proof are those of c2sp.org/tlog-witness. The errors: [ErrMalformed],
// [ErrNotSigned], [ErrUnknownOrigin], [ErrInconsistent], *[ConflictError]; everything else is
// the witness's own.
func (w *Witness) Add(ctx context.Context, oldSize uint64, proof []verifier.Hash, signedNote []byte) (cosignatureLines []byte, err error) {
	l, sub, err := w.open(signedNote)
	if err != nil {
		return nil, fmt.Errorf("add checkpoint: %w", err)
	}
	sub.oldSize, sub.proof = oldSize, proof
	known, lines, err := w.decide(ctx, l, sub)
	if err != nil {
		return nil, w.refuse(known, sub, err)
	}
	return lines, nil
}

// open finds the log and verifies its signature.
func (w *Witness) open(signedNote []byte) (*knownLog, *submission, error) {
	// Nothing is believed yet: the first line only says which key to try.
	origin, _, ok := bytes.Cut(signedNote, []byte("\n"))
	if !ok {
		return nil, nil, fmt.Errorf("%w: the checkpoint has no lines", ErrMalformed)
	}
	// "If the checkpoint origin is unknown, the witness MUST respond with a "404 Not Found"".
	l := w.logs[string(origin)]
	if l == nil {
		return nil, nil, ErrUnknownOrigin
	}
	c, bare, err := l.key.Verify(signedNote)
	switch {
	case err == nil:
		return l, &submission{Checkpoint: c, note: bare}, nil
	// "403 Forbidden [...] if either no signature from a trusted key for the origin is present,
	// or a signature line's key name and ID match a trusted key but the signature itself
	// fails to verify".
	case errors.Is(err, verifier.ErrNotSigned):
		return nil, nil, fmt.Errorf("%w: %w", ErrNotSigned, err)
	case errors.Is(err, verifier.ErrEmptyRoot):
		return l, &submission{Checkpoint: verifier.Checkpoint{Origin: string(origin)}, note: bare, badEmpty: true}, nil
	}
	return nil, nil, fmt.Errorf("%w: %w", ErrMalformed, err)
}

// decide loads, judges, signs and swaps in one turn of the log: "checking the old size
// against the latest checkpoint and persisting the new checkpoint must be performed
// atomically".
func (w *Witness) decide(ctx context.Context, l *knownLog, sub *submission) (*Record, []byte, error) {
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, fmt.Errorf("wait for the log's turn: %w", ctx.Err())
	}
	defer func() { <-l.turn }()
	for i := 1; ; i++ {
		known, head, err := w.load(ctx, l)
		if err != nil {
			return nil, nil, err
		}
		if err := judge(head, sub); err != nil {
			return known, nil, err
		}
		next, lines, err := w.cosign(known, sub)
		if err != nil {
			return known, nil, err
		}
		// "The witness MUST persist the new checkpoint before responding."
		err = w.cfg.Store.Swap(ctx, l.key.Origin(), known, next)
		if err == nil {
			return known, lines, nil
		}
		if i == maxSwaps || !errors.Is(err, ErrConflict) {
			return known, nil, fmt.Errorf("store the head: %w", err)
		}
	}
}

// judge says why a head isn't cosigned after the known one, in the specification's order.
func judge(known verifier.Checkpoint, sub *submission) error {
	// "The old size MUST be equal to or lower than the checkpoint size. Otherwise, the witness
	// MUST respond with a "400 Bad Request" HTTP status code."
	if sub.oldSize > sub.Size {
		return fmt.Errorf("%w: old size %d is above the checkpoint's size %d", ErrMalformed, sub.oldSize, sub.Size)
	}
	// "The witness MUST check that the old size matches the size of the latest checkpoint it
	// cosigned for the checkpoint's origin (or zero if it never cosigned a checkpoint for that
	// origin)."
	if sub.oldSize != known.Size {
		return &ConflictError{Known: known.Size}
	}
	// "A checkpoint of size zero MUST have the root hash of the empty tree".
	if sub.badEmpty {
		return fmt.Errorf("%w: the empty tree has another root", ErrInconsistent)
	}
	// "If the old size matches the checkpoint size, the witness MUST check that the root
	// hashes are also identical. If they don't match, the witness MUST respond with a "422
	// Unprocessable Entity" HTTP status code." "If the proof is not empty when the old size is
	// zero, or if a Merkle Consistency Proof doesn't verify", the same.
	if err := verifier.CheckConsistency(known.Size, sub.Size, sub.proof, known.Root, sub.Root); err != nil {
		return fmt.Errorf("%w: %w", ErrInconsistent, err)
	}
	return nil
}

// cosign makes the record that is to be stored and the lines that are to be answered.
func (w *Witness) cosign(known *Record, sub *submission) (*Record, []byte, error) {
	// "`timestamp` is the time at which the cosignature was generated". "The cosignature MUST
	// NOT omit the timestamp, i.e. the timestamp MUST NOT be zero."
	t := w.cfg.Now().Unix()
	if t < 1 || t > lastSecond {
		return nil, nil, fmt.Errorf("the clock says %d seconds since 1970", t)
	}
	// "as of the specified time, the [...] tree head with the largest size the cosigner has
	// observed": of a smaller head that was said up to known.Time, so not of this one before.
	if known != nil {
		t = max(t, known.Time)
	}
	var lines strings.Builder
	for _, c := range w.cfg.Cosigners {
		line, err := c.cosign(t, sub.Checkpoint)
		if err != nil {
			return nil, nil, err
		}
		lines.WriteString(line)
	}
	return &Record{Note: append(bytes.Clone(sub.note), lines.String()...), Time: t}, []byte(lines.String()), nil
}

// refuse hands on what may be proof of the log's misbehaviour: "If the origin is known, and
// the signature is valid, the witness MAY log the request even if the checkpoint fails one
// of the consistency checks above (but MUST NOT cosign the checkpoint)".
func (w *Witness) refuse(known *Record, sub *submission, err error) error {
	if w.cfg.OnRefused != nil && w.material(known, sub, err) {
		var note []byte
		if known != nil {
			note = bytes.Clone(known.Note)
		}
		w.cfg.OnRefused(sub.Origin, note, sub.note, sub.proof)
	}
	return fmt.Errorf("add checkpoint of %q: %w", sub.Origin, err)
}

// material reports whether a refused head may be at odds with the known one: it doesn't
// extend it, it is older, or another of the same size.
func (w *Witness) material(known *Record, sub *submission, err error) bool {
	if sub.badEmpty || errors.Is(err, ErrInconsistent) {
		return true
	}
	if statusOf(err) >= 500 || known == nil {
		return false
	}
	head, _, verr := w.logs[sub.Origin].key.Verify(known.Note)
	return verr == nil && (sub.Size < head.Size || sub.Size == head.Size && sub.Root != head.Root)
}
