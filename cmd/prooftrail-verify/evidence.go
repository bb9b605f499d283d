package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

// Words for what evidence does, in JSON and at the beginning of the text.
const (
	wordConvicts = "convicts"
	wordNothing  = "proves nothing"
)

var evidenceCommand = command{
	name:  "evidence",
	args:  "FILE --policy P [--json]",
	short: "check whether two signed heads prove that a log forked, offline",
	help: `
Checks an evidence file: two signed heads of one log and, where their sizes differ, the
hashes that lead from one to the other. It convicts if the log of the policy signed both
and no log has both. Its own signature is enough; the policy's quorum doesn't matter. Who
cosigned which head is shown. FILE "-" is standard input. Needs no network.

'audit --evidence FILE' writes such files.

Exit status: 0 it convicts the log; 1 it proves nothing, which is said why; 2 could not
check.

Example:
  prooftrail-verify evidence fork.evidence --policy policy.txt`,
	run: runEvidence,
}

func runEvidence(_ context.Context, e *env, flags *flag.FlagSet, args []string) error {
	policyFile := flags.String("policy", "", "policy `file`: the log's and the witnesses' public keys (required)")
	asJSON := flags.Bool("json", false, "print the verdict as one JSON object")
	files, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return &usageError{fmt.Errorf("expected one evidence file, got %d", len(files))}
	}
	policy, err := e.readPolicy(*policyFile)
	if err != nil {
		return err
	}
	text, err := e.readFile(files[0], int64(verifier.MaxEvidenceBytes))
	if err != nil {
		return err
	}
	evidence, err := verifier.ParseEvidence(text)
	if err != nil {
		return e.printFork(nil, err, *asJSON)
	}
	fork, err := evidence.Check(policy)
	return e.printFork(fork, err, *asJSON)
}

// evidenceJSON is the output of evidence with --json.
type evidenceJSON struct {
	Verdict string `json:"verdict"`
	Reason  string `json:"reason,omitempty"`
	*verifier.Fork
}

// printFork prints what evidence proves, or why it proves nothing, and returns nil or
// errSaidFailed.
func (e *env) printFork(f *verifier.Fork, why error, asJSON bool) error {
	j, said := evidenceJSON{Verdict: wordConvicts, Fork: f}, error(nil)
	if why != nil {
		j, said = evidenceJSON{Verdict: wordNothing, Reason: why.Error()}, errSaidFailed
	}
	switch {
	case asJSON:
		return e.finish(e.printJSON(j), said)
	case why != nil:
		fmt.Fprintf(e.stdout, "%s: %s\n", j.Verdict, printable(j.Reason))
	default:
		e.textFork(f)
	}
	return said
}

func (e *env) textFork(f *verifier.Fork) {
	w := e.stdout
	fmt.Fprintf(w, "%s: %s signed two histories\n", wordConvicts, printable(f.Origin))
	e.textForkHead("first", f.First)
	e.textForkHead("second", f.Second)
	if f.First.Size == f.Second.Size {
		fmt.Fprintf(w, "  fork       both heads are of size %d, and their roots differ\n", f.First.Size)
	} else {
		fmt.Fprintf(w, "  fork       the tree of the second head has another root at size %d:\n             %s\n", f.First.Size, f.Prefix)
	}
	if len(f.CosignedBoth) > 0 {
		fmt.Fprintf(w, "  witnesses  cosigned both heads, so their word is worth nothing here: %s\n", printable(strings.Join(f.CosignedBoth, ", ")))
		return
	}
	fmt.Fprintf(w, "  witnesses  none of the policy's cosigned both heads\n")
}

func (e *env) textForkHead(name string, h verifier.ForkHead) {
	w := e.stdout
	fmt.Fprintf(w, "  %-10s size %d, root %s, signed by the log\n", name, h.Size, h.Root)
	var who []string
	for _, c := range h.Cosigned {
		who = append(who, fmt.Sprintf("%s at %s", printable(c.Witness), c.Time.Format(time.RFC3339)))
	}
	if len(who) > 0 {
		fmt.Fprintf(w, "             cosigned by %s\n", strings.Join(who, ", "))
	} else {
		fmt.Fprintf(w, "             cosigned by no witness of the policy\n")
	}
	if len(h.Wrong) > 0 {
		fmt.Fprintf(w, "             a wrong cosignature, which counts for nothing: %s\n", printable(strings.Join(h.Wrong, ", ")))
	}
}

// saveEvidence writes what an audit found into a new file, if it proves a fork, and says
// so. That it can't doesn't change what was found.
func (e *env) saveEvidence(file string, r *verifier.AuditReport) {
	if file == "" || !r.Proven {
		return
	}
	err := writeNew(file, r.Evidence.Text())
	switch {
	case err == nil:
		fmt.Fprintf(e.stderr, "prooftrail-verify audit: the evidence is in %s\n", printable(file))
	case errors.Is(err, fs.ErrExist):
		fmt.Fprintf(e.stderr, "prooftrail-verify audit: %s is there already, and stays as it is\n", printable(file))
	default:
		fmt.Fprintf(e.stderr, "prooftrail-verify audit: the evidence could not be saved: %s\n", printable(err.Error()))
	}
}

// writeNew writes a file that must not exist, and syncs it: it may be all that is left of a
// history.
func writeNew(file string, b []byte) error {
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(file)) // half a file would keep the next try from writing
	}
	return nil
}
