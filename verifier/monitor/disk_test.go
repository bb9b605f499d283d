package monitor_test

import (
	"context"
	"errors"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
)

// fullBook is a book on a disk that may be full: it can be read then, and not written.
type fullBook struct {
	monitor.Book
	full atomic.Bool
}

var errNoRoom = errors.New("no space left on device")

func (b *fullBook) Add(ctx context.Context, h monitor.Head) (monitor.Head, bool, error) {
	if b.full.Load() {
		return monitor.Head{}, false, errNoRoom
	}
	return b.Book.Add(ctx, h)
}

func (b *fullBook) Judge(ctx context.Context, c verifier.Checkpoint, s monitor.Standing) error {
	if b.full.Load() {
		return errNoRoom
	}
	return b.Book.Judge(ctx, c, s)
}

func (b *fullBook) PutState(ctx context.Context, origin string, state []byte) error {
	if b.full.Load() {
		return errNoRoom
	}
	return b.Book.PutState(ctx, origin, state)
}

// TestFullDisk: the alarm stays while nothing can be written, though the book can be read, and goes
// once it can be written again.
func TestFullDisk(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", 10)
	book := &fullBook{}
	r := start(t, filepath.Join(t.TempDir(), "m"), func(c *monitor.Config) { book.Book, c.Book = c.Book, book }, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, h)})
	r.checked(10)
	book.full.Store(true)
	h.Grow(5)
	wait(t, "the alarm", func() bool { return r.alarms.rings("cannot-store") })
	looked := r.Status().Logs[0].LookedAt
	for n := 0; n < 5; { // looks and watches go on
		if at := r.Status().Logs[0].LookedAt; at.After(looked) {
			looked, n = at, n+1
		}
		if !r.alarms.rings("cannot-store") {
			t.Fatal("the alarm went while nothing could be written")
		}
	}
	if err := r.Status().Logs[0].BookErr; !errors.Is(err, errNoRoom) {
		t.Errorf("status: %v", err)
	}
	book.full.Store(false)
	r.checked(15)
	wait(t, "the alarm's end", func() bool { return !r.alarms.rings("cannot-store") })
}
