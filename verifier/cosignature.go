package verifier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"
)

// WitnessStatus is the third part of a verdict.
type WitnessStatus string

const (
	// Quorum: the cosignatures meet the policy. Under "quorum none" always so.
	Quorum WitnessStatus = "quorum"
	// Provisional: the log's signature is good, but the cosignatures don't meet the policy
	// (yet). The log alone vouches for this head: it could have signed another one for
	// somebody else.
	Provisional WitnessStatus = "provisional"
)

// Witnesses says who has cosigned a checkpoint and whether that is enough.
type Witnesses struct {
	Status WitnessStatus `json:"status"`
	// Required is false under "quorum none": then nobody but the log vouches for the head, and
	// the status says nothing.
	Required bool          `json:"required"`
	Cosigned []Cosignature `json:"cosigned,omitempty"` // of the policy's witnesses, each verified
}

// Cosignature is one verified cosignature (c2sp.org/tlog-cosignature).
type Cosignature struct {
	Witness string    `json:"witness"` // its name in the policy
	KeyName string    `json:"key_name"`
	Time    time.Time `json:"time"` // when the witness says it signed, UTC; whole seconds
}

// Verify opens a signed note: the log's signature, the text, the cosignatures.
//
// An error matches [ErrFailed]: the note is malformed or too large, isn't signed by the
// policy's log exactly once, a signature by a known key is wrong, or the origin is another.
// Too few cosignatures are not an error but [Provisional]. Signatures by unknown keys are
// ignored: "Verifiers MUST ignore signatures from unknown keys". So are cosignatures that
// say to be of a year after 9999. The times of all others are returned, not judged.
func (p *Policy) Verify(signedNote []byte) (Checkpoint, Witnesses, error) {
	text, sigs, err := splitNote(signedNote)
	if err != nil {
		return Checkpoint{}, Witnesses{}, failedf("checkpoint: %w", err)
	}
	// The log's signature is checked first: "The text MUST be ignored unless the note is
	// signed by a trusted key and the signature has been verified".
	if _, err := p.log.find(text, sigs); err != nil {
		return Checkpoint{}, Witnesses{}, failedf("checkpoint: %w", err)
	}
	c, err := p.log.parse(text)
	if err != nil {
		return Checkpoint{}, Witnesses{}, failedf("checkpoint: %w", err)
	}
	w, err := p.checkWitnesses(c, text, sigs)
	if err != nil {
		return Checkpoint{}, Witnesses{}, failedf("checkpoint: %w", err)
	}
	return c, w, nil
}

func (p *Policy) checkWitnesses(c Checkpoint, text string, sigs []signature) (Witnesses, error) {
	w := Witnesses{Status: Provisional, Required: p.RequiresWitnesses()}
	seen, cosigned := map[int]bool{}, map[int]bool{}
	for _, s := range sigs {
		i := p.find(s)
		if i < 0 {
			continue
		}
		if seen[i] {
			return Witnesses{}, fmt.Errorf("more than one cosignature of the witness %q", p.witnesses[i].name)
		}
		t, err := p.witnesses[i].key.checkCosignature(c, text, s.sig)
		if err != nil {
			return Witnesses{}, fmt.Errorf("cosignature of the witness %q: %w", p.witnesses[i].name, err)
		}
		seen[i] = true
		if t.Unix() > lastSecond {
			continue // no clock says that, and RFC 3339 can't
		}
		cosigned[i] = true
		w.Cosigned = append(w.Cosigned, Cosignature{p.witnesses[i].name, s.name, t})
	}
	if p.quorum == nil || p.quorum.met(cosigned) {
		w.Status = Quorum
	}
	return w, nil
}

// find returns the index of the witness whose key a signature line names, or -1.
func (p *Policy) find(s signature) int {
	for i, w := range p.witnesses {
		if w.key.name == s.name && w.key.keyID == s.keyID {
			return i
		}
	}
	return -1
}

// lastSecond is 9999-12-31T23:59:59Z.
const lastSecond = 253402300799

// checkCosignature verifies a timestamped_signature and returns its time.
func (k *vkey) checkCosignature(c Checkpoint, text string, sig []byte) (time.Time, error) {
	if len(sig) < 8 {
		return time.Time{}, errors.New("too short")
	}
	// "timestamp [...] MUST NOT exceed 2^63 - 1".
	t := binary.BigEndian.Uint64(sig)
	if t > math.MaxInt64 {
		return time.Time{}, errors.New("timestamp exceeds 2^63-1")
	}
	// "opaque log_origin<1..2^8-1>": the library would cut the length to one byte.
	if k.typ == typeMLDSA44 && len(c.Origin) > maxMLDSANameSize {
		return time.Time{}, fmt.Errorf("origin of more than %d bytes with ML-DSA-44", maxMLDSANameSize)
	}
	if !k.verify([]byte(text), sig) {
		return time.Time{}, errors.New("wrong")
	}
	return time.Unix(int64(t), 0).UTC(), nil
}
