package verifier

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

const (
	// MaxSourceKeysBytes is the largest file of source keys that is read.
	MaxSourceKeysBytes = 1 << 20
	// maxSourceKeys is how many lines it has at most.
	maxSourceKeys = 10_000
)

// SourceKeys says with which keys sources sign their events, and since when they must. An auditor has it from the sources'
// owners, not from the log. It is immutable and safe for concurrent use.
type SourceKeys struct {
	lines  []sourceKeyLine
	tenant bool // some line names one
}

// sourceKeyLine is one line of the file.
type sourceKeyLine struct {
	number   int // from 1
	prefix   string
	key      *SourceKey
	from     time.Time // events must be signed from then on; zero: from the beginning
	until    time.Time // signatures are good before that; zero: for ever
	tenant   string    // "": any
	optional bool      // they needn't be signed
}

// ParseSourceKeys reads a file of source keys. Each line is
//
//	<source prefix> <vkey> [<from>] [until=<time>] [tenant=<name>] [optional]
//
// with times like 2026-01-31T23:59:59Z, items separated by spaces and tabs; empty lines, and those that begin with #, are
// ignored. The last line is ended by a newline, for a file that was cut short may mean something else. An error names
// the line.
func ParseSourceKeys(b []byte) (*SourceKeys, error) {
	if len(b) > MaxSourceKeysBytes {
		return nil, fmt.Errorf("parse source keys: more than %d bytes", MaxSourceKeysBytes)
	}
	if len(b) > 0 && b[len(b)-1] != '\n' {
		return nil, errors.New("parse source keys: the last line is not ended by a newline: is the file cut short?")
	}
	k := new(SourceKeys)
	for i, line := range bytes.Split(b, []byte("\n")) {
		if err := k.line(i+1, string(line)); err != nil {
			return nil, fmt.Errorf("parse source keys: line %d: %w", i+1, err)
		}
	}
	if len(k.lines) == 0 {
		return nil, errors.New("parse source keys: no key in it")
	}
	return k, nil
}

func (k *SourceKeys) line(number int, line string) error {
	for i := range len(line) {
		if c := line[i]; c != '\t' && (c < 0x20 || c == 0x7f) {
			return fmt.Errorf("octet %#04x is not allowed", c)
		}
	}
	items := strings.FieldsFunc(line, func(r rune) bool { return r == ' ' || r == '\t' })
	if len(items) == 0 || items[0][0] == '#' {
		return nil
	}
	if len(items) < 2 {
		return errors.New("expected: <source prefix> <vkey> [<from>] [until=<time>] [tenant=<name>] [optional]")
	}
	if len(k.lines) == maxSourceKeys {
		return fmt.Errorf("more than %d keys", maxSourceKeys)
	}
	key, err := ParseSourceKey(items[1])
	if err != nil {
		return err
	}
	l := sourceKeyLine{number: number, prefix: items[0], key: key}
	for i, item := range items[2:] {
		if err := l.item(item, i == 0); err != nil {
			return err
		}
	}
	if !l.until.IsZero() && !l.from.Before(l.until) {
		return errors.New("until isn't later than from")
	}
	k.lines, k.tenant = append(k.lines, l), k.tenant || l.tenant != ""
	return nil
}

// item reads what stands behind the key. Nothing comes twice.
func (l *sourceKeyLine) item(item string, first bool) (err error) {
	until, isUntil := strings.CutPrefix(item, "until=")
	tenant, isTenant := strings.CutPrefix(item, "tenant=")
	switch {
	case item == "optional" && !l.optional:
		l.optional = true
	case isUntil && l.until.IsZero():
		l.until, err = parseKeyTime(until)
	case isTenant && l.tenant == "" && tenant != "":
		l.tenant = tenant
	case first && item != "" && '0' <= item[0] && item[0] <= '9':
		l.from, err = parseKeyTime(item)
	default:
		err = fmt.Errorf("%q: expected a time at first, then until=<time>, tenant=<name> or optional, each once", clip(item))
	}
	return err
}

// parseKeyTime reads a time in the one form that leaves have.
func parseKeyTime(s string) (time.Time, error) {
	const style = "2006-01-02T15:04:05Z"
	t, err := time.Parse(style, s)
	if err != nil || t.Format(style) != s || t.Unix() < 0 || t.Unix() > lastSecond {
		return time.Time{}, fmt.Errorf("%q: expected a time like 2026-01-31T23:59:59Z", clip(s))
	}
	return t, nil
}

// SignatureStatus says what an entry's source signature is worth.
type SignatureStatus string

// What a source signature turns out to be.
const (
	SignatureNotAsked SignatureStatus = ""          // no key is known for the source
	SignatureGood     SignatureStatus = "good"      // by a key of the source
	SignatureMissing  SignatureStatus = "unsigned"  // the entry has none
	SignatureOtherKey SignatureStatus = "other-key" // by a key that isn't the source's, or isn't any more
	SignatureWrong    SignatureStatus = "wrong"     // it isn't the key's signature of these fields
	SignatureHidden   SignatureStatus = "not-shown" // it, or the source, is withheld or erased
)

// SignatureVerdict is the verdict on one entry's source signature.
type SignatureVerdict struct {
	Status   SignatureStatus `json:"status"`
	Required bool            `json:"required"`      // by the keys' file, the entry has to be signed
	Key      string          `json:"key,omitempty"` // name of the key that the signature says it is by
}

// Failed reports whether the log doesn't hold what the source's keys promise: a signature is wrong, or there is none, or
// none of the source's, where there must be one.
func (v SignatureVerdict) Failed() bool {
	return v.Status == SignatureWrong || v.Required && (v.Status == SignatureMissing || v.Status == SignatureOtherKey)
}

// Hidden reports whether there must be a signature, and whether it is there can't be seen.
func (v SignatureVerdict) Hidden() bool { return v.Required && v.Status == SignatureHidden }

// Reason says in words what a verdict that Failed, or is Hidden, means.
func (v SignatureVerdict) Reason() string {
	switch v.Status {
	case SignatureMissing:
		return "its source has to sign it, and it isn't signed"
	case SignatureOtherKey:
		return fmt.Sprintf("it is signed by another key than its source's, named %q", clip(v.Key))
	case SignatureWrong:
		return "its source's signature is wrong"
	case SignatureHidden:
		return "its source has to sign it, and the signature isn't shown"
	}
	return string(v.Status)
}

// Check checks the source signature that an opening shows. It says nothing of the leaf. It doesn't matter what else is
// withheld or erased.
//
// The time that counts is the leaf's, which is when the entry was sequenced, by the log's clock.
func (k *SourceKeys) Check(o *seal.Opening) SignatureVerdict {
	v, _ := k.check(o)
	return v
}

// check also returns the lines that are about the entry's source.
func (k *SourceKeys) check(o *seal.Opening) (v SignatureVerdict, lines []*sourceKeyLine) {
	source, tenant := o.Field("/source"), o.Field("/tenant")
	if source == nil || !source.Shown || k.tenant && (tenant == nil || !tenant.Shown) {
		return SignatureVerdict{Status: SignatureHidden, Required: true}, nil
	}
	lines, required := k.of(o.Text("/tenant"), o.Text("/source"), o.Time)
	v.Required = required
	signature := o.Field("/ingest/signature")
	switch {
	case len(lines) == 0:
		return v, nil
	case signature == nil:
		v.Status = SignatureMissing
		return v, lines
	case !signature.Shown:
		v.Status = SignatureHidden
		return v, lines
	}
	name, hash, err := seal.SourceKeyOf(o.Text("/ingest/signature"))
	v.Key, v.Status = name, SignatureOtherKey
	if err != nil {
		v.Status = SignatureWrong
	}
	for _, l := range lines {
		if err != nil || l.key.Name() != name || l.key.KeyHash() != hash || !l.until.IsZero() && !o.Time.Before(l.until) {
			continue
		}
		if v.Status = SignatureWrong; seal.CheckSource(o, l.key) == nil {
			v.Status = SignatureGood
		}
		break
	}
	return v, lines
}

// of returns the lines that are about a source, and whether it has to sign at a time.
func (k *SourceKeys) of(tenant, source string, at time.Time) (lines []*sourceKeyLine, required bool) {
	for i := range k.lines {
		l := &k.lines[i]
		if strings.HasPrefix(source, l.prefix) && (l.tenant == "" || l.tenant == tenant) {
			lines = append(lines, l)
			required = required || !l.optional && !at.Before(l.from)
		}
	}
	return lines, required
}

// ErrSignatureNotShown is returned by [Verdict.CheckSignature] where the source has to sign, and whether it has isn't shown.
var ErrSignatureNotShown = errors.New("the source's signature isn't shown")

// CheckSignature adds the check of the source's signature to the verdict on a receipt that holds. If that is wrong, or not
// there and has to be, the verdict is FAILED, and the error matches [ErrFailed]; it is [ErrSignatureNotShown] where
// that can't be seen, and [ErrNoOpening] without an opening.
func (v *Verdict) CheckSignature(k *SourceKeys) error {
	if v.Opening == nil {
		return ErrNoOpening
	}
	s := k.Check(v.Opening)
	v.Signature = &s
	switch {
	case s.Failed():
		err := failedf("source signature: %s", s.Reason())
		v.Content, v.Reason = seal.Failed, err.Error()
		return err
	case s.Hidden():
		return ErrSignatureNotShown
	}
	return nil
}
