package kubernetes

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"
)

// audit is an Event of audit.k8s.io/v1, as far as it is read. Members that are added later are ignored.
type audit struct {
	Level      string `json:"level"`
	AuditID    string `json:"auditID"`
	Stage      string `json:"stage"`
	RequestURI string `json:"requestURI"`
	Verb       string `json:"verb"`

	User         user   `json:"user"`
	Impersonated *user  `json:"impersonatedUser"`
	SourceIPs    texts  `json:"sourceIPs"`
	UserAgent    string `json:"userAgent"`

	Ref      *reference      `json:"objectRef"`
	Response *status         `json:"responseStatus"`
	Request  json.RawMessage `json:"requestObject"`

	Received moment `json:"requestReceivedTimestamp"`
	AtStage  moment `json:"stageTimestamp"`

	Annotations struct {
		Decision string `json:"authorization.k8s.io/decision"`
		Reason   string `json:"authorization.k8s.io/reason"`
		// Truncated is there where the API server has left out the objects of an event that was too long.
		Truncated string `json:"audit.k8s.io/truncated"`
	} `json:"annotations"`

	left int  // length of a requestObject that is too long to be read
	read bool // tree is what decode makes of it: see requested
	tree any
}

// maxObject is how long a requestObject that is read is at most, in bytes: decoded it takes many times that. The API server cuts what
// is longer than a tenth of it, unless it is told otherwise.
const maxObject = 1 << 20

type user struct {
	Username string `json:"username"`
	Groups   texts  `json:"groups"`
	Extra    struct {
		CredentialID texts `json:"authentication.kubernetes.io/credential-id"`
	} `json:"extra"`
}

type reference struct {
	Resource    string `json:"resource"`
	Namespace   string `json:"namespace"`
	Name        string `json:"name"`
	UID         string `json:"uid"`
	APIGroup    string `json:"apiGroup"`
	APIVersion  string `json:"apiVersion"`
	Subresource string `json:"subresource"`
}

type status struct {
	Message string `json:"message"`
	Reason  string `json:"reason"`
	Code    int    `json:"code"`
}

// texts is a list of texts, of which the last few are kept, however many there are.
type texts struct {
	last []string
	n    int // how many there are
}

// maxTexts is how many are kept: one more than the addresses that an event takes beside its own.
const maxTexts = maxForwarded + 1

// UnmarshalJSON implements json.Unmarshaler.
func (l *texts) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('[') {
		return &listError{}
	}
	for d.More() {
		var text *string
		if d.Decode(&text) != nil || text == nil {
			return &listError{}
		}
		if l.n++; len(l.last) == maxTexts {
			l.last = append(l.last[:0], l.last[1:]...)
		}
		l.last = append(l.last, *text)
	}
	return nil
}

type listError struct{}

func (*listError) Error() string {
	return "sourceIPs, user.groups or user.extra: expected lists of texts"
}

// moment is a time that may be null, as metav1.MicroTime is when it is zero.
type moment struct{ time.Time }

type timeError struct{}

func (*timeError) Error() string { return "a timestamp: expected a time of RFC 3339 or null" }

// UnmarshalJSON implements json.Unmarshaler.
func (m *moment) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		return nil
	}
	var text string
	if json.Unmarshal(b, &text) != nil {
		return &timeError{}
	}
	if text == "" {
		return nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return &timeError{}
	}
	m.Time = t
	return nil
}

// usable reports whether an event may have this time.
func (m moment) usable() bool { return !m.IsZero() && m.UTC().Year() >= 1970 && m.UTC().Year() <= 9999 }

// The stages of a request.
const (
	stageReceived = "RequestReceived"
	stageStarted  = "ResponseStarted"
	stageComplete = "ResponseComplete"
	stagePanic    = "Panic"
)

// leaveLong forgets an object that is too long.
func (a *audit) leaveLong() {
	if n := len(a.Request); n > maxObject {
		a.Request, a.left = nil, n
	}
}

// check refuses what isn't an audit event. What a client of the API server can choose is never the reason.
func (a *audit) check() error {
	switch a.Stage {
	case stageReceived, stageStarted, stageComplete, stagePanic:
	default:
		return errors.New("stage: expected RequestReceived, ResponseStarted, ResponseComplete or Panic")
	}
	if a.AuditID == "" {
		return errors.New("auditID: expected an id")
	}
	if a.Verb == "" {
		return errors.New("verb: expected a verb")
	}
	return nil
}

// skipped: another stage of the request tells it all, or a controller keeps account of its own work.
func (a *audit) skipped() bool {
	if a.Stage == stageReceived {
		return true
	}
	if a.Stage == stageStarted && a.Verb == "watch" {
		return a.kind() != credential // who watches chooses when the watch ends, and has read them by then
	}
	if a.Ref == nil || a.Ref.APIGroup != "batch" || a.Ref.Subresource != "status" || a.code() >= 400 || !a.User.isController() {
		return false
	}
	_, final := a.finished()
	return !final
}

// code is the HTTP status, 0 if it isn't known.
func (a *audit) code() int {
	if a.Response == nil {
		return 0
	}
	return a.Response.Code
}
