package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/event"
)

const submitHelp = `
Usage: prooftrail submit --server URL --token-file FILE [flags] [FILE|-]

Sends events to the log and gets a receipt for each: one JSON object, or any number of
them with one on each line (NDJSON). With --policy, each receipt is checked before
the event counts as verified: that the log signed it, and that it is of this very
event. Sending an event again is safe: it keeps its first place in the log. What is sent is
just what was given: nothing is masked.

"provisional" is a receipt that fewer witnesses have cosigned than the policy wants; with
--wait witnessed that is a failure. "partly compared" is an event that was there before,
and of which the log says it has erased fields since.

Receipts go to standard output, or with --out into files named INDEX.tlog-proof; what
became of each event goes to standard error. With --json, one JSON object for each
event, receipt included, goes to standard output instead. A receipt that doesn't hold
is saved as INDEX.tlog-proof.FAILED: it is evidence.

Example:
  prooftrail submit --server https://log.example.com --token-file submit.token \
      --policy policy.txt --out receipts/ events.ndjson

Exit codes: 0 all events are in the log (accepted now, or there before), also if there
were none, which is said; 1 some were refused, or the token was, or some conflict with
another event, or a receipt FAILED to verify; 2 failed, or some have no answer yet: send
them again.
`

// submitter is one run of the command.
type submitter struct {
	env    *cli.Env
	client *client.Client
	out    string // directory for receipts, or ""
	json   bool
	policy bool

	events, refused, failed, forged int
	forgery                         error // of the first receipt that doesn't hold
}

func runSubmit(ctx context.Context, e *cli.Env, args []string) error {
	var s serverFlags
	sub := submitter{env: e}
	fs := cli.NewFlags(e, "submit", submitHelp)
	s.add(fs)
	wait := fs.String("wait", "integrated", "how far each event must have come: durable (stored, no receipt yet),\nintegrated (in a signed head) or witnessed (and that cosigned); a `stage`")
	fs.StringVar(&sub.out, "out", "", "save receipts in this `directory`, which is made if need be")
	fs.BoolVar(&sub.json, "json", false, "print one JSON object for each event")
	pos, err := fs.Positional(args, 1)
	if err != nil {
		return err
	}
	if err := fs.Needed("server", "token-file"); err != nil {
		return err
	}
	cfg, err := s.config(e)
	if err != nil {
		return err
	}
	cfg.Wait = client.Wait(*wait)
	if sub.client, err = client.New(cfg); err != nil {
		return err
	}
	sub.policy = cfg.Policy != nil
	in := e.Stdin
	if len(pos) == 1 && pos[0] != "-" {
		f, err := os.Open(pos[0])
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	if sub.out != "" {
		if err := os.MkdirAll(sub.out, 0o700); err != nil {
			return err
		}
	}
	s.sayUnchecked(e)
	return orDone(ctx, sub.run(ctx, in))
}

func (s *submitter) run(ctx context.Context, in io.Reader) error {
	events := newEventReader(bufio.NewReaderSize(in, 64<<10))
	for {
		batch, err := events.batch()
		if len(batch) > 0 {
			if err := s.send(ctx, batch); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("read events: %w", err)
		}
	}
	return s.outcome()
}

// outcome says what became of all of it. What accuses comes first.
func (s *submitter) outcome() error {
	switch {
	case s.forged > 0:
		return fmt.Errorf("%d of %d receipts; the first: %w", s.forged, s.events, s.forgery)
	case s.failed > 0:
		return fmt.Errorf("%d of %d events without a good answer; send them again", s.failed, s.events)
	case s.refused > 0:
		return cli.Refusedf("%d of %d events refused", s.refused, s.events)
	case s.events == 0:
		s.env.Say("no events in the input")
	}
	return nil
}

func (s *submitter) send(ctx context.Context, batch []numbered) error {
	raws := make([][]byte, len(batch))
	for i := range batch {
		raws[i] = batch[i].raw
	}
	results, err := s.client.SubmitBatch(ctx, raws)
	if err != nil {
		err = refusal(fmt.Errorf("%s: %w", lines(batch), err))
		if s.forged > 0 {
			err = fmt.Errorf("%w; and then %w", s.outcome(), err)
		}
		return err
	}
	for i := range results {
		if err := s.show(batch[i], &results[i]); err != nil {
			return err
		}
	}
	return nil
}

// lines says where in the input events are.
func lines(batch []numbered) string {
	first, last := batch[0].line, batch[len(batch)-1].line
	if first == last {
		return fmt.Sprintf("event on line %d", first)
	}
	return fmt.Sprintf("events on lines %d to %d", first, last)
}

// shownResult is submit --json's output.
type shownResult struct {
	Line       int             `json:"line"`
	ID         string          `json:"id,omitempty"`
	Status     client.Status   `json:"status,omitempty"` // none: no answer
	Index      *uint64         `json:"index,omitempty"`
	Verified   bool            `json:"verified"`
	Witnesses  string          `json:"witnesses,omitempty"`  // quorum or provisional, of a receipt that holds
	Required   *bool           `json:"required,omitempty"`   // whether the policy wants witnesses at all
	Uncompared []string        `json:"uncompared,omitempty"` // fields that the log says it has erased
	Receipt    string          `json:"receipt,omitempty"`
	Problem    *client.Problem `json:"problem,omitempty"`
	Error      string          `json:"error,omitempty"`
}

func (s *submitter) show(n numbered, r *client.Result) error {
	shown := shownResult{Line: n.line, Status: r.Status, Verified: r.Verified(), Uncompared: r.Uncompared, Receipt: string(r.Receipt)}
	if f, err := event.Parse(n.raw); err == nil {
		shown.ID = f.Text("/id")
	}
	if r.Status != client.Rejected && r.Status != "" {
		shown.Index = &r.Index
	}
	if r.Verdict != nil {
		shown.Witnesses, shown.Required = string(r.Verdict.Witnesses.Status), &r.Verdict.Witnesses.Required
	}
	s.count(r, &shown)
	if err := s.save(r); err != nil {
		return err
	}
	if s.json {
		if s.out != "" {
			shown.Receipt = ""
		}
		return json.NewEncoder(s.env.Stdout).Encode(shown)
	}
	s.env.Say("%s", shown.text(s.policy))
	if s.out == "" {
		_, err := io.WriteString(s.env.Stdout, shown.Receipt)
		return err
	}
	return nil
}

// count accounts for a result, and says what was wrong with it.
func (s *submitter) count(r *client.Result, shown *shownResult) {
	s.events++
	if r.Err == nil {
		return
	}
	var problem *client.Problem
	switch {
	case errors.Is(r.Err, verifier.ErrFailed):
		shown.Error = "FAILED: " + r.Err.Error()
		s.forged++
		if s.forgery == nil {
			s.forgery = r.Err
		}
	case errors.As(r.Err, &problem) && (r.Status == client.Rejected || r.Status == client.Conflict):
		shown.Problem = problem
		s.refused++
		if problem.Retryable() {
			s.failed++
		}
	case errors.Is(r.Err, client.ErrUnauthorized), errors.Is(r.Err, client.ErrForbidden):
		// The token was revoked meanwhile: sending again won't help.
		shown.Error = r.Err.Error()
		s.refused++
	default:
		shown.Error = r.Err.Error()
		s.failed++
	}
}

func (r *shownResult) text(checked bool) string {
	text := fmt.Sprintf("line %d: ", r.Line)
	switch {
	case r.Problem != nil && r.Status == client.Conflict:
		return text + fmt.Sprintf("conflict: entry %d is another event with the id %s", *r.Index, r.ID)
	case r.Problem != nil:
		return text + "rejected: " + r.Problem.Error()
	case r.Error != "" && r.Index == nil:
		return text + "no answer: " + r.Error
	case r.Error != "":
		return text + fmt.Sprintf("%s as entry %d, but: %s", r.Status, *r.Index, r.Error)
	}
	text += fmt.Sprintf("%s, entry %d", r.Status, *r.Index)
	switch {
	case r.Verified:
		text += " ✓ verified"
	case r.Receipt == "":
		text += ", durable: no receipt yet"
	case len(r.Uncompared) > 0:
		text += ", partly compared: erased are " + strings.Join(r.Uncompared, " ")
	case checked:
		text += ", NOT verified"
	}
	if r.Witnesses == string(verifier.Provisional) {
		text += provisionalText
	}
	return text
}

// save keeps a receipt; one that doesn't hold under another name, for it is
// evidence.
func (s *submitter) save(r *client.Result) error {
	if s.out == "" || len(r.Receipt) == 0 {
		return nil
	}
	name := strconv.FormatUint(r.Index, 10) + ".tlog-proof"
	if errors.Is(r.Err, verifier.ErrFailed) {
		name += ".FAILED"
	}
	return replaceFile(filepath.Join(s.out, name), r.Receipt)
}
