package event

import (
	"encoding/json"
	"time"
)

// An Event is an event for programs that make one. Marshalled as JSON it is
// what Parse takes, provided that what is needed is set; the package comment
// has the table of what that is and of the limits.
//
// Strings that aren't UTF-8 are marshalled with U+FFFD in place of what is
// wrong, as encoding/json does. Numbers in Details must be integers within
// ±MaxInteger, and nothing there may be null, nor in Change.Patch.
type Event struct {
	Schema string    `json:"schema"`        // "" is marshalled as Schema
	ID     string    `json:"id"`            // the source's own, the same in each retry: a UUIDv7 or ULID
	Source string    `json:"source"`        // the scheduler instance, a URI
	Seq    string    `json:"seq,omitempty"` // decimal counter of this source, so that gaps show
	Time   time.Time `json:"time"`          // when it happened

	Action  string  `json:"action"` // job.create, run.finish, …
	Outcome string  `json:"outcome"`
	Reason  *Reason `json:"reason,omitempty"` // needed unless Outcome is success

	Actor   Actor             `json:"actor"`
	Origin  *Origin           `json:"origin,omitempty"`
	Target  []Target          `json:"target"`
	Job     *Job              `json:"job,omitempty"`    // needed for job.* and run.*
	Change  *Change           `json:"change,omitempty"` // needed for a successful *.update
	Labels  map[string]string `json:"labels,omitempty"`
	Details map[string]any    `json:"details,omitempty"`

	// Only in events that the server has stamped, and that ParseStamped takes.
	Tenant     string    `json:"tenant,omitempty"`
	ReceivedAt time.Time `json:"received_at,omitzero"`
	Ingest     *Ingest   `json:"ingest,omitempty"`
}

// A Reason says why the outcome is what it is.
type Reason struct {
	Code string `json:"code"` // for programs: exit_1, EACCES, 403
	Text string `json:"text,omitempty"`
}

// An Actor is who did it. A name that nobody has proven yet, as in a failed
// login, is an id too.
type Actor struct {
	Type         string `json:"type"` // user, service, schedule, anonymous
	ID           string `json:"id"`
	Name         string `json:"name,omitempty"`
	SessionID    string `json:"session_id,omitempty"`    // an identifier of the session, never the secret itself
	CredentialID string `json:"credential_id,omitempty"` // likewise
	AuthMethod   string `json:"auth_method,omitempty"`
	OnBehalfOf   string `json:"on_behalf_of,omitempty"`
}

// An Origin is where the request came from.
type Origin struct {
	IP        string   `json:"ip,omitempty"`        // as the source saw it; needed with Port
	Port      int      `json:"port,omitempty"`      // 1 to 65535
	Forwarded []string `json:"forwarded,omitempty"` // what proxies or the caller claim, nearest last
	UserAgent string   `json:"user_agent,omitempty"`
	Host      string   `json:"host,omitempty"`
	RequestID string   `json:"request_id,omitempty"`
	TraceID   string   `json:"trace_id,omitempty"`
}

// A Target is what it was done to.
type Target struct {
	Type string `json:"type"` // job, credential, config, …
	ID   string `json:"id"`
	Name string `json:"name,omitempty"`
}

// A Job is the job, and the run of it, that the event is about.
type Job struct {
	ID            string    `json:"id"`
	Name          string    `json:"name,omitempty"`
	Schedule      string    `json:"schedule,omitempty"` // as the scheduler writes it
	TZ            string    `json:"tz,omitempty"`
	CommandSHA256 string    `json:"command_sha256,omitempty"`
	RunID         string    `json:"run_id,omitempty"`
	ScheduledFor  time.Time `json:"scheduled_for,omitzero"`
	Trigger       string    `json:"trigger,omitempty"` // schedule, manual, api, retry, catchup
	ExitCode      *int64    `json:"exit_code,omitempty"`
	DurationMS    *int64    `json:"duration_ms,omitempty"`
	Node          string    `json:"node,omitempty"`
}

// A Change is what an update changed. Secrets in it are masked by the source.
type Change struct {
	BeforeSHA256 string      `json:"before_sha256,omitempty"`
	AfterSHA256  string      `json:"after_sha256,omitempty"`
	Patch        []Operation `json:"patch,omitempty"`
}

// An Operation is one of a JSON Patch (RFC 6902 section 4).
type Operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	From  string `json:"from,omitempty"`  // of move and copy
	Value any    `json:"value,omitempty"` // of add, replace and test; never nil there
}

// An Ingest is how the event reached the server.
type Ingest struct {
	Principal string `json:"principal,omitempty"`
	PeerIP    string `json:"peer_ip,omitempty"`
	Adapter   string `json:"adapter,omitempty"`
	RawSHA256 string `json:"raw_sha256,omitempty"`
	Signature string `json:"signature,omitempty"`
}

// MarshalJSON writes the event as Parse takes it.
func (e Event) MarshalJSON() ([]byte, error) {
	type plain Event // without this method
	if e.Schema == "" {
		e.Schema = Schema
	}
	return json.Marshal(plain(e))
}

// Fields marshals and parses the event as a source submits it: what Parse
// returns. It is also the way to check an event before it is sent.
func (e Event) Fields() (Fields, error) {
	data, err := json.Marshal(e)
	if err != nil {
		return nil, &Error{Code: CodeType, Expected: "what encoding/json can marshal"}
	}
	return Parse(data)
}
