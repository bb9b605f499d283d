package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

var auditCommand = command{
	name:  "audit",
	args:  "--log URL --policy P [--state FILE] [--token-file F] [--full] [--strict-time] [--json]",
	short: "fetch and verify the whole log",
	help: `
Fetches the whole log, re-hashes every entry, recomputes the root that the log signed,
and says which entries don't hold. With a read token every opening is checked against
its entry as well. With a state file it remembers the head it saw: the next audit
goes on from there, and notices a log that forked or went backwards. Keep the state
file where the log's operator can't write.

Examples:
  prooftrail-verify audit --log https://audit.example.com/logs/audit --policy policy.txt
      leaves and proofs, from the public tiles alone
  prooftrail-verify audit --log https://audit.example.com/logs/audit --policy policy.txt \
      --token-file read.token --state audit.state
      content too, and only what is new since the last time
  … --state audit.state --full
      all of it again: finds content that was changed after an earlier audit`,
	run: runAudit,
}

func runAudit(ctx context.Context, e *env, flags *flag.FlagSet, args []string) error {
	lf := addLogFlags(flags)
	state := flags.String("state", "", "`file` that remembers how far this audit came and the head it saw")
	full := flags.Bool("full", false, "check every entry again, whatever the state file says")
	strict := flags.Bool("strict-time", false, "a leaf time before the previous one is a failure, not a warning")
	rest, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return &usageError{fmt.Errorf("unexpected argument %q", rest[0])}
	}
	policy, log, openings, err := lf.connect(e)
	if err != nil {
		return err
	}
	show := newProgress(e)
	report, err := verifier.Audit(ctx, verifier.AuditConfig{
		Source: log, Policy: policy, Openings: openings, StateFile: *state,
		FromStart: *full, StrictTime: *strict, Progress: show.update,
	})
	show.clear()
	if err != nil && !errors.Is(err, verifier.ErrFailed) {
		if report == nil || report.FailureCount == 0 {
			return err
		}
		// What was found weighs more than what could not be looked at.
		fmt.Fprintf(e.stderr, "prooftrail-verify audit: could not be finished: %s\n", printable(err.Error()))
	}
	return e.printReport(report, *lf.json, *lf.provisional)
}

// auditJSON is the output of audit with --json.
type auditJSON struct {
	Verdict string `json:"verdict"`
	*verifier.AuditReport
}

func (e *env) printReport(r *verifier.AuditReport, asJSON, allowProvisional bool) error {
	word := wordVerified
	err := error(nil)
	switch {
	case r.FailureCount > 0:
		word, err = wordFailed, errSaidFailed
	case r.Witnesses.Status != verifier.Quorum:
		word, err = wordProvisional, errSaid
		if allowProvisional {
			err = nil
		}
	}
	if asJSON {
		if jsonErr := e.printJSON(auditJSON{word, r}); jsonErr != nil {
			return jsonErr
		}
		return err
	}
	e.textReport(r, word)
	return err
}

func (e *env) textReport(r *verifier.AuditReport, word string) {
	w := e.stdout
	fmt.Fprintf(w, "%s: %s at size %d\n", word, printable(r.Origin), r.Size)
	for _, f := range r.Failures {
		fmt.Fprintf(w, "  FAILED     %s\n", printable(f.String()))
	}
	if n := r.FailureCount - uint64(len(r.Failures)); n > 0 {
		fmt.Fprintf(w, "             and %d more\n", n)
	}
	fmt.Fprintf(w, "  entries    %s checked", entries(r.Entries))
	if r.From > 0 {
		fmt.Fprintf(w, ", from entry %d on", r.From)
	}
	fmt.Fprintln(w)
	if o := r.Openings; o != nil {
		fmt.Fprintf(w, "  openings   %d verified, %d verified-redacted, %d of other tenants not shown, %d FAILED\n",
			o.Verified, o.Redacted, o.NotShown, o.Failed)
	} else {
		fmt.Fprintf(w, "  openings   not checked: no token was given\n")
	}
	fmt.Fprintf(w, "  witnesses  %s\n", witnesses(r.Witnesses))
	if !r.LastTime.IsZero() {
		fmt.Fprintf(w, "  times      %s to %s\n", r.FirstTime.Format(time.RFC3339), r.LastTime.Format(time.RFC3339))
	}
	for _, f := range r.Warnings {
		fmt.Fprintf(w, "  warning    %s\n", printable(f.String()))
	}
	if n := r.WarningCount - uint64(len(r.Warnings)); n > 0 {
		fmt.Fprintf(w, "             and %d more\n", n)
	}
	e.textEvidence(r)
}

func (e *env) textEvidence(r *verifier.AuditReport) {
	if r.Evidence == nil {
		return
	}
	kind := "these two signed heads don't go together; by themselves they prove nothing to others"
	if r.Proven {
		kind = "these two signed heads prove that the log forked; --json prints them with the proof"
	}
	fmt.Fprintf(e.stdout, "  evidence   %s\n%s\n%s", kind,
		printableLines(string(r.Evidence.First), "    | "), printableLines(string(r.Evidence.Second), "    | "))
}
