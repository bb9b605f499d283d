package httpapi

import (
	"compress/flate"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/ingest"
)

var errIngestSize = &problem{kind: kindRequestSize, detail: fmt.Sprintf("the body is larger than %d bytes", MaxIngestBytes)}

// ingest serves POST /v1/ingest/{adapter}, the way in for whoever has a bearer token. Deliveries that prove themselves otherwise
// come through a door.
func (a *API) ingest(x *exchange) error {
	if err := x.charge(1); err != nil { // as in submit
		return err
	}
	buf := getBuffer()
	defer a.releaseBody(buf)
	if err := x.readDelivery(buf); err != nil {
		return err
	}
	return a.deliver(x, x.args[0], ingest.SenderToken, buf.b)
}

// translationFactor is about how much more than an event's opening takes what an adapter makes of a body while it does.
const translationFactor = 2

// deliver hands a body to an adapter on behalf of x.token, and answers. One item is charged already.
func (a *API) deliver(x *exchange, adapter, sender string, body []byte) error {
	query, err := url.ParseQuery(x.r.URL.RawQuery)
	if err != nil {
		return badParameter("", "a query of names and values")
	}
	if len(query["source"]) > 1 {
		return badParameter("source", "it once")
	}
	source := query.Get("source")
	delete(query, "source")
	var kept int64
	defer func() { a.bodyMemory.Add(-kept) }()
	if err := a.keep(translationFactor*len(body), &kept); err != nil { // what the adapter makes of it
		return err
	}
	ctx, cancel := context.WithTimeout(x.r.Context(), a.cfg.AnswerTimeout)
	defer cancel()
	taken, err := a.cfg.Log.Ingest(ctx, x.caller(), personality.Delivery{
		Adapter: adapter, Sender: sender, Header: withoutCredentials(x.r.Header), Query: query, Source: source, Body: body, Charge: x.chargeItems,
	})
	if err != nil {
		return err
	}
	if taken.Answer.ContentType == "" {
		x.sendNothing(taken.Answer.Status)
		return nil
	}
	x.w.Header()["Cache-Control"] = valueNoStore
	x.send(taken.Answer.Status, []string{taken.Answer.ContentType}, taken.Answer.Body)
	return nil
}

// withoutCredentials is what an adapter may see of a header, and keep.
func withoutCredentials(h http.Header) http.Header {
	h = h.Clone()
	for _, name := range []string{"Authorization", "Proxy-Authorization", "Cookie"} {
		h.Del(name)
	}
	return h
}

// chargeItems charges a delivery's items but the first. More than the token's burst can never pass.
func (x *exchange) chargeItems(items int) error {
	if x.limit != nil && items > x.limit.Burst() {
		return &problem{kind: kindRequestSize, detail: fmt.Sprintf("the request has more items than a token may send at once, %d", x.limit.Burst())}
	}
	if items < 2 {
		return nil
	}
	return x.charge(items - 1)
}

// readDelivery reads the body and undoes its gzip coding; neither form may be longer than MaxIngestBytes.
func (x *exchange) readDelivery(buf *buffer) error {
	coding := strings.ToLower(strings.Join(x.r.Header["Content-Encoding"], ","))
	switch coding {
	case "", "identity":
		return x.readBody(buf, MaxIngestBytes, errIngestSize)
	case "gzip", "x-gzip":
	default:
		return &problem{kind: kindMediaType, detail: "the content coding is neither gzip nor none"}
	}
	if x.r.ContentLength > MaxIngestBytes {
		return errIngestSize
	}
	coded := x.r.Body
	z, err := gzip.NewReader(io.LimitReader(coded, MaxIngestBytes))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return &problem{kind: kindTimeout, cause: err}
	}
	if err != nil {
		p := badMember("", "a sound gzip stream, as Content-Encoding says")
		p.cause = err
		return p
	}
	x.r.Body = gunzipped{z, coded}
	return x.readBody(buf, MaxIngestBytes, errIngestSize)
}

// gunzipped is a body without its coding.
type gunzipped struct {
	*gzip.Reader
	coded io.Closer
}

// Close closes the body.
func (g gunzipped) Close() error { return errors.Join(g.Reader.Close(), g.coded.Close()) }

func isGzipError(err error) bool {
	var corrupt flate.CorruptInputError
	return errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum) || errors.As(err, &corrupt)
}
