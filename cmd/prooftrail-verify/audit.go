package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

var auditCommand = command{
	name:  "audit",
	args:  "--log URL --policy P [--state FILE] [--evidence FILE] [--monitor URL]... [--token-file F [--source-keys F]] [--ca F] [--full] [--strict-time] [--json]",
	short: "fetch and verify the whole log",
	help: `
Fetches the whole log, re-hashes every entry, recomputes the root that the log signed,
and says which entries don't hold. With a read token every opening is checked against
its entry as well. With a state file it remembers the head it saw: the next audit
goes on from there, and notices a log that forked or went backwards. Keep the state
file where the log's operator can't write; and see to it that it is still there, for
an audit that begins a new one has nothing to compare with, and says so.

With --monitor the audited head is compared with the heads of a monitor that somebody else
runs, which finds out a log that shows each of you another history. The monitor is believed
nothing: heads count if the log signed them, agreement and contradiction if the log's own
tiles prove them. It is given the audited head. Exit status 1 if a fork is proven; 2 if nothing
is: the monitor isn't there, has checked nothing yet, or the log keeps back the proof.

Of each source whose events are numbered (seq) it says, from the openings, whether numbers
are missing, and whether the source signs off with heartbeats (audit.heartbeat) or has
fallen silent. ASK stands before one that has something to explain: that isn't the log's
failure, and doesn't change the exit status.

With --source-keys it checks, of each source that a key in the file is of, that its entries are
signed by such a key. One that isn't, and must be, is FAILED: the log has stripped or swapped its
signature, or taken in what its source didn't send. Exit status 2 if that isn't shown, or if the keys
are of none of the entries: is a name misspelt? With --state
only what is new is checked: say --full when the file has changed.

Entries whose content the server doesn't show are counted: that they are other tenants'
is its word. Exit status 2 if it shows nothing at all to a token.

Examples:
  prooftrail-verify audit --log https://audit.example.com/logs/audit --policy policy.txt
      leaves and proofs, from the public tiles alone
  prooftrail-verify audit --log https://audit.example.com/logs/audit --policy policy.txt \
      --token-file read.token --state audit.state
      content too, and only what is new since the last time
  … --state audit.state --full
      all of it again: finds content that was changed after an earlier audit
  … --token-file read.token --source-keys sources.keys
      and that each event was signed by its source
  … --state audit.state --monitor https://monitor.example.org --evidence fork.evidence
      is everybody shown the same log`,
	run: runAudit,
}

func runAudit(ctx context.Context, e *env, flags *flag.FlagSet, args []string) error {
	lf := addLogFlags(flags)
	state := flags.String("state", "", "`file` that remembers how far this audit came and the head it saw")
	evidence := flags.String("evidence", "", "`file` to be made if the log is found to have forked: what proves it to others")
	full := flags.Bool("full", false, "check every entry again, whatever the state file says")
	strict := flags.Bool("strict-time", false, "a leaf time before the previous one is a failure, not a warning")
	keysFile := addSourceKeysFlag(flags)
	mf := addMonitorFlags(flags)
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
	keys, err := e.readSourceKeys(*keysFile)
	if err == nil && keys != nil && openings == nil {
		err = &usageError{errors.New("--source-keys needs --token-file: signatures are part of what an entry says")}
	}
	if err != nil {
		return err
	}
	monitors, err := mf.connect(e, lf)
	if err != nil {
		return err
	}
	show := newProgress(e)
	cfg := verifier.AuditConfig{
		Source: log, Policy: policy, Openings: openings, SourceKeys: keys,
		FromStart: *full, StrictTime: *strict, Progress: show.update, Now: time.Now(),
	}
	if *state != "" {
		cfg.State = verifier.FileState(*state)
	}
	report, err := verifier.Audit(ctx, cfg)
	show.clear()
	if err != nil && !errors.Is(err, verifier.ErrFailed) {
		if report == nil || report.FailureCount == 0 {
			return err
		}
		// What was found weighs more than what could not be looked at.
		fmt.Fprintf(e.stderr, "prooftrail-verify audit: could not be finished: %s\n", printable(err.Error()))
	}
	compared := compareMonitors(ctx, monitors, policy, log, report)
	e.saveEvidence(*evidence, report)
	return e.printReport(report, compared, *lf.json, *lf.provisional)
}

// auditJSON is the output of audit with --json.
type auditJSON struct {
	Verdict string `json:"verdict"`
	*verifier.AuditReport
	Monitors []gossip.Comparison `json:"monitors,omitempty"`
}

func (e *env) printReport(r *verifier.AuditReport, compared []gossip.Comparison, asJSON, allowProvisional bool) error {
	word := wordVerified
	err := error(nil)
	switch {
	case r.FailureCount > 0:
		word, err = wordFailed, errSaidFailed
	case r.NothingShown(), r.SignaturesHidden(), r.SignaturesUnmatched():
		word, err = wordNotShown, errSaid
	case r.Witnesses.Status != verifier.Quorum && !allowProvisional:
		word, err = wordProvisional, errSaid
	case !allAgree(compared):
		word, err = wordNotCompared, errSaid
	case r.Witnesses.Status != verifier.Quorum:
		word = wordProvisional
	}
	if asJSON {
		return e.finish(e.printJSON(auditJSON{word, r, compared}), err)
	}
	e.textReport(r, compared, word)
	return err
}

func (e *env) textReport(r *verifier.AuditReport, compared []gossip.Comparison, word string) {
	w := e.stdout
	fmt.Fprintf(w, "%s: %s at size %d\n", word, printable(r.Origin), r.Size)
	for _, f := range r.Failures {
		fmt.Fprintf(w, "  FAILED     %s\n", printable(f.String()))
	}
	if n := r.FailureCount - uint64(len(r.Failures)); n > 0 {
		fmt.Fprintf(w, "             and %d more\n", n)
	}
	e.textChecked(r)
	fmt.Fprintf(w, "  history    %s\n", history(r.History))
	e.textMonitors(compared)
	e.textOpenings(r)
	e.textSources(r)
	e.textSignatures(r)
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

// textChecked says how much was checked.
func (e *env) textChecked(r *verifier.AuditReport) {
	w := e.stdout
	if r.Size == 0 && r.FailureCount == 0 {
		fmt.Fprintf(w, "  entries    the log is empty: there is nothing to check yet\n")
		return
	}
	fmt.Fprintf(w, "  entries    %s checked", entries(r.Entries))
	if r.From > 0 {
		fmt.Fprintf(w, ", from entry %d on", r.From)
	}
	fmt.Fprintln(w)
	if r.StoppedAt != nil {
		fmt.Fprintf(w, "  stopped    at entry %d: it and those behind it were not checked\n", *r.StoppedAt)
	}
}

// history says what the head was compared with.
func history(h verifier.History) string {
	switch h.Status {
	case verifier.HistoryExtends:
		return fmt.Sprintf("extends the remembered head of size %d", h.Size)
	case verifier.HistoryFirst:
		return "first audit with this state file: compared with no earlier head"
	case verifier.HistoryNone:
		return "no --state: an old or a second history would not be noticed"
	case verifier.HistoryOlder:
		return fmt.Sprintf("older than the remembered head of size %d", h.Size)
	case verifier.HistoryContradicts:
		return fmt.Sprintf("contradicts the remembered head of size %d", h.Size)
	}
	return fmt.Sprintf("not shown to extend the remembered head of size %d", h.Size)
}

// textOpenings says what became of the contents.
func (e *env) textOpenings(r *verifier.AuditReport) {
	w, o := e.stdout, r.Openings
	if o == nil {
		fmt.Fprintf(w, "  openings   not checked: no token was given\n")
		return
	}
	fmt.Fprintf(w, "  openings   %d verified, %d verified-redacted, %d FAILED\n", o.Verified, o.Redacted, o.Failed)
	if o.NotShown > 0 {
		fmt.Fprintf(w, "  not shown  %d of %d contents were not shown to this token (the server says they are other tenants')\n", o.NotShown, o.Asked())
	}
	if o.NotChecked > 0 {
		fmt.Fprintf(w, "  unchecked  %d contents could not be compared with their leaves\n", o.NotChecked)
	}
	if o.Redacted == 0 {
		return
	}
	fmt.Fprintf(w, "  redacted   %d with fields withheld, %d with fields erased (nothing shows here why)\n", o.Withheld, o.Erased)
	for _, redaction := range r.Redactions {
		fmt.Fprintf(w, "             entry %d: %s\n", redaction.Index, printable(hiddenFields(redaction)))
	}
	if n := o.Redacted - uint64(len(r.Redactions)); n > 0 {
		fmt.Fprintf(w, "             and %d more\n", n)
	}
}

// hiddenFields names the fields that aren't shown.
func hiddenFields(r verifier.Redaction) string {
	var parts []string
	if len(r.Withheld) > 0 {
		parts = append(parts, "withheld "+strings.Join(r.Withheld, " "))
	}
	for _, erased := range r.Erased {
		parts = append(parts, fmt.Sprintf("erased %s, by entry %d", erased.Pointer, erased.By))
	}
	if r.More > 0 {
		parts = append(parts, fmt.Sprintf("and %d more", r.More))
	}
	return strings.Join(parts, "; ")
}

func (e *env) textEvidence(r *verifier.AuditReport) {
	if r.Evidence == nil {
		return
	}
	kind := "the remembered head and the one served; by themselves they prove nothing to others"
	if r.Proven {
		kind = "these two signed heads prove that the log forked; --evidence FILE writes them with the proof"
	}
	fmt.Fprintf(e.stdout, "  evidence   %s\n%s\n%s", kind,
		printableLines(string(r.Evidence.First), "    | "), printableLines(string(r.Evidence.Second), "    | "))
}
