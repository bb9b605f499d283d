package personality

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// SourceKey is a registered key with which the sources of a tenant whose names begin with Source sign
// their events. Each belongs to its tenant: what is signed doesn't say which that is.
type SourceKey struct {
	ID       string    `json:"id"`
	Tenant   string    `json:"tenant"`
	Source   string    `json:"source"`   // prefix of /source
	VKey     string    `json:"vkey"`     // the public key, as c2sp.org/signed-note writes one
	Required bool      `json:"required"` // events of the source that aren't signed are refused
	From     time.Time `json:"from"`     // before that it neither signs nor requires anything
	Created  time.Time `json:"created_at"`
	// Revoked is when it ceased to sign; zero if it hasn't. What it requires it requires further on, or whoever
	// has stolen a token could write for the source as soon as its key is taken away; unless it was Released too.
	Revoked  time.Time `json:"revoked_at,omitzero"`
	Released bool      `json:"released,omitempty"`
}

// SourceKeyRequest asks for a key to be registered.
type SourceKeyRequest struct {
	Tenant   string
	Source   string    // 1 to 512 bytes without white space
	VKey     string    // type 0x01, Ed25519
	Required bool      // the usual: else a stolen token is enough to write for the source
	From     time.Time // zero: now
}

// sourceKeySet holds all keys in memory: admitting reads no storage, and waits for nobody.
type sourceKeySet struct {
	changing sync.Mutex // held while a key is registered or revoked, to its end
	table    atomic.Pointer[sourceKeyTable]
}

// noSourceKeys is what there is before the first load, or where that has failed: then nothing is admitted.
var noSourceKeys sourceKeyTable

func (s *sourceKeySet) now() *sourceKeyTable {
	if t := s.table.Load(); t != nil {
		return t
	}
	return &noSourceKeys
}

// sourceKeyTable never changes: a change makes another.
type sourceKeyTable struct {
	byID     map[string]pubstore.SourceKey
	byTenant map[string][]sourceKey
}

type sourceKey struct {
	pubstore.SourceKey
	key *verifier.SourceKey
}

func newSourceKeyTable(stored map[string]pubstore.SourceKey) (*sourceKeyTable, error) {
	t := &sourceKeyTable{byID: stored, byTenant: map[string][]sourceKey{}}
	for _, id := range slices.Sorted(maps.Keys(stored)) {
		sk := stored[id]
		key, err := verifier.ParseSourceKey(sk.VKey)
		if err != nil {
			return nil, fmt.Errorf("source key %s: %w: %w", id, pubstore.ErrCorrupt, err)
		}
		t.byTenant[sk.Tenant] = append(t.byTenant[sk.Tenant], sourceKey{sk, key})
	}
	return t, nil
}

// load reads all keys from the store. One that was known before and is gone, or that is good again, is errRecord:
// the store, which holds each with its MAC, could else put an older state back while the service runs.
func (s *sourceKeySet) load(ctx context.Context, keys keys, store pubstore.Store) error {
	stored, err := store.SourceKeys(ctx)
	if err != nil {
		return err
	}
	byID := make(map[string]pubstore.SourceKey, len(stored))
	for _, sk := range stored {
		if err := keys.checkSourceKey(sk); err != nil {
			return err
		}
		byID[sk.ID] = sk
	}
	for id, was := range s.now().byID {
		is, ok := byID[id]
		if !ok || is.Revoked.IsZero() && !was.Revoked.IsZero() || was.Released && !is.Released {
			return fmt.Errorf("source key %s: %w: it is gone, or as it was before", id, errRecord)
		}
	}
	t, err := newSourceKeyTable(byID)
	if err == nil {
		s.table.Store(t)
	}
	return err
}

// put takes in a key, or its end. The caller holds changing.
func (s *sourceKeySet) put(sk pubstore.SourceKey) error {
	byID := maps.Clone(s.now().byID)
	byID[sk.ID] = sk
	t, err := newSourceKeyTable(byID)
	if err == nil {
		s.table.Store(t)
	}
	return err
}

// keyFor returns the key that a signature must be checked with; nil, and no error, for an event that isn't
// signed and needn't be. ErrUnsigned, ErrUnknownSourceKey.
func (t *sourceKeyTable) keyFor(tenant, source, signature string, at time.Time) (*verifier.SourceKey, error) {
	name, hash, malformed := seal.SourceKeyOf(signature)
	for _, k := range t.byTenant[tenant] {
		switch {
		case !strings.HasPrefix(source, k.Source) || at.Before(k.From):
		case signature == "" && k.Required && !k.Released:
			return nil, ErrUnsigned
		case signature != "" && malformed == nil && k.Revoked.IsZero() && k.key.Name() == name && k.key.KeyHash() == hash:
			return k.key, nil
		}
	}
	if signature != "" {
		return nil, ErrUnknownSourceKey
	}
	return nil, nil
}

// checkSignature checks the signature of a submission, and whether it needs one. Of one whose key doesn't count, or
// that isn't signed and must be, it returns why as refusal if there is an entry with its identity already: sent
// again it is answered as what it is (I5), whatever has become of the keys, and whatever it was signed with. The
// salts are those to seal it with. *seal.EnvelopeError for a signature that is wrong.
func (s *Service) checkSignature(ctx context.Context, tenant string, f event.Fields, sub *Submission) (salts seal.SaltSource, refusal, err error) {
	t := s.sourceKeys.now()
	if sub.Signature == "" && len(sub.Salts) == 0 && len(t.byTenant[tenant]) == 0 {
		return nil, nil, nil
	}
	e := seal.Envelope{Salts: sub.Salts, Signature: sub.Signature}
	if sub.Signature == "" && len(sub.Salts) > 0 {
		return nil, nil, &seal.EnvelopeError{Pointer: "/signature", Code: event.CodeMissing, Expected: "the member signature"}
	}
	source := f.Text("/source")
	key, refusal := t.keyFor(tenant, source, sub.Signature, s.cfg.Now())
	switch {
	case refusal != nil:
		known, err := s.lookUp(ctx, s.identity(tenant, source, f.Text("/id")))
		if err != nil {
			return nil, nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		if known == nil {
			return nil, nil, refusal
		}
		return nil, refusal, nil
	case key == nil:
		return nil, nil, nil
	}
	return sub.Salts, nil, e.Check(f, key)
}

// AddSourceKey registers a key. It is logged before it counts. *InvalidError for a request that can't be met.
func (s *Service) AddSourceKey(ctx context.Context, from Caller, r SourceKeyRequest) (*SourceKey, error) {
	if err := s.mayAdminister(from, r.Tenant); err != nil {
		return nil, err
	}
	if err := r.check(); err != nil {
		return nil, err
	}
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	s.sourceKeys.changing.Lock()
	defer s.sourceKeys.changing.Unlock()
	now := s.cfg.Now().UTC()
	if r.From.IsZero() {
		r.From = now
	}
	sk := pubstore.SourceKey{ID: strings.ToLower(rand.Text()[:tokenIDLen]), Tenant: r.Tenant, Source: r.Source, VKey: r.VKey,
		Required: r.Required, From: r.From.UTC(), Created: now}
	if err := s.logSourceKey(ctx, from, ActionSourceKeyCreate, sk); err != nil {
		return nil, err
	}
	if err := s.putSourceKey(ctx, sk); err != nil {
		return nil, err
	}
	return shownSourceKey(sk), nil
}

// RevokeSourceKey ends a key's signing, and with release also what it requires. A key that is revoked can be
// released later. Logged before it is done, as RevokeToken. ErrNotFound if there is none.
func (s *Service) RevokeSourceKey(ctx context.Context, from Caller, id string, release bool) error {
	if err := s.mayAdminister(from, from.Token.Tenant); err != nil {
		return err
	}
	done, err := s.use()
	if err != nil {
		return err
	}
	defer done()
	s.sourceKeys.changing.Lock()
	defer s.sourceKeys.changing.Unlock()
	if err := s.loadSourceKeys(ctx); err != nil { // another process may have released it just now: that isn't undone
		return err
	}
	sk, ok := s.sourceKeys.now().byID[id]
	// Of another tenant's not even that it exists.
	if !ok || !from.Token.Sees(sk.Tenant) || !sk.Revoked.IsZero() && (sk.Released || !release) {
		return ErrNotFound
	}
	if sk.Released = release; sk.Revoked.IsZero() {
		sk.Revoked = s.cfg.Now().UTC()
	}
	if err := s.logSourceKey(ctx, from, ActionSourceKeyRevoke, sk); err != nil {
		return err
	}
	return s.putSourceKey(ctx, sk)
}

// SourceKeys lists the keys of the tenants that the caller administers, revoked ones too, by ID.
func (s *Service) SourceKeys(_ context.Context, from Caller) ([]*SourceKey, error) {
	if err := s.mayAdminister(from, from.Token.Tenant); err != nil {
		return nil, err
	}
	t := s.sourceKeys.now()
	list := []*SourceKey{}
	for _, id := range slices.Sorted(maps.Keys(t.byID)) {
		if sk := t.byID[id]; from.Token.Sees(sk.Tenant) {
			list = append(list, shownSourceKey(sk))
		}
	}
	return list, nil
}

func shownSourceKey(sk pubstore.SourceKey) *SourceKey {
	return &SourceKey{ID: sk.ID, Tenant: sk.Tenant, Source: sk.Source, VKey: sk.VKey, Required: sk.Required,
		From: sk.From, Created: sk.Created, Revoked: sk.Revoked, Released: sk.Released}
}

func (r *SourceKeyRequest) check() error {
	if r.Tenant == OwnTenant || !tenantName.MatchString(r.Tenant) {
		return &InvalidError{Field: "tenant", Expected: "1 to 64 lower-case letters, digits, dots, dashes and underscores, other than " + OwnTenant}
	}
	if len(r.Source) == 0 || len(r.Source) > 512 || strings.ContainsFunc(r.Source, func(c rune) bool { return c <= ' ' || c == 0x7f || c == 0xfffd }) {
		return &InvalidError{Field: "source", Expected: "a prefix of 1 to 512 bytes without white space"}
	}
	if _, err := verifier.ParseSourceKey(r.VKey); err != nil {
		return &InvalidError{Field: "vkey", Expected: "a verifier key of type 0x01, Ed25519 (c2sp.org/signed-note)"}
	}
	return nil
}

// putSourceKey stores a key, or its end, and makes it so.
func (s *Service) putSourceKey(ctx context.Context, sk pubstore.SourceKey) error {
	sk, err := s.parts.keys.sealSourceKey(sk)
	if err != nil {
		return err
	}
	if err := s.store.PutSourceKey(ctx, sk, ""); err != nil {
		return unheld(err)
	}
	return s.sourceKeys.put(sk)
}

// logSourceKey logs a change of a key in its tenant.
func (s *Service) logSourceKey(ctx context.Context, from Caller, action string, sk pubstore.SourceKey) error {
	details := map[string]any{"tenant": sk.Tenant, "source": sk.Source, "vkey": sk.VKey, "required": sk.Required,
		"from": sk.From.Format(time.RFC3339Nano)}
	if action == ActionSourceKeyRevoke {
		details["released"] = sk.Released
	}
	_, err := s.logOwn(ctx, from, sk.Tenant, Durable, event.Event{
		Action: action, Outcome: "success", Target: []event.Target{{Type: "source_key", ID: sk.ID}}, Details: details,
	})
	return err
}

// followSourceKeys takes in the keys that other processes have registered or revoked.
func (s *Service) followSourceKeys(ctx context.Context) error {
	s.sourceKeys.changing.Lock()
	defer s.sourceKeys.changing.Unlock()
	return s.loadSourceKeys(ctx)
}

// loadSourceKeys is followSourceKeys for who holds changing.
func (s *Service) loadSourceKeys(ctx context.Context) error {
	err := s.sourceKeys.load(ctx, s.parts.keys, s.store)
	if errors.Is(err, errRecord) || errors.Is(err, pubstore.ErrCorrupt) {
		return s.refuse(err.Error()+": somebody wrote to the database", err)
	}
	return err
}
