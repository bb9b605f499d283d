package main

import (
	"flag"
	"fmt"

	"github.com/prooftrail/prooftrail/verifier"
)

func addSourceKeysFlag(flags *flag.FlagSet) *string {
	return flags.String("source-keys", "", "`file` with the keys of sources that sign: a line each, '<source prefix> <vkey> [<from>] [until=<time>] [tenant=<name>] [optional]'")
}

// readSourceKeys reads the file of source keys; nil if none is named.
func (e *env) readSourceKeys(name string) (*verifier.SourceKeys, error) {
	if name == "" {
		return nil, nil
	}
	b, err := e.readFile(name, verifier.MaxSourceKeysBytes)
	if err != nil {
		return nil, err
	}
	keys, err := verifier.ParseSourceKeys(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return keys, nil
}

// signatureText says what a source signature is worth.
func signatureText(s *verifier.SignatureVerdict) string {
	switch s.Status {
	case verifier.SignatureGood:
		return "signed by its source, key " + printable(s.Key)
	case verifier.SignatureMissing:
		return "not signed by its source, which needn't"
	case verifier.SignatureOtherKey:
		return fmt.Sprintf("signed by %s, which is no key of its source; it needn't be signed", printable(s.Key))
	case verifier.SignatureHidden:
		return "not shown; it needn't be signed by its source"
	}
	return "not checked: the file has no key for its source"
}

// textSignatures says of each source with a key whether its entries are signed.
func (e *env) textSignatures(r *verifier.AuditReport) {
	if r.SourceKeys == 0 {
		return
	}
	w := e.stdout
	fmt.Fprintf(w, "  signatures of %d sources with a key", len(r.Signatures))
	if r.OpeningsFrom > 0 {
		fmt.Fprintf(w, ", from entry %d on", r.OpeningsFrom)
	}
	fmt.Fprintln(w)
	for i := range r.Signatures[:min(len(r.Signatures), maxTextSources)] {
		s := &r.Signatures[i]
		of := printable(s.Source) + " of " + printable(s.Tenant)
		if s.Source == "" {
			of = "a source that isn't shown"
		}
		fmt.Fprintf(w, "             %s%s: %s\n", signatureMark(s), of, signatureCounts(s))
	}
	if n := len(r.Signatures) - maxTextSources; n > 0 {
		fmt.Fprintf(w, "             and %d more\n", n)
	}
	e.textUnusedKeys(r)
	if r.MoreSignatures != nil {
		fmt.Fprintf(w, "             %ssources that were too many to be told apart: %s\n", signatureMark(r.MoreSignatures), signatureCounts(r.MoreSignatures))
	}
}

// textUnusedKeys names the lines of the file that are about nothing. Where only what is new was looked at, that is as it should be.
func (e *env) textUnusedKeys(r *verifier.AuditReport) {
	if r.OpeningsFrom > 0 {
		return
	}
	for _, u := range r.UnusedSourceKeys[:min(len(r.UnusedSourceKeys), maxTextSources)] {
		of := ""
		if u.Tenant != "" {
			of = " of " + printable(u.Tenant)
		}
		fmt.Fprintf(e.stdout, "             UNUSED line %d, %s%s: no entry that is shown is of such a source\n", u.Line, printable(u.Source), of)
	}
	if n := len(r.UnusedSourceKeys) - maxTextSources; n > 0 {
		fmt.Fprintf(e.stdout, "             and %d more lines\n", n)
	}
}

func signatureMark(s *verifier.SignatureReport) string {
	switch {
	case s.Failed > 0:
		return "FAILED "
	case s.Hidden > 0:
		return "NOT CHECKED "
	}
	return ""
}

func signatureCounts(s *verifier.SignatureReport) string {
	return fmt.Sprintf("%d signed, %d unsigned, %d by another key, %d wrong, %d not shown", s.Good, s.Unsigned, s.OtherKey, s.Wrong, s.NotShown)
}
