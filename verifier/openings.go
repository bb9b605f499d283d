package verifier

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

const (
	// MaxOpeningLine is the longest line of openings that is read.
	MaxOpeningLine = MaxReceiptBytes
	// MaxOpeningCount is the most that one request for openings asks for.
	MaxOpeningCount = 10000
)

// OpeningSource gives openings in bulk. Implementations are safe for concurrent use and do
// their own retries when opening a stream; a stream that breaks is asked for again by the
// reader.
type OpeningSource interface {
	// Openings returns NDJSON, one line an entry from start on, at most count (1 to
	// MaxOpeningCount) and possibly fewer: see [ParseOpeningLine].
	Openings(ctx context.Context, start, count uint64) (io.ReadCloser, error)
}

// OpeningLine is one line of `GET /v1/logs/{log}/openings`.
type OpeningLine struct {
	Index   uint64
	Opening []byte // as it stands in the line; nil if it isn't shown
	Reason  string // why not: "tenant" (of another one), "missing" (gone)
}

// Reasons of an [OpeningLine] without an opening.
const (
	ReasonTenant  = "tenant"
	ReasonMissing = "missing"
)

// ParseOpeningLine reads `{"index":N,"opening":{…}}` or
// `{"index":N,"opening":null,"reason":"tenant"|"missing"}`, without white space. The
// opening, which aliases the line, isn't looked at: whatever stands there is what
// [seal.ParseOpening] has to judge.
func ParseOpeningLine(line []byte) (OpeningLine, error) {
	bad := errors.New(`opening line: expected {"index":N,"opening":…}`)
	rest, ok := bytes.CutPrefix(line, []byte(`{"index":`))
	digits, rest, ok2 := bytes.Cut(rest, []byte(`,"opening":`))
	opening, ok3 := bytes.CutSuffix(rest, []byte("}"))
	if !ok || !ok2 || !ok3 || len(digits) > 20 {
		return OpeningLine{}, bad
	}
	n, err := parseDecimal(string(digits))
	if err != nil {
		return OpeningLine{}, bad
	}
	reason, ok := bytes.CutPrefix(opening, []byte(`null,"reason":`))
	if !ok {
		return OpeningLine{Index: n, Opening: opening}, nil
	}
	l := OpeningLine{Index: n}
	if err := json.Unmarshal(reason, &l.Reason); err != nil || l.Reason == "" {
		return OpeningLine{}, bad
	}
	return l, nil
}

// AppendOpeningLine appends what [ParseOpeningLine] reads, and a newline.
func AppendOpeningLine(dst []byte, l OpeningLine) []byte {
	dst = strconv.AppendUint(append(dst, `{"index":`...), l.Index, 10)
	dst = append(dst, `,"opening":`...)
	if l.Opening != nil {
		dst = append(dst, l.Opening...)
	} else {
		dst = strconv.AppendQuote(append(dst, `null,"reason":`...), l.Reason)
	}
	return append(dst, "}\n"...)
}

// Openings implements [OpeningSource] with the token of the configuration.
func (l *HTTPLog) Openings(ctx context.Context, start, count uint64) (body io.ReadCloser, err error) {
	if l.api == "" && l.name == "" {
		return nil, fmt.Errorf("log URL %q: no /logs/<log> in it, so the API can't be found", l.cfg.URL)
	}
	u := fmt.Sprintf("%s/v1/logs/%s/openings?start=%d&count=%d", l.api, l.name, start, count)
	err = l.retry(ctx, func(ctx context.Context) error {
		body, err = l.open(ctx, u, l.cfg.Token)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", u, err)
	}
	return body, nil
}

// OpeningCounts counts entries by what their openings turned out to be.
type OpeningCounts struct {
	Verified uint64 `json:"verified"` // all fields shown
	Redacted uint64 `json:"redacted"` // verified, with fields withheld or erased
	NotShown uint64 `json:"not_shown"`
	Failed   uint64 `json:"failed"`
}

func (c *OpeningCounts) add(o OpeningCounts) {
	c.Verified += o.Verified
	c.Redacted += o.Redacted
	c.NotShown += o.NotShown
	c.Failed += o.Failed
}

// openingChecker checks the openings of consecutive entries against their leaf hashes.
type openingChecker struct {
	src    OpeningSource
	start  uint64
	leaves []Hash // of the entries from start on
	counts OpeningCounts
	fail   func(index uint64, reason string)
}

// maxStalls is how many streams in a row may end without a single line.
const maxStalls = 3

// run asks until each entry was answered for. A wrong answer is a failure of its entry;
// only a server that doesn't answer is an error.
func (c *openingChecker) run(ctx context.Context) error {
	next, end := c.start, c.start+uint64(len(c.leaves))
	for stalls := 0; next < end; {
		got, err := c.stream(ctx, next, min(end-next, MaxOpeningCount))
		next += got
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if got > 0 {
			stalls = 0
			continue
		}
		var final *finalError
		if stalls++; stalls >= maxStalls || errors.As(err, &final) {
			return fmt.Errorf("openings of entries %d to %d: %w", next, end-1, orNoLines(err))
		}
	}
	return nil
}

func orNoLines(err error) error {
	if err == nil {
		return errors.New("the server answers without lines")
	}
	return err
}

// finalError says that the source has already tried for long enough.
type finalError struct{ error }

func (e *finalError) Unwrap() error { return e.error }

// stream reads one answer and returns for how many entries it spoke.
func (c *openingChecker) stream(ctx context.Context, start, count uint64) (got uint64, err error) {
	body, err := c.src.Openings(ctx, start, count)
	if err != nil {
		return 0, &finalError{err}
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 64<<10), MaxOpeningLine)
	lines.Split(wholeLines)
	for got < count && lines.Scan() {
		if !c.line(start+got, lines.Bytes()) {
			return got + 1, nil // out of step: ask again behind it
		}
		got++
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		c.reject(start+got, fmt.Sprintf("opening line of more than %d bytes", MaxOpeningLine))
		return got + 1, nil
	}
	return got, lines.Err()
}

// wholeLines is bufio.ScanLines without the last, unended line: that one was cut short.
func wholeLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return 0, nil, io.ErrUnexpectedEOF
	}
	return 0, nil, nil
}

// line judges the line for an entry; false if it isn't for this entry.
func (c *openingChecker) line(index uint64, line []byte) bool {
	l, err := ParseOpeningLine(line)
	if err != nil {
		c.reject(index, "opening line is malformed")
		return false
	}
	if l.Index != index {
		c.reject(index, fmt.Sprintf("opening of entry %d was sent in its place", l.Index))
		return false
	}
	switch {
	case l.Opening != nil:
		c.opening(index, l.Opening)
	case l.Reason == ReasonTenant:
		c.counts.NotShown++
	case l.Reason == ReasonMissing:
		c.reject(index, "opening is missing")
	default:
		c.reject(index, fmt.Sprintf("opening is not shown: %q", l.Reason))
	}
	return true
}

func (c *openingChecker) opening(index uint64, b []byte) {
	o, err := seal.ParseOpening(b)
	if err != nil {
		c.reject(index, fmt.Sprintf("opening is malformed: %v", err))
		return
	}
	if o.LeafHash() != c.leaves[index-c.start] {
		c.reject(index, "opening does not match the leaf")
		return
	}
	if len(o.Withheld()) > 0 {
		c.counts.Redacted++
	} else {
		c.counts.Verified++
	}
}

func (c *openingChecker) reject(index uint64, reason string) {
	c.counts.Failed++
	c.fail(index, reason)
}
