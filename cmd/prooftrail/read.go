package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

const getHelp = `
Usage: prooftrail get --server URL --token-file FILE (--index N | --id ID --source URI) [flags]

Reads one event and prints it. With --policy, what the server shows is checked first:
that it is what the log's entry was made of, and that the entry is in the log.
Reading is itself an entry of the log, unless the event is the token's own.
An entry that shows too little to tell whether it is the event asked for can't be
checked: exit code 2.

Example:
  prooftrail get --server https://log.example.com --token-file read.token \
      --policy policy.txt --id 019078e5-e1ab-7cc3-98e8-0c0c0c0c0c0c --source cron://node-7/

Exit codes: 0 shown, and with --policy verified; 1 refused, not there, or FAILED to
verify; 2 failed.
`

// anIndex is a flag for an index, which may well be 0.
type anIndex struct {
	set bool
	n   uint64
}

func (i *anIndex) String() string {
	if !i.set {
		return ""
	}
	return fmt.Sprint(i.n)
}

func (i *anIndex) Set(s string) error {
	if err := json.Unmarshal([]byte(s), &i.n); err != nil {
		return errors.New("expected an index, 0 or more")
	}
	i.set = true
	return nil
}

func runGet(ctx context.Context, e *cli.Env, args []string) error {
	var s serverFlags
	var index anIndex
	fs := cli.NewFlags(e, "get", getHelp)
	s.add(fs)
	fs.Var(&index, "index", "the entry's `index`")
	id := fs.String("id", "", "the event's `id`")
	source := fs.String("source", "", "the event's source, a `URI`")
	asJSON := fs.Bool("json", false, "print one JSON object with the event and what was checked")
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	if index.set == (*id != "") || (*id != "") != (*source != "") {
		return errors.New("expected --index, or --id and --source; see --help")
	}
	if err := fs.Needed("server", "token-file"); err != nil {
		return err
	}
	c, err := s.client(e)
	if err != nil {
		return err
	}
	var entry *client.Entry
	if index.set {
		entry, err = c.Entry(ctx, index.n)
	} else {
		entry, err = c.Event(ctx, *source, *id)
	}
	if err != nil {
		return refusal(err)
	}
	s.sayUnchecked(e)
	return showEntry(e, entry, *asJSON)
}

// shownEntry is get --json's output.
type shownEntry struct {
	Index     uint64          `json:"index"`
	Event     json.RawMessage `json:"event"` // null when it isn't this token's to read
	Content   string          `json:"content,omitempty"`
	Witnesses string          `json:"witnesses,omitempty"`
	Required  *bool           `json:"required,omitempty"` // whether the policy wants witnesses at all
	Withheld  []string        `json:"withheld,omitempty"`
	Size      uint64          `json:"size,omitempty"`
	Receipt   string          `json:"receipt"`
}

func showEntry(e *cli.Env, entry *client.Entry, asJSON bool) error {
	shown := shownEntry{Index: entry.Index, Receipt: string(entry.Receipt), Event: json.RawMessage("null")}
	if entry.Opening != nil {
		o, err := seal.ParseOpening(entry.Opening)
		if err != nil {
			return &client.ReceiptError{Receipt: entry.Receipt, Err: err}
		}
		shown.Event, shown.Withheld = o.Event().JSON(), o.Withheld()
	}
	if v := entry.Verdict; v != nil {
		shown.Content, shown.Size = string(v.Content), v.Size
		shown.Witnesses, shown.Required = string(v.Witnesses.Status), &v.Witnesses.Required
	}
	if asJSON {
		return json.NewEncoder(e.Stdout).Encode(shown)
	}
	e.Say("entry %d%s", entry.Index, verdictText(entry.Verdict))
	if entry.Opening == nil {
		e.Say("the event is not this token's to read")
		return nil
	}
	_, err := fmt.Fprintf(e.Stdout, "%s\n", shown.Event)
	return err
}

// provisionalText is said of what the log alone vouches for.
const provisionalText = ", provisional: not witnessed as the policy wants"

// witnessesText says what cosignatures a head has. Where the policy wants none,
// nobody but the log vouches for it, whatever the status.
func witnessesText(w verifier.Witnesses) string {
	if !w.Required {
		return "none needed by this policy"
	}
	return string(w.Status)
}

// verdictText is what follows an entry's index when it has been checked.
func verdictText(v *verifier.Verdict) string {
	if v == nil {
		return ""
	}
	text := fmt.Sprintf(": ✓ %s, in the tree of size %d", v.Content, v.Size)
	if v.Content == verifier.NotShown {
		text = fmt.Sprintf(": ✓ in the tree of size %d, its content not shown", v.Size)
	}
	if v.Witnesses.Status == verifier.Provisional {
		text += provisionalText
	}
	if len(v.Withheld) > 0 {
		text += "; withheld: " + strings.Join(v.Withheld, " ")
	}
	return text
}

const receiptHelp = `
Usage: prooftrail receipt --server URL --token-file FILE --index N [flags]

Fetches the receipt of an entry, at the newest head of the log: one small file that
proves, offline and for ever, that the event is in the log. With --policy it is
checked first; one that doesn't hold is saved as FILE.FAILED, for it is evidence.
prooftrail-verify checks receipts too, anywhere.

Example:
  prooftrail receipt --server https://log.example.com --token-file submit.token \
      --index 17 --out 17.tlog-proof

Exit codes: 0 fetched, and with --policy verified; 1 refused, not there, or FAILED to
verify; 2 failed.
`

func runReceipt(ctx context.Context, e *cli.Env, args []string) error {
	var s serverFlags
	var index anIndex
	fs := cli.NewFlags(e, "receipt", receiptHelp)
	s.add(fs)
	fs.Var(&index, "index", "the entry's `index`")
	out := fs.String("out", "", "save it to this `file` instead of printing it")
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	if err := fs.Needed("server", "token-file", "index"); err != nil {
		return err
	}
	c, err := s.client(e)
	if err != nil {
		return err
	}
	receipt, v, err := c.Receipt(ctx, index.n)
	if errors.Is(err, verifier.ErrFailed) && *out != "" {
		// Under another name: what doesn't hold is evidence.
		err = errors.Join(err, replaceFile(*out+".FAILED", receipt))
	}
	if err != nil {
		return refusal(err)
	}
	s.sayUnchecked(e)
	e.Say("entry %d%s", index.n, verdictText(v))
	if *out != "" {
		return replaceFile(*out, receipt)
	}
	_, err = e.Stdout.Write(receipt)
	return err
}

const checkpointHelp = `
Usage: prooftrail checkpoint --server URL [--policy FILE] [flags]

Fetches the log's newest signed head: name, size, and the hash over everything in it.
It needs no token. With --policy the signatures are checked.

Example:
  prooftrail checkpoint --server https://log.example.com --policy policy.txt

Exit codes: 0 fetched, and with --policy verified; 1 refused, not there, or FAILED to
verify; 2 failed.
`

func runCheckpoint(ctx context.Context, e *cli.Env, args []string) error {
	var s serverFlags
	fs := cli.NewFlags(e, "checkpoint", checkpointHelp)
	s.add(fs)
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	c, err := s.client(e)
	if err != nil {
		return err
	}
	note, cp, w, err := c.Checkpoint(ctx)
	if err != nil {
		return refusal(err)
	}
	s.sayUnchecked(e)
	if s.policy != "" {
		e.Say("✓ signed by %s, size %d, witnesses: %s", cp.Origin, cp.Size, witnessesText(w))
	}
	_, err = e.Stdout.Write(note)
	return err
}

// replaceFile puts a file in place at once or not at all.
func replaceFile(path string, content []byte) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), ".prooftrail-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(content); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := errors.Join(f.Chmod(0o644), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
