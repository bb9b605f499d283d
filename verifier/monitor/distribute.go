package monitor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

// cosigned is the newest head that a witness has cosigned.
type cosigned struct {
	head  Head
	lines string // the witness's signature lines
	at    time.Time
}

// note puts the log's line and the witness's together.
func (c *cosigned) note() []byte { return append(bytes.Clone(c.head.Note), c.lines...) }

// cosign notes who has cosigned a head that agrees, for the distributor, and reports whether any of it is new: a larger
// head of a witness than the one held, or a newer cosignature of that one.
func (f *follower) cosign(h *Head, signedNote []byte, w verifier.Witnesses) (news bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range w.Cosigned {
		old, ok := f.cosigned[c.KeyName]
		if ok && (h.Size < old.head.Size || h.Size == old.head.Size && !c.Time.After(old.at)) {
			continue
		}
		f.cosigned[c.KeyName], news = cosigned{*h, f.linesOf(h, signedNote, c.KeyName), c.Time}, true
	}
	return news
}

// linesOf returns the good cosignatures of a key name alone: anybody can add lines under any name.
func (f *follower) linesOf(h *Head, signedNote []byte, keyName string) string {
	_, sigs, _ := strings.Cut(string(signedNote), "\n\n")
	var lines strings.Builder
	for line := range strings.Lines(sigs) {
		if !strings.HasPrefix(line, "— "+keyName+" ") {
			continue
		}
		if _, w, err := f.policy.Verify(slices.Concat(h.Note, []byte(line))); err == nil && len(w.Cosigned) == 1 {
			lines.WriteString(line)
		}
	}
	return lines.String()
}

// largest returns the largest head that at least n witnesses have cosigned, with their lines and the
// log's; nil if there is none. For n = 0 it is the checked one, whoever has cosigned it.
func (f *follower) largest(n int) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	byHead := map[verifier.Checkpoint][]cosigned{}
	for _, c := range f.cosigned {
		byHead[c.head.Checkpoint] = append(byHead[c.head.Checkpoint], c)
	}
	var best *Head
	if n == 0 {
		best = f.checked
	}
	for _, cs := range byHead {
		if n > 0 && len(cs) >= n && (best == nil || cs[0].head.Size > best.Size) {
			best = &cs[0].head
		}
	}
	if best == nil {
		return nil
	}
	note := bytes.Clone(best.Note)
	for _, w := range f.policy.Witnesses() { // in a steady order
		for _, c := range byHead[best.Checkpoint] {
			if c.lines != "" && strings.HasPrefix(c.lines, "— "+w.KeyName+" ") {
				note = append(note, c.lines...)
				break
			}
		}
	}
	return note
}

// byWitness returns the newest head that a witness has cosigned, nil if there is none.
func (f *follower) byWitness(keyName string) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	if c, ok := f.cosigned[keyName]; ok {
		return c.note()
	}
	return nil
}

// Errors of distribute.
var (
	errUnknownWitness = errors.New("no witness of the log's policy has this key name")
	errNotCosigned    = errors.New("not cosigned by this witness")
	errNotNewer       = errors.New("a head as large and as new is held already")
	errNotAgreed      = errors.New("the head isn't known to be of the log's history")
)

// distribute takes a head from a witness, or from whoever brings it.
func (f *follower) distribute(ctx context.Context, keyName string, signedNote []byte, from string) error {
	known := false
	for _, w := range f.policy.Witnesses() {
		known = known || w.KeyName == keyName
	}
	if !known {
		return errUnknownWitness
	}
	o, err := f.observe(ctx, signedNote, from, true)
	if err != nil {
		return err
	}
	_, ws, err := f.policy.Verify(signedNote)
	if err != nil {
		return err
	}
	var mine verifier.Witnesses
	for _, c := range ws.Cosigned {
		if c.KeyName == keyName {
			mine.Cosigned = append(mine.Cosigned, c)
		}
	}
	if mine.Cosigned == nil {
		return errNotCosigned
	}
	if o.standing != Agreed {
		if o.why != nil {
			return fmt.Errorf("%w: %w", errNotAgreed, o.why)
		}
		return errNotAgreed
	}
	if !f.cosign(&o.head, signedNote, mine) {
		return errNotNewer
	}
	return nil
}
