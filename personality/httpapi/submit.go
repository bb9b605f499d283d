package httpapi

import (
	"context"
	"mime"
	"net/http"
	"strings"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// item is one event of a request: admitted, or refused with err.
type item struct {
	pending Pending
	err     error
}

var errEventSize = &problem{kind: kindEventSize, detail: "the event is larger than 262,144 bytes"}

// submit takes events: POST /v1/events.
func (a *API) submit(x *exchange) error {
	values, err := parseQuery(x.r.URL.RawQuery, "wait")
	if err != nil {
		return err
	}
	wait, err := personality.ParseWait(values["wait"])
	if err != nil {
		return err
	}
	ndjson, err := eventsType(x.r.Header)
	if err != nil {
		return err
	}
	if x.r.ContentLength > MaxBodyBytes {
		return errRequestSize
	}
	// The first event is counted before the body is read: one that turns out to
	// be none at all has cost as much.
	if err := x.charge(1); err != nil {
		return err
	}
	if ndjson {
		return a.submitLines(x, wait)
	}
	buf := getBuffer()
	defer a.releaseBody(buf)
	if err := x.readBody(buf, MaxBodyBytes, errRequestSize); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), a.cfg.AnswerTimeout)
	defer cancel()
	if isBatch(buf.b) {
		return a.submitBatch(ctx, x, wait, buf.b)
	}
	return a.submitOne(ctx, x, wait, buf.b)
}

// eventsType reads the content type: NDJSON or JSON.
func eventsType(h http.Header) (ndjson bool, err error) {
	for _, coding := range h["Content-Encoding"] {
		if !strings.EqualFold(coding, "identity") {
			return false, &problem{kind: kindMediaType, detail: "content codings are not supported"}
		}
	}
	text := ""
	if v := h["Content-Type"]; len(v) == 1 {
		text = v[0]
	}
	var params map[string]string
	if text != valueJSON[0] && text != valueNDJSON[0] {
		text, params, err = mime.ParseMediaType(text)
	}
	charset, ok := params["charset"]
	if err == nil && (!ok || strings.EqualFold(charset, "utf-8")) {
		switch text {
		case valueJSON[0]:
			return false, nil
		case valueNDJSON[0]:
			return true, nil
		}
	}
	return false, &problem{kind: kindMediaType, detail: "expected application/json or application/x-ndjson, in UTF-8"}
}

func (a *API) submitOne(ctx context.Context, x *exchange, wait personality.Wait, raw []byte) error {
	sub, err := submission(raw)
	if err != nil {
		return err
	}
	p, err := a.cfg.Log.Admit(ctx, x.caller(), sub)
	if err != nil {
		return err
	}
	r := p.Wait(ctx, wait)
	if err := failure(&r); err != nil {
		return err
	}
	x.answerOne(&r)
	return nil
}

// answerOne answers an event that is stored: 202 with a Location where there is
// no receipt yet, otherwise 201, or 200 for one that was there already.
func (x *exchange) answerOne(r *personality.Result) {
	status := http.StatusCreated
	h := x.w.Header()
	switch {
	case r.Receipt == nil:
		status = http.StatusAccepted
		h["Location"] = []string{receiptPath(x.api.cfg.Log.LogName(), r.Index)}
	case r.Status == personality.StatusDuplicate:
		status = http.StatusOK
	}
	h["Cache-Control"] = valueNoStore
	buf := getBuffer()
	defer putBuffer(buf)
	buf.b = append(appendStored(buf.b, r), '}')
	x.send(status, valueJSON, buf.b)
}

func (a *API) submitBatch(ctx context.Context, x *exchange, wait personality.Wait, body []byte) error {
	elements, err := splitBatch(body)
	if err != nil {
		return err
	}
	if err := x.charge(len(elements) - 1); err != nil {
		return err
	}
	var kept int64
	defer func() { a.bodyMemory.Add(-kept) }()
	for _, raw := range elements {
		if err := a.keep(len(raw), &kept); err != nil {
			return err
		}
	}
	items := make([]item, len(elements))
	caller := x.caller()
	for i, raw := range elements {
		items[i] = a.admit(ctx, caller, raw)
	}
	return a.answerBatch(ctx, x, wait, items, false)
}

// submitLines admits each line as it arrives, so that the events of one request
// form group commits while it is still under way, and answers at the end.
func (a *API) submitLines(x *exchange, wait personality.Wait) error {
	ctx, cancel := context.WithTimeout(x.r.Context(), a.cfg.BodyTimeout+a.cfg.AnswerTimeout)
	defer cancel()
	var items []item
	var kept int64 // bytes that the items hold until they are answered, about
	defer func() { a.bodyMemory.Add(-kept) }()
	caller := x.caller()
	err := x.lines(func(l line) error {
		if len(items) == MaxEvents {
			return &problem{kind: kindRequestSize, detail: "the request has more than 500 events; the first 500 were taken"}
		}
		it := item{err: errEventSize}
		if !l.tooLong {
			it.err = x.chargeLine(len(items), len(l.text), &kept)
		}
		if it.err == nil {
			it = a.admit(ctx, caller, l.text)
		}
		items = append(items, it)
		return nil
	})
	if err != nil {
		return err
	}
	if len(items) == 0 {
		return badMember("", "1 to 500 lines with an event each")
	}
	ctx, stop := context.WithTimeout(ctx, a.cfg.AnswerTimeout) // from here on: the body is there
	defer stop()
	return a.answerBatch(ctx, x, wait, items, true)
}

// openingFactor is about how much longer an event's opening is than the event.
const openingFactor = 3

// chargeLine counts the n-th line of a request, of so many bytes, against the
// token's rate (the first one is counted already) and, as long as the request
// lasts, against Config.BodyMemory: its opening is held until all are answered.
func (x *exchange) chargeLine(n, bytes int, kept *int64) error {
	if n > 0 {
		if err := x.charge(1); err != nil {
			return err
		}
	}
	return x.api.keep(bytes, kept)
}

// keep counts what the openings of so many bytes of events take against
// Config.BodyMemory, and adds it to kept.
func (a *API) keep(bytes int, kept *int64) error {
	more := int64(openingFactor * bytes)
	if a.bodyMemory.Add(more) > a.cfg.BodyMemory {
		a.bodyMemory.Add(-more)
		return errBodies
	}
	*kept += more
	return nil
}

func (a *API) admit(ctx context.Context, caller personality.Caller, raw []byte) item {
	sub, err := submission(raw)
	if err != nil {
		return item{err: err}
	}
	p, err := a.cfg.Log.Admit(ctx, caller, sub)
	return item{p, err}
}

// submission reads what stands in the place of an event: one as it is, or in the envelope of a source that
// signs it.
func submission(raw []byte) (sub personality.Submission, err error) {
	sub.Event = raw
	if seal.IsEnvelope(raw) {
		e, err := seal.ParseEnvelope(raw)
		if err != nil {
			return sub, err
		}
		sub = personality.Submission{Event: e.Event, Salts: e.Salts, Signature: e.Signature}
	}
	if len(sub.Event) > event.MaxBytes {
		return sub, errEventSize
	}
	return sub, nil
}
