package tree

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Append implements Tree. It isn't all or nothing: see Remote, and Tree.Append for what the
// caller makes of it.
func (r *Remote) Append(ctx context.Context, leaves []Leaf) error {
	if err := r.append(ctx, leaves); err != nil {
		return fmt.Errorf("append %d leaves: %w", len(leaves), err)
	}
	return nil
}

func (r *Remote) append(ctx context.Context, leaves []Leaf) error {
	if err := r.ready(ctx); err != nil {
		return err
	}
	if err := checkAppend(leaves); err != nil || len(leaves) == 0 {
		return err
	}
	if err := checkOnce(leaves); err != nil {
		return err
	}
	first := leaves[0].Index
	alone := first == 0 || r.doubt.Load()
	// To look at a place far behind the root takes reading all that is between. There one leaf
	// alone goes first instead, and is refused where the place is taken.
	if last := r.lastSeen(); last.end == first && first-min(first, last.root.Size) > farBehind {
		alone = true
	} else if err := r.checkPlace(ctx, first); err != nil {
		return err
	}
	empty := first == 0
	for len(leaves) > 0 {
		n := r.fit(leaves)
		if alone {
			n = 1
		}
		if err := r.send(ctx, leaves[:n]); err != nil {
			return err
		}
		if empty { // what is stored beside the first leaf could be seen by nobody
			if _, err := r.await(ctx, 1); err != nil {
				return err
			}
		}
		leaves, empty, alone = leaves[n:], false, false
	}
	r.doubt.Store(false)
	return nil
}

// farBehind is how many leaves are read, at most, to look at a place.
const farBehind = 2000

// checkOnce refuses a batch in which an identity comes twice: the server would store it
// but for the second.
func checkOnce(leaves []Leaf) error {
	seen := make(map[[HashSize]byte]uint64, len(leaves))
	for i := range leaves {
		l := &leaves[i]
		if first, ok := seen[l.IdentityHash]; ok {
			return fmt.Errorf("leaf %d: %w: leaf %d has it", l.Index, ErrDuplicate, first)
		}
		seen[l.IdentityHash] = l.Index
	}
	return nil
}

// A server that doesn't have the leaf before a batch may only be behind. The caller believes
// that the leaf is there, so it is asked for some times more.
const (
	gapTries = 5
	gapPause = 10 * time.Millisecond // at first; twice that each time
)

// checkPlace refuses a batch that doesn't begin at the first missing index, as far as can be
// seen: another writer may come in between.
func (r *Remote) checkPlace(ctx context.Context, first uint64) error {
	from := first - min(first, 1)
	for tried := 1; ; tried++ {
		leaves, err := r.leaves(ctx, from, int(first-from)+1)
		switch {
		case err != nil:
			return err
		case from+uint64(len(leaves)) > first:
			return fmt.Errorf("%w: leaf %d", ErrIndexTaken, first)
		case from+uint64(len(leaves)) == first:
			return nil
		case tried == gapTries:
			return fmt.Errorf("%w: %d isn't stored", ErrGap, from)
		}
		if err := wait(ctx, gapPause<<(tried-1)); err != nil {
			return err
		}
	}
}

// leafBytes is what a leaf takes in a message beside its value: identity hash, index, tags
// and lengths.
const leafBytes = 64

// maxMessage is the most leaves in one message, which bounds how long a server takes.
const maxMessage = 1000

// fit returns how many leaves one message takes.
func (r *Remote) fit(leaves []Leaf) int {
	leaves = leaves[:min(len(leaves), maxMessage)]
	size := 0
	for i := range leaves {
		if size += leafBytes + len(leaves[i].Value); size > r.cfg.MaxSend {
			return i
		}
	}
	return len(leaves)
}

// send stores leaves in one message. If the answer is lost, or is no, less than all of them
// may be stored.
func (r *Remote) send(ctx context.Context, leaves []Leaf) error {
	request := &trillian.AddSequencedLeavesRequest{LogId: r.treeID, Leaves: make([]*trillian.LogLeaf, len(leaves))}
	for i := range leaves {
		l := &leaves[i]
		request.Leaves[i] = &trillian.LogLeaf{LeafIndex: int64(l.Index), LeafValue: l.Value, LeafIdentityHash: l.IdentityHash[:]}
	}
	var reply *trillian.AddSequencedLeavesResponse
	err := again(ctx, func() error {
		return r.call(ctx, r.cfg.AppendTimeout, func(ctx context.Context, s *logServer) (err error) {
			reply, err = s.logs.AddSequencedLeaves(ctx, request)
			return err
		})
	})
	if err != nil {
		r.doubt.Store(true) // it may still be under way
		return r.notWritable(ctx, err)
	}
	if err := checkAdded(reply.GetResults(), leaves); err != nil {
		return r.refused(ctx, reply.GetResults(), leaves, err)
	}
	r.stored(leaves[0].Index + uint64(len(leaves)))
	return nil
}

// notWritable adds ErrNotWritable to what a server says of a tree of the wrong type or state, if
// the tree is one: others on the way may say no in the same words.
func (r *Remote) notWritable(ctx context.Context, err error) error {
	switch status.Code(err) {
	case codes.InvalidArgument, codes.PermissionDenied:
		if cerr := r.checkWritable(ctx); cerr != nil {
			return fmt.Errorf("%w: %w", cerr, err)
		}
	}
	return err
}

// refused says what became of leaves of which a server refused some, with err for the first
// of those.
func (r *Remote) refused(ctx context.Context, results []*trillian.QueuedLogLeaf, leaves []Leaf, err error) error {
	if !errors.Is(err, ErrIndexTaken) && !errors.Is(err, ErrDuplicate) {
		r.doubt.Store(true)
		return err
	}
	at := 0
	for isStored(results[at]) {
		at++
	}
	index := leaves[at].Index
	r.stored(index)
	if errors.Is(err, ErrDuplicate) {
		err = r.whyDuplicate(ctx, index, err)
	}
	if errors.Is(err, ErrIndexTaken) {
		r.stored(index + 1)
		return err
	}
	r.doubt.Store(true)
	past := 0
	for _, result := range results[at:] {
		if isStored(result) {
			past++
		}
	}
	if past > 0 {
		return fmt.Errorf("%w: %d past %d: %w", ErrHole, past, index, err)
	}
	return err
}

func isStored(r *trillian.QueuedLogLeaf) bool {
	return codes.Code(r.GetStatus().GetCode()) == codes.OK
}

// whyDuplicate looks whether a leaf was refused because its index is taken, with this very
// leaf perhaps: Trillian's MySQL provider stores identities first, and says that those are
// taken. In an empty tree no other index can be.
func (r *Remote) whyDuplicate(ctx context.Context, index uint64, duplicate error) error {
	if index > 0 {
		leaves, err := r.leaves(ctx, index, 1)
		if err != nil {
			return fmt.Errorf("%s; read back: %w", duplicate.Error(), err) // its text alone: which of the two it is isn't known
		}
		if len(leaves) == 0 {
			return duplicate
		}
	}
	return fmt.Errorf("%w (%s)", ErrIndexTaken, duplicate.Error()) // its text alone: it isn't one of another index
}
