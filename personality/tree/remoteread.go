package tree

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// errBehind: a server has answered with less than is known to be there.
var errBehind = errors.New("a log server is behind")

const (
	// How long to wait before a read is repeated, and for how long at most.
	minPause = 5 * time.Millisecond
	maxPause = 250 * time.Millisecond

	// How often the signers are looked at: they start at intervals of some 50 ms.
	minPoll = 5 * time.Millisecond
	maxPoll = 50 * time.Millisecond

	// gapAfter is how long the root stays where it is before it is asked whether there is
	// a leaf to integrate.
	gapAfter = time.Second

	// leavesAtOnce is the most leaves that are asked for in one message, past the root's
	// last; tailAtOnce the most in all. The server makes room for as many as it is asked for.
	leavesAtOnce = 1000
	tailAtOnce   = 200_000
)

// call makes one call, which gets a time of its own. What it returns matches the error of
// ctx, if that has ended. A server whose call fails is left for the next one.
func (r *Remote) call(ctx context.Context, timeout time.Duration, f func(context.Context, *logServer) error) error {
	callCtx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	s := r.servers.current()
	err := r.known(f(callCtx, s))
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", ctx.Err(), err)
	}
	if err != nil && status.Code(err) != codes.Aborted && !tooLarge(err) {
		r.servers.failed(s)
	}
	return err
}

// read makes a call that only reads, and repeats it while it fails in passing. An answer
// that can't be true is one as long as it isn't given for all of Patience; other failures are
// repeated on each server once.
func (r *Remote) read(ctx context.Context, f func(context.Context, *logServer) error) error {
	began, wrong := r.cfg.Now(), time.Time{} // wrong: since when answers can't be true
	others := len(r.cfg.Addresses)
	for pause := minPause; ; pause = min(2*pause, maxPause) {
		err := r.call(ctx, r.cfg.CallTimeout, f)
		now := r.cfg.Now()
		switch {
		case err == nil || ctx.Err() != nil || tooLarge(err) || errors.Is(err, ErrClosed) || errors.Is(err, ErrBroken):
			return err
		case isWrong(err):
			if wrong.IsZero() {
				wrong = now
				r.cfg.Logger.WarnContext(ctx, "asking Trillian again", "error", err)
			}
			if now.Sub(wrong) >= r.cfg.Patience {
				return fmt.Errorf("%w: %w: for %v: %w", ErrBroken, ErrCorrupt, r.cfg.Patience, err)
			}
		case passes(err):
			wrong = time.Time{}
			if now.Sub(began) >= r.cfg.Patience {
				return err
			}
		default:
			if others--; others <= 0 {
				return err
			}
		}
		if err := wait(ctx, pause); err != nil {
			return err
		}
	}
}

// isWrong says whether an answer can't be true. It may be a moment's all the same: see
// ErrCorrupt. A tree that isn't there is one that a server which is behind doesn't have.
func isWrong(err error) bool {
	return errors.Is(err, errBehind) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrNoTree)
}

// passes says whether a read that failed so may succeed when it is repeated.
func passes(err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.Aborted, codes.DeadlineExceeded:
		return true
	}
	return false
}

func wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Root implements Tree.
func (r *Remote) Root(ctx context.Context) (Root, error) {
	root, err := r.root(ctx)
	if err != nil {
		return Root{}, fmt.Errorf("read root: %w", err)
	}
	return root, nil
}

func (r *Remote) root(ctx context.Context) (root Root, err error) {
	if err := r.ready(ctx); err != nil {
		return Root{}, err
	}
	err = r.read(ctx, func(ctx context.Context, s *logServer) (err error) {
		root, err = r.rootOnce(ctx, s)
		return err
	})
	return root, err
}

func (r *Remote) rootOnce(ctx context.Context, s *logServer) (Root, error) {
	reply, err := s.logs.GetLatestSignedLogRoot(ctx, &trillian.GetLatestSignedLogRootRequest{LogId: r.treeID})
	if err != nil {
		return Root{}, err
	}
	return r.sawSigned(reply.GetSignedLogRoot())
}

// sawSigned checks a root that a server gave, and notes it.
func (r *Remote) sawSigned(signed *trillian.SignedLogRoot) (Root, error) {
	root, _, err := checkRoot(signed)
	if err != nil {
		return Root{}, err
	}
	return root, r.saw(root)
}

// Integrate implements Tree: it waits for the signers. ErrStalled if the root hasn't moved
// for StallTimeout, or not far enough when ctx ends.
func (r *Remote) Integrate(ctx context.Context, size uint64) (Root, error) {
	root, err := r.await(ctx, size)
	if err != nil {
		return Root{}, fmt.Errorf("integrate %d leaves: %w", size, err)
	}
	return root, nil
}

func (r *Remote) await(ctx context.Context, size uint64) (_ Root, err error) {
	defer func() {
		if !errors.Is(err, ErrStalled) {
			r.waitsNoMore()
		}
	}()
	last, err := r.root(ctx)
	if err != nil || last.Size >= size {
		return last, err
	}
	moved, asked := r.cfg.Now(), false
	r.waits(last)
	for pause := minPoll; ; pause = min(pause*3/2, maxPoll) {
		if err := wait(ctx, pause); err != nil {
			return Root{}, fmt.Errorf("%w, root of size %d: %w", ErrStalled, last.Size, err)
		}
		root, err := r.root(ctx)
		if err != nil && ctx.Err() != nil {
			return Root{}, fmt.Errorf("%w, root of size %d: %w", ErrStalled, last.Size, err)
		}
		if err != nil || root.Size >= size {
			return root, err
		}
		if root.Size > last.Size {
			last, moved, asked = root, r.cfg.Now(), false
			r.waits(last)
		}
		still := r.cfg.Now().Sub(moved)
		if still >= gapAfter && !asked {
			asked = true
			if err := r.checkStored(ctx, last); err != nil {
				return Root{}, err
			}
		}
		if still >= r.cfg.StallTimeout {
			return Root{}, fmt.Errorf("%w, root of size %d for %v", ErrStalled, last.Size, r.cfg.StallTimeout)
		}
	}
}

// waits notes since when the signers are waited for at a root. A wait that is given up and
// begun again at the same root is one.
func (r *Remote) waits(at Root) {
	r.seenMu.Lock()
	defer r.seenMu.Unlock()
	if r.stallSince.IsZero() || r.stallAt != at.Size {
		r.stallAt, r.stallSince = at.Size, r.cfg.Now()
	}
}

func (r *Remote) waitsNoMore() {
	r.seenMu.Lock()
	defer r.seenMu.Unlock()
	r.stallSince = time.Time{}
}

// Stalled returns the size of the root at which the signers are waited for, and for how
// long they have been; 0 and 0 if they aren't. It makes no call.
func (r *Remote) Stalled() (size uint64, long time.Duration) {
	r.seenMu.Lock()
	defer r.seenMu.Unlock()
	if r.stallSince.IsZero() {
		return 0, 0
	}
	return r.stallAt, max(1, r.cfg.Now().Sub(r.stallSince))
}

// checkStored returns ErrGap if no leaf follows the root's last. Of an empty tree that can't be
// known.
func (r *Remote) checkStored(ctx context.Context, root Root) error {
	if root.Size == 0 {
		return nil
	}
	leaves, err := r.leaves(ctx, root.Size, 1)
	if err == nil && len(leaves) == 0 {
		err = fmt.Errorf("%w: %d isn't stored", ErrGap, root.Size)
	}
	return err
}

// Leaves implements Tree.
func (r *Remote) Leaves(ctx context.Context, start uint64, count int) ([]Leaf, error) {
	leaves, err := r.leaves(ctx, start, count)
	if err != nil {
		return nil, fmt.Errorf("read leaves from %d: %w", start, err)
	}
	return leaves, nil
}

func (r *Remote) leaves(ctx context.Context, start uint64, count int) ([]Leaf, error) {
	if err := r.ready(ctx); err != nil {
		return nil, err
	}
	if count < 0 || start > maxSize {
		return nil, fmt.Errorf("%w: %d leaves from %d", ErrInvalid, count, start)
	}
	var leaves []Leaf
	for most := leavesAtOnce; len(leaves) < count; {
		n := min(count-len(leaves), most)
		got, err := r.some(ctx, start+uint64(len(leaves)), n)
		if tooLarge(err) && n > 1 {
			most = n / 2
			continue
		}
		if err != nil {
			return nil, err
		}
		if leaves = append(leaves, got...); len(got) < n {
			break
		}
	}
	return leaves, nil
}

// tooLarge says whether an answer was longer than this process takes.
func tooLarge(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(err.Error(), "message larger than max")
}

// some returns count leaves from start on, or fewer if a hole or the end comes first.
func (r *Remote) some(ctx context.Context, start uint64, count int) (leaves []Leaf, err error) {
	root := r.lastSeen().root
	if root.Size == 0 {
		if root, err = r.firstRoot(ctx); err != nil || root.Size == 0 {
			return nil, err
		}
	}
	from := min(start, root.Size-1)
	most := int(min(start-from+uint64(count), tailAtOnce))
	err = r.read(ctx, func(ctx context.Context, s *logServer) (err error) {
		leaves, err = r.rangeOnce(ctx, s, from, most)
		return err
	})
	switch n := uint64(len(leaves)); {
	case err != nil:
		return nil, err
	case start-from < n:
		return leaves[start-from:], nil
	case n == tailAtOnce:
		return nil, fmt.Errorf("%w: more than %d leaves are stored past a root of size %d", ErrStalled, n, root.Size)
	}
	return nil, nil
}

// firstRoot waits for the first leaf, if it is stored, to be integrated: before that not even
// it can be read. Who was told that the signers stall isn't kept waiting again.
func (r *Remote) firstRoot(ctx context.Context) (Root, error) {
	end := r.lastSeen().end
	if _, long := r.Stalled(); end == 0 || long < r.cfg.StallTimeout {
		return r.await(ctx, min(end, 1))
	}
	root, err := r.root(ctx)
	if err == nil && root.Size == 0 {
		err = fmt.Errorf("%w, the first leaf", ErrStalled)
	}
	return root, err
}

// rangeOnce asks one server for count leaves from start on, which is below a root that was seen.
func (r *Remote) rangeOnce(ctx context.Context, s *logServer, start uint64, count int) ([]Leaf, error) {
	reply, err := s.logs.GetLeavesByRange(ctx, &trillian.GetLeavesByRangeRequest{
		LogId: r.treeID, StartIndex: int64(start), Count: int64(count),
	})
	if err != nil {
		return nil, err
	}
	leaves, err := checkLeaves(reply.GetLeaves(), start, count)
	if err != nil {
		return nil, err
	}
	if _, err := r.sawSigned(reply.GetSignedLogRoot()); err != nil {
		return nil, err
	}
	end := start + uint64(len(leaves))
	if known := r.lastSeen().end; len(leaves) < count && end < known {
		return nil, fmt.Errorf("%w: no leaf %d, of %d", errBehind, end, known)
	}
	r.stored(end)
	return leaves, nil
}
