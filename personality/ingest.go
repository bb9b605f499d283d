package personality

import (
	"context"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
)

// Delivery is what another system sent, in a form of its own.
type Delivery struct {
	// Adapter is the name of the one that knows the form.
	Adapter string
	// Sender says how sure it is who sent it: see package ingest.
	Sender string
	Header http.Header
	Query  url.Values // without source
	// Source is the source that the request names. Default: the token's one prefix, if it has
	// only that and it is a whole source.
	Source string
	Body   []byte // with no content coding any more
	// Charge, unless nil, is told how many items there are before any is taken. Its error ends
	// the delivery.
	Charge func(items int) error

	received time.Time             // when it came; the zero time: now
	replayOf *pubstore.Quarantined // what is replayed, which is in the quarantine already; nil: nothing is
}

// FormError is a request of which no items can be told apart.
type FormError struct{ Err error }

func (e *FormError) Error() string { return "the request can't be read: " + e.Err.Error() }

// Unwrap returns what was wrong.
func (e *FormError) Unwrap() error { return e.Err }

// ingester is what a service needs to take in other forms.
type ingester struct {
	adapters map[string]ingest.Adapter
	masker   *mask.Masker
	key      []byte                  // of ids; derived from the log's identity secret
	most     pubstore.QuarantineSize // of a tenant
	saidFull atomic.Int64            // when it was last said that the quarantine is full, Unix seconds
}

func newIngester(cfg *Config, secret []byte) (in *ingester, err error) {
	in = &ingester{adapters: map[string]ingest.Adapter{}}
	in.most = pubstore.QuarantineSize{Items: int64(cfg.QuarantineItems), Bytes: cfg.QuarantineBytes}
	for _, a := range cfg.Adapters {
		if _, twice := in.adapters[a.Name()]; twice {
			return in, &InvalidError{Field: "Adapters", Expected: "names that differ; there are two " + a.Name()}
		}
		in.adapters[a.Name()] = a
		for _, st := range ingest.Statuses {
			cfg.Metrics.ingested.WithLabelValues(a.Name(), string(st))
		}
	}
	if in.masker, err = mask.New(nil, nil); err != nil {
		return in, err
	}
	in.key, err = hkdf.Key(sha256.New, secret, nil, "prooftrail.ingest/1", sha256.Size)
	return in, err
}

// id is an HMAC over parts, each preceded by its length as uint64 big endian, in 64 hexadecimal digits.
func (in *ingester) id(kind string, parts ...string) string {
	mac := hmac.New(sha256.New, in.key)
	for _, p := range append([]string{kind}, parts...) {
		mac.Write(binary.BigEndian.AppendUint64(nil, uint64(len(p))))
		mac.Write([]byte(p))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// Taken is what became of a delivery.
type Taken struct {
	Results []ingest.Result // of each item, in order
	Answer  ingest.Answer   // in the form of the adapter's protocol
}

// Ingest takes a delivery. When it returns no error, every item that isn't skipped is in the log or in
// the quarantine, on stable storage; there is a result for each, in order. *FormError for what has no
// items, ErrNotFound for an adapter that isn't there, ErrForbidden, the error of Charge,
// ErrQuarantineFull, and those of Admit that may pass: then nothing is lost if the sender sends
// all of it again.
func (s *Service) Ingest(ctx context.Context, from Caller, d Delivery) (*Taken, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	if err := s.refusing(); err != nil {
		return nil, err
	}
	if !from.Token.Has(RoleSubmit) {
		return nil, fmt.Errorf("%w: it lacks the role %s", ErrForbidden, RoleSubmit)
	}
	r, items, err := s.translate(from, &d)
	if err != nil {
		return nil, err
	}
	if d.Charge != nil {
		if err := d.Charge(len(items)); err != nil {
			return nil, err
		}
	}
	results, err := s.takeAll(ctx, from, &d, items)
	if err != nil {
		return nil, err
	}
	if own, ok := s.in.adapters[d.Adapter].(ingest.Answerer); ok {
		return &Taken{results, own.Answer(r, results)}, nil
	}
	answer, err := ingest.Answers(results)
	return &Taken{results, answer}, err
}

// translate has the adapter make items of a delivery.
func (s *Service) translate(from Caller, d *Delivery) (*ingest.Request, []ingest.Item, error) {
	a, ok := s.in.adapters[d.Adapter]
	if !ok {
		return nil, nil, fmt.Errorf("%w: there is no adapter of this name", ErrNotFound)
	}
	if d.received.IsZero() {
		d.received = s.cfg.Now().UTC()
	}
	if d.Source == "" {
		d.Source = onlySource(from.Token)
	}
	r := &ingest.Request{Header: d.Header, Query: d.Query, Body: d.Body, Source: d.Source, Received: d.received,
		ID: func(parts ...string) string {
			return s.in.id("item", append([]string{from.Token.Tenant, d.Adapter}, parts...)...)
		}}
	items, err := s.callAdapter(a, r)
	if err == nil && len(items) > ingest.MaxItems {
		err = ingest.ErrTooManyItems
	}
	if err != nil {
		return nil, nil, &FormError{err}
	}
	return r, items, nil
}

// callAdapter survives an adapter that panics: what it did so on goes to the quarantine, whole.
func (s *Service) callAdapter(a ingest.Adapter, r *ingest.Request) (items []ingest.Item, err error) {
	defer func() {
		if v := recover(); v != nil {
			s.log.Error("an adapter panicked", "adapter", a.Name(), "panic", v, "stack", string(debug.Stack()))
			items, err = []ingest.Item{{Raw: r.Body, Err: errors.New("the adapter failed on it")}}, nil
		}
	}()
	return a.Translate(r)
}

// onlySource is the source of a token that can speak for one only, as far as one can tell.
func onlySource(t *Token) string {
	if len(t.Sources) == 1 && strings.Contains(t.Sources[0], "://") {
		return t.Sources[0]
	}
	return ""
}
