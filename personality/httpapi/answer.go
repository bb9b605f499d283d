package httpapi

import (
	"context"
	"encoding/base64"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/prooftrail/prooftrail/personality"
)

// failure is what is to be answered instead of the result, or nil. An event
// that is stored but has no receipt in time is none.
func failure(r *personality.Result) error {
	stored := r.Status == personality.StatusAccepted || r.Status == personality.StatusDuplicate
	late := errors.Is(r.Err, context.DeadlineExceeded) || errors.Is(r.Err, context.Canceled)
	switch {
	case stored && (r.Err == nil || late):
		return nil
	case r.Err != nil:
		return r.Err
	case r.Status == personality.StatusConflict:
		return &problem{kind: kindConflict, conflict: true, index: r.Index, conflictI: r.ConflictIndex}
	}
	return errors.New("a result without status or error")
}

// outcome is an event's line in the answer.
type outcome struct {
	result  personality.Result
	problem *problem // nil: stored
}

// answerBatch waits for all events and answers a result each, in order.
func (a *API) answerBatch(ctx context.Context, x *exchange, wait personality.Wait, items []item, ndjson bool) error {
	outcomes := make([]outcome, len(items))
	for i, it := range items {
		o := &outcomes[i]
		err := it.err
		if err == nil {
			o.result = it.pending.Wait(ctx, wait)
			err = failure(&o.result)
		}
		if err != nil {
			o.problem = problemOf(err)
		}
	}
	if p := commonProblem(outcomes); p != nil {
		return p
	}
	a.writeBatch(x, outcomes, ndjson)
	return nil
}

// commonProblem is the problem that all events share if it is one of the
// service, not of the events: then nothing was stored, or nobody knows, and the
// whole request is best sent again.
func commonProblem(outcomes []outcome) *problem {
	first := outcomes[0].problem
	if first == nil || kinds[first.kind].status < 500 && first.kind != kindRate {
		return nil
	}
	for _, o := range outcomes[1:] {
		if o.problem == nil || o.problem.kind != first.kind {
			return nil
		}
	}
	return first
}

func (a *API) writeBatch(x *exchange, outcomes []outcome, ndjson bool) {
	x.w.Header()["Cache-Control"] = valueNoStore
	s := newStream(x, valueJSON)
	defer s.end()
	separator := byte(',')
	if ndjson {
		s.contentType, separator = valueNDJSON, '\n'
	} else {
		s.buf.b = append(s.buf.b, `{"results":[`...)
	}
	for i := range outcomes {
		if i > 0 {
			s.buf.b = append(s.buf.b, separator)
		}
		o := &outcomes[i]
		if o.problem != nil {
			a.logFailure(x, o.problem)
			a.metrics.refuse(o.problem.kind)
		}
		s.buf.b = o.append(s.buf.b)
		s.flush(chunk)
	}
	if ndjson {
		s.buf.b = append(s.buf.b, '\n')
	} else {
		s.buf.b = append(s.buf.b, "]}"...)
	}
}

func (o *outcome) append(dst []byte) []byte {
	switch {
	case o.problem == nil:
		dst = appendStored(dst, &o.result)
	case o.problem.kind == kindConflict:
		dst = appendEntry(append(dst, `{"status":"conflict"`...), &o.result)
		dst = o.problem.append(append(dst, `,"problem":`...), "")
	default:
		dst = o.problem.append(append(dst, `{"status":"rejected","problem":`...), "")
	}
	return append(dst, '}')
}

// appendStored writes the members of a stored event, with no closing brace.
func appendStored(dst []byte, r *personality.Result) []byte {
	dst = append(dst, `{"status":"`...)
	dst = append(dst, r.Status...)
	dst = append(dst, '"')
	dst = appendEntry(dst, r)
	if r.Receipt != nil {
		text := getBuffer()
		defer putBuffer(text)
		text.b = r.Receipt.Append(text.b)
		dst = appendText(append(dst, `,"receipt":`...), text.b)
	}
	return dst
}

func appendEntry(dst []byte, r *personality.Result) []byte {
	dst = strconv.AppendUint(append(dst, `,"index":`...), r.Index, 10)
	return appendHash(append(dst, `,"leaf_hash":`...), r.LeafHash)
}

// appendHash writes a hash as a JSON string, in standard base64.
func appendHash(dst []byte, h [32]byte) []byte {
	dst = base64.StdEncoding.AppendEncode(append(dst, '"'), h[:])
	return append(dst, '"')
}

// escapeFree marks the bytes that a JSON string holds as they are, without
// knowing what follows them.
var escapeFree = func() (t [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		t[c] = c != '"' && c != '\\'
	}
	return t
}()

// plain8 says whether a JSON string holds eight bytes as they are: none is below
// space, a quote, a backslash, or part of a character of several bytes. It looks at all
// at once: taking a constant from each byte borrows into its highest bit where the
// byte is smaller, and nowhere else as long as no byte has that bit set.
func plain8(v uint64) bool {
	const ones, high = 0x0101010101010101, 0x8080808080808080
	quote, backslash := v^('"'*ones), v^('\\'*ones)
	return (v|(v-' '*ones)|(quote-ones)|(backslash-ones))&high == 0
}

// load8 is the first eight bytes of text, in any order.
func load8[T string | []byte](text T) uint64 {
	_ = text[7]
	return uint64(text[0]) | uint64(text[1])<<8 | uint64(text[2])<<16 | uint64(text[3])<<24 |
		uint64(text[4])<<32 | uint64(text[5])<<40 | uint64(text[6])<<48 | uint64(text[7])<<56
}

// appendText writes text as a JSON string. Receipts are long and need hardly
// anything escaped but line feeds. What isn't UTF-8 becomes U+FFFD.
func appendText[T string | []byte](dst []byte, text T) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		if i+8 <= len(text) && plain8(load8(text[i:i+8])) {
			i += 8
			continue
		}
		c := text[i]
		if escapeFree[c] {
			i++
			continue
		}
		dst = append(dst, text[start:i]...)
		size := 1
		switch {
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			var r rune
			r, size = utf8.DecodeRuneInString(string(text[i:min(i+utf8.UTFMax, len(text))]))
			dst = utf8.AppendRune(dst, r)
		}
		i += size
		start = i
	}
	dst = append(dst, text[start:]...)
	return append(dst, '"')
}

// receiptPath is where a receipt will be.
func receiptPath(log string, index uint64) string {
	return "/v1/logs/" + log + "/receipts/" + strconv.FormatUint(index, 10)
}
