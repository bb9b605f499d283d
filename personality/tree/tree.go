package tree

import "context"

// HashSize is the length in bytes of every hash here: SHA-256, RFC 6962.
const HashSize = 32

// MaxLeafBytes is the longest value of a leaf: what an entry bundle's 16-bit
// length can say (c2sp.org/tlog-tiles). A leaf past it was once cut after it had
// been hashed, which broke a log for good (trillian#596).
const MaxLeafBytes = 65535

// MaxAppend is the most leaves that one Append takes.
const MaxAppend = 10000

// Leaf is one entry of the log as Trillian keeps it.
type Leaf struct {
	// Index is the leaf's place in the log, from 0; less than 1<<63.
	Index uint64
	// Value is what is hashed into the tree, 1 to MaxLeafBytes bytes. A Value
	// that Leaves returned may share memory with its neighbours: don't append to it.
	Value []byte
	// IdentityHash is unique in the tree, over all leaves that were ever stored.
	IdentityHash [HashSize]byte
}

// Root is a Merkle tree head, unsigned: the RFC 6962 hash of the first Size
// leaves. Size 0 has the hash of the empty string.
type Root struct {
	Size uint64
	Hash [HashSize]byte
}

// Tree is a Merkle tree of leaves whose order the caller decides.
//
// Concurrency: every method may be called at any time by any goroutine. Two
// writers, in one process or in two, can't harm the tree: the later one of two
// Appends at the same index gets ErrIndexTaken.
//
// Consistency: what a successful Append stored, every later call of Leaves
// sees, through any Tree of the same store. A Root once returned is never
// followed by a smaller one, except across a crash when durability is
// deferred.
//
// Retries: the caller retries. No implementation repeats an Append whose
// outcome it doesn't know. Errors wrap one of the Err values of this package
// where it applies; any other error says nothing about what was stored.
type Tree interface {
	// Append stores leaves at consecutive indices and returns nil once all of them
	// are on stable storage; Embedded may leave that to the next synced
	// write into the same database. leaves[0].Index must be the first
	// missing index: ErrIndexTaken if it is stored already, ErrGap if one before
	// it isn't. An identity hash that is stored already, or comes twice in leaves,
	// is ErrDuplicate. At most MaxAppend leaves; none is no error.
	//
	// After any error the caller must read back (Leaves) before deciding: the
	// batch may have been stored even so. Embedded and MySQL store it whole or not
	// at all. Remote may store a part: the leaves from the first on up to some index, and
	// with ErrIndexTaken or ErrDuplicate any of those behind, which Leaves shows only
	// once there is no hole before them (ErrHole). And where the answer was lost or not waited
	// for, what isn't there yet may come to be there while the server's call lasts. So whoever
	// uses a Remote tells by its content whose a leaf is, and goes on at the first missing
	// index with whatever leaf comes next.
	//
	// Append doesn't keep leaves or their values after it returns.
	Append(ctx context.Context, leaves []Leaf) error

	// Integrate sees to it that the Merkle tree covers at least size leaves and
	// returns its root then, which may cover more. ErrGap if fewer than size
	// leaves are stored without a hole. It may be repeated: for one size there
	// is only one root. Embedded runs Trillian's IntegrateBatch here, and may leave
	// durability to the next synced write likewise. Remote waits for Trillian's signers,
	// and tells ErrStalled from ErrGap only in a tree that isn't empty.
	Integrate(ctx context.Context, size uint64) (Root, error)

	// Root returns the latest root.
	Root(ctx context.Context) (Root, error)

	// Leaves returns stored leaves [start, start+count) in order, also past the
	// root; fewer, or none, if a hole or the end comes first. A hole below
	// the root is ErrCorrupt. A count of 0 gives none. The first leaf of a Remote is
	// shown once it is integrated, which Append waits for; one whose Append failed may be
	// missing until then.
	Leaves(ctx context.Context, start uint64, count int) ([]Leaf, error)

	// Close releases what the Tree holds, not the database that it was handed.
	// Later calls return ErrClosed, except Close.
	Close() error
}
