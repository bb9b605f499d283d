package kubernetes

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// cutter cuts texts to what an event takes, and remembers which.
type cutter struct{ names []string }

func (c *cutter) text(name, s string, n int) string {
	if len(s) > n {
		c.names = append(c.names, name)
	}
	return cut(s, n)
}

// cut is the beginning of a text, at most n bytes of UTF-8.
func cut(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return strings.ToValidUTF8(s, "")
}

// event makes the event. raw is what it is made of. untimed: the audit event has no time that can be used.
func (a *audit) event(r *ingest.Request, raw []byte) (e event.Event, untimed bool) {
	var c cutter
	e = event.Event{ID: a.id(r, raw), Source: r.Source, Time: r.Received, Labels: map[string]string{}, Details: map[string]any{}}
	switch {
	case a.Received.usable():
		e.Time = a.Received.UTC()
	case a.AtStage.usable():
		e.Time = a.AtStage.UTC()
	default:
		untimed = true
	}
	e.Actor, e.Origin = a.actor(&c), a.origin(&c)
	e.Outcome, e.Reason = a.outcome(&c)
	e.Target = []event.Target{a.target(&c)}
	a.describe(&c, &e)
	a.act(&c, &e)
	if len(c.names) > 0 {
		e.Details["cut"] = strings.Join(c.names, " ")
	}
	if len(e.Labels) == 0 {
		e.Labels = nil
	}
	return e, untimed
}

var usualID = regexp.MustCompile(`^[A-Za-z0-9-]{1,64}$`)

// id is the audit id and an HMAC of the audit event: the client of the API server can choose the former.
func (a *audit) id(r *ingest.Request, raw []byte) string {
	mac := r.ID(string(raw))
	if !usualID.MatchString(a.AuditID) {
		return mac
	}
	return a.AuditID + "." + mac[:min(len(mac), 32)]
}

const (
	serviceAccount = "system:serviceaccount:"
	anonymous      = "system:anonymous"
)

// isController: one of the controllers that come with Kubernetes.
func (u *user) isController() bool {
	return u.Username == "system:kube-controller-manager" || strings.HasPrefix(u.Username, serviceAccount+"kube-system:")
}

func (a *audit) actor(c *cutter) event.Actor {
	u := &a.User
	actor := event.Actor{Type: "user", ID: c.text("actor.id", u.Username, 512)}
	switch {
	case u.Username == "" || u.Username == anonymous:
		actor.Type = "anonymous"
	case strings.HasPrefix(u.Username, "system:"):
		actor.Type = "service"
	}
	if actor.ID == "" {
		actor.ID = "unknown"
	}
	if id := u.Extra.CredentialID.last; len(id) > 0 {
		actor.CredentialID = c.text("actor.credential_id", id[0], 512)
	}
	if a.Impersonated != nil {
		actor.OnBehalfOf = c.text("actor.on_behalf_of", a.Impersonated.Username, 512)
	}
	return actor
}

// maxForwarded is how many addresses an event takes.
const maxForwarded = 32

// origin: the last address is the one that the API server saw; those before it are what the client, or a proxy, says.
func (a *audit) origin(c *cutter) *event.Origin {
	o := &event.Origin{UserAgent: c.text("origin.user_agent", a.UserAgent, 4096), RequestID: c.text("origin.request_id", a.AuditID, 512)}
	claimed := a.SourceIPs.last
	if n := len(claimed); n > 0 {
		if ip, err := netip.ParseAddr(claimed[n-1]); err == nil {
			o.IP, claimed = ip.WithZone("").String(), claimed[:n-1]
		}
	}
	if n := len(claimed); n > maxForwarded {
		claimed = claimed[n-maxForwarded:]
	}
	if a.SourceIPs.n > maxForwarded+1 {
		c.names = append(c.names, "origin.forwarded")
	}
	for _, ip := range claimed {
		o.Forwarded = append(o.Forwarded, c.text("origin.forwarded", ip, 512))
	}
	return o
}

// outcome: denied is what an authorizer forbade, and what wasn't authenticated.
func (a *audit) outcome(c *cutter) (string, *event.Reason) {
	code := a.code()
	switch {
	case a.Stage == stagePanic:
		return "failure", &event.Reason{Code: "panic", Text: a.reasonText(c)}
	case code == 401, code == 403, a.Annotations.Decision == "forbid":
		if code == 0 {
			code = 403
		}
		return "denied", &event.Reason{Code: strconv.Itoa(code), Text: a.reasonText(c)}
	case code >= 400 && code <= 999:
		return "failure", &event.Reason{Code: strconv.Itoa(code), Text: a.reasonText(c)}
	case code >= 100 && code < 400:
		return "success", nil
	}
	return "unknown", &event.Reason{Code: "no_status", Text: a.reasonText(c)}
}

func (a *audit) reasonText(c *cutter) string {
	text := a.Annotations.Reason
	if a.Response != nil && text == "" {
		text = a.Response.Message
	}
	return c.text("reason.text", text, 1024)
}

var token = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}$`)

// target is the object; all of a kind if the request names none.
func (a *audit) target(c *cutter) event.Target {
	ref := a.Ref
	if ref == nil {
		path, _, _ := strings.Cut(a.RequestURI, "?")
		t := event.Target{Type: "path", ID: c.text("target.id", path, 512)}
		if t.ID == "" {
			t.ID = "unknown"
		}
		return t
	}
	t := event.Target{Type: ref.Resource, ID: c.text("target.id", a.object(), 512), Name: c.text("target.name", a.name(), 512)}
	if ref.Subresource != "" {
		t.Type += ":" + ref.Subresource
	}
	if !token.MatchString(t.Type) {
		t.Type = "resource"
	}
	return t
}

// object is NAMESPACE/NAME, or NAME of what has no namespace; * for all of them.
func (a *audit) object() string {
	name := a.name()
	if name == "" {
		name = "*"
	}
	if a.Ref.Namespace == "" {
		return name
	}
	return a.Ref.Namespace + "/" + name
}

// name is the object's. Of one that is being made it may be in the object alone, as the beginning of a name.
func (a *audit) name() string {
	if a.Ref.Name != "" || a.Verb != "create" {
		return a.Ref.Name
	}
	meta := a.requestMeta()
	if meta.name == "" && meta.generateName != "" {
		return meta.generateName + "*"
	}
	return meta.name
}

// describe sets what has no place of its own.
func (a *audit) describe(c *cutter, e *event.Event) {
	detail := func(name, value string) {
		if value != "" {
			e.Details[name] = c.text("details."+name, value, 512)
		}
	}
	detail("verb", a.Verb)
	detail("stage", a.Stage)
	detail("level", a.Level)
	detail("decision", a.Annotations.Decision)
	if a.AtStage.usable() {
		detail("stage_timestamp", a.AtStage.UTC().Format("2006-01-02T15:04:05.000000Z"))
	}
	if code := a.code(); code > 0 && code < 1000 {
		e.Details["code"] = code
	}
	detail("groups", strings.Join(a.User.Groups.last, " "))
	if a.User.Groups.n > maxTexts {
		c.names = append(c.names, "details.groups")
	}
	if a.Ref == nil {
		return
	}
	detail("api_group", a.Ref.APIGroup)
	detail("api_version", a.Ref.APIVersion)
	detail("subresource", a.Ref.Subresource)
	detail("uid", a.Ref.UID)
	if ns := a.Ref.Namespace; ns != "" {
		detail("namespace", ns)
		e.Labels["namespace"] = c.text("labels.namespace", ns, 256)
	}
}
