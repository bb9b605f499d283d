package main

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

// Words for the whole of a verdict, in JSON and at the beginning of the text.
const (
	wordVerified    = "verified"
	wordProvisional = "provisional"
	wordNotShown    = "not shown"
	wordNotCompared = "not compared" // with every monitor that was named
	wordFailed      = "FAILED"
)

// verdictJSON is the output of receipt and entry with --json.
type verdictJSON struct {
	Verdict   string              `json:"verdict"`
	Content   string              `json:"content"`
	Reason    string              `json:"reason,omitempty"`
	Withheld  []string            `json:"withheld,omitempty"`
	Inclusion bool                `json:"inclusion"`
	Witnesses *verifier.Witnesses `json:"witnesses,omitempty"`
	Origin    string              `json:"origin,omitempty"`
	Index     *uint64             `json:"index,omitempty"` // not there if the receipt can't be read
	Size      uint64              `json:"size,omitempty"`
	LeafHash  string              `json:"leaf_hash,omitempty"`
	Time      *time.Time          `json:"time,omitempty"`
	Event     json.RawMessage     `json:"event,omitempty"`

	Signature *verifier.SignatureVerdict `json:"source_signature,omitempty"` // with --source-keys
}

// printVerdict prints a verdict and returns nil, errSaid or errSaidFailed.
func (e *env) printVerdict(v verifier.Verdict, asJSON, allowProvisional bool) error {
	word := wordVerified
	err := error(nil)
	switch {
	case v.Reason != "" || !v.Inclusion:
		word, err = wordFailed, errSaidFailed
	case !v.Verified():
		word, err = wordProvisional, errSaid
		if allowProvisional {
			err = nil
		}
	}
	return e.print(v, word, err, asJSON)
}

// print prints a verdict that is settled and returns said, which stands for it.
func (e *env) print(v verifier.Verdict, word string, said error, asJSON bool) error {
	if asJSON {
		return e.finish(e.printJSON(jsonVerdict(v, word)), said)
	}
	e.textVerdict(v, word)
	return said
}

// finish ends a command whose output may not have got through. That never hides what was
// found: FAILED stays FAILED.
func (e *env) finish(printErr, said error) error {
	if printErr == nil {
		return said
	}
	if !errors.Is(said, errSaidFailed) {
		return fmt.Errorf("print the result: %w", printErr)
	}
	fmt.Fprintf(e.stderr, "prooftrail-verify: FAILED; and the result could not be printed: %s\n", printable(printErr.Error()))
	return said
}

func jsonVerdict(v verifier.Verdict, word string) verdictJSON {
	j := verdictJSON{
		Verdict: word, Content: string(v.Content), Reason: v.Reason, Withheld: v.Withheld,
		Inclusion: v.Inclusion, Origin: v.Origin, Size: v.Size, Signature: v.Signature,
	}
	if v.Parsed {
		j.Index = &v.Index
	}
	if v.Witnesses.Status != "" {
		j.Witnesses = &v.Witnesses
	}
	if v.Inclusion {
		j.LeafHash, j.Time = hex.EncodeToString(v.LeafHash[:]), &v.Time
	}
	if v.Event != nil {
		j.Event = v.Event.JSON()
	}
	return j
}

// printJSON prints one object. What a terminal could take for a command is escaped in a
// way that JSON readers undo.
func (e *env) printJSON(v any) error {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return err
	}
	_, err := fmt.Fprintln(e.stdout, printable(strings.TrimSuffix(buf.String(), "\n")))
	return err
}

func (e *env) textVerdict(v verifier.Verdict, word string) {
	w := e.stdout
	of := ""
	if v.Origin != "" {
		of = " of " + printable(v.Origin)
	}
	if word == wordFailed && !v.Parsed {
		fmt.Fprintf(w, "%s: %s\n", word, printable(v.Reason))
		return
	}
	if word == wordFailed {
		fmt.Fprintf(w, "%s: entry %d%s: %s\n", word, v.Index, of, printable(v.Reason))
		return
	}
	fmt.Fprintf(w, "%s: entry %d%s\n", word, v.Index, of)
	fmt.Fprintf(w, "  content    %s%s\n", v.Content, withheld(v.Withheld))
	fmt.Fprintf(w, "  inclusion  in the signed tree of size %d\n", v.Size)
	fmt.Fprintf(w, "  witnesses  %s\n", witnesses(v.Witnesses))
	if v.Signature != nil {
		fmt.Fprintf(w, "  signature  %s\n", signatureText(v.Signature))
	}
	fmt.Fprintf(w, "  sequenced  %s\n", v.Time.Format(time.RFC3339))
	fmt.Fprintf(w, "  leaf hash  %x\n", v.LeafHash)
	if v.Event != nil {
		fmt.Fprintf(w, "  event      %s\n", printable(string(v.Event.JSON())))
	}
}

func withheld(pointers []string) string {
	if len(pointers) == 0 {
		return ""
	}
	return ", withheld: " + printable(strings.Join(pointers, " "))
}

// witnesses describes who has cosigned.
func witnesses(w verifier.Witnesses) string {
	var who []string
	for _, c := range w.Cosigned {
		who = append(who, fmt.Sprintf("%s at %s", printable(c.Witness), c.Time.Format(time.RFC3339)))
	}
	status := string(w.Status)
	if !w.Required && w.Status == verifier.Quorum {
		status = "none needed by this policy"
	}
	switch {
	case len(who) > 0:
		return fmt.Sprintf("%s, cosigned by %s", status, strings.Join(who, ", "))
	case w.Status == verifier.Quorum:
		return status
	}
	return string(w.Status) + ", not cosigned: the log alone vouches for this head"
}
