package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
)

// The exit codes are a promise to scripts: the numbers, not their names.
func TestExitCodes(t *testing.T) {
	forged := &client.ReceiptError{Err: errors.New("it is of another event")}
	evidence := &client.EvidenceError{Older: []byte("older note\n"), Newer: []byte("newer note\n"), Reason: "two heads"}
	for _, tt := range []struct {
		err  error
		code int
		text string
	}{
		{nil, 0, ""},
		{flag.ErrHelp, 0, ""},
		{errors.New("no network"), 2, "prooftrail x: no network\n"},
		{client.ErrProvisional, 2, "prooftrail x: the receipt is provisional"},
		{client.ErrNotShown, 2, "not shown"},
		{cli.Refusedf("no"), 1, "prooftrail x: no\n"},
		{cli.Refused(nil), 1, ""},
		{refusal(client.ErrForbidden), 1, "forbidden"},
		{verifier.ErrFailed, 1, "prooftrail x: FAILED: "},
		{forged, 1, "prooftrail x: FAILED: receipt: it is of another event\n"},
		{fmt.Errorf("3 of 4: %w", forged), 1, "prooftrail x: FAILED: 3 of 4: receipt: "},
		{refusal(errors.Join(errors.New("and"), forged)), 1, "FAILED: and\n"},
		{evidence, 1, "proves:\nprooftrail.evidence/1\n\nolder note\n\nnewer note\n"},
	} {
		var out bytes.Buffer
		e := &cli.Env{Stdout: &out, Stderr: &out}
		if code := program.Ended(e, "x", tt.err); code != tt.code || !strings.Contains(out.String(), tt.text) || tt.text == "" && out.Len() > 0 {
			t.Errorf("%v: exit code %d, expected %d; %q", tt.err, code, tt.code, out.String())
		}
	}
}

// Each result counts as what it is, and what accuses outweighs the rest.
func TestSubmitOutcome(t *testing.T) {
	index := client.Result{Status: client.Accepted, Index: 7}
	with := func(err error) client.Result { r := index; r.Err = err; return r }
	fine := index
	fine.Verdict = &verifier.Verdict{Witnesses: verifier.Witnesses{Status: verifier.Quorum}}
	partly := fine
	partly.Status, partly.Receipt, partly.Uncompared = client.Duplicate, []byte("receipt"), []string{"/actor/id"}
	forged := with(&client.ReceiptError{Err: errors.New("forged")})
	late := client.Result{Err: errors.New("no route")}
	refused := client.Result{Status: client.Rejected, Err: &client.Problem{Status: 422}}
	busy := client.Result{Status: client.Rejected, Err: &client.Problem{Status: 503}}
	for _, tt := range []struct {
		name    string
		results []client.Result
		code    int
		text    string // of the first result
	}{
		{"fine", []client.Result{fine}, 0, "line 1: accepted, entry 7 ✓ verified"},
		{"partly", []client.Result{partly, fine}, 0, "line 1: duplicate, entry 7, partly compared: erased are /actor/id"},
		{"refused", []client.Result{refused, fine}, 1, "line 1: rejected: "},
		{"no answer", []client.Result{late, fine, refused}, 2, "line 1: no answer: no route"},
		{"busy", []client.Result{busy}, 2, "line 1: rejected: "},
		{"provisional", []client.Result{with(client.ErrProvisional)}, 2, "line 1: accepted as entry 7, but: the receipt is provisional"},
		{"forged", []client.Result{forged, late, refused}, 1, "line 1: accepted as entry 7, but: FAILED: receipt: forged"},
		{"revoked meanwhile", []client.Result{{Err: fmt.Errorf("sent again: %w", &client.Problem{Status: 401})}}, 1, "line 1: no answer: sent again: "},
		{"receipt not there yet", []client.Result{with(&client.Problem{Status: 404})}, 2, "line 1: accepted as entry 7, but: "},
		{"nothing", nil, 0, "no events in the input"},
	} {
		var out, errs bytes.Buffer
		s := &submitter{env: &cli.Env{Stdout: &out, Stderr: &errs}, policy: true}
		for i := range tt.results {
			if err := s.show(numbered{i + 1, nil}, &tt.results[i]); err != nil {
				t.Fatal(err)
			}
		}
		if code := program.Ended(s.env, "submit", s.outcome()); code != tt.code || !strings.HasPrefix(errs.String(), tt.text) {
			t.Errorf("%s: exit code %d, expected %d\n%s", tt.name, code, tt.code, errs.String())
		}
	}
}
