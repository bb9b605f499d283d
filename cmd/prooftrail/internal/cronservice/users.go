package cronservice

import (
	"crypto/rand"
	"errors"

	"github.com/prooftrail/prooftrail/verifier/event"
)

var console = event.Target{Type: "service", ID: "cron-console"}

func (s *Service) login(c *call) (any, error) {
	var in struct{ User, Password string }
	if err := errors.Join(c.read(&in), named(in.User)); err != nil {
		return nil, err
	}
	s.mu.Lock()
	u := s.users[in.User]
	s.mu.Unlock()
	var err error
	if u == nil || !u.check(in.Password) {
		err = errBadLogin
	}
	e := c.event("auth.login", console)
	secret := rand.Text()
	if err == nil {
		c.session = &session{newID("s"), u}
		e = c.event("auth.login", console)
	} else {
		// Nobody has proven the name: the actor stays anonymous.
		e.Actor.ID = in.User
	}
	if err := s.finish(c, e, err, nothing); err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.sessions[secret] = c.session
	s.mu.Unlock()
	return map[string]string{"session": secret}, nil
}

func (s *Service) logout(c *call) (any, error) {
	if err := c.allowed(Admin, Operator); err != nil {
		return nil, err
	}
	if err := s.finish(c, c.event("auth.logout", console), nil, nothing); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for secret, sess := range s.sessions {
		if sess == c.session {
			delete(s.sessions, secret)
		}
	}
	return struct{}{}, nil
}

func (s *Service) createUser(c *call) (any, error) {
	var in struct {
		Name, Password string
		Role           Role
	}
	if err := errors.Join(c.read(&in), named(in.Name)); err != nil {
		return nil, err
	}
	u, err := newUser(in.Name, in.Password, in.Role)
	if err != nil {
		return nil, err
	}
	if err = c.allowed(Admin); err == nil {
		err = s.addUser(u)
	}
	e := c.event("user.create", event.Target{Type: "user", ID: u.id, Name: u.name})
	e.Details = map[string]any{"role": string(u.role)}
	if err := s.finish(c, e, err, func() { forget(s, s.users, u.name) }); err != nil {
		return nil, err
	}
	return map[string]string{"id": u.id}, nil
}

func (s *Service) addUser(u *user) error {
	if u.role != Admin && u.role != Operator {
		return badRequest("expected the role admin or operator")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[u.name] != nil {
		return errExists
	}
	s.users[u.name] = u
	return nil
}

func (s *Service) createCredential(c *call) (any, error) {
	var in struct{ Name, Secret string }
	if err := errors.Join(c.read(&in), named(in.Name)); err != nil {
		return nil, err
	}
	cred := &credential{newID("c"), in.Name, in.Secret}
	err := c.allowed(Admin)
	if err == nil {
		err = s.addCredential(cred)
	}
	undo := func() { forget(s, s.credentials, cred.name) }
	if err := s.finish(c, c.event("credential.create", cred.target()), err, undo); err != nil {
		return nil, err
	}
	return map[string]string{"id": cred.id}, nil
}

func (s *Service) addCredential(cred *credential) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.credentials[cred.name] != nil {
		return errExists
	}
	s.credentials[cred.name] = cred
	return nil
}

// forget deletes one of the things that the service keeps by name.
func forget[T any](s *Service, from map[string]T, name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(from, name)
}

func (c *credential) target() event.Target {
	return event.Target{Type: "credential", ID: c.id, Name: c.name}
}

// readCredential shows a secret: only after the log has it that it was shown.
func (s *Service) readCredential(c *call) (any, error) {
	cred, err := s.credential(c.r.PathValue("name"))
	if err == nil {
		err = c.allowed(Admin)
	}
	if err := s.finish(c, c.event("credential.read", cred.target()), err, nothing); err != nil {
		return nil, err
	}
	return map[string]string{"secret": cred.secret}, nil
}

// credential finds a credential; if there is none, a stand-in to name in the
// event.
func (s *Service) credential(name string) (*credential, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if cred := s.credentials[name]; cred != nil {
		return cred, nil
	}
	return &credential{id: "unknown", name: name}, errNotFound
}
