//go:build !client

package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
	"github.com/prooftrail/prooftrail/personality/ingest/mapping"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
)

const mappingHelp = `
Usage: prooftrail mapping test --mapping FILE [--source URI] [--header NAME:VALUE]... SAMPLE
       prooftrail mapping show NAME
       prooftrail mapping list

Tries the mapping of a door on a sample of what its system posts, a file or - for standard
input: prints the events that it makes, as the log would get them, and on standard error
what it skips and what is wrong. --mapping may name one that comes with this program;
list prints their names, and show one of them, to begin one's own from.

What a log makes ids of is its secret: where the mapping doesn't make one, what test prints
is made otherwise.

Example:
  prooftrail mapping test --mapping ready:rundeck sample.json

Exit codes: 0 every item made an event or was skipped; 1 some made none; 2 failed.
`

// mappingFlags are what test takes.
type mappingFlags struct {
	file, source string
	headers      []string
}

func runMapping(_ context.Context, e *cli.Env, args []string) error {
	var m mappingFlags
	fs := cli.NewFlags(e, "mapping", mappingHelp)
	fs.StringVar(&m.file, "mapping", "", "mapping `file`, or the name of one that comes with the program, such as ready:dkron")
	fs.StringVar(&m.source, "source", "urn:example:door", "the events' source, a `URI`")
	fs.Var((*list)(&m.headers), "header", "`header` of the request, NAME:VALUE; may be repeated")
	pos, err := fs.Positional(args, 2)
	if err != nil {
		return err
	}
	switch {
	case len(pos) == 1 && pos[0] == "list":
		fmt.Fprintln(e.Stdout, strings.Join(mapping.Ready(), "\n"))
		return nil
	case len(pos) == 2 && pos[0] == "show" && mapping.IsReady(pos[1]):
		text, err := readMapping("", pos[1])
		if err != nil {
			return err
		}
		_, err = e.Stdout.Write(text)
		return err
	case len(pos) == 2 && pos[0] == "test" && m.file != "":
		return m.test(e, pos[1])
	}
	return errors.New("expected test --mapping FILE SAMPLE, show ready:NAME or list; see --help")
}

// test makes the events of a sample.
func (m *mappingFlags) test(e *cli.Env, sample string) error {
	text, err := readMapping("", m.file)
	if err != nil {
		return err
	}
	made, err := mapping.Parse(text)
	if err != nil {
		return fmt.Errorf("%s: %w", m.file, err)
	}
	r := &ingest.Request{Header: http.Header{"Content-Type": {"application/json"}}, Query: url.Values{}, Source: m.source, Received: time.Now().UTC(), ID: sampleID}
	for _, h := range m.headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok {
			return fmt.Errorf("--header %s: expected NAME:VALUE", h)
		}
		r.Header.Add(name, strings.TrimSpace(value))
	}
	if sample == "-" {
		r.Body, err = io.ReadAll(io.LimitReader(e.Stdin, foreign.MaxItemBytes+1))
	} else {
		r.Body, err = readSmall(sample, foreign.MaxItemBytes)
	}
	if err != nil {
		return err
	}
	items, err := made.Translate(r)
	if err != nil {
		return cli.Refused(err)
	}
	return showItems(e, items)
}

// sampleID stands in for the HMAC of a log.
func sampleID(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// showItems prints events, and says what the other items are.
func showItems(e *cli.Env, items []ingest.Item) error {
	masker, err := mask.New(nil, nil)
	if err != nil {
		return err
	}
	bad := 0
	for i := range items {
		it := &items[i]
		if it.Err == nil && !it.Skip {
			ingest.Mask(masker, &it.Event)
			_, it.Err = it.Event.Fields()
		}
		switch {
		case it.Err != nil:
			bad++
			e.Say("item %d: %v%s", i+1, it.Err, cause(it.Err))
		case it.Skip:
			e.Say("item %d: skipped", i+1)
		default:
			text, err := json.MarshalIndent(it.Event, "", "  ")
			if err != nil {
				return err
			}
			fmt.Fprintf(e.Stdout, "%s\n", text)
		}
	}
	if bad > 0 {
		return cli.Refusedf("%d of %d items made no event", bad, len(items))
	}
	return nil
}

// cause is what CEL said, which may repeat what is in the item: a server doesn't show it.
func cause(err error) string {
	var e *mapping.EvalError
	if errors.As(err, &e) {
		return " (" + e.Cause.Error() + ")"
	}
	return ""
}
