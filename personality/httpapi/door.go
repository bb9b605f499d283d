package httpapi

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/personality"
)

// MaxDoorBytes is the size of a delivery at a door.
const MaxDoorBytes = 1 << 20

// A Door takes deliveries that prove themselves otherwise than by a token, at POST /v1/ingest/webhook/{path}.
type Door interface {
	// Path is the last part of the door's path, Name the name of the adapter behind it.
	Path() string
	Name() string
	// Tenant and Source are whose events come through it, and from where.
	Tenant() string
	Source() string
	// Check checks the proof of a delivery, and says how sure the sender is. Its error is shown to the sender.
	Check(header http.Header, body []byte, now time.Time) (sender string, err error)
}

// openDoor is a door and what it may do: submit events of its source.
type openDoor struct {
	Door
	token *personality.Token
}

// openDoors opens doors.
func openDoors(doors []Door) (map[string]openDoor, error) {
	open := map[string]openDoor{}
	for _, d := range doors {
		if _, twice := open[d.Path()]; twice {
			return nil, fmt.Errorf("httpapi: there are two doors %s", d.Path())
		}
		if d.Tenant() == personality.OwnTenant || d.Tenant() == personality.AllTenants {
			return nil, fmt.Errorf("httpapi: door %s: no door is the tenant's %s", d.Path(), d.Tenant())
		}
		// The id of a token has no colon: no door is taken for one.
		open[d.Path()] = openDoor{d, &personality.Token{ID: d.Name(), Name: "door", Tenant: d.Tenant(),
			Roles: []personality.Role{personality.RoleSubmit}, Sources: []string{d.Source()}}}
	}
	return open, nil
}

// door serves POST /v1/ingest/webhook/{door}. Its proof can only be checked once the body is there: who has failed too often has
// no body read. What the body's coding would be undone to isn't what was signed, so there is none.
func (a *API) door(x *exchange) error {
	d, ok := a.doors[x.args[0]]
	if !ok {
		return a.refuseProof(x, &problem{kind: kindNotFound, detail: "there is no such door"})
	}
	if a.failures != nil && a.failures.get(addressKey(x.peerIP())).TokensAt(x.start) < 1 {
		return a.refuseProof(x, nil)
	}
	if c := strings.Join(x.r.Header["Content-Encoding"], ","); c != "" && !strings.EqualFold(c, "identity") {
		return &problem{kind: kindMediaType, detail: "a door takes no content coding"}
	}
	buf := getBuffer()
	defer a.releaseBody(buf)
	if err := x.readBody(buf, MaxDoorBytes, errDoorSize); err != nil {
		return err
	}
	sender, err := d.Check(x.r.Header, buf.b, time.Now())
	if err != nil {
		return a.refuseProof(x, &problem{kind: kindUnauthorized, detail: err.Error()})
	}
	x.token = d.token
	if a.tokens != nil {
		x.limit = a.tokens.get(x.token.ID)
	}
	if err := x.charge(1); err != nil {
		return err
	}
	return a.deliver(x, d.Name(), sender, buf.b)
}

var errDoorSize = &problem{kind: kindRequestSize, detail: fmt.Sprintf("the body is larger than %d bytes", MaxDoorBytes)}

// refuseProof counts a failed authentication: p, or 429 for an address that has failed too often.
func (a *API) refuseProof(x *exchange, p *problem) error {
	err := a.refuseUnknown(x)
	if p == nil || problemOf(err).kind == kindRate {
		return err
	}
	return p
}
