package pubstore

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Quarantined is an item that another system delivered in a form of its own, and that the log hasn't
// taken: it couldn't be translated, or what was made of it was refused.
type Quarantined struct {
	ID        string    `json:"id"` // 64 hexadecimal digits, of all tenants one
	Tenant    string    `json:"tenant"`
	Adapter   string    `json:"adapter"`
	Sender    string    `json:"sender"`    // how sure it is who sent it: see package ingest
	Principal string    `json:"principal"` // the credential that it was delivered under
	PeerIP    string    `json:"peer_ip,omitempty"`
	Received  time.Time `json:"received_at"`
	Status    string    `json:"status"` // quarantined, rejected or conflict: see package ingest
	Reason    string    `json:"reason"` // what was wrong, for people

	// What it takes to translate it again.
	Source string      `json:"source,omitempty"` // that the request named
	Header http.Header `json:"header,omitempty"`
	Query  url.Values  `json:"query,omitempty"`

	RawBytes  int64  `json:"raw_bytes"`  // length of Raw
	RawSHA256 []byte `json:"raw_sha256"` // of Raw, 32 bytes
	// MAC is over the rest, under a key that the store doesn't hold.
	MAC []byte `json:"mac"`

	// Raw is the item as it came. It isn't part of what the MAC is over; its hash is.
	Raw []byte `json:"-"`
}

// QuarantineSize is how much there is, or may be, in a quarantine.
type QuarantineSize struct {
	Items int64
	Bytes int64 // of the items and what is stored with them
}

// ErrQuarantineFull is returned by PutQuarantined when a tenant has, or would have, more than it may.
// Nothing was stored.
var ErrQuarantineFull = errors.New("the quarantine is full")

// Quarantine keeps items for an operator to look at. It is part of a [Store], with its promises
// about concurrency and errors.
//
// Durability: PutQuarantined and DropQuarantined are on stable storage when they return nil.
type Quarantine interface {
	// PutQuarantined stores items, all of them or none. One whose ID is there already stays as it
	// was. ErrQuarantineFull if one of their tenants would have more than most; *HeadMovedError if the
	// head's Hold isn't this one: a log that has moved away takes none.
	PutQuarantined(ctx context.Context, items []Quarantined, most QuarantineSize, hold string) error
	// Quarantined returns an item with its Raw, or ErrNotFound.
	Quarantined(ctx context.Context, id string) (Quarantined, error)
	// ListQuarantined returns up to count items of a tenant, or of all if it is "", with IDs greater
	// than after, by ID and without Raw.
	ListQuarantined(ctx context.Context, tenant, after string, count int) ([]Quarantined, error)
	// DropQuarantined removes an item. ErrNotFound if there is none; *HeadMovedError as above.
	DropQuarantined(ctx context.Context, id, hold string) error
	// QuarantineSize returns how much there is, of all tenants.
	QuarantineSize(ctx context.Context) (QuarantineSize, error)
}

// fits returns ErrQuarantineFull unless s is within most.
func (s QuarantineSize) fits(most QuarantineSize) error {
	if s.Items > most.Items || s.Bytes > most.Bytes {
		return ErrQuarantineFull
	}
	return nil
}

// encode returns what is stored of an item beside its Raw.
func (q *Quarantined) encode() ([]byte, error) {
	meta, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("encode a quarantined item: %w", err)
	}
	return meta, nil
}

// parseQuarantined reads what encode made of the item that is stored under id.
func parseQuarantined(id string, meta []byte) (Quarantined, error) {
	var q Quarantined
	if err := json.Unmarshal(meta, &q); err != nil {
		return Quarantined{}, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if q.ID != id || q.Tenant == "" || q.Adapter == "" || len(q.RawSHA256) != sha256.Size || q.RawBytes < 0 {
		return Quarantined{}, fmt.Errorf("%w: a member is missing", ErrCorrupt)
	}
	return q, nil
}

// withRaw adds the item as it came, if it is the one.
func (q Quarantined) withRaw(raw []byte) (Quarantined, error) {
	if sum := sha256.Sum256(raw); int64(len(raw)) != q.RawBytes || string(sum[:]) != string(q.RawSHA256) {
		return Quarantined{}, fmt.Errorf("%w: it isn't as it came", ErrCorrupt)
	}
	q.Raw = raw
	return q, nil
}
