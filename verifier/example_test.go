package verifier_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"

	"github.com/prooftrail/prooftrail/verifier"
)

// A receipt is verified offline, against a policy that came from somewhere trusted.
func ExampleVerifyReceipt() {
	policyText, err := os.ReadFile("testdata/example/policy.txt")
	if err != nil {
		log.Fatal(err)
	}
	policy, err := verifier.ParsePolicy(policyText)
	if err != nil {
		log.Fatal(err)
	}
	receipt, err := os.ReadFile("testdata/example/run-000001.tlog-proof")
	if err != nil {
		log.Fatal(err)
	}
	v, err := verifier.VerifyReceipt(receipt, policy)
	if err != nil {
		log.Fatal(err) // it doesn't hold: the error says why
	}
	fmt.Println(v.Content, "entry", v.Index, "of", v.Origin)
	fmt.Println(v.Event.Text("/action"), v.Event.Text("/outcome"))
	fmt.Println("witnesses:", v.Witnesses.Status)

	// One bit is enough.
	receipt[40] ^= 1
	_, err = verifier.VerifyReceipt(receipt, policy)
	fmt.Println(errors.Is(err, verifier.ErrFailed))
	// Output:
	// verified entry 1 of example.com/audit
	// run.finish success
	// witnesses: quorum
	// true
}

// A mirror of a log's public files on a disk is audited as the log itself would be.
func ExampleAudit() {
	policyText, err := os.ReadFile("testdata/example/policy.txt")
	if err != nil {
		log.Fatal(err)
	}
	policy, err := verifier.ParsePolicy(policyText)
	if err != nil {
		log.Fatal(err)
	}
	report, err := verifier.Audit(context.Background(), verifier.AuditConfig{
		Source: verifier.DirSource(os.DirFS("testdata/example/log")),
		Policy: policy,
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s holds, entries 0 to %d\n", report.Origin, report.Size-1)
	// Output:
	// example.com/audit holds, entries 0 to 2
}

// Two signed heads of which one isn't a prefix of the other convict a log, offline.
func ExampleEvidence_Check() {
	policyText, err := os.ReadFile("testdata/example/policy.txt")
	if err != nil {
		log.Fatal(err)
	}
	policy, err := verifier.ParsePolicy(policyText)
	if err != nil {
		log.Fatal(err)
	}
	text, err := os.ReadFile("testdata/example/fork.evidence")
	if err != nil {
		log.Fatal(err)
	}
	evidence, err := verifier.ParseEvidence(text)
	if err != nil {
		log.Fatal(err)
	}
	fork, err := evidence.Check(policy)
	if err != nil {
		log.Fatal(err) // it proves nothing: the error says why
	}
	fmt.Println(fork.Origin, "signed two histories, at sizes", fork.First.Size, "and", fork.Second.Size)
	// Output:
	// example.com/audit signed two histories, at sizes 3 and 4
}

func ExampleTilePath() {
	fmt.Println(verifier.TilePath(0, 1234067, 256))
	fmt.Println(verifier.TilePath(1, 0, 17))
	fmt.Println(verifier.EntriesPath(273, 112))
	// Output:
	// tile/0/x001/x234/067
	// tile/1/000.p/17
	// tile/entries/273.p/112
}
