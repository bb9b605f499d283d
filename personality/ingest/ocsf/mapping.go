package ocsf

import (
	"cmp"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// A mapping makes an event of one of OCSF's.
type mapping struct {
	r   *ingest.Request
	raw []byte
	all map[string]any

	uid   int64 // of the class
	class class
	e     event.Event
}

func (m *mapping) event() (event.Event, error) {
	var ok bool
	m.uid, ok = foreign.Int(m.all, "class_uid")
	if m.class, ok = classes[m.uid], ok && classes[m.uid].prefix != ""; !ok {
		return m.e, foreign.Errorf("/class_uid", "1006, 3001, 3002, 3004 or 6003")
	}
	for _, step := range []func() error{m.action, m.identity, m.time} {
		if err := step(); err != nil {
			return m.e, err
		}
	}
	m.outcome()
	m.who()
	m.origin()
	if err := m.about(); err != nil {
		return m.e, err
	}
	m.change()
	m.e.Labels = map[string]string{"ocsf.class_uid": strconv.FormatInt(m.uid, 10)}
	if severity := m.text("severity"); severity != "" {
		m.e.Labels["severity"] = foreign.Clip(severity, 256)
	}
	delete(m.all, "observables")
	m.e.Details = foreign.Details(m.all)
	return m.e, nil
}

// text is the text at a path, or that of a number.
func (m *mapping) text(path ...string) string { return foreign.Text(m.all, 512, path...) }

func (m *mapping) action() error {
	activity, ok := foreign.Int(m.all, "activity_id")
	if !ok {
		return foreign.Errorf("/activity_id", "an integer")
	}
	if m.e.Action = m.class.actions[activity]; m.e.Action != "" {
		return nil
	}
	switch activity {
	case 0, 99:
		name := strings.ReplaceAll(foreign.Token(m.text("activity_name"), ""), ".", "_")
		if name == "" {
			name = map[int64]string{0: "unknown", 99: "other"}[activity]
		}
		m.e.Action = foreign.Action(m.class.prefix, name)
		return nil
	}
	return foreign.Errorf("/activity_id", "0, 99 or an activity of class %d in OCSF 1.8", m.uid)
}

func (m *mapping) identity() error {
	if m.e.Source = m.r.Source; m.e.Source == "" {
		product := cmp.Or(m.text("metadata", "product", "name"), m.text("metadata", "product", "uid"))
		if product == "" {
			return foreign.Errorf("/metadata/product/name", "the name of the product, or the parameter source")
		}
		if vendor := m.text("metadata", "product", "vendor_name"); vendor != "" {
			product = url.PathEscape(vendor) + "/" + url.PathEscape(product)
		} else {
			product = url.PathEscape(product)
		}
		m.e.Source = "ocsf:" + product
	}
	m.e.ID = m.text("metadata", "uid")
	if m.e.ID == "" || len(m.e.ID) > 128 || strings.ContainsFunc(m.e.ID, unicode.IsControl) {
		m.e.ID = m.r.ID("ocsf", string(m.raw))
	}
	return nil
}

// time is what the schema needs, in milliseconds. Some products write seconds or microseconds there, and the right time beside it.
func (m *mapping) time() error {
	ms, ok := foreign.Int(m.all, "time")
	if m.e.Time = time.UnixMilli(ms).UTC(); ok && foreign.Sane(m.e.Time) {
		return nil
	}
	text := m.text("time_dt")
	if text == "" {
		return foreign.Errorf("/time", "milliseconds since 1970, of a time from 2000 to 2199")
	}
	var err error
	if m.e.Time, err = time.Parse(time.RFC3339Nano, text); err != nil || !foreign.Sane(m.e.Time) {
		return foreign.Errorf("/time_dt", "a time of RFC 3339 from 2000 to 2199, time not being in milliseconds")
	}
	return nil
}

// outcome takes the words of status as well as its numbers: not all products write both.
func (m *mapping) outcome() {
	status, code := m.text("status"), m.text("status_code")
	id, _ := foreign.Int(m.all, "status_id")
	switch response := m.responseCode(); {
	case m.is("action_id", 2) || response == "401" || response == "403":
		m.e.Outcome = "denied"
		code = cmp.Or(code, response)
	case id == 1 || id == 0 && strings.EqualFold(status, "success"):
		m.e.Outcome = "success"
		return
	case id == 2 || id == 0 && strings.EqualFold(status, "failure"):
		m.e.Outcome = "failure"
		code = cmp.Or(code, response)
	default:
		m.e.Outcome = "unknown"
	}
	m.e.Reason = &event.Reason{
		Code: foreign.Token(cmp.Or(code, status), "unstated"),
		Text: cmp.Or(foreign.Text(m.all, 8192, "status_detail"), foreign.Text(m.all, 8192, "message")),
	}
}

// responseCode is what the API or HTTP answered.
func (m *mapping) responseCode() string {
	return cmp.Or(m.text("api", "response", "code"), m.text("http_response", "code"))
}

func (m *mapping) is(name string, n int64) bool {
	v, ok := foreign.Int(m.all, name)
	return ok && v == n
}

func (m *mapping) who() {
	user := foreign.At(m.all, "actor", "user")
	if m.uid == classAuth && userID(user) == "" {
		user = m.all["user"]
	}
	if m.uid == classJob && userID(user) == "" && userID(foreign.At(m.all, "actor", "process")) == "" {
		user = foreign.At(m.all, "job", "user")
	}
	a := event.Actor{
		Type: "user", ID: userID(user), Name: cmp.Or(foreign.Text(user, 512, "full_name"), foreign.Text(user, 512, "name")),
		SessionID:    cmp.Or(m.text("actor", "session", "uid"), m.text("session", "uid")),
		CredentialID: cmp.Or(foreign.Text(user, 512, "credential_uid"), m.text("actor", "session", "credential_uid")),
		AuthMethod:   foreign.Clip(m.text("auth_protocol"), 128),
	}
	if kind, _ := foreign.Int(user, "type_id"); kind == 3 || kind == 4 {
		a.Type = "service"
	}
	if a.ID == "" {
		a.Type = "service"
		a.ID = cmp.Or(m.text("actor", "app_uid"), m.text("actor", "app_name"), m.text("actor", "invoked_by"),
			m.text("actor", "process", "name"), m.text("metadata", "product", "name"), m.e.Source)
	}
	m.e.Actor = a
}

// userID is what a user or an entity is known by.
func userID(user any) string {
	return cmp.Or(foreign.Text(user, 512, "uid"), foreign.Text(user, 512, "name"), foreign.Text(user, 512, "email_addr"))
}

func (m *mapping) origin() {
	o := event.Origin{
		IP: foreign.IP(m.text("src_endpoint", "ip")), Host: cmp.Or(m.text("src_endpoint", "hostname"), m.text("src_endpoint", "svc_name")),
		UserAgent: foreign.Text(m.all, 4096, "http_request", "user_agent"),
		RequestID: cmp.Or(m.text("http_request", "uid"), m.text("api", "request", "uid")),
		TraceID:   foreign.Clip(m.text("trace", "uid"), 128),
	}
	if n, ok := foreign.Int(m.all, "src_endpoint", "port"); ok && o.IP != "" {
		o.Port = foreign.Port(n)
	}
	list, _ := foreign.At(m.all, "http_request", "x_forwarded_for").([]any)
	for _, v := range list {
		if s, ok := v.(string); ok && len(o.Forwarded) < 32 {
			o.Forwarded = append(o.Forwarded, foreign.Clip(s, 512))
		}
	}
	if b, err := json.Marshal(o); err == nil && string(b) != "{}" {
		m.e.Origin = &o
	}
}
