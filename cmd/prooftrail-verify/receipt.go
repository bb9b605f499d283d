package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

var receiptCommand = command{
	name:  "receipt",
	args:  "FILE --policy P [--event FILE] [--source-keys FILE] [--leaf FILE] [--allow-provisional] [--json]",
	short: "verify a receipt (.tlog-proof), offline",
	help: `
Verifies a receipt: that its opening is what the log sealed, that the entry is in the
tree that the log signed, and that enough witnesses have cosigned that tree.
FILE "-" is standard input. Needs no network.

Examples:
  prooftrail-verify receipt job-42.tlog-proof --policy policy.txt
      shows the event and what is proven about it
  prooftrail-verify receipt job-42.tlog-proof --policy policy.txt --event job-42.json
      also checks that this is the receipt of just the event that was submitted; if the
      receipt doesn't show all of it: exit status 2
  prooftrail-verify receipt job-42.tlog-proof --policy policy.txt --source-keys sources.keys
      also checks that the event's source has signed it, if the file has a key for it
  prooftrail-verify receipt other.tlog-proof --policy policy.txt --leaf entry.txt
      for a receipt without an opening: the leaf is given separately

A receipt whose checkpoint has too few cosignatures yet is provisional: exit status 2.
Get the receipt again later, or say --allow-provisional.`,
	run: runReceipt,
}

func runReceipt(_ context.Context, e *env, flags *flag.FlagSet, args []string) error {
	policyFile := flags.String("policy", "", "policy `file`: the log's and the witnesses' public keys (required)")
	eventFile := flags.String("event", "", "JSON `file` with the event as it was submitted, to be compared")
	keysFile := addSourceKeysFlag(flags)
	leafFile := flags.String("leaf", "", "`file` with the leaf, for a receipt without an opening")
	provisional := flags.Bool("allow-provisional", false, "take a receipt that has too few cosignatures yet")
	asJSON := flags.Bool("json", false, "print the verdict as one JSON object")
	files, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(files) != 1 {
		return &usageError{fmt.Errorf("expected one receipt file, got %d", len(files))}
	}
	policy, err := e.readPolicy(*policyFile)
	if err != nil {
		return err
	}
	keys, err := e.readSourceKeys(*keysFile)
	if err != nil {
		return err
	}
	receipt, err := e.readFile(files[0], verifier.MaxReceiptBytes)
	if err != nil {
		return err
	}
	v, err := e.verifyReceipt(receipt, *leafFile, policy)
	if err != nil && !errors.Is(err, verifier.ErrFailed) {
		return err
	}
	if err == nil && *eventFile != "" {
		if err := e.compareEvent(&v, *eventFile); err != nil {
			return err
		}
	}
	if err == nil && keys != nil {
		if err := v.CheckSignature(keys); err != nil && !errors.Is(err, verifier.ErrFailed) {
			return fmt.Errorf("the receipt holds, but whether its source has signed the event isn't checked: %w", err)
		}
	}
	return e.printVerdict(v, *asJSON, *provisional)
}

func (e *env) verifyReceipt(receipt []byte, leafFile string, policy *verifier.Policy) (verifier.Verdict, error) {
	if leafFile == "" {
		v, err := verifier.VerifyReceipt(receipt, policy)
		if errors.Is(err, verifier.ErrNoOpening) {
			err = fmt.Errorf("%w: give its leaf with --leaf", err)
		}
		return v, err
	}
	leaf, err := e.readFile(leafFile, verifier.MaxEntryBytes+1)
	if err != nil {
		return verifier.Verdict{}, err
	}
	return verifier.VerifyReceiptLeaf(receipt, bytes.TrimSuffix(leaf, []byte("\n")), policy)
}

// compareEvent makes the verdict FAILED if the event given isn't the one that the receipt
// opens. A file that is no event can't be compared, nor can what the receipt doesn't show:
// whoever redacted it chose what to leave out, so what is left proves nothing of the rest.
func (e *env) compareEvent(v *verifier.Verdict, file string) error {
	b, err := e.readFile(file, event.MaxBytes)
	if err != nil {
		return err
	}
	given, err := event.Parse(b)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if v.Opening == nil {
		return errors.New("the receipt has no opening to compare the event with")
	}
	c := v.Opening.Compare(given)
	if len(c.Differ) > 0 {
		v.Content = "FAILED"
		v.Reason = "the event given is not the one in the receipt: " + differences(c.Differ, v.Opening, given)
		return nil
	}
	return uncompared(c)
}

// uncompared is an error if not all fields could be compared.
func uncompared(c seal.Comparison) error {
	var parts []string
	if len(c.Withheld) > 0 {
		parts = append(parts, "withheld: "+strings.Join(c.Withheld, " "))
	}
	if len(c.Erased) > 0 {
		parts = append(parts, "erased: "+strings.Join(c.Erased, " "))
	}
	if len(parts) == 0 {
		return nil
	}
	return fmt.Errorf("the receipt holds, but the event is only partly compared with it; %s", strings.Join(parts, "; "))
}

// differences says for each pointer how the events differ there.
func differences(pointers []string, o *seal.Opening, given event.Fields) string {
	var out []string
	for _, p := range pointers {
		inReceipt := slices.ContainsFunc(o.Fields, func(f seal.OpenedField) bool { return f.Pointer == p })
		_, inGiven := given.Get(p)
		switch {
		case inReceipt && inGiven:
			out = append(out, p+" differs")
		case inReceipt:
			out = append(out, p+" is only in the receipt")
		default:
			out = append(out, p+" is only in the event given")
		}
	}
	return strings.Join(out, ", ")
}
