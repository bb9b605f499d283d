package verifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strconv"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

const (
	// MaxOpeningLine is the longest line of openings that is read: the largest opening, and
	// what stands around it.
	MaxOpeningLine = seal.MaxOpeningBytes + 64
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
	Reason  string // why not, by the server's word: ReasonTenant or ReasonMissing
}

// Reasons of an [OpeningLine] without an opening: another tenant's, or gone. There are no
// others.
const (
	ReasonTenant  = "tenant"
	ReasonMissing = "missing"
)

// ParseOpeningLine reads `{"index":N,"opening":{…}}` or
// `{"index":N,"opening":null,"reason":"tenant"|"missing"}`, without white space.
// Any other reason, or none, is an error. The opening, which aliases the line, isn't looked
// at: whatever stands there is what [seal.ParseOpening] has to judge.
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
	switch string(opening) {
	case `null,"reason":"` + ReasonTenant + `"`:
		return OpeningLine{Index: n, Reason: ReasonTenant}, nil
	case `null,"reason":"` + ReasonMissing + `"`:
		return OpeningLine{Index: n, Reason: ReasonMissing}, nil
	}
	if bytes.HasPrefix(opening, []byte("null")) {
		return OpeningLine{}, bad
	}
	return OpeningLine{Index: n, Opening: opening}, nil
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
	u := fmt.Sprintf("%s/v1/logs/%s/openings?start=%d&count=%d", l.api, url.PathEscape(l.name), start, count)
	err = l.retry(ctx, func(ctx context.Context) error {
		body, _, err = l.open(ctx, u, l.cfg.Token)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", u, err)
	}
	return body, nil
}
