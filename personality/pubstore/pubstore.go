// Package pubstore keeps what a log publishes and what it needs to know about
// it: the head, the tiles and entry bundles, the openings, the map from an
// event's identity to its index, the log's parameters, its tokens and the keys of its
// sources. It also keeps what came in and the log hasn't taken: see [Quarantine].
//
// Trillian holds the leaves and its own Merkle tree; nothing here is taken from
// it unchecked. The personality recomputes every hash that it puts here from
// leaves read back, and the head moves only forward, by compare-and-swap
// (invariants I2 and I5 of the package personality).
//
// [Store] is the contract. [Pebble] implements it for the embedded log; every
// implementation passes the suite in pubstoretest.
package pubstore

import (
	"context"
	"errors"
	"fmt"
	"time"
)

var (
	// ErrNotFound: the store was read and holds no such thing. Never the answer
	// to a read that failed: an error is not a miss (I7).
	ErrNotFound = errors.New("not in the publication store")
	// ErrCorrupt: what the store holds can't have been written by it.
	ErrCorrupt = errors.New("corrupt publication store")
	// ErrUnavailable: the store could not be read or written now. A write may have
	// happened all the same.
	ErrUnavailable = errors.New("the log's storage is not available")
	// ErrExists: the store already holds a log.
	ErrExists = errors.New("the publication store already holds a log")
)

// Head is a tree size and its RFC 6962 root. A stored head means "may have been
// signed": whoever finds it signs it again or extends it, never anything else.
type Head struct {
	Size uint64
	Root [32]byte
}

// SealedHead is a head as it is stored: with a MAC, under a key that the store doesn't
// hold, that tells it from one that somebody wrote into the database.
type SealedHead struct {
	Head
	// Hold, unless empty, says why nothing may be published on this head: see the package
	// personality. At most MaxHold bytes.
	Hold string
	MAC  [32]byte // over all of it; see the package personality
}

// MaxHold is the longest Hold, in bytes.
const MaxHold = 4096

// HeadMovedError is returned by Publish when the stored head isn't the one the
// publication extends, and by SetHold likewise. Nothing was written.
type HeadMovedError struct {
	Stored Head // what is there
	Want   Head // what the publication was made on
	Hold   bool // the stored head's Hold isn't the one that was expected
}

func (e *HeadMovedError) Error() string {
	if e.Stored == e.Want {
		return fmt.Sprintf("the stored head of size %d is held otherwise than was expected", e.Stored.Size)
	}
	return fmt.Sprintf("the stored head has size %d and root %x, the publication extends size %d and root %x",
		e.Stored.Size, e.Stored.Root[:4], e.Want.Size, e.Want.Root[:4])
}

// ErrCheckpointMoved is returned by PutCheckpoint when the note that is kept isn't the one to
// be replaced.
var ErrCheckpointMoved = errors.New("another checkpoint is kept")

// Opening is one sealed event's opening. It is kept under the index and the RFC 6962
// hash of its leaf. The index puts openings side by side in the order in which they are
// written and audited. The hash keeps one of a leaf that never made it into the tree
// from standing for, or in the place of, that of the leaf which did.
type Opening struct {
	LeafHash [32]byte
	Bytes    []byte // nil: there is none, and none is stored
}

// A Mark says that a batch was sequenced by this log: it is made with a key that
// the store doesn't hold, over the batch's first index and its leaves. Whoever
// reads leaves back that aren't signed yet believes only those that a mark has at their
// index. It names each leaf, because a batch may have been stored in part: two writers
// met, and each index went to one of them.
type Mark struct {
	First  uint64   // index of the batch's first leaf
	Leaves []LeafID // 1 to MaxMark of them
	MAC    [32]byte // see the package personality
}

// MaxMark is the most leaves of a batch.
const MaxMark = 2000

// End is the index behind the batch.
func (m *Mark) End() uint64 { return m.First + uint64(len(m.Leaves)) }

// LeafID is what a mark knows of a leaf.
type LeafID struct {
	Hash     [32]byte // RFC 6962 leaf hash
	Identity [32]byte // identity hash
}

// Batch is what is stored of a batch before its leaves are.
type Batch struct {
	Mark     Mark
	Openings []Opening // of the leaves from index Mark.First on
}

// TileAppend adds Data at the end of one tile or entry bundle.
type TileAppend struct {
	Level int    // 0..63 for a hash tile; ignored for entry bundles
	N     uint64 // index of the tile within its level
	// Width is how many hashes or entries the tile held before: 0..255. At 0 the
	// tile is begun, and whatever an abandoned store held there is replaced.
	Width int
	Data  []byte // whole hashes of 32 bytes, or whole length-prefixed entries
}

// ID maps an event's identity hash to the index of its entry.
type ID struct {
	Hash  [32]byte
	Index uint64
}

// Publication is one step of the head and all that it makes visible.
type Publication struct {
	Head    SealedHead // the new head; its size is greater than the old one's
	Tiles   []TileAppend
	Bundles []TileAppend
	IDs     []ID
	Drop    []Mark // marks of batches that a signed head covers; no longer needed
}

// Log is what was fixed when the log was made. It never changes.
type Log struct {
	Origin   string    `json:"origin"`    // checkpoint origin and key name
	Name     string    `json:"name"`      // short name in URLs
	VKey     string    `json:"vkey"`      // the log's public key, as a note vkey
	TreeID   int64     `json:"tree_id"`   // Trillian's tree
	IDSecret []byte    `json:"id_secret"` // key of the identity hash, 32 bytes
	Created  time.Time `json:"created"`
	// MAC is over the rest, under a key that the store doesn't hold.
	MAC []byte `json:"mac"`
}

// Token is a stored credential: never the secret, only its SHA-256.
type Token struct {
	ID         string    `json:"id"`
	Name       string    `json:"name"`
	Tenant     string    `json:"tenant"`
	Roles      []string  `json:"roles"`
	Sources    []string  `json:"sources,omitempty"`
	SecretHash []byte    `json:"secret_sha256"` // 32 bytes
	Created    time.Time `json:"created_at"`
	// Revoked is when the token ended. It stays: its tenant has events.
	Revoked time.Time `json:"revoked_at,omitzero"`
	// MAC is over the rest, under a key that the store doesn't hold.
	MAC []byte `json:"mac"`
}

// SourceKey is a registered key with which a source signs its events: the public half.
type SourceKey struct {
	ID       string    `json:"id"`
	Tenant   string    `json:"tenant"`
	Source   string    `json:"source"` // prefix of /source
	VKey     string    `json:"vkey"`
	Required bool      `json:"required"` // unsigned events of the source are refused
	From     time.Time `json:"from"`     // from when on it counts
	Created  time.Time `json:"created_at"`
	// Revoked is when it ceased to sign. It stays, and so does what it requires, unless Released.
	Revoked  time.Time `json:"revoked_at,omitzero"`
	Released bool      `json:"released,omitempty"`
	// MAC is over the rest, under a key that the store doesn't hold.
	MAC []byte `json:"mac"`
}

// Store is the publication store of one log.
//
// Durability: Publish, SetHold, ReplaceOpening, PutToken and PutSourceKey are on stable storage when they
// return nil. PutBatch need be durable only when Sync, called after it, returns nil.
//
// Consistency: a reader sees a publication whole or not at all, and what
// PutBatch stored as soon as it returned.
//
// Concurrency: all methods may be called at once. One caller publishes at a
// time; if two do, one gets a *HeadMovedError.
//
// Errors: after an error other than *HeadMovedError and ErrCheckpointMoved the write may or may not
// have happened; the caller reads the head before it goes on. The store doesn't
// retry.
type Store interface {
	// Create makes the log: its parameters and a head of size 0, which may be held. ErrExists
	// if there is one.
	Create(ctx context.Context, log Log, empty SealedHead) error
	// Log returns the parameters, or ErrNotFound.
	Log(ctx context.Context) (Log, error)

	// Head returns the head published last, or ErrNotFound.
	Head(ctx context.Context) (SealedHead, error)
	// Publish moves the head from old, whatever its MAC, to p.Head and appends everything else of
	// p, atomically. *HeadMovedError if the head isn't old, or its Hold isn't p.Head's. After it
	// returns nil, what could be read before it is durable too, as after Sync.
	Publish(ctx context.Context, old Head, p Publication) error
	// SetHold puts held, which is old but for Hold and MAC, in the place of old, whatever
	// that one's MAC. *HeadMovedError if old isn't there.
	SetHold(ctx context.Context, old, held SealedHead) error
	// Sync makes durable whatever can be read: of the store, and of a tree in the same
	// database.
	Sync(ctx context.Context) error
	// PutCheckpoint keeps a signed note, for serving it to everybody, in place of old, which
	// is nil where none is kept. ErrCheckpointMoved if another one is, or note is old; nothing was
	// written then. What it wrote may be lost in a crash before the next Sync.
	PutCheckpoint(ctx context.Context, old, note []byte) error
	// Checkpoint returns the note kept last, or ErrNotFound.
	Checkpoint(ctx context.Context) ([]byte, error)

	// Tile returns the hashes of a tile published so far, 32 bytes each, at most
	// 256 of them, or ErrNotFound.
	Tile(ctx context.Context, level int, n uint64) ([]byte, error)
	// Bundle returns the entries of a bundle published so far, or ErrNotFound.
	Bundle(ctx context.Context, n uint64) ([]byte, error)

	// PutBatch stores a batch's openings and mark. Those of leaves that never made
	// it into the tree are harmless. Another mark for the same index adds to the
	// one that is there: a write may fail and have happened all the same.
	PutBatch(ctx context.Context, b Batch) error
	// Marks returns the marks of batches that have a leaf at index, in no order.
	Marks(ctx context.Context, index uint64) ([]Mark, error)
	// DropMarks drops the marks of batches that end at an index or below: at start-up,
	// those of a signed head that no Publication named.
	DropMarks(ctx context.Context, below uint64) error
	// Opening returns the opening of the leaf with the hash at index, or ErrNotFound.
	Opening(ctx context.Context, index uint64, leafHash [32]byte) ([]byte, error)
	// Openings calls each with the openings of the leaves with these hashes, from
	// index first on, in order; nil where there is none. What each is given is good
	// until it returns. An error of its own ends the reading.
	Openings(ctx context.Context, first uint64, leafHashes [][32]byte, each func(opening []byte) error) error
	// ReplaceOpening puts an opening that shows less in the place of old. The
	// caller has checked that both open the same leaf. ErrNotFound if what is
	// stored isn't old.
	ReplaceOpening(ctx context.Context, index uint64, leafHash [32]byte, old, opening []byte) error

	// Indexes returns the indices published for identity hashes. A hash that isn't in the
	// map has none.
	Indexes(ctx context.Context, ids [][32]byte) (map[[32]byte]uint64, error)

	// Tokens returns all tokens, revoked ones too, by ID.
	Tokens(ctx context.Context) ([]Token, error)
	// PutToken stores a token under its ID, in place of what is there. *HeadMovedError if the
	// head's Hold isn't this one: a log that has moved away takes none.
	PutToken(ctx context.Context, t Token, hold string) error
	// SourceKeys returns all keys of sources, revoked ones too, by ID.
	SourceKeys(ctx context.Context) ([]SourceKey, error)
	// PutSourceKey is PutToken for a key of a source.
	PutSourceKey(ctx context.Context, k SourceKey, hold string) error

	Quarantine
}
