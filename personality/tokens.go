package personality

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// A token's text is "pt_" ‖ id ‖ "_" ‖ secret: the id of 12 letters and digits,
// the secret 32 random bytes in base64url. Only the SHA-256 of the secret is
// stored: with 256 bits of entropy it needs no salt and no slow hash.
const (
	tokenPrefix = "pt_"
	tokenIDLen  = 12
	secretLen   = 32
)

// tokenSet holds all tokens in memory: authenticating reads no storage.
type tokenSet struct {
	changing sync.Mutex // held while a token is made or revoked, to its end

	mu    sync.RWMutex
	byID  map[string]storedToken // those that are valid
	known map[string]bool        // tenants that have, or had, a token, and the service's own
}

type storedToken struct {
	*Token
	stored     pubstore.Token
	secretHash [32]byte
}

// load reads all tokens from the store.
func (t *tokenSet) load(ctx context.Context, keys keys, store pubstore.Store) error {
	stored, err := store.Tokens(ctx)
	if err != nil {
		return err
	}
	for _, st := range stored {
		if err := keys.checkToken(st); err != nil {
			return err
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.byID, t.known = make(map[string]storedToken, len(stored)), map[string]bool{OwnTenant: true}
	for _, st := range stored {
		t.putLocked(st)
	}
	return nil
}

// put takes in a token, or its end.
func (t *tokenSet) put(st pubstore.Token) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.putLocked(st)
}

func (t *tokenSet) putLocked(st pubstore.Token) {
	if st.Tenant != AllTenants {
		t.known[st.Tenant] = true
	}
	if st.Revoked.IsZero() {
		t.byID[st.ID] = fromStored(st)
	} else {
		delete(t.byID, st.ID)
	}
}

func fromStored(st pubstore.Token) storedToken {
	t := &Token{ID: st.ID, Name: st.Name, Tenant: st.Tenant, Sources: st.Sources, Created: st.Created}
	for _, r := range st.Roles {
		t.Roles = append(t.Roles, Role(r))
	}
	return storedToken{Token: t, stored: st, secretHash: [32]byte(st.SecretHash)}
}

// tenants returns all tenants that may have events.
func (t *tokenSet) tenants() []string {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Sorted(maps.Keys(t.known))
}

// Authenticate returns the token with this text, or ErrUnauthorized.
func (s *Service) Authenticate(_ context.Context, text string) (*Token, error) {
	rest, ok := strings.CutPrefix(text, tokenPrefix)
	if !ok || len(rest) < tokenIDLen+1 || rest[tokenIDLen] != '_' {
		return nil, ErrUnauthorized
	}
	s.tokens.mu.RLock()
	tok, known := s.tokens.byID[rest[:tokenIDLen]]
	s.tokens.mu.RUnlock()
	got := sha256.Sum256([]byte(rest[tokenIDLen+1:]))
	// The id is no secret; the secret's hash is compared in constant time, also
	// for an unknown id.
	if subtle.ConstantTimeCompare(got[:], tok.secretHash[:]) != 1 || !known {
		return nil, ErrUnauthorized
	}
	return tok.Token, nil
}

// TokenRequest asks for a token.
type TokenRequest struct {
	Name    string   `json:"name"`    // shown in events as who acted; [A-Za-z0-9][A-Za-z0-9._-]{0,63}
	Tenant  string   `json:"tenant"`  // [a-z0-9][a-z0-9._-]{0,63}, or AllTenants
	Roles   []Role   `json:"roles"`   // at least one
	Sources []string `json:"sources"` // prefixes of /source, for role submit; "" is any source
}

var (
	tokenName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	tenantName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{0,63}$`)
)

func (r *TokenRequest) check() error {
	if !tokenName.MatchString(r.Name) {
		return &InvalidError{Field: "name", Expected: "1 to 64 letters, digits, dots, dashes and underscores, beginning with a letter or digit"}
	}
	if r.Tenant == OwnTenant || r.Tenant != AllTenants && !tenantName.MatchString(r.Tenant) {
		return &InvalidError{Field: "tenant", Expected: "1 to 64 lower-case letters, digits, dots, dashes and underscores, other than " + OwnTenant + "; or * with the roles read and admin"}
	}
	if len(r.Roles) == 0 || len(r.Roles) > 3 {
		return &InvalidError{Field: "roles", Expected: "one or more of submit, read and admin"}
	}
	for i, role := range r.Roles {
		if role != RoleSubmit && role != RoleRead && role != RoleAdmin || slices.Contains(r.Roles[:i], role) {
			return &InvalidError{Field: "roles", Expected: "one or more of submit, read and admin, each once"}
		}
	}
	return r.checkSources()
}

func (r *TokenRequest) checkSources() error {
	submits := slices.Contains(r.Roles, RoleSubmit)
	if submits && r.Tenant == AllTenants {
		return &InvalidError{Field: "tenant", Expected: "one tenant, for a token that submits"}
	}
	if submits != (len(r.Sources) > 0) || len(r.Sources) > 64 {
		return &InvalidError{Field: "sources", Expected: "1 to 64 prefixes with the role submit, none without it"}
	}
	for _, p := range r.Sources {
		if len(p) > 512 {
			return &InvalidError{Field: "sources", Expected: "prefixes of at most 512 bytes"}
		}
	}
	return nil
}

// AddToken makes a token and returns it with its text, which is shown this once.
// It is logged before it is valid. *InvalidError for a request that can't be met.
func (s *Service) AddToken(ctx context.Context, from Caller, r TokenRequest) (*Token, string, error) {
	if err := s.mayAdminister(from, r.Tenant); err != nil {
		return nil, "", err
	}
	if err := r.check(); err != nil {
		return nil, "", err
	}
	release, err := s.use()
	if err != nil {
		return nil, "", err
	}
	defer release()
	s.tokens.changing.Lock()
	defer s.tokens.changing.Unlock()
	random := make([]byte, secretLen)
	if _, err := rand.Read(random); err != nil {
		return nil, "", fmt.Errorf("make token: %w", err)
	}
	id := strings.ToLower(rand.Text()[:tokenIDLen])
	secret := base64.RawURLEncoding.EncodeToString(random)
	hash := sha256.Sum256([]byte(secret))
	st := pubstore.Token{ID: id, Name: r.Name, Tenant: r.Tenant, Sources: r.Sources, SecretHash: hash[:], Created: s.cfg.Now().UTC()}
	for _, role := range r.Roles {
		st.Roles = append(st.Roles, string(role))
	}
	tok := fromStored(st)
	if err := s.logToken(ctx, from, ActionTokenCreate, tok.Token); err != nil {
		return nil, "", err
	}
	if err := s.putToken(ctx, st); err != nil {
		return nil, "", err
	}
	return tok.Token, tokenPrefix + id + "_" + secret, nil
}

// RevokeToken ends a token. Logged before it is done: a revocation that was
// logged and not answered is to be asked for again. ErrNotFound if there is none.
func (s *Service) RevokeToken(ctx context.Context, from Caller, id string) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	s.tokens.changing.Lock()
	defer s.tokens.changing.Unlock()
	s.tokens.mu.RLock()
	tok, ok := s.tokens.byID[id]
	s.tokens.mu.RUnlock()
	if err := s.mayAdminister(from, from.Token.Tenant); err != nil {
		return err
	}
	if !ok || !from.Token.Sees(tok.Tenant) { // of another tenant's token not even that it exists
		return ErrNotFound
	}
	if err := s.logToken(ctx, from, ActionTokenRevoke, tok.Token); err != nil {
		return err
	}
	st := tok.stored
	st.Revoked = s.cfg.Now().UTC()
	return s.putToken(ctx, st)
}

// putToken stores a token, or its end, and makes it so.
func (s *Service) putToken(ctx context.Context, st pubstore.Token) error {
	st, err := s.parts.keys.sealToken(st)
	if err != nil {
		return err
	}
	if err := s.store.PutToken(ctx, st, ""); err != nil {
		return unheld(err)
	}
	s.tokens.put(st)
	return nil
}

// Tokens lists the tokens of the tenants that the caller administers, by ID.
func (s *Service) Tokens(_ context.Context, from Caller) ([]*Token, error) {
	if err := s.mayAdminister(from, from.Token.Tenant); err != nil {
		return nil, err
	}
	s.tokens.mu.RLock()
	defer s.tokens.mu.RUnlock()
	list := []*Token{}
	for _, id := range slices.Sorted(maps.Keys(s.tokens.byID)) {
		if t := s.tokens.byID[id].Token; from.Token.Sees(t.Tenant) {
			list = append(list, t)
		}
	}
	return list, nil
}

// mayAdminister allows tokens of a tenant to be managed by its admins and by
// those of all tenants.
func (s *Service) mayAdminister(from Caller, tenant string) error {
	if err := s.refusing(); err != nil {
		return err
	}
	if !from.Token.Has(RoleAdmin) || !from.Token.Sees(tenant) {
		return fmt.Errorf("%w: it doesn't administer this tenant", ErrForbidden)
	}
	return nil
}

// logToken logs a change of a token: in its tenant, or in the service's own
// for one of all tenants.
func (s *Service) logToken(ctx context.Context, from Caller, action string, t *Token) error {
	tenant := t.Tenant
	if tenant == AllTenants {
		tenant = OwnTenant
	}
	roles := make([]any, len(t.Roles))
	for i, r := range t.Roles {
		roles[i] = string(r)
	}
	sources := make([]any, len(t.Sources))
	for i, p := range t.Sources {
		sources[i] = p
	}
	_, err := s.logOwn(ctx, from, tenant, Durable, event.Event{
		Action: action, Outcome: "success", Target: []event.Target{{Type: "token", ID: t.ID, Name: t.Name}},
		Details: map[string]any{"tenant": t.Tenant, "roles": roles, "sources": sources},
	})
	return err
}
