package personality

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// Actions of the service's own events. Only the service submits audit.*.
const (
	ActionStart       = "audit.start"
	ActionStop        = "audit.stop"
	ActionRead        = "audit.read"
	ActionConflict    = "audit.conflict"
	ActionMigrate     = "audit.migrate"
	ActionFill        = "audit.fill"
	ActionTokenCreate = "audit.token.create"
	ActionTokenRevoke = "audit.token.revoke"

	ActionQuarantineShow   = "audit.quarantine.show"
	ActionQuarantineReplay = "audit.quarantine.replay"
	ActionQuarantineDrop   = "audit.quarantine.drop"

	ActionSourceKeyCreate = "audit.source_key.create"
	ActionSourceKeyRevoke = "audit.source_key.revoke"
)

// OperatorCaller is who holds the data directory: init and the commands that
// work on it while no server runs.
func OperatorCaller() Caller {
	return Caller{Token: &Token{ID: "local", Name: "operator", Tenant: AllTenants, Roles: []Role{RoleAdmin, RoleRead}}}
}

// ownScheme is the scheme of the source of the service's own events. No token
// may speak for it: event.Parse refuses it.
const ownScheme = "prooftrail://"

func (s *Service) ownSource() string { return ownScheme + s.params.Origin }

// logOwn seals an event of the service itself under a fresh id, and returns its
// index once it has come as far as w asks. Starts, stops, tokens and keys are few and may
// use the disk's reserve: who is locked out must not stay in for want of room.
func (s *Service) logOwn(ctx context.Context, from Caller, tenant string, w Wait, e event.Event) (uint64, error) {
	useReserve := e.Action != ActionRead && e.Action != ActionQuarantineShow
	if err := s.cfg.room.refuse(useReserve); err != nil {
		return 0, fmt.Errorf("log %s: %w", e.Action, err)
	}
	fields, err := s.ownFields(from, tenant, e)
	if err != nil {
		return 0, fmt.Errorf("log %s: %w", e.Action, err)
	}
	p, err := s.seal(from, fields, nil)
	if err == nil {
		p.useReserve = useReserve
		p, err = s.enqueue(ctx, p)
	}
	if err != nil {
		return 0, fmt.Errorf("log %s: %w", e.Action, err)
	}
	r := p.Wait(ctx, w)
	if r.Err != nil {
		return 0, fmt.Errorf("log %s: %w", e.Action, r.Err)
	}
	return r.Index, nil
}

// ownFields completes an event of the service's own.
func (s *Service) ownFields(from Caller, tenant string, e event.Event) (event.Fields, error) {
	now := s.cfg.Now().UTC()
	e.Source, e.Time, e.Tenant, e.ReceivedAt = s.ownSource(), now, tenant, now
	e.Ingest = &event.Ingest{Principal: from.Token.Principal()}
	if e.ID == "" {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		e.ID = id.String()
	}
	e.Actor = event.Actor{Type: "service", ID: from.Token.Principal(), Name: from.Token.Name, CredentialID: from.Token.ID}
	if from.PeerIP.IsValid() {
		e.Origin = &event.Origin{IP: from.PeerIP.String(), UserAgent: clip(from.UserAgent), RequestID: clip(from.RequestID)}
		e.Ingest.PeerIP = from.PeerIP.String()
	}
	raw, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return event.ParseStamped(raw)
}

// clip keeps what a client says of itself within the schema's limits.
func clip(s string) string {
	const limit = 128
	out := make([]rune, 0, limit)
	for _, r := range s {
		if r >= ' ' && r != 0x7f && r != 0xfffd && len(out) < limit {
			out = append(out, r)
		}
	}
	return string(out)
}

// Announce logs that the service has started, and waits until that is published;
// Close then logs that it stops.
func (s *Service) Announce(ctx context.Context) error {
	if err := s.refusing(); err != nil {
		return err
	}
	if s.announced.Swap(true) {
		return nil
	}
	ctx, stop := s.cfg.room.untilStalled(ctx)
	defer stop()
	_, err := s.logOwn(ctx, OperatorCaller(), OwnTenant, Integrated, event.Event{
		Action: ActionStart, Outcome: "success", Target: []event.Target{{Type: "log", ID: s.params.Origin}},
		Details: map[string]any{"published_size": strconv.FormatUint(s.published.Load().head.Size, 10)},
	})
	if err != nil {
		s.announced.Store(false)
	}
	return err
}

func (s *Service) logStop(ctx context.Context) {
	if s.refusing() != nil {
		return
	}
	_, err := s.logOwn(ctx, OperatorCaller(), OwnTenant, Durable, event.Event{
		Action: ActionStop, Outcome: "success", Target: []event.Target{{Type: "log", ID: s.params.Origin}},
	})
	if err != nil {
		s.log.Error("logging the stop failed", "error", err)
	}
}

// logRead logs a read of content, before that is shown.
func (s *Service) logRead(ctx context.Context, from Caller, tenant, what, which string) error {
	_, err := s.logOwn(ctx, from, tenant, Durable, event.Event{
		Action: ActionRead, Outcome: "success", Target: []event.Target{{Type: what, ID: which}},
	})
	return err
}

// conflictID is the id of the event that records the attempt p: an HMAC of its
// content, so that a client that retries for ever makes one entry.
func (s *Service) conflictID(p *Pending) string {
	mac := hmac.New(sha256.New, s.params.IDSecret)
	fmt.Fprintf(mac, "prooftrail.conflict/1\n%d\n%s\n", p.index, p.fields.Text("/tenant"))
	mac.Write(p.fields.Submitted().JSON())
	return hex.EncodeToString(mac.Sum(nil))
}

// sealConflict seals the attempt p whole (I5).
func (s *Service) sealConflict(p *Pending, id string) (*Pending, error) {
	fields, err := s.ownFields(p.caller, p.fields.Text("/tenant"), event.Event{
		ID: id, Action: ActionConflict, Outcome: "denied",
		Reason:  &event.Reason{Code: "id_taken", Text: "the id names another event of this source"},
		Target:  []event.Target{{Type: "entry", ID: strconv.FormatUint(p.index, 10)}},
		Details: map[string]any{"attempt": string(p.fields.Submitted().JSON())},
	})
	if err != nil {
		return nil, fmt.Errorf("log %s: %w", ActionConflict, err)
	}
	return s.seal(p.caller, fields, nil)
}
