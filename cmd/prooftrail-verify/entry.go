package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"strconv"

	"github.com/prooftrail/prooftrail/verifier"
)

var entryCommand = command{
	name:  "entry",
	args:  "--log URL --index N --policy P [--token-file F] [--ca F] [--allow-provisional] [--json]",
	short: "fetch one entry and verify it",
	help: `
Fetches the log's checkpoint and tiles, computes the inclusion proof of one entry from
them, and verifies it. With a read token it fetches the opening too, verifies it and
shows the event; the log records that read. Exit status 2 if the server doesn't show it.

Examples:
  prooftrail-verify entry --log https://audit.example.com/logs/audit --index 17 --policy policy.txt
      is there an entry 17, and when was it sequenced
  prooftrail-verify entry --log https://audit.example.com/logs/audit --index 17 \
      --policy policy.txt --token-file read.token
      what does it say`,
	run: runEntry,
}

// logFlags are the flags of commands that talk to a log.
type logFlags struct {
	url, policy, token *string
	ca                 *string
	plain              *bool
	provisional, json  *bool
}

func addLogFlags(flags *flag.FlagSet) logFlags {
	return logFlags{
		url:         flags.String("log", "", "`URL` of the log, as in https://audit.example.com/logs/audit (default: the one in the policy)"),
		policy:      flags.String("policy", "", "policy `file`: the log's and the witnesses' public keys (required)"),
		token:       flags.String("token-file", "", "`file` with a read token; then openings are checked as well"),
		ca:          flags.String("ca", "", "PEM `file` with the certificate authorities to believe, in place of the system's"),
		plain:       flags.Bool("allow-http", false, "allow http to hosts other than this one; a token can be read on the way"),
		provisional: flags.Bool("allow-provisional", false, "take a head that has too few cosignatures yet"),
		json:        flags.Bool("json", false, "print the result as one JSON object"),
	}
}

// connect reads the files that the flags name and sets up the client.
func (f logFlags) connect(e *env) (*verifier.Policy, *verifier.HTTPLog, verifier.OpeningSource, error) {
	policy, err := e.readPolicy(*f.policy)
	if err != nil {
		return nil, nil, nil, err
	}
	token, err := e.readToken(*f.token)
	if err != nil {
		return nil, nil, nil, err
	}
	url := *f.url
	if url == "" {
		url = policy.LogURL()
	}
	if url == "" {
		return nil, nil, nil, &usageError{errors.New("--log URL is needed: the policy doesn't name one")}
	}
	transport, err := e.transport(*f.ca)
	if err != nil {
		return nil, nil, nil, err
	}
	log, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: url, Token: token, AllowHTTP: *f.plain, Transport: transport})
	if err != nil {
		return nil, nil, nil, &usageError{err}
	}
	if token == "" {
		return policy, log, nil, nil
	}
	return policy, log, log, nil
}

func runEntry(ctx context.Context, e *env, flags *flag.FlagSet, args []string) error {
	lf := addLogFlags(flags)
	indexText := flags.String("index", "", "`index` of the entry, from 0 (required)")
	rest, err := parse(flags, args)
	if err != nil {
		return err
	}
	if len(rest) > 0 {
		return &usageError{fmt.Errorf("unexpected argument %q", rest[0])}
	}
	index, err := strconv.ParseUint(*indexText, 10, 63)
	if err != nil {
		return &usageError{errors.New("--index N is needed: a number from 0")}
	}
	policy, log, openings, err := lf.connect(e)
	if err != nil {
		return err
	}
	receipt, leaf, err := verifier.FetchReceipt(ctx, log, openings, policy, index)
	if err != nil {
		return err
	}
	v, err := receipt.VerifyLeaf(leaf, policy)
	if err != nil && !errors.Is(err, verifier.ErrFailed) {
		return err
	}
	if openings != nil && v.Content == verifier.NotShown {
		// The content was asked for with the token, and can't be checked.
		return e.print(v, wordNotShown, errSaid, *lf.json)
	}
	return e.printVerdict(v, *lf.json, *lf.provisional)
}
