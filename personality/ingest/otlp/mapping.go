package otlp

import (
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// A mapping makes an event of one record.
type mapping struct {
	r        *ingest.Request
	raw      []byte
	resource attributes // shared by its records: not to be changed
	scope    pcommon.InstrumentationScope
	record   plog.LogRecord

	own attributes // of the record; what has found its place is taken out
	e   event.Event
	err error // the first
}

// event makes the event; skip says whether a record without an action is skipped, or else refused.
func (m *mapping) event(skip bool) (e event.Event, skipped bool, err error) {
	own, err := readAttributes(m.record.Attributes())
	m.own = own
	m.fail(within("attributes", err))
	if m.err != nil {
		return e, false, m.err
	}
	if !m.action() && m.err == nil {
		if skip {
			return e, true, nil
		}
		return e, false, foreign.Errorf("attributes.prooftrail.action", "an action, or an event name that says what was done: the record has neither")
	}
	m.identity()
	m.job()
	m.who()
	m.how()
	m.about()
	m.change()
	m.noSlips()
	m.details()
	return m.e, false, m.err
}

func (m *mapping) fail(err error) {
	if m.err == nil {
		m.err = err
	}
}

// from returns a text of the record's attributes, else of the resource's.
func (m *mapping) from(name string) string {
	if s := m.own.take(name, 512); s != "" {
		return s
	}
	return m.res(name)
}

func (m *mapping) res(name string) string { return foreign.Text(map[string]any(m.resource), 512, name) }

// action reports whether the record has one.
func (m *mapping) action() bool {
	m.e.Action = m.own.take("prooftrail.action", 512)
	if m.e.Action == "" {
		name := m.record.EventName()
		if name == "" {
			name = m.own.take("event.name", 512)
		}
		m.e.Action = foreign.Action("otel", name)
	}
	return m.e.Action != ""
}

func (m *mapping) identity() {
	m.e.Time = at(m.record, m.r.Received)
	if m.e.Source = m.from("prooftrail.source"); m.e.Source == "" {
		m.e.Source = m.r.Source
	}
	if m.e.Source == "" {
		m.e.Source = m.serviceSource()
	}
	if m.e.Source == "" {
		m.fail(foreign.Errorf("resource.attributes.service.name", "the name of a service, or the parameter source"))
	}
	m.e.Seq = m.own.take("prooftrail.seq", 32)
	for _, name := range []string{"prooftrail.id", "log.record.uid"} {
		if m.e.ID == "" {
			m.e.ID = m.own.take(name, 512)
		}
	}
	if m.e.ID == "" {
		m.e.ID = m.r.ID("otlp", string(m.raw))
	}
}

// serviceSource is the source of a service that has been given no other.
func (m *mapping) serviceSource() string {
	name := m.res("service.name")
	if name == "" {
		return ""
	}
	parts := []string{name}
	if space := m.res("service.namespace"); space != "" {
		parts = []string{space, name}
	}
	if instance := m.res("service.instance.id"); instance != "" {
		parts = append(parts, instance)
	}
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return "otel:" + strings.Join(parts, "/")
}

func (m *mapping) job() {
	const p = "prooftrail.job."
	j := event.Job{ID: m.own.take(p+"id", 512), Name: m.own.take(p+"name", 512), Schedule: m.own.take(p+"schedule", 4096),
		TZ: m.own.take(p+"tz", 128), CommandSHA256: m.own.take(p+"command_sha256", 64), RunID: m.own.take(p+"run_id", 512),
		Trigger: m.own.take(p+"trigger", 64), Node: m.own.take(p+"node", 512)}
	if at := m.own.take(p+"scheduled_for", 64); at != "" {
		t, err := time.Parse(time.RFC3339Nano, at)
		if err != nil {
			m.fail(foreign.Errorf("attributes."+p+"scheduled_for", "a time of RFC 3339"))
		}
		j.ScheduledFor = t
	}
	var err error
	if j.ExitCode, err = m.own.takeInt(p + "exit_code"); err != nil {
		m.fail(err)
	}
	if j.DurationMS, err = m.own.takeInt(p + "duration_ms"); err != nil {
		m.fail(err)
	}
	if j != (event.Job{}) {
		m.e.Job = &j
		if j.ID == "" {
			m.fail(foreign.Errorf("attributes."+p+"id", "the job's id"))
		}
	}
}

func (m *mapping) who() {
	const p = "prooftrail.actor."
	a := event.Actor{Type: m.own.take(p+"type", 64), ID: m.own.take(p+"id", 512), Name: m.own.take(p+"name", 512),
		CredentialID: m.own.take(p+"credential_id", 512), AuthMethod: m.own.take(p+"auth_method", 128), OnBehalfOf: m.own.take(p+"on_behalf_of", 512)}
	for _, name := range []string{"user.id", "enduser.id"} {
		if a.ID == "" {
			if a.ID = m.own.take(name, 512); a.ID != "" && a.Type == "" {
				a.Type = "user"
			}
		}
	}
	if a.ID == "" && a.Type == "" {
		a.Type, a.ID = "service", m.res("service.name")
		if a.ID == "" {
			a.ID = m.e.Source
		}
	}
	if a.Name == "" {
		a.Name = m.own.take("user.name", 512)
	}
	a.SessionID = m.own.take("session.id", 512)
	m.e.Actor = a
}

// how says how it ended, and whence it came.
func (m *mapping) how() {
	reason := event.Reason{Code: m.own.take("prooftrail.reason.code", 512), Text: m.own.take("prooftrail.reason.text", 8192)}
	if reason.Code == "" {
		reason.Code = foreign.Token(m.own.take("error.type", 512), "")
	}
	if reason.Text == "" {
		reason.Text = m.own.take("exception.message", 8192)
	}
	m.e.Outcome = m.own.take("prooftrail.outcome", 64)
	switch {
	case m.e.Outcome != "":
	case reason.Code != "":
		m.e.Outcome = "failure"
	case m.record.SeverityNumber() >= plog.SeverityNumberError:
		m.e.Outcome, reason.Code = "failure", foreign.Token(m.record.SeverityText(), "error")
	default:
		m.e.Outcome = "unknown"
	}
	if m.e.Outcome != "success" && reason.Code == "" {
		reason.Code = "unstated"
	}
	if reason.Code != "" {
		m.e.Reason = &reason
	}
	var o event.Origin
	if o.IP = foreign.IP(foreign.Text(map[string]any(m.own), 64, "client.address")); o.IP != "" {
		delete(m.own, "client.address")
		if n, ok := foreign.Int(map[string]any(m.own), "client.port"); ok && foreign.Port(n) != 0 {
			o.Port = foreign.Port(n)
			delete(m.own, "client.port")
		}
	}
	o.UserAgent, o.Host = m.own.take("user_agent.original", 4096), m.res("host.name")
	if id := m.record.TraceID(); !id.IsEmpty() {
		o.TraceID = id.String()
	}
	if o.IP != "" || o.UserAgent != "" || o.Host != "" || o.TraceID != "" {
		m.e.Origin = &o
	}
}

// about says what it was done to.
func (m *mapping) about() {
	const p = "prooftrail.target."
	t := event.Target{Type: m.own.take(p+"type", 512), ID: m.own.take(p+"id", 512), Name: m.own.take(p+"name", 512)}
	switch {
	case t != (event.Target{}):
	case m.e.Job != nil:
		t = event.Target{Type: "job", ID: m.e.Job.ID, Name: m.e.Job.Name}
	default:
		if t = (event.Target{Type: "service", ID: m.res("service.name")}); t.ID == "" {
			t.ID = m.e.Source
		}
	}
	m.e.Target = []event.Target{t}
}

func (m *mapping) change() {
	const p = "prooftrail.change."
	c := event.Change{BeforeSHA256: m.own.take(p+"before_sha256", 64), AfterSHA256: m.own.take(p+"after_sha256", 64)}
	if c.BeforeSHA256 != "" || c.AfterSHA256 != "" {
		m.e.Change = &c
	}
}

// noSlips refuses attributes that look like ours and aren't.
func (m *mapping) noSlips() {
	for _, name := range slices.Sorted(maps.Keys(m.own)) {
		if strings.HasPrefix(name, "prooftrail.") {
			m.fail(foreign.Errorf("attributes."+foreign.Clip(name, 128), "a text under one of the names that the adapter knows"))
		}
	}
}

func (m *mapping) details() {
	body, err := readValue(m.record.Body())
	m.fail(within("body", err))
	all := map[string]any{"body": body, "severity": m.record.SeverityText()}
	if all["severity"] == "" {
		delete(all, "severity")
	}
	if len(m.own) > 0 {
		all["attributes"] = map[string]any(m.own)
	}
	if len(m.resource) > 0 {
		all["resource"] = map[string]any(m.resource)
	}
	if name := m.scope.Name(); name != "" {
		all["scope"] = strings.ToValidUTF8(strings.TrimSpace(name+" "+m.scope.Version()), "\ufffd")
	}
	m.e.Details = foreign.Details(all)
}
