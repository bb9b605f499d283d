package cloudevents

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// translate makes an event of a CloudEvent in structured mode; untimed says that that has no time.
func translate(r *ingest.Request, raw []byte, budget *foreign.Budget) (e event.Event, untimed bool, err error) {
	c, err := parse(raw, budget)
	if err != nil {
		return e, false, err
	}
	if c.kind == NativeType {
		e, err = c.native(budget)
		return e, false, err
	}
	if untimed = c.time.IsZero(); untimed {
		c.time = r.Received
	}
	e, err = c.event(r)
	return e, untimed, err
}

// event makes an event of a CloudEvent that carries none.
func (c *cloudEvent) event(r *ingest.Request) (event.Event, error) {
	e := event.Event{ID: c.id, Source: c.source, Time: c.time}
	if !event.ValidSource(c.source) || strings.HasPrefix(c.source, "prooftrail:") {
		if e.Source = r.Source; e.Source == "" {
			return e, foreign.Errorf("/source", "a URI with a scheme in lower case, or the parameter source with one")
		}
	}
	if e.Source != c.source || len(c.id) > 128 || strings.ContainsFunc(c.id, unicode.IsControl) {
		e.ID = r.ID("cloudevents", c.source, c.id)
	}
	c.outcome(&e)
	c.who(&e)
	if err := c.what(&e); err != nil {
		return e, err
	}
	e.Details = map[string]any{"cloudevent": foreign.Details(c.attributes)}
	c.payload(e.Details)
	return e, nil
}

// native takes the data for what it is: an event of ours.
func (c *cloudEvent) native(budget *foreign.Budget) (e event.Event, err error) {
	if !isJSON(c.contentType) {
		return e, foreign.Errorf("/datacontenttype", "application/json, the type's data being an event")
	}
	member := "/data"
	if c.bytes != nil {
		member = "/data_base64"
		if c.data, err = foreign.ParseJSON(c.bytes, budget); err != nil {
			return e, inside(member, err)
		}
	}
	text, err := json.Marshal(c.data)
	if err != nil {
		return e, foreign.Errorf(member, "an event")
	}
	if _, err := event.Parse(text); err != nil {
		return e, inside(member, err)
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, foreign.Errorf(member, "an event")
	}
	switch {
	case e.ID != c.id:
		return e, foreign.Errorf("/id", "the id of the event in data")
	case e.Source != c.source:
		return e, foreign.Errorf("/source", "the source of the event in data")
	}
	return e, nil
}

// inside names the member that an error is in.
func inside(member string, err error) error {
	var own *event.Error
	var other *foreign.Error
	switch {
	case errors.As(err, &own):
		return foreign.Errorf(member+own.Pointer, "%s", own.Expected)
	case errors.As(err, &other):
		return foreign.Errorf(member+other.Member, "%s", other.Expected)
	}
	return err
}

// outcome is what the sender states. That a CloudEvent was sent doesn't say how what it tells of ended.
func (c *cloudEvent) outcome(e *event.Event) {
	if e.Outcome = c.text("prooftrailoutcome"); e.Outcome == "" {
		e.Outcome = "unknown"
	}
	if e.Outcome != "success" {
		e.Reason = &event.Reason{Code: foreign.Token(c.text("prooftrailreason"), "unstated")}
	}
}

// authTypes are the values of authtype (Auth Context extension).
var authTypes = map[string]string{
	"app_user": "user", "user": "user", "service_account": "service", "api_key": "service", "system": "service",
	"unauthenticated": "anonymous",
}

func (c *cloudEvent) who(e *event.Event) {
	e.Actor = event.Actor{Type: "service", ID: foreign.Clip(c.source, 512)}
	if kind := authTypes[c.text("authtype")]; kind != "" {
		e.Actor = event.Actor{Type: kind, ID: c.text("authid"), AuthMethod: c.text("authtype")}
		if e.Actor.ID == "" {
			e.Actor.ID = "unstated"
		}
	}
	if id := foreign.TraceID(c.text("traceparent")); id != "" {
		e.Origin = &event.Origin{TraceID: id}
	}
}

// what says what was done, and to what.
func (c *cloudEvent) what(e *event.Event) error {
	e.Action = c.text("prooftrailaction")
	if e.Action == "" {
		e.Action = foreign.Action("cloudevent", c.kind)
	}
	if e.Action == "" {
		return foreign.Errorf("/type", "a name with a letter or a digit, or an extension prooftrailaction")
	}
	subject := foreign.Clip(c.subject, 512)
	switch {
	case subject != "":
		e.Target = []event.Target{{Type: foreign.Token(c.text("prooftrailtargettype"), "resource"), ID: subject}}
	default:
		e.Target = []event.Target{{Type: "source", ID: foreign.Clip(c.source, 512)}}
	}
	if strings.HasPrefix(e.Action, "job.") || strings.HasPrefix(e.Action, "run.") {
		if subject == "" {
			return foreign.Errorf("/subject", "the id of the job that %s is about", e.Action)
		}
		e.Job = &event.Job{ID: subject}
	}
	if strings.HasSuffix(e.Action, ".update") {
		// What the data says is what it is now. A digest of it would let what is masked in it be guessed.
		after := map[string]any{}
		c.payload(after)
		e.Change = &event.Change{Patch: []event.Operation{{Op: "replace", Value: after}}}
	}
	return nil
}

// payload puts the data into the details.
func (c *cloudEvent) payload(details map[string]any) {
	switch {
	case !c.hasData:
	case c.bytes == nil:
		for name, v := range foreign.Details(map[string]any{"data": c.data}) {
			details[name] = v
		}
	case strings.HasPrefix(c.contentType, "text/") && utf8.Valid(c.bytes):
		details["data_text"] = string(c.bytes)
	default:
		details["data_base64"] = base64.StdEncoding.EncodeToString(c.bytes)
	}
}
