package store

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"go.etcd.io/bbolt"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
)

const (
	// maxDisagreeing is how many open heads of a log are kept, and how many forked ones.
	maxDisagreeing = 1024
	// DefaultAgreed is how many agreed heads of a log are kept, some 300 bytes each: a year's at one
	// head in 30 s.
	DefaultAgreed = 1 << 20

	headKeyLen = 8 + 32 // size, big endian, and root
	countsLen  = 4 * 8
)

var (
	// books maps an origin to a bucket with what follows.
	books = []byte("prooftrail.heads/1")
	// headsKey: a bucket, size ‖ root → standing ‖ time in ns ‖ length of from ‖ from ‖ note.
	headsKey = []byte("heads")
	// openKey: a bucket with the keys of the open heads.
	openKey = []byte("open")
	// countsKey → open ‖ agreed ‖ forked ‖ dropped.
	countsKey = []byte("counts")
	// stateKey → the follower's state.
	stateKey = []byte("state")
)

// Book implements [monitor.Book] in one bbolt file. Writes that come at the same time share a
// transaction.
//
// There are no checksums in it: a head is signed, and what is damaged there can't accuse anybody.
type Book struct {
	path   string
	agreed uint64

	file   sync.RWMutex // held for writing while db is replaced
	db     *bbolt.DB
	closed bool // by Close

	turn sync.Mutex // held while a transaction is written

	mu     sync.Mutex // guards the rest
	queue  []*change
	failed error // of a write: what is on the disk isn't known any more
}

// refused is an error of a transaction's own: nothing is wrong with the file.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

// change is an update that waits. Done and err are written under turn.
type change struct {
	origin string
	f      func(*bbolt.Bucket) error
	done   bool
	err    error
}

// update runs f in a transaction, with those that have come meanwhile. F returns a refused error before it
// changes anything, or the transaction is lost.
//
// It isn't bbolt's Batch, which commits in a goroutine of its own, where a damaged page would end the process.
func (b *Book) update(ctx context.Context, origin string, f func(*bbolt.Bucket) error) error {
	b.file.RLock()
	defer b.file.RUnlock()
	if err := b.usable(ctx); err != nil {
		return err
	}
	c := &change{origin: origin, f: f}
	b.mu.Lock()
	b.queue = append(b.queue, c)
	b.mu.Unlock()

	b.turn.Lock()
	defer b.turn.Unlock()
	if !c.done { // nobody took it along
		b.mu.Lock()
		batch := b.queue
		b.queue = nil
		b.mu.Unlock()
		b.write(batch)
	}
	return c.err
}

// write does a batch in one transaction: what is refused concerns one of them, an error all.
func (b *Book) write(batch []*change) {
	err := b.usable(context.Background())
	if err == nil {
		err = guard(func() error {
			return b.db.Update(func(tx *bbolt.Tx) error {
				for _, c := range batch {
					if err := c.apply(tx); err != nil {
						return err
					}
				}
				return nil
			})
		})
		if err != nil {
			b.mu.Lock()
			b.failed = err
			b.mu.Unlock()
		}
	}
	for _, c := range batch {
		c.done = true
		if err != nil {
			c.err = err
		}
	}
}

func (c *change) apply(tx *bbolt.Tx) error {
	all := tx.Bucket(books)
	if all == nil {
		return errors.New("damaged: no bucket")
	}
	log, err := all.CreateBucketIfNotExists([]byte(c.origin))
	if err != nil {
		err = refused{err} // of the key
	} else {
		err = c.f(log)
	}
	if errors.As(err, new(refused)) {
		c.err, err = err, nil
	}
	return err
}

func (b *Book) view(ctx context.Context, origin string, f func(*bbolt.Bucket) error) error {
	b.file.RLock()
	defer b.file.RUnlock()
	if err := b.usable(ctx); err != nil {
		return err
	}
	return guard(func() error {
		return b.db.View(func(tx *bbolt.Tx) error {
			all := tx.Bucket(books)
			if all == nil {
				return errors.New("damaged: no bucket")
			}
			if log := all.Bucket([]byte(origin)); log != nil {
				return f(log)
			}
			return nil
		})
	})
}

// usable refuses everything after a write that failed, as [Store] does.
func (b *Book) usable(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.failed != nil {
		return fmt.Errorf("book: an earlier write failed, and it wasn't opened again: %w", b.failed)
	}
	return nil
}

// Add implements [monitor.Book].
func (b *Book) Add(ctx context.Context, h monitor.Head) (stored monitor.Head, isNew bool, err error) {
	key := headKey(h.Checkpoint)
	err = b.view(ctx, h.Origin, func(log *bbolt.Bucket) (err error) { // most are known
		if heads := log.Bucket(headsKey); heads != nil {
			stored, _, err = getHead(heads, key, h.Origin)
		}
		return err
	})
	if err != nil || stored.Note != nil {
		return stored, false, addError(err)
	}
	err = b.update(ctx, h.Origin, func(log *bbolt.Bucket) error {
		heads, err := log.CreateBucketIfNotExists(headsKey)
		if err != nil {
			return err
		}
		found := false
		isNew = false
		if stored, found, err = getHead(heads, key, h.Origin); found || err != nil {
			return err
		}
		stored, isNew = h, true
		return b.put(log, heads, key, h)
	})
	return stored, isNew, addError(err)
}

func addError(err error) error {
	if err != nil {
		return fmt.Errorf("add head: %w", err)
	}
	return nil
}

// put stores a new head, and makes room for it.
func (b *Book) put(log, heads *bbolt.Bucket, key []byte, h monitor.Head) error {
	c, err := getCounts(log)
	if err != nil {
		return err
	}
	switch n := c.of(h.Standing); {
	case n == nil:
		return refused{fmt.Errorf("standing %q", h.Standing)}
	case h.Standing != monitor.Agreed && *n >= maxDisagreeing:
		return refused{monitor.ErrFull}
	default:
		*n++
	}
	if err := heads.Put(key, encodeHead(h)); err != nil {
		return err
	}
	if h.Standing == monitor.Open {
		if err := putOpen(log, key); err != nil {
			return err
		}
	}
	if c.Agreed > b.agreed {
		if err := dropOldest(heads, c, 1+b.agreed/1024); err != nil {
			return err
		}
	}
	return c.put(log)
}

// dropOldest drops agreed heads, those of the smallest sizes.
func dropOldest(heads *bbolt.Bucket, c *counts, n uint64) error {
	cur := heads.Cursor()
	var drop [][]byte
	for k, v := cur.First(); k != nil && uint64(len(drop)) < n; k, v = cur.Next() {
		if len(v) > 0 && monitor.Standing(v[0]) == monitor.Agreed {
			drop = append(drop, bytes.Clone(k))
		}
	}
	for _, k := range drop {
		if err := heads.Delete(k); err != nil {
			return err
		}
	}
	c.Agreed -= uint64(len(drop))
	c.Dropped += uint64(len(drop))
	return nil
}

// Judge implements [monitor.Book].
func (b *Book) Judge(ctx context.Context, c verifier.Checkpoint, s monitor.Standing) error {
	key := headKey(c)
	err := b.update(ctx, c.Origin, func(log *bbolt.Bucket) error {
		heads := log.Bucket(headsKey)
		if heads == nil {
			return nil
		}
		h, found, err := getHead(heads, key, c.Origin)
		if err != nil || !found || h.Standing == s {
			return err
		}
		n, err := getCounts(log)
		if err != nil {
			return err
		}
		from, to := n.of(h.Standing), n.of(s)
		if from == nil || to == nil {
			return refused{fmt.Errorf("standing %q to %q", h.Standing, s)}
		}
		*from--
		h.Standing = s
		// Of forked heads, of which a log can sign any number, the evidence is somewhere else.
		if s == monitor.Forked && *to >= maxDisagreeing {
			n.Dropped++
			err = heads.Delete(key)
		} else {
			*to++
			err = heads.Put(key, encodeHead(h))
		}
		if err != nil {
			return err
		}
		if s == monitor.Open {
			err = putOpen(log, key)
		} else if open := log.Bucket(openKey); open != nil {
			err = open.Delete(key)
		}
		return errors.Join(err, n.put(log))
	})
	if err != nil {
		return fmt.Errorf("judge head: %w", err)
	}
	return nil
}

func putOpen(log *bbolt.Bucket, key []byte) error {
	open, err := log.CreateBucketIfNotExists(openKey)
	if err != nil {
		return err
	}
	return open.Put(key, []byte{})
}

// Open implements [monitor.Book].
func (b *Book) Open(ctx context.Context, origin string, from uint64, limit int) (open []monitor.Head, err error) {
	err = b.view(ctx, origin, func(log *bbolt.Bucket) error {
		keys, heads := log.Bucket(openKey), log.Bucket(headsKey)
		if keys == nil || heads == nil {
			return nil
		}
		cur := keys.Cursor()
		for k, _ := cur.Seek(binary.BigEndian.AppendUint64(nil, from)); k != nil && len(open) < limit; k, _ = cur.Next() {
			h, found, err := getHead(heads, k, origin)
			if err != nil {
				return err
			}
			if found {
				open = append(open, h)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("open heads: %w", err)
	}
	return open, nil
}

// SameSize implements [monitor.Book].
func (b *Book) SameSize(ctx context.Context, c verifier.Checkpoint) (others []monitor.Head, err error) {
	key := headKey(c)
	err = b.view(ctx, c.Origin, func(log *bbolt.Bucket) error {
		heads := log.Bucket(headsKey)
		if heads == nil {
			return nil
		}
		cur := heads.Cursor()
		for k, _ := cur.Seek(key[:8]); k != nil && bytes.HasPrefix(k, key[:8]); k, _ = cur.Next() {
			if bytes.Equal(k, key) {
				continue
			}
			h, _, err := getHead(heads, k, c.Origin)
			if err != nil {
				return err
			}
			others = append(others, h)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("heads of size %d: %w", c.Size, err)
	}
	return others, nil
}

// Counts implements [monitor.Book].
func (b *Book) Counts(ctx context.Context, origin string) (n monitor.Counts, err error) {
	err = b.view(ctx, origin, func(log *bbolt.Bucket) error {
		c, err := getCounts(log)
		if err == nil {
			n = c.Counts
		}
		return err
	})
	if err != nil {
		return n, fmt.Errorf("count heads: %w", err)
	}
	return n, nil
}

// State implements [monitor.Book].
func (b *Book) State(ctx context.Context, origin string) (state []byte, err error) {
	err = b.view(ctx, origin, func(log *bbolt.Bucket) error {
		state = bytes.Clone(log.Get(stateKey))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("load state: %w", err)
	}
	return state, nil
}

// PutState implements [monitor.Book].
func (b *Book) PutState(ctx context.Context, origin string, state []byte) error {
	err := b.update(ctx, origin, func(log *bbolt.Bucket) error { return log.Put(stateKey, state) })
	if err != nil {
		return fmt.Errorf("store state: %w", err)
	}
	return nil
}
