package httpapi

import (
	"context"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier"
)

// Log is what this package needs of a log. [Of] makes one of a
// [personality.Service], whose documentation says what each call promises.
//
// All methods are safe for concurrent use, and none is called after the last
// request has been answered. Errors are those of package personality, or an
// *event.Error; anything else is answered as an internal error. Nobody here
// retries: the client does.
type Log interface {
	// LogName is the {log} of paths.
	LogName() string

	// Authenticate finds the token of a bearer credential, or ErrUnauthorized.
	Authenticate(ctx context.Context, bearer string) (*personality.Token, error)

	// Admit takes one event. The caller may use raw again once it returned.
	Admit(ctx context.Context, from personality.Caller, sub personality.Submission) (Pending, error)

	// Entry, EventByID, Receipt and Openings read, within what the caller may see.
	Entry(ctx context.Context, from personality.Caller, index uint64) (*personality.Entry, error)
	EventByID(ctx context.Context, from personality.Caller, source, id string) (*personality.Entry, error)
	Receipt(ctx context.Context, from personality.Caller, index uint64, w personality.Wait) ([]byte, error)
	Openings(ctx context.Context, from personality.Caller, start uint64, count int, each func(personality.OpeningLine) error) error

	// The public side: tlog-tiles and proofs.
	Checkpoint(ctx context.Context) ([]byte, error)
	Tile(ctx context.Context, level int, n uint64, width int) ([]byte, error)
	EntryBundle(ctx context.Context, n uint64, width int) ([]byte, error)
	ProveInclusion(ctx context.Context, index, size uint64) (leafHash verifier.Hash, proof []verifier.Hash, err error)
	ProveConsistency(ctx context.Context, first, second uint64) ([]verifier.Hash, error)

	// Tokens, for callers with the role admin.
	AddToken(ctx context.Context, from personality.Caller, r personality.TokenRequest) (*personality.Token, string, error)
	RevokeToken(ctx context.Context, from personality.Caller, id string) error
	Tokens(ctx context.Context, from personality.Caller) ([]*personality.Token, error)

	// Ingest takes what another system sent in a form of its own.
	Ingest(ctx context.Context, from personality.Caller, d personality.Delivery) (*personality.Taken, error)
	// The quarantine, for callers with the role admin.
	QuarantineList(ctx context.Context, from personality.Caller, after string, count int) ([]pubstore.Quarantined, error)
	QuarantineShow(ctx context.Context, from personality.Caller, id string) (pubstore.Quarantined, error)
	QuarantineReplay(ctx context.Context, from personality.Caller, id, source string) ([]ingest.Result, error)
	QuarantineDrop(ctx context.Context, from personality.Caller, id string) error
	// Keys of sources, likewise.
	AddSourceKey(ctx context.Context, from personality.Caller, r personality.SourceKeyRequest) (*personality.SourceKey, error)
	RevokeSourceKey(ctx context.Context, from personality.Caller, id string, release bool) error
	SourceKeys(ctx context.Context, from personality.Caller) ([]*personality.SourceKey, error)

	// Ready says whether the log does its work.
	Ready(ctx context.Context) personality.Readiness
}

// Pending is an admitted event.
type Pending interface {
	// Wait returns when the event is as far as w asks, or when ctx ends.
	Wait(ctx context.Context, w personality.Wait) personality.Result
}

// Of makes a Log of a service.
func Of(s *personality.Service) Log { return service{s} }

// service differs from what it embeds in the static type of one result.
type service struct{ *personality.Service }

func (s service) Admit(ctx context.Context, from personality.Caller, sub personality.Submission) (Pending, error) {
	p, err := s.Service.Admit(ctx, from, sub)
	if err != nil {
		return nil, err // not p: a nil *Pending in the interface wouldn't be nil
	}
	return p, nil
}
