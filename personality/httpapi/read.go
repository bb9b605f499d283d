package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/verifier"
)

// eventByID serves GET /v1/events/{id}?source=.
func (a *API) eventByID(x *exchange) error {
	values, err := parseQuery(x.r.URL.RawQuery, "source")
	if err != nil {
		return err
	}
	source := values["source"]
	if source == "" {
		return badParameter("source", "the source of the event")
	}
	e, err := a.cfg.Log.EventByID(x.r.Context(), x.caller(), source, x.args[0])
	if err != nil {
		return err
	}
	x.answerEntry(e)
	return nil
}

// entry serves GET /v1/logs/{log}/entries/{index}.
func (a *API) entry(x *exchange) error {
	index, err := x.entryArgs()
	if err != nil {
		return err
	}
	e, err := a.cfg.Log.Entry(x.r.Context(), x.caller(), index)
	if err != nil {
		return err
	}
	x.answerEntry(e)
	return nil
}

// receipt serves GET /v1/logs/{log}/receipts/{index}.
func (a *API) receipt(x *exchange) error {
	if err := x.checkLog(); err != nil {
		return err
	}
	values, err := parseQuery(x.r.URL.RawQuery, "wait")
	if err != nil {
		return err
	}
	wait, err := personality.ParseWait(values["wait"])
	if err != nil || wait == personality.Durable {
		return badParameter("wait", "integrated or witnessed")
	}
	index, err := x.pathIndex(x.args[1])
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), a.cfg.AnswerTimeout)
	defer cancel()
	text, err := a.cfg.Log.Receipt(ctx, x.caller(), index, wait)
	if err != nil {
		return err
	}
	x.w.Header()["Cache-Control"] = valueNoStore
	x.send(http.StatusOK, valueText, text)
	return nil
}

func (x *exchange) entryArgs() (index uint64, err error) {
	if err := x.checkLog(); err != nil {
		return 0, err
	}
	if err := x.noQuery(); err != nil {
		return 0, err
	}
	return x.pathIndex(x.args[1])
}

func (x *exchange) answerEntry(e *personality.Entry) {
	buf := getBuffer()
	defer putBuffer(buf)
	b := strconv.AppendUint(append(buf.b, `{"index":`...), e.Index, 10)
	b = appendText(append(b, `,"entry":`...), e.Leaf)
	b = appendHash(append(b, `,"leaf_hash":`...), e.LeafHash)
	b = appendOpening(append(b, `,"opening":`...), e.Opening)
	b = appendText(append(b, `,"receipt":`...), e.Receipt)
	buf.b = append(b, '}')
	x.w.Header()["Cache-Control"] = valueNoStore
	x.send(http.StatusOK, valueJSON, buf.b)
}

// appendOpening writes an opening, which is JSON on one line already, or null.
// Who controls the database can make it anything else: then it goes out as a
// string, which can't pass for more than it is, and which the caller's own check
// refuses.
func appendOpening(dst, opening []byte) []byte {
	switch {
	case opening == nil:
		return append(dst, "null"...)
	case !compactJSON(opening) && (bytes.IndexByte(opening, '\n') >= 0 || !json.Valid(opening)):
		return appendText(dst, opening)
	}
	return append(dst, opening...)
}

// openings serves GET /v1/logs/{log}/openings?start=&count= as NDJSON. When
// something fails after the answer has begun, it ends after a whole line: the
// caller asks again from there, as after any answer with fewer lines than asked
// for, and is then told what is wrong.
func (a *API) openings(x *exchange) error {
	if err := x.checkLog(); err != nil {
		return err
	}
	values, err := parseQuery(x.r.URL.RawQuery, "start", "count")
	if err != nil {
		return err
	}
	start, err := number(values, "start", 0, verifier.MaxTreeSize)
	if err != nil {
		return err
	}
	count, err := number(values, "count", 1, MaxOpenings)
	if err != nil {
		return err
	}
	x.bodyDone()
	x.w.Header()["Cache-Control"] = valueNoStore
	s := newStream(x, valueNDJSON)
	err = a.cfg.Log.Openings(x.r.Context(), x.caller(), start, int(count), func(l personality.OpeningLine) error {
		s.buf.b = appendOpeningLine(s.buf.b, l)
		s.flush(chunk)
		return s.err
	})
	if err != nil && s.err == nil && x.status == 0 && len(s.buf.b) == 0 {
		putBuffer(s.buf)
		return err
	}
	if err != nil && s.err == nil {
		a.logFailure(x, problemOf(err))
	}
	s.end()
	return nil
}

func appendOpeningLine(dst []byte, l personality.OpeningLine) []byte {
	dst = strconv.AppendUint(append(dst, `{"index":`...), l.Index, 10)
	dst = appendOpening(append(dst, `,"opening":`...), l.Opening)
	dst = appendMember(dst, "reason", l.Reason)
	return append(dst, '}', '\n')
}

// proveInclusion serves GET /v1/logs/{log}/proofs/inclusion?index=&size=.
func (a *API) proveInclusion(x *exchange) error {
	index, size, err := x.proofArgs("index", "size")
	if err != nil {
		return err
	}
	if index >= size {
		return badParameter("index", "less than size")
	}
	leafHash, proof, err := a.cfg.Log.ProveInclusion(x.r.Context(), index, size)
	if err != nil {
		return err
	}
	x.answerProof("index", index, "size", size, &leafHash, proof)
	return nil
}

// proveConsistency serves GET /v1/logs/{log}/proofs/consistency?first=&second=.
func (a *API) proveConsistency(x *exchange) error {
	first, second, err := x.proofArgs("first", "second")
	if err != nil {
		return err
	}
	if first < 1 || first > second {
		return badParameter("first", "1 to second")
	}
	proof, err := a.cfg.Log.ProveConsistency(x.r.Context(), first, second)
	if err != nil {
		return err
	}
	x.answerProof("first", first, "second", second, nil, proof)
	return nil
}

func (x *exchange) proofArgs(one, two string) (first, second uint64, err error) {
	if err = x.checkLog(); err != nil {
		return
	}
	values, err := parseQuery(x.r.URL.RawQuery, one, two)
	if err != nil {
		return
	}
	if first, err = number(values, one, 0, verifier.MaxTreeSize); err != nil {
		return
	}
	second, err = number(values, two, 0, verifier.MaxTreeSize)
	return
}

// answerProof: a proof between two fixed sizes never changes.
func (x *exchange) answerProof(one string, first uint64, two string, second uint64, leafHash *verifier.Hash, proof []verifier.Hash) {
	buf := getBuffer()
	defer putBuffer(buf)
	b := append(append(append(buf.b, `{"`...), one...), `":`...)
	b = strconv.AppendUint(b, first, 10)
	b = append(append(append(b, `,"`...), two...), `":`...)
	b = strconv.AppendUint(b, second, 10)
	if leafHash != nil {
		b = appendHash(append(b, `,"leaf_hash":`...), *leafHash)
	}
	b = append(b, `,"proof":[`...)
	for i, h := range proof {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendHash(b, h)
	}
	buf.b = append(b, "]}"...)
	x.w.Header()["Cache-Control"] = valueImmutable
	x.send(http.StatusOK, valueJSON, buf.b)
}
