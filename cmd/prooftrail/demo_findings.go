//go:build !client

package main

import (
	"fmt"

	"github.com/prooftrail/prooftrail/verifier"
)

// receipts counts events, and those whose receipts verified.
type receipts struct{ events, verified uint64 }

// findings are what the demo's last line says.
type findings struct {
	receipts receipts

	size  uint64
	audit error // nil: the log verified

	forged   uint64
	found    *uint64 // the entry that the audit of the copy accused
	unforged bool    // there is no copy to say anything of

	convicted bool // both monitors hold evidence of the second history
	unsplit   bool // there is none to say anything of
}

// held reports whether all that could be looked at is as it must be.
func (f *findings) held() bool {
	return f.receipts.verified == f.receipts.events && f.audit == nil && (f.unforged || f.found != nil && *f.found == f.forged) &&
		(f.unsplit || f.convicted)
}

func (f *findings) line() string {
	audit, caught := fmt.Sprintf("verified at size %d", f.size), "verified, which it must not"
	if f.audit != nil {
		audit = "FAILED: " + f.audit.Error()
	}
	switch {
	case f.unforged:
		caught = "not audited"
	case f.found != nil:
		caught = fmt.Sprintf("FAILED at entry %d", *f.found)
	}
	second := "not noticed, which it must be"
	switch {
	case f.unsplit:
		second = "not shown"
	case f.convicted:
		second = "convicted by both monitors"
	}
	return fmt.Sprintf("verified %d of %d receipts; audit %s; tampered copy %s; second history %s", f.receipts.verified, f.receipts.events, audit, caught, second)
}

// checkOpened refuses an audit that opened fewer events than were submitted: of
// what it wasn't shown it has checked only that something is in the log.
func checkOpened(report *verifier.AuditReport, submitted uint64) error {
	switch {
	case report.Openings == nil:
		return fmt.Errorf("%w: no event was opened", verifier.ErrFailed)
	case report.Openings.Verified < submitted:
		return fmt.Errorf("%w: %d events were submitted, %d opened", verifier.ErrFailed, submitted, report.Openings.Verified)
	}
	return nil
}
