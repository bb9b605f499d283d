package personality

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// Items are taken so many at a time, or so many bytes: what they become is held in memory until they are
// durable.
const (
	takeItems = 500
	takeBytes = 4 << 20
)

func (s *Service) takeAll(ctx context.Context, from Caller, d *Delivery, items []ingest.Item) ([]ingest.Result, error) {
	results := make([]ingest.Result, 0, len(items))
	for len(items) > 0 {
		n, size := 0, 0
		for n < min(len(items), takeItems) && (n == 0 || size+len(items[n].Raw) <= takeBytes) {
			size += len(items[n].Raw)
			n++
		}
		some, err := s.takeSome(ctx, from, d, items[:n])
		if err != nil {
			return nil, err
		}
		results, items = append(results, some...), items[n:]
	}
	return results, nil
}

// takeSome brings items into the log, and those that it doesn't take into the quarantine.
func (s *Service) takeSome(ctx context.Context, from Caller, d *Delivery, items []ingest.Item) ([]ingest.Result, error) {
	results, pending := make([]ingest.Result, len(items)), make([]*Pending, len(items))
	for i := range items {
		var err error
		if results[i], pending[i], err = s.submitItem(ctx, from, d, &items[i]); err != nil {
			return nil, err
		}
	}
	var bad []pubstore.Quarantined
	for i := range items {
		if p := pending[i]; p != nil {
			var err error
			if results[i], err = s.itemDurable(ctx, from, d, &items[i], p); err != nil {
				return nil, err
			}
		}
		switch results[i].Status {
		case ingest.Conflict, ingest.Rejected, ingest.Quarantined:
			q, err := s.quarantined(from, d, &items[i], results[i])
			if err != nil {
				return nil, err
			}
			results[i].Quarantine = q.ID
			bad = append(bad, q)
		}
	}
	if err := s.quarantine(ctx, d, bad); err != nil {
		return nil, err
	}
	for i := range results {
		s.cfg.Metrics.ingested.WithLabelValues(d.Adapter, string(results[i].Status)).Inc()
	}
	return results, nil
}

// itemDurable waits until an item's event is durable. Where two deliveries of one item without a time of its own were
// under way at once, each gave it the time of its own arrival: the one that comes second takes the first one's.
func (s *Service) itemDurable(ctx context.Context, from Caller, d *Delivery, it *ingest.Item, p *Pending) (ingest.Result, error) {
	r := p.Wait(ctx, Durable)
	if r.Err == nil && r.Status == StatusConflict && it.Untimed {
		result, again, err := s.submitItem(ctx, from, d, it)
		if err != nil || again == nil {
			return result, err
		}
		r = again.Wait(ctx, Durable)
	}
	if r.Err != nil {
		return ingest.Result{}, r.Err
	}
	return itemResult(r), nil
}

// submitItem admits the event of an item. Without a Pending the result is final; an error is one
// that may pass.
func (s *Service) submitItem(ctx context.Context, from Caller, d *Delivery, it *ingest.Item) (ingest.Result, *Pending, error) {
	if r, final := untranslated(it); final {
		return r, nil, nil
	}
	ingest.Mask(s.in.masker, &it.Event)
	setSender(&it.Event, d.Sender)
	if it.Untimed {
		if err := s.sameTime(ctx, from.Token.Tenant, &it.Event); err != nil {
			return ingest.Result{}, nil, err
		}
	}
	raw := encodeEvent(&it.Event)
	if raw == nil {
		return ingest.Result{Status: ingest.Rejected, Reason: "the event that was made of it can't be written as JSON"}, nil, nil
	}
	sum := sha256.Sum256(it.Raw)
	p, err := s.Admit(ctx, from, Submission{Event: raw, Adapter: d.Adapter, RawSHA256: hex.EncodeToString(sum[:])})
	var invalid *event.Error
	if errors.As(err, &invalid) || errors.Is(err, ErrForeignSource) || errors.Is(err, ErrUnsigned) {
		return ingest.Result{Status: ingest.Rejected, Reason: err.Error()}, nil, nil
	}
	return ingest.Result{}, p, err
}

// untranslated is the result of an item of which no event was made.
func untranslated(it *ingest.Item) (r ingest.Result, is bool) {
	switch {
	case it.Skip:
		return ingest.Result{Status: ingest.Skipped}, true
	case it.Err != nil:
		return ingest.Result{Status: ingest.Quarantined, Reason: it.Err.Error()}, true
	}
	return r, false
}

// encodeEvent writes an event as JSON; nil if it holds what JSON doesn't have.
func encodeEvent(e *event.Event) []byte {
	raw, err := json.Marshal(e)
	if err != nil {
		return nil
	}
	return raw
}

// setSender sets the labels that are the service's.
func setSender(e *event.Event, sender string) {
	labels := map[string]string{ingest.LabelSender: sender}
	for name, value := range e.Labels {
		if !strings.HasPrefix(name, ingest.LabelPrefix) {
			labels[name] = value
		}
	}
	e.Labels = labels
}

// itemResult is what became of an admitted event.
func itemResult(r Result) ingest.Result {
	out := ingest.Result{Status: ingest.Status(r.Status), Index: r.Index}
	if r.Status == StatusConflict {
		out.Reason = fmt.Sprintf("entry %d is another event with this source and id; entry %d records the attempt", r.Index, r.ConflictIndex)
	}
	return out
}

// sameTime gives an event whose item has no time the one that the log has it under, if it has it.
func (s *Service) sameTime(ctx context.Context, tenant string, e *event.Event) error {
	id := s.identity(tenant, e.Source, e.ID)
	first, err := s.lookUp(ctx, id)
	for err == nil && first != nil && first.batch != nil { // its opening may be on its way to the store still
		if !waitFor(ctx, first.batch.published) {
			return fmt.Errorf("%w: %w", ErrBusy, context.Cause(ctx))
		}
		first, err = s.lookUp(ctx, id) // published; or, where storing it failed, tried again
	}
	if err != nil || first == nil {
		return err
	}
	opening, err := s.store.Opening(ctx, first.index, first.leafHash)
	if err != nil {
		return notAMiss(err)
	}
	o, err := seal.ParseOpening(opening)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if at, err := time.Parse(time.RFC3339Nano, o.Event().Text("/time")); err == nil {
		e.Time = at
	}
	return nil
}
