package recorder

import (
	"container/list"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Bounds of what an event says of an actor.
const (
	maxID     = 512
	maxSecret = 8 << 10 // of a credential that an HMAC is made of
)

// hmac names a secret without telling it: an HMAC under the recorder's key, of which the first half is shown.
func (p *Recorder) hmac(kind, secret string) string {
	mac := hmac.New(sha256.New, p.cfg.Key)
	mac.Write([]byte(kind))
	mac.Write([]byte{0})
	mac.Write([]byte(clip(secret, maxSecret)))
	return hex.EncodeToString(mac.Sum(nil)[:16])
}

func decodeBase64(s string) ([]byte, error) {
	return base64.RawURLEncoding.DecodeString(strings.TrimRight(s, "="))
}

// sessionID is what events call a session. A bearer token is one with the word before it and without.
func (p *Recorder) sessionID(secret string) string {
	if scheme, rest, ok := strings.Cut(secret, " "); ok && strings.EqualFold(scheme, "bearer") {
		secret = strings.TrimSpace(rest)
	}
	return p.hmac("session", secret)
}

// claim is who a request says that it is from.
type claim struct {
	actor event.Actor
	// vouched says that a trusted proxy named the user: it isn't for the scheduler to say whether that is right.
	vouched bool
	// doubtful says that the scheduler may have accepted somebody else: the name is written in a credential that isn't the only
	// one, or another one names another.
	doubtful bool
	shown    []string // HMACs of the credentials
}

// who is who makes the request, as the rules tell it.
func (x *exchange) who() claim {
	src := scope{x, x.decision.Match}
	var c claim
	if own := x.decision.Match.Rule.Actor; len(own) > 0 {
		c.actor.ID, c.actor.AuthMethod = own.First(src), "login"
	}
	for i := range x.p.cfg.Rules.Actor {
		x.add(&c, &x.p.cfg.Rules.Actor[i], src)
	}
	if m := c.actor.AuthMethod; (m == "basic" || m == "jwt") && len(c.shown) > 1 {
		c.doubtful = true
	}
	x.ambiguous = x.ambiguous || c.doubtful
	c.actor.Type = "user"
	switch {
	case c.actor.ID != "":
	case c.actor.SessionID != "":
		c.actor.ID = "session:" + c.actor.SessionID
	case c.actor.CredentialID != "":
		c.actor.Type, c.actor.ID = "service", "credential:"+c.actor.CredentialID
	default:
		c.actor.Type, c.actor.ID = "anonymous", "anonymous"
	}
	c.actor.ID = clip(c.actor.ID, maxID)
	return c
}

// add adds what one way of the rules tells. The first that names somebody counts.
func (x *exchange) add(c *claim, a *rules.Actor, src scope) {
	switch {
	case a.Header != "":
		if names := x.header[http.CanonicalHeaderKey(a.Header)]; x.trusted && len(names) > 0 {
			if slices.ContainsFunc(names, func(n string) bool { return n != names[0] }) {
				c.doubtful = true // a proxy has added its own to the client's
				return
			}
			c.vouched = c.name(names[0], "proxy") || c.vouched
		}
	case a.Basic:
		if user, _, ok := (&http.Request{Header: x.header}).BasicAuth(); ok {
			c.show(x.p.sessionID(x.header.Get("Authorization")))
			c.name(user, "basic")
		}
	case a.JWT != nil:
		if token := a.JWT.In.First(src); token != "" {
			if user := jwtClaim(token, a.JWT.Claim); user != "" {
				c.show(x.p.sessionID(token))
				if x.status != http.StatusUnauthorized {
					c.name(user, "jwt")
				}
			}
			c.credential(x.p.hmac("token", token), "jwt")
		}
	case len(a.Session) > 0:
		x.addSessions(c, a.Session, src)
	case len(a.Key) > 0:
		if key := a.Key.First(src); key != "" {
			c.show(x.p.sessionID(key))
			c.credential(x.p.hmac("key", key), "api_key")
		}
	}
}

// addSessions adds all sessions that the request names: which of them the scheduler looks at is known to it alone. The first whose user is
// known counts, or else the first.
func (x *exchange) addSessions(c *claim, v rules.Value, src scope) {
	for _, sel := range v {
		found, _ := src.Lookup(sel)
		for _, secret := range found {
			id := x.p.sessionID(secret)
			c.show(id)
			user := x.p.sessions.user(id)
			if c.name(user, "session") || c.actor.SessionID == "" {
				c.actor.SessionID = id
			}
			c.method("session")
		}
	}
}

// name names somebody, unless that was done. Two names make it doubtful whom the scheduler took it for; a proxy that vouches, and a login,
// say it alone.
func (c *claim) name(id, method string) bool {
	switch {
	case id == "":
	case c.actor.ID == "":
		c.actor.ID, c.actor.AuthMethod = id, method
		return true
	case c.actor.ID != id && !c.vouched && c.actor.AuthMethod != "login":
		c.doubtful = true
	}
	return false
}

// show takes note of a credential.
func (c *claim) show(id string) {
	if !slices.Contains(c.shown, id) {
		c.shown = append(c.shown, id)
	}
}

func (c *claim) credential(id, method string) {
	if c.actor.CredentialID == "" {
		c.actor.CredentialID = id
		c.method(method)
	}
}

// method says how somebody whom nothing names is known.
func (c *claim) method(m string) {
	if c.actor.AuthMethod == "" {
		c.actor.AuthMethod = m
	}
}

// sessions remembers whose sessions are, from logins that succeeded. It holds HMACs, and is bounded: those that were used
// longest ago go.
type sessions struct {
	max int

	mu    sync.Mutex
	byID  map[string]*list.Element
	order *list.List // of session, the newest in front
}

type session struct{ id, user string }

func newSessions(max int) *sessions {
	return &sessions{max: max, byID: map[string]*list.Element{}, order: list.New()}
}

func (s *sessions) learn(id, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.byID[id]; ok {
		s.order.Remove(e)
	}
	s.byID[id] = s.order.PushFront(session{id, user})
	if s.order.Len() > s.max {
		last := s.order.Back()
		delete(s.byID, last.Value.(session).id)
		s.order.Remove(last)
	}
}

func (s *sessions) user(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	e, ok := s.byID[id]
	if !ok {
		return ""
	}
	s.order.MoveToFront(e)
	return e.Value.(session).user
}

func (s *sessions) forget(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e, ok := s.byID[id]; ok {
		s.order.Remove(e)
		delete(s.byID, id)
	}
}
