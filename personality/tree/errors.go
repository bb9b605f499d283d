package tree

import "errors"

// The errors that a Tree returns, wrapped with what was being done.
var (
	// ErrInvalid: the argument can't be right for any tree (a leaf without a value,
	// one too long, indices that aren't consecutive). Nothing was stored.
	ErrInvalid = errors.New("invalid argument")

	// ErrIndexTaken: a leaf is stored at that index, perhaps this very one. Read back.
	ErrIndexTaken = errors.New("index is taken")

	// ErrDuplicate: a leaf with that identity hash is stored at another index, or
	// comes twice in the batch.
	ErrDuplicate = errors.New("identity hash is stored already")

	// ErrHole: leaves of the batch were stored past an index that holds none, because the
	// leaf for that one was refused. It comes with ErrDuplicate, from a Remote. Nothing is
	// integrated past that index until Append has stored a leaf there whose identity isn't
	// stored yet: no leaf of this batch will do.
	ErrHole = errors.New("leaves are stored past a missing one")

	// ErrGap: an index below the one asked for holds no leaf.
	ErrGap = errors.New("leaves are missing before that index")

	// ErrCorrupt: what came back can't be true (I7). From a database server it may be
	// passing, as when Trillian's MySQL provider reads a killed query as an
	// empty root: try again before believing it, and never go on from it.
	ErrCorrupt = errors.New("impossible reply from Trillian's storage")

	// ErrBroken: what is stored contradicts itself: a row's checksum is wrong, or the
	// nodes don't make the root, or what was there before isn't any more. It matches
	// ErrCorrupt too, but doesn't pass.
	ErrBroken = errors.New("the stored tree is broken")

	// ErrStalled: leaves are stored, but the Trillian signers don't integrate them.
	ErrStalled = errors.New("the Trillian signers don't integrate")

	// ErrNoTree: there is no such tree, or it has been deleted or never initialised.
	ErrNoTree = errors.New("no such tree")

	// ErrNotWritable: the tree is frozen, or not a PREORDERED_LOG, or one that was to be
	// taken for a new log has leaves.
	ErrNotWritable = errors.New("tree takes no leaves")

	// ErrClosed: the Tree has been closed.
	ErrClosed = errors.New("tree is closed")
)
