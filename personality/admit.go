package personality

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// Wait is how far an event must have come before it is answered.
type Wait int

const (
	// Integrated: in the published tree; the answer has a receipt. The default.
	Integrated Wait = iota
	// Durable: on stable storage under its final index (I1). No signature covers
	// it yet.
	Durable
	// Witnessed: the receipt's checkpoint meets the witnesses' quorum. With no
	// witnesses configured, the same as Integrated.
	Witnessed
)

// ParseWait reads the wait parameter; empty means Integrated.
func ParseWait(s string) (Wait, error) {
	switch s {
	case "", "integrated":
		return Integrated, nil
	case "durable":
		return Durable, nil
	case "witnessed":
		return Witnessed, nil
	}
	return 0, &InvalidError{Field: "wait", Expected: "durable, integrated or witnessed"}
}

// Status is what became of an event.
type Status string

// The statuses of a Result.
const (
	StatusAccepted  Status = "accepted"  // stored under a new index
	StatusDuplicate Status = "duplicate" // it was there: the same index and leaf
	StatusConflict  Status = "conflict"  // its id names another event; that one stays
	StatusRejected  Status = "rejected"  // it was never admitted
)

// Result answers one event.
type Result struct {
	Status        Status // empty where Err says that it isn't known
	Index         uint64 // of the entry; of the first one for duplicate and conflict
	LeafHash      [32]byte
	Receipt       *verifier.Receipt // nil when the event is only durable
	ConflictIndex uint64            // of the audit.conflict entry
	Err           error
}

// Submission is one event on its way in.
type Submission struct {
	// Event is the event as JSON, without what the server stamps. It may be used again once Admit
	// has returned.
	Event []byte
	// Adapter names what made the event of something else, such as "kubernetes", and RawSHA256 is the SHA-256
	// of what that was given, 64 hexadecimal digits. Empty for events that came as such.
	Adapter, RawSHA256 string
	// Salts and Signature are of an event that its source has signed: a salt for each field, and the text of
	// seal.SignSource. Both or neither.
	Salts     seal.ChosenSalts
	Signature string
}

// Pending is an event that has been admitted: it is sealed and in the queue.
type Pending struct {
	s      *Service
	caller Caller
	id     [32]byte
	size   int // bytes it adds to a batch, about

	useReserve bool // of the disk, for an event of the service's own

	// refusal, if not nil, is the answer unless there is an entry with this identity: see checkSignature.
	refusal error

	// Until it is sequenced.
	fields event.Fields
	sealed *seal.Commitment

	// Set by the sequencer before it closes ready.
	ready         chan struct{}
	err           error
	status        Status // accepted, duplicate or conflict
	index         uint64
	conflictIndex uint64
	leafHash      [32]byte
	opening       []byte // of the entry at index
	batch         *batch // nil where the entry had been published before
}

// Admit takes one event as its source sent it: checks the credential and the
// event, stamps and seals it, and queues it. It returns *event.Error for a
// malformed event, *seal.EnvelopeError for a wrong signature, ErrUnsigned or
// ErrUnknownSourceKey where the source's keys ask for another, ErrForbidden, ErrBusy when ctx ends before there is room,
// ErrFull, ErrUnwitnessed, ErrClosing, or ErrRefusing.
func (s *Service) Admit(ctx context.Context, from Caller, sub Submission) (*Pending, error) {
	p, err := s.admit(ctx, from, sub)
	if err != nil {
		s.cfg.Metrics.refused.WithLabelValues(refusedReason(err)).Inc()
	}
	return p, err
}

func (s *Service) admit(ctx context.Context, from Caller, sub Submission) (*Pending, error) {
	if err := s.refusing(); err != nil {
		return nil, err
	}
	if err := s.cfg.room.refuse(false); err != nil {
		return nil, err
	}
	if err := s.unwitnessed(); err != nil {
		return nil, err
	}
	if !from.Token.Has(RoleSubmit) {
		return nil, fmt.Errorf("%w: it lacks the role %s", ErrForbidden, RoleSubmit)
	}
	submitted, err := event.Parse(sub.Event)
	if err != nil {
		return nil, err
	}
	if !from.Token.MaySpeakFor(submitted.Text("/source")) {
		return nil, ErrForeignSource
	}
	salts, refusal, err := s.checkSignature(ctx, from.Token.Tenant, submitted, &sub)
	if err != nil {
		return nil, err
	}
	stamp := event.Stamp{Tenant: from.Token.Tenant, ReceivedAt: s.cfg.Now(), Principal: from.Token.Principal(),
		Adapter: sub.Adapter, RawSHA256: sub.RawSHA256}
	if salts != nil {
		stamp.Signature = sub.Signature
	}
	if from.PeerIP.IsValid() {
		stamp.PeerIP = from.PeerIP.String()
	}
	fields, err := submitted.Stamp(stamp)
	if err != nil {
		return nil, err
	}
	p, err := s.seal(from, fields, salts)
	if err != nil {
		return nil, err
	}
	p.refusal = refusal
	return s.enqueue(ctx, p)
}

// enqueue puts a sealed event in the queue.
func (s *Service) enqueue(ctx context.Context, p *Pending) (*Pending, error) {
	if err := s.budget.Acquire(ctx, p.charge()); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx))
	}
	if err := s.queueUp(ctx, p); err != nil {
		s.budget.Release(p.charge())
		return nil, err
	}
	return p, nil
}

// charge is what the event takes of the queue's budget, until it is sequenced.
func (p *Pending) charge() int64 { return min(int64(p.size), p.s.cfg.QueueBytes) }

func (s *Service) queueUp(ctx context.Context, p *Pending) error {
	s.admitting.RLock()
	defer s.admitting.RUnlock()
	if s.isClosing() {
		return ErrClosing
	}
	select {
	case s.queue <- p:
		return nil
	case <-s.closing:
		return ErrClosing
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx))
	}
}

// seal commits to the fields of a stamped event, with salts of its source or, nil, of its own.
func (s *Service) seal(from Caller, fields event.Fields, salts seal.SaltSource) (*Pending, error) {
	began := time.Now()
	sealed, err := seal.Commit(fields, salts)
	if err != nil {
		return nil, fmt.Errorf("seal event: %w", err)
	}
	s.cfg.Metrics.since("seal", began)
	p := &Pending{
		s: s, caller: from, fields: fields, sealed: sealed, ready: make(chan struct{}),
		id: s.identity(fields.Text("/tenant"), fields.Text("/source"), fields.Text("/id")),
	}
	for _, f := range fields {
		p.size += len(f.Pointer) + len(f.Value) + fieldOverhead
	}
	return p, nil
}

// identity is the identity hash of an event of this log (I5).
func (s *Service) identity(tenant, source, id string) [32]byte {
	return seal.IdentityHash(s.params.IDSecret, tenant, source, id)
}

// fieldOverhead is about what an opening adds to each field's pointer and value.
const fieldOverhead = 48

// refusedReason names why an event was refused, from a closed list.
func refusedReason(err error) string {
	var bad *event.Error
	var badEnvelope *seal.EnvelopeError
	switch {
	case errors.As(err, &bad):
		return bad.Code
	case errors.As(err, &badEnvelope):
		return "envelope"
	case errors.Is(err, ErrUnsigned):
		return "unsigned"
	case errors.Is(err, ErrUnknownSourceKey):
		return "source_key"
	case errors.Is(err, ErrForbidden):
		return "forbidden"
	case errors.Is(err, ErrBusy):
		return "busy"
	case errors.Is(err, ErrFull):
		return "full"
	case errors.Is(err, ErrUnwitnessed):
		return "unwitnessed"
	case errors.Is(err, ErrClosing):
		return "closing"
	case errors.Is(err, ErrRefusing):
		return "refusing"
	}
	return "internal"
}

// Wait waits until the event has come as far as w asks, or ctx ends: then the
// result has no receipt, and has ctx's error if it isn't known whether the event is durable.
func (p *Pending) Wait(ctx context.Context, w Wait) Result {
	if !waitFor(ctx, p.ready) {
		return Result{Err: context.Cause(ctx)}
	}
	if p.err != nil {
		return Result{Err: p.err}
	}
	r := Result{Status: p.status, Index: p.index, LeafHash: p.leafHash, ConflictIndex: p.conflictIndex}
	if p.status == StatusConflict {
		return r
	}
	if w == Durable {
		return r
	}
	return p.receipt(ctx, r, w)
}

// receipt waits for the event's publication, or for the quorum to have cosigned that, and adds
// the receipt.
func (p *Pending) receipt(ctx context.Context, r Result, w Wait) Result {
	at := p.s.published.Load()
	if p.batch == nil && p.index >= at.head.Size { // another process has published it just now
		if at = p.s.head(ctx); p.index >= at.head.Size {
			return late(r)
		}
	}
	if p.batch != nil {
		if !waitFor(ctx, p.batch.published) {
			return late(r)
		}
		if p.batch.err != nil {
			r.Err = p.batch.err
			return r
		}
		at = p.batch.head
	}
	if w == Witnessed && p.s.public != nil {
		if at = p.s.waitCosigned(ctx, p.index); at == nil {
			return late(r)
		}
	}
	opening, err := p.ownOpening()
	if err != nil {
		r.Err = err
		return r
	}
	r.Receipt, r.Err = p.s.makeReceipt(ctx, r.Index, at, opening)
	if r.Err != nil && ctx.Err() != nil {
		return late(r)
	}
	return r
}

// ownOpening is the entry's opening as the submitter may see it: of an entry that
// another principal submitted, without how it came in, but for the source's own signature.
func (p *Pending) ownOpening() ([]byte, error) {
	if p.status != StatusDuplicate {
		return p.opening, nil
	}
	o, err := seal.ParseOpening(p.opening)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", pubstore.ErrCorrupt, err)
	}
	stored := o.Event()
	if stored.Text("/ingest/principal") == p.caller.Token.Principal() {
		return p.opening, nil
	}
	var stamp []string
	for _, f := range stored {
		if strings.HasPrefix(f.Pointer, "/ingest/") && f.Pointer != "/ingest/signature" {
			stamp = append(stamp, f.Pointer)
		}
	}
	if o, err = o.Withhold(stamp...); err != nil {
		return nil, fmt.Errorf("withhold %q: %w", stamp, err)
	}
	return o.Bytes(), nil
}

// waitFor reports whether done is closed before ctx ends, or was already.
func waitFor(ctx context.Context, done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
		return false
	}
}

// late is the result when ctx ended before the receipt was there: the event is durable.
func late(r Result) Result {
	r.Receipt, r.Err = nil, nil
	return r
}
