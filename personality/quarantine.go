package personality

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// The quarantine's crash table. An item is in the store, whole, or it isn't.
//
//	step                     crash before it                    crash after it
//	1 take: events durable   no answer: all of it is sent       no answer: sent again, these are duplicates, the
//	                         again                              others come to the same end
//	2 take: items durable    the same                           no answer: sent again, they are there already
//	3 replay: as 1 and 2     the item stays as it was           the item stays; replayed again, its events are
//	                                                            duplicates
//	4 replay or drop logged  the item stays                     the item stays; the next time logs it once more
//	5 item removed           the item stays                     it is gone, and the log says by whom

// maxReason bounds the reason that is kept, in bytes.
const maxReason = 1 << 10

// quarantined makes what the quarantine keeps of an item. Its id is an HMAC of all that it takes to translate it,
// so that a sender who sends it again and again has one item there.
func (s *Service) quarantined(from Caller, d *Delivery, it *ingest.Item, r ingest.Result) (pubstore.Quarantined, error) {
	header := it.Header
	if header == nil && len(d.Header["Content-Type"]) > 0 {
		header = http.Header{"Content-Type": d.Header["Content-Type"][:1]}
	}
	keep, err := json.Marshal(header)
	if err != nil {
		return pubstore.Quarantined{}, fmt.Errorf("quarantine: %w", err)
	}
	tenant := from.Token.Tenant
	q := pubstore.Quarantined{
		ID:     s.in.id("quarantine", tenant, d.Adapter, d.Sender, d.Source, d.Query.Encode(), string(keep), string(it.Raw)),
		Tenant: tenant, Adapter: d.Adapter, Sender: d.Sender, Principal: from.Token.Principal(), Received: d.received,
		Status: string(r.Status), Reason: cutText(r.Reason, maxReason),
		Source: validText(d.Source), Header: eachText(header, sameName), Query: eachText(d.Query, sameName),
		RawBytes: int64(len(it.Raw)), RawSHA256: sum256(it.Raw),
	}
	if from.PeerIP.IsValid() {
		q.PeerIP = from.PeerIP.String()
	}
	if d.replayOf != nil { // a part of it: who replays isn't who delivered it
		q.Principal, q.PeerIP = d.replayOf.Principal, d.replayOf.PeerIP
	}
	if q, err = s.parts.keys.sealQuarantined(q); err != nil {
		return q, fmt.Errorf("quarantine: %w", err)
	}
	q.Raw = it.Raw
	return q, nil
}

// validText is a text of somebody else's as JSON can hold it: what isn't UTF-8 would be read back as something else, and
// the item's MAC wouldn't hold.
func validText(s string) string { return strings.ToValidUTF8(s, "\ufffd") }

func sameName(_, value string) string { return value }

// eachText is a header or a query with its values changed, and nothing in it that isn't UTF-8.
func eachText[M ~map[string][]string](all M, change func(name, value string) string) M {
	if all == nil {
		return nil
	}
	out := M{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, v := range all[name] {
			out[validText(name)] = append(out[validText(name)], change(name, validText(v)))
		}
	}
	return out
}

func sum256(b []byte) []byte {
	sum := sha256.Sum256(b)
	return sum[:]
}

// cutText is the beginning of a text, at most n bytes of UTF-8.
func cutText(text string, n int) string {
	return strings.ToValidUTF8(text[:min(len(text), n)], "")
}

// quarantine stores items durably, but for what is being replayed.
func (s *Service) quarantine(ctx context.Context, d *Delivery, bad []pubstore.Quarantined) error {
	var items []pubstore.Quarantined
	for _, q := range bad {
		if d.replayOf == nil || !bytes.Equal(q.RawSHA256, d.replayOf.RawSHA256) {
			items = append(items, q)
		}
	}
	if len(items) == 0 {
		return nil
	}
	if err := s.cfg.room.refuse(false); err != nil {
		return err
	}
	err := s.store.PutQuarantined(ctx, items, s.in.most, "")
	if errors.Is(err, pubstore.ErrQuarantineFull) {
		s.cfg.Metrics.quarantineFull.Inc()
		s.sayFull(items[0].Tenant)
	}
	return unheld(err)
}

// unheld makes ErrUnavailable of a head that is held: the log has moved, and the service is about to notice.
func unheld(err error) error {
	var held *pubstore.HeadMovedError
	if errors.As(err, &held) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}

// sayFullEvery is how often the log says that a quarantine is full, in seconds.
const sayFullEvery = 60

func (s *Service) sayFull(tenant string) {
	now, last := time.Now().Unix(), s.in.saidFull.Load()
	if now-last < sayFullEvery || !s.in.saidFull.CompareAndSwap(last, now) {
		return
	}
	s.log.Error("the quarantine is full: deliveries with an item for it are refused until somebody replays or drops some",
		"tenant", tenant, "quarantine_items", s.in.most.Items, "quarantine_bytes", s.in.most.Bytes)
}

// quarantineSize is how much there is, for metrics; nothing when that can't be told.
func (s *Service) quarantineSize() (size pubstore.QuarantineSize) {
	release, err := s.use()
	if err != nil {
		return size
	}
	defer release()
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	if size, err = s.store.QuarantineSize(ctx); err != nil {
		s.log.Warn("the size of the quarantine can't be read", "error", err)
	}
	return size
}

// MaxQuarantineList is how many items a list has at most.
const MaxQuarantineList = 1000

// QuarantineList returns up to count items, without their content, header and query, with ids greater than after, of
// the tenants that the caller administers.
func (s *Service) QuarantineList(ctx context.Context, from Caller, after string, count int) ([]pubstore.Quarantined, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.mayAdminister(from, from.Token.Tenant); err != nil {
		return nil, err
	}
	tenant := from.Token.Tenant
	if tenant == AllTenants {
		tenant = ""
	}
	list, err := s.store.ListQuarantined(ctx, tenant, after, min(max(count, 0), MaxQuarantineList))
	if err != nil {
		return nil, err
	}
	for i := range list {
		if err := s.parts.keys.checkQuarantined(list[i]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
		}
		list[i].Header, list[i].Query = nil, nil // content too, and a list isn't logged
	}
	return list, nil
}

// inQuarantine returns an item that the caller administers, or ErrNotFound.
func (s *Service) inQuarantine(ctx context.Context, from Caller, id string) (pubstore.Quarantined, error) {
	if err := s.mayAdminister(from, from.Token.Tenant); err != nil {
		return pubstore.Quarantined{}, err
	}
	q, err := s.store.Quarantined(ctx, id)
	if errors.Is(err, pubstore.ErrNotFound) || err == nil && !from.Token.Sees(q.Tenant) {
		return pubstore.Quarantined{}, ErrNotFound // of another tenant's not even that it exists
	}
	if err != nil {
		return q, err
	}
	if err := s.parts.keys.checkQuarantined(q); err != nil {
		return q, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return q, nil
}

// QuarantineShow returns an item with its content, header and query, secrets masked, and bytes that aren't UTF-8 replaced.
// It is logged before it is shown. ErrNotFound if there is none.
func (s *Service) QuarantineShow(ctx context.Context, from Caller, id string) (pubstore.Quarantined, error) {
	release, err := s.use()
	if err != nil {
		return pubstore.Quarantined{}, err
	}
	defer release()
	q, err := s.inQuarantine(ctx, from, id)
	if err != nil {
		return q, err
	}
	if err := s.logQuarantine(ctx, from, q, ActionQuarantineShow, nil, nil); err != nil {
		return q, err
	}
	q.Raw = []byte(s.in.masker.Text(validText(string(q.Raw))))
	q.Source, q.Header, q.Query = s.in.masker.Text(q.Source), eachText(q.Header, s.in.maskNamed), eachText(q.Query, s.in.maskNamed)
	return q, nil
}

// maskNamed takes secrets out of a value that stands under a name.
func (in *ingester) maskNamed(name, value string) string {
	masked, _ := in.masker.Value(name, value).(string)
	return masked
}

// QuarantineDrop removes an item for good. It is logged before it is done. ErrNotFound if there is none.
func (s *Service) QuarantineDrop(ctx context.Context, from Caller, id string) error {
	release, err := s.use()
	if err != nil {
		return err
	}
	defer release()
	q, err := s.inQuarantine(ctx, from, id)
	if err != nil {
		return err
	}
	if err := s.logQuarantine(ctx, from, q, ActionQuarantineDrop, nil, nil); err != nil {
		return err
	}
	return s.dropQuarantined(ctx, id)
}

func (s *Service) dropQuarantined(ctx context.Context, id string) error {
	err := s.store.DropQuarantined(ctx, id, "")
	if errors.Is(err, pubstore.ErrNotFound) {
		return ErrNotFound // somebody else was faster
	}
	return unheld(err)
}

// logQuarantine logs what is done with an item, in its tenant.
func (s *Service) logQuarantine(ctx context.Context, from Caller, q pubstore.Quarantined, action string, failed *event.Reason, more map[string]any) error {
	e := event.Event{
		Action: action, Outcome: "success", Reason: failed, Target: []event.Target{{Type: "quarantined", ID: q.ID}},
		Details: map[string]any{"adapter": q.Adapter, "principal": q.Principal, "received_at": q.Received.UTC().Format(time.RFC3339Nano),
			"status": q.Status, "bytes": strconv.FormatInt(q.RawBytes, 10)},
	}
	if failed != nil {
		e.Outcome = "failure"
	}
	for name, value := range more {
		e.Details[name] = value
	}
	_, err := s.logOwn(ctx, from, q.Tenant, Durable, e)
	return err
}
