package httpapi

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// kind is a type of problem: what a client can tell apart.
type kind int

const (
	kindInvalidEvent kind = iota
	kindInvalidRequest
	kindUnauthorized
	kindForbidden
	kindNotFound
	kindBeyondHead
	kindMethod
	kindTimeout
	kindConflict
	kindEventSize
	kindRequestSize
	kindMediaType
	kindRate
	kindInternal
	kindBusy
	kindFull
	kindQuarantineFull
	kindUnwitnessed
	kindClosing
	kindUnavailable
	kindDamaged
	kindRefusing
	numKinds
)

// kinds is the one table from kinds of error to HTTP. The slugs are stable:
// clients may switch on them, and metrics carry them.
var kinds = [numKinds]struct {
	slug   string
	status int
	title  string
	about  string // what /problems/{slug} says
	retry  int    // Retry-After in seconds; 0 when sending it again is no use
}{
	kindInvalidEvent: {"invalid-event", 422, "the event is not valid",
		"The event was refused and nothing was stored. The member is named by a JSON Pointer in `pointer`, the rule that it broke by `code`, and what would have been right by `expected`. The pointer is relative to the event, in batches too. Sending the same event again won't help.", 0},
	kindInvalidRequest: {"invalid-request", 400, "the request is not valid",
		"A parameter (`parameter`), a member of the body that isn't part of an event (`pointer`), or the form of the body is not as the API documents it; see /openapi.json. Nothing was stored, except that of an NDJSON request the complete lines before may have been.", 0},
	kindUnauthorized: {"unauthorized", 401, "a valid token is needed",
		"The request carries no bearer token, or one that isn't known or has been revoked.", 0},
	kindForbidden: {"forbidden", 403, "the token does not allow this",
		"The token is valid, but lacks the role for this call, or may not speak for the source of the event.", 0},
	kindNotFound: {"not-found", 404, "not found",
		"There is no such thing, as far as this caller may know.", 0},
	kindBeyondHead: {"beyond-head", 404, "past the published tree size",
		"The index or tree size lies past the head that has been published. It may come into being: ask again later.", 0},
	kindMethod: {"method-not-allowed", 405, "the method is not allowed here",
		"The path exists but not with this method. The header Allow lists those that it has.", 0},
	kindTimeout: {"request-timeout", 408, "the body took too long",
		"The body of the request did not arrive in time. Nothing was stored, except that of an NDJSON request the complete lines before may have been. Sending them again is safe.", 0},
	kindConflict: {"conflict", 409, "the log holds another event under this source and id",
		"An event with this tenant, source and id but other fields is in the log already, at `index`, and stays as it is. The attempt was recorded, at `conflict_index`.", 0},
	kindEventSize: {"event-too-large", 413, "the event is too large",
		"An event has at most 262,144 bytes. Nothing of it was stored.", 0},
	kindRequestSize: {"request-too-large", 413, "the request is too large",
		"A request has at most 500 events and 8 MiB. Nothing was stored, except that of an NDJSON request the events within the limits may have been. Send smaller requests; what is stored already is then answered as a duplicate.", 0},
	kindMediaType: {"unsupported-media-type", 415, "the media type is not supported",
		"Events are sent as application/json or application/x-ndjson, in UTF-8, without a content coding. What other systems send in forms of their own may be coded with gzip.", 0},
	kindRate: {"rate-limited", 429, "too many requests",
		"The token's rate, or the address's rate of failed authentications, is used up. The header Retry-After says for how many seconds. Nothing was stored.", 1},
	kindInternal: {"internal", 500, "internal error",
		"Something failed that should not. The operator finds it in the service's log under `request_id`. Whether an event was stored is not known; sending it again is safe and tells.", 0},
	kindBusy: {"busy", 503, "the log is busy",
		"There was no room for the request in time. Nothing was stored. Try again later.", 1},
	kindFull: {"disk-full", 503, "the log's disk is full",
		"The disk has no room for more events, nor for the record of a read: each read of content is an event too. Nothing was stored, and no content shown. Tiles, checkpoints and proofs go on being served. Try again later: the service goes on by itself when its operator has made room.", 10},
	kindQuarantineFull: {"quarantine-full", 503, "the quarantine is full",
		"An item of the delivery can't be taken into the log, and the quarantine, where it would wait for an operator, is full. What the log could take of the delivery may have been stored; sending all of it again is safe. An operator must replay or drop some of what is in the quarantine.", 60},
	kindUnwitnessed: {"unwitnessed", 503, "the witnesses' quorum is missing",
		"Too few of the log's witnesses have cosigned for too long, and this log takes no event without them. Nothing was stored. What is stored can be read. Try again later: the service goes on by itself once the quorum is met.", 10},
	kindClosing: {"closing", 503, "the log is shutting down",
		"The service is shutting down. Nothing was stored. Try again when it is back.", 5},
	kindUnavailable: {"unavailable", 503, "the log can't do it now",
		"Storage failed, or was not done in time. Whether an event was stored is not known; sending it again is safe and tells.", 1},
	kindDamaged: {"damaged", 503, "what is stored of this is damaged",
		"What the log has stored of this entry isn't what it published, or is gone: it was changed outside the service, or the disk failed. The rest of the log goes on. Waiting won't help: an operator must act. Receipts issued before are proof as ever.", 0},
	kindRefusing: {"refusing", 503, "the log refuses to go on",
		"The service found its own log wrong, or behind what it had signed, and neither takes events nor shows content any more. /readyz says why. Tiles, checkpoints and proofs go on being served. Waiting won't help: an operator must act.", 0},
}

// problem is an RFC 9457 problem about to be answered, and an error.
type problem struct {
	kind      kind
	detail    string // for people; never an internal error's text
	parameter string // of the query or path
	nameless  bool   // the parameter is one without a name
	member    bool   // pointer is given; "" is the whole event
	pointer   string
	code      string
	expected  string
	conflict  bool // index and conflictIndex are given
	index     uint64
	conflictI uint64
	allow     string // for 405
	retry     int    // Retry-After in seconds, instead of the kind's
	cause     error  // for the log, not for the client
}

func (p *problem) Error() string {
	if p.detail == "" {
		return kinds[p.kind].slug
	}
	return kinds[p.kind].slug + ": " + p.detail
}

func (p *problem) Unwrap() error { return p.cause }

// sentinels maps errors of package personality. The first match counts.
var sentinels = []struct {
	err  error
	kind kind
}{
	{personality.ErrRefusing, kindRefusing},
	{personality.ErrUnauthorized, kindUnauthorized},
	{personality.ErrForbidden, kindForbidden},
	{personality.ErrNotFound, kindNotFound},
	{personality.ErrBeyondHead, kindBeyondHead},
	{personality.ErrBusy, kindBusy},
	{personality.ErrFull, kindFull},
	{personality.ErrQuarantineFull, kindQuarantineFull},
	{personality.ErrUnwitnessed, kindUnwitnessed},
	{personality.ErrClosing, kindClosing},
	{personality.ErrDamaged, kindDamaged},
	{personality.ErrUnavailable, kindUnavailable},
	{context.DeadlineExceeded, kindUnavailable},
	{context.Canceled, kindUnavailable}, // the client is gone, or the server is being closed hard
}

// problemOf finds what to answer for an error. What it doesn't know is internal.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	if errors.Is(err, personality.ErrForeignSource) {
		return &problem{kind: kindForbidden, member: true, pointer: "/source", expected: "a source that the token may speak for",
			detail: "the token may not speak for this source", cause: err}
	}
	for _, s := range sentinels { // first: what is wrong with a stored event isn't the request's
		if errors.Is(err, s.err) {
			return &problem{kind: s.kind, cause: err}
		}
	}
	var refused *event.Error
	if errors.As(err, &refused) {
		at := cut(refused.Pointer, maxPointer)
		return &problem{kind: kindInvalidEvent, member: true, pointer: at, code: refused.Code,
			expected: refused.Expected, detail: place(at) + ": expected " + refused.Expected}
	}
	var form *personality.FormError
	if errors.As(err, &form) {
		if errors.Is(err, ingest.ErrTooManyItems) {
			return &problem{kind: kindRequestSize, detail: form.Error()}
		}
		return &problem{kind: kindInvalidRequest, detail: cut(form.Error(), maxPointer), cause: err}
	}
	var invalid *personality.InvalidError
	if errors.As(err, &invalid) {
		return badParameter(invalid.Field, invalid.Expected)
	}
	return &problem{kind: kindInternal, cause: err}
}

// maxPointer bounds the pointers in problems, in bytes: members can have names
// as long as the event.
const maxPointer = 512

func place(pointer string) string {
	if pointer == "" {
		return "the event"
	}
	return pointer
}

// badParameter refuses a parameter of the query or path.
func badParameter(name, expected string) *problem {
	where := name
	if where == "" {
		where = "a parameter without a name"
	}
	return &problem{kind: kindInvalidRequest, parameter: name, nameless: name == "", expected: expected, detail: where + ": expected " + expected}
}

// badMember refuses a member of a body that is not an event.
func badMember(pointer, expected string) *problem {
	where := pointer
	if where == "" {
		where = "the body"
	}
	return &problem{kind: kindInvalidRequest, member: true, pointer: pointer, expected: expected, detail: where + ": expected " + expected}
}

// append writes the problem as JSON. requestID is left out when empty: results
// within a batch have none.
func (p *problem) append(dst []byte, requestID string) []byte {
	k := &kinds[p.kind]
	dst = append(dst, `{"type":"/problems/`...)
	dst = append(dst, k.slug...)
	dst = append(dst, `","title":"`...)
	dst = append(dst, k.title...)
	dst = append(dst, `","status":`...)
	dst = strconv.AppendInt(dst, int64(k.status), 10)
	dst = appendMember(dst, "detail", p.detail)
	if p.member {
		dst = appendText(append(dst, `,"pointer":`...), p.pointer)
	}
	if p.parameter != "" || p.nameless {
		dst = appendText(append(dst, `,"parameter":`...), p.parameter)
	}
	dst = appendMember(dst, "code", p.code)
	dst = appendMember(dst, "expected", p.expected)
	if p.conflict {
		dst = strconv.AppendUint(append(dst, `,"index":`...), p.index, 10)
		dst = strconv.AppendUint(append(dst, `,"conflict_index":`...), p.conflictI, 10)
	}
	dst = appendMember(dst, "request_id", requestID)
	return append(dst, '}')
}

func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":`...)
	return appendText(dst, value)
}

// fail answers with the problem of err. Once an answer has begun it can only be
// cut short, which the handlers that stream see to themselves.
func (x *exchange) fail(err error) {
	p := problemOf(err)
	k := &kinds[p.kind]
	x.api.logFailure(x, p)
	x.api.metrics.refuse(p.kind)
	if x.status != 0 {
		return
	}
	h := x.w.Header()
	if p.kind == kindUnauthorized {
		h["Www-Authenticate"] = x.challenge()
	}
	if retry := max(p.retry, k.retry); retry > 0 {
		h["Retry-After"] = []string{strconv.Itoa(retry)}
	}
	if p.allow != "" {
		h["Allow"] = []string{p.allow}
	}
	if p.kind == kindTimeout || p.kind == kindRequestSize || x.token == nil {
		x.leaveBody()
	}
	buf := getBuffer()
	defer putBuffer(buf)
	buf.b = p.append(buf.b, x.id)
	h["Cache-Control"] = valueNoStore
	x.send(k.status, valueProblem, buf.b)
}

// logFailure logs what the client isn't told. A refusing log and a busy one are
// alarms of their own; a line a request would only flood.
func (a *API) logFailure(x *exchange, p *problem) {
	if p.kind != kindInternal && p.kind != kindUnavailable && p.kind != kindDamaged {
		return
	}
	if errors.Is(p.cause, context.Canceled) {
		return // the client is gone
	}
	a.cfg.Logger.ErrorContext(x.r.Context(), "request failed", "request_id", x.id,
		"route", x.routeName(), "kind", kinds[p.kind].slug, "error", p.cause)
}

// problemPage serves /problems/{slug}: what a type of problem means.
func (a *API) problemPage(x *exchange) error {
	for i := range kinds {
		if k := &kinds[i]; k.slug == x.args[0] {
			x.w.Header()["Cache-Control"] = valueCacheHour
			x.send(http.StatusOK, valueText, []byte(k.title+" (HTTP "+strconv.Itoa(k.status)+")\n\n"+k.about+"\n"))
			return nil
		}
	}
	return &problem{kind: kindNotFound}
}
