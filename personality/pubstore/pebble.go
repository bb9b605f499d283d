package pubstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// Keys of the Pebble store. All begin with 'p', so that they share a database
// with Trillian's (package pebblestore), which begin with 't'. Integers are big
// endian, so that keys sort as numbers do.
//
//	p l                         the log's parameters, JSON
//	p h                         the head: 2 ‖ size uint64 ‖ root ‖ mac; with a hold 3, and that behind it
//	p c                         the newest signed checkpoint
//	p t level uint8 n uint64    a hash tile
//	p e n uint64                an entry bundle
//	p o index uint64 leafhash   an opening
//	p i identityhash            an index, uint64
//	p k id                      a token, JSON
//	p q id                      a quarantined item: length of its JSON uint32 ‖ JSON ‖ raw
//	p v id                      a key of a source, JSON
//	p s first uint64 mac        a batch's mark: leaf hash ‖ identity hash of each leaf
//
// Tiles grow by Pebble's merge operator, which concatenates: publishing a lone
// event writes its own 32-byte hash and entry, not the whole tile again.
const (
	keyLog           = "pl"
	keyHead          = "ph"
	keyCheckpoint    = "pc"
	prefixTile       = "pt"
	prefixBundle     = "pe"
	prefixOpening    = "po" // openings.go
	prefixOpeningEnd = "pp"
	prefixID         = "pi"
	prefixIDEnd      = "pj"
	prefixToken      = "pk"
	prefixMark       = "ps"
	prefixSourceKey  = "pv"

	prefixQuarantine    = "pq" // pebblequarantine.go
	prefixQuarantineEnd = "pr"
)

const (
	headVersion     = 2
	headVersionHeld = 3
	headLen         = 1 + 8 + 32 + 32
)

// Pebble is a Store in a Pebble database that it may share with others.
type Pebble struct {
	// OnCorruption, unless nil, is told when a value can't be read because a file of the
	// database is damaged. To be set before the first call.
	OnCorruption func(error)

	db *pebble.DB
	mu sync.Mutex // held from reading what a write depends on to its commit

	// The same, of the quarantine; SetHold holds both, mu first.
	quarantineMu sync.Mutex
	quarantine   map[string]QuarantineSize // by tenant; nil: to be read

	checkpointMu sync.Mutex // the same, of the kept checkpoint alone: it waits for no sync
}

var _ Store = (*Pebble)(nil)

// NewPebble returns the store in db, which must use Pebble's default merger.
// The caller closes db.
func NewPebble(db *pebble.DB) *Pebble { return &Pebble{db: db} }

func tileKey(level int, n uint64) []byte {
	k := append(make([]byte, 0, 11), prefixTile...)
	return binary.BigEndian.AppendUint64(append(k, byte(level)), n)
}

func bundleKey(n uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 10), prefixBundle...), n)
}

// get returns a copy of the value, or ErrNotFound.
func (p *Pebble) get(key []byte) ([]byte, error) {
	v, closer, err := p.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, ErrNotFound
	}
	if pebble.IsCorruptionError(err) {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	if err != nil {
		return nil, p.damage(err)
	}
	out := bytes.Clone(v)
	if err := closer.Close(); err != nil { // a value file that can't be read shows here alone
		return nil, p.damage(err)
	}
	return out, nil
}

// damage makes ErrCorrupt of what Pebble says of its own files.
func (p *Pebble) damage(err error) error {
	if err == nil || !pebble.IsCorruptionError(err) {
		return err
	}
	if p.OnCorruption != nil {
		p.OnCorruption(err)
	}
	return fmt.Errorf("%w: %w", ErrCorrupt, err)
}

// Create implements Store.
func (p *Pebble) Create(_ context.Context, log Log, empty SealedHead) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch _, err := p.get([]byte(keyLog)); {
	case err == nil:
		return ErrExists
	case !errors.Is(err, ErrNotFound):
		return fmt.Errorf("look for a log: %w", err)
	}
	params, err := json.Marshal(log)
	if err != nil {
		return fmt.Errorf("encode the log's parameters: %w", err)
	}
	b := p.db.NewBatch()
	defer b.Close()
	if err := errors.Join(b.Set([]byte(keyLog), params, nil), b.Set([]byte(keyHead), encodeHead(empty), nil)); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	return nil
}

// Log implements Store.
func (p *Pebble) Log(context.Context) (Log, error) {
	v, err := p.get([]byte(keyLog))
	if err != nil {
		return Log{}, fmt.Errorf("read the log's parameters: %w", err)
	}
	return parseLog(v)
}

func encodeHead(h SealedHead) []byte {
	version := byte(headVersion)
	if h.Hold != "" {
		version = headVersionHeld
	}
	b := binary.BigEndian.AppendUint64([]byte{version}, h.Size)
	return append(append(append(b, h.Root[:]...), h.MAC[:]...), h.Hold...)
}

// Head implements Store.
func (p *Pebble) Head(context.Context) (SealedHead, error) {
	v, err := p.get([]byte(keyHead))
	if err != nil {
		return SealedHead{}, fmt.Errorf("read head: %w", err)
	}
	free := len(v) == headLen && v[0] == headVersion
	held := len(v) > headLen && len(v) <= headLen+MaxHold && v[0] == headVersionHeld
	if !free && !held {
		return SealedHead{}, fmt.Errorf("read head: %w: %d bytes", ErrCorrupt, len(v))
	}
	return SealedHead{Head: Head{Size: binary.BigEndian.Uint64(v[1:]), Root: [32]byte(v[9:])}, MAC: [32]byte(v[41:]), Hold: string(v[headLen:])}, nil
}

// SetHold implements Store.
func (p *Pebble) SetHold(ctx context.Context, old, held SealedHead) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.quarantineMu.Lock()
	defer p.quarantineMu.Unlock()
	if err := checkHold(old, held); err != nil {
		return fmt.Errorf("hold the head: %w", err)
	}
	if err := p.compareHead(ctx, old.Head, old.Hold); err != nil {
		return fmt.Errorf("hold the head: %w", err)
	}
	if err := p.db.Set([]byte(keyHead), encodeHead(held), pebble.Sync); err != nil {
		return fmt.Errorf("hold the head: %w", err)
	}
	return nil
}

// compareHead returns *HeadMovedError unless the stored head is this one.
func (p *Pebble) compareHead(ctx context.Context, want Head, hold string) error {
	stored, err := p.Head(ctx)
	if err != nil {
		return err
	}
	if stored.Head != want || stored.Hold != hold {
		return &HeadMovedError{Stored: stored.Head, Want: want, Hold: stored.Hold != hold}
	}
	return nil
}

// Publish implements Store.
func (p *Pebble) Publish(ctx context.Context, old Head, pub Publication) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.compareHead(ctx, old, pub.Head.Hold); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := pub.check(old); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	b := p.db.NewBatch()
	defer b.Close()
	if err := fill(b, pub); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	if err := b.Commit(pebble.Sync); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	return nil
}

func fill(b *pebble.Batch, pub Publication) error {
	for _, t := range pub.Tiles {
		if err := grow(b, tileKey(t.Level, t.N), t); err != nil {
			return err
		}
	}
	for _, e := range pub.Bundles {
		if err := grow(b, bundleKey(e.N), e); err != nil {
			return err
		}
	}
	for _, i := range inOrder(len(pub.IDs), func(i int) []byte { return pub.IDs[i].Hash[:] }) {
		op := b.SetDeferred(len(prefixID)+32, 8)
		copy(op.Key[copy(op.Key, prefixID):], pub.IDs[i].Hash[:])
		binary.BigEndian.PutUint64(op.Value, pub.IDs[i].Index)
		if err := op.Finish(); err != nil {
			return err
		}
	}
	for _, m := range pub.Drop {
		if err := b.Delete(append(markKey(m.First), m.MAC[:]...), nil); err != nil {
			return err
		}
	}
	return b.Set([]byte(keyHead), encodeHead(pub.Head), nil)
}

func grow(b *pebble.Batch, key []byte, t TileAppend) error {
	if t.Width == 0 {
		return b.Set(key, t.Data, nil)
	}
	return b.Merge(key, t.Data, nil)
}

// Sync implements Store.
func (p *Pebble) Sync(context.Context) error {
	if err := p.db.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("sync the store: %w", err)
	}
	return nil
}

// PutCheckpoint implements Store.
func (p *Pebble) PutCheckpoint(_ context.Context, old, note []byte) error {
	p.checkpointMu.Lock()
	defer p.checkpointMu.Unlock()
	kept, err := p.get([]byte(keyCheckpoint))
	if err != nil && !errors.Is(err, ErrNotFound) {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	if (kept == nil) != (old == nil) || !bytes.Equal(kept, old) || bytes.Equal(kept, note) {
		return fmt.Errorf("keep checkpoint: %w", ErrCheckpointMoved)
	}
	if err := p.db.Set([]byte(keyCheckpoint), note, pebble.NoSync); err != nil {
		return fmt.Errorf("keep checkpoint: %w", err)
	}
	return nil
}

// Checkpoint implements Store.
func (p *Pebble) Checkpoint(context.Context) ([]byte, error) {
	v, err := p.get([]byte(keyCheckpoint))
	if err != nil {
		return nil, fmt.Errorf("read the kept checkpoint: %w", err)
	}
	return v, nil
}

// Tile implements Store.
func (p *Pebble) Tile(_ context.Context, level int, n uint64) ([]byte, error) {
	v, err := p.get(tileKey(level, n))
	if err != nil {
		return nil, fmt.Errorf("read tile %d/%d: %w", level, n, err)
	}
	return v, checkTile(level, n, v)
}

// Bundle implements Store.
func (p *Pebble) Bundle(_ context.Context, n uint64) ([]byte, error) {
	v, err := p.get(bundleKey(n))
	if err != nil {
		return nil, fmt.Errorf("read entry bundle %d: %w", n, err)
	}
	return v, nil
}

func markKey(first uint64) []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, 42), prefixMark...), first)
}

// openingOverhead is how much an opening takes in a batch beside its bytes, at most: its
// key, two lengths and a kind.
const openingOverhead = 42 + 2*5 + 1

// PutBatch implements Store. It leaves durability to Sync: Pebble's write-ahead log
// is one sequence, so what is synced later makes what was written earlier durable.
func (p *Pebble) PutBatch(_ context.Context, batch Batch) error {
	size := 0
	for i := range batch.Openings {
		size += openingOverhead + len(batch.Openings[i].Bytes)
	}
	b := p.db.NewBatchWithSize(size + openingOverhead + len(batch.Mark.Leaves)*leafIDLen)
	defer b.Close()
	for i, o := range batch.Openings {
		if o.Bytes == nil {
			continue
		}
		if err := b.Set(openingKey(batch.Mark.First+uint64(i), o.LeafHash), o.Bytes, nil); err != nil {
			return fmt.Errorf("store batch: %w", err)
		}
	}
	if err := setMark(b, &batch.Mark); err != nil {
		return fmt.Errorf("store batch: %w", err)
	}
	if err := b.Commit(pebble.NoSync); err != nil {
		return fmt.Errorf("store batch: %w", err)
	}
	return nil
}

func setMark(b *pebble.Batch, m *Mark) error {
	op := b.SetDeferred(len(prefixMark)+8+32, len(m.Leaves)*leafIDLen)
	copy(op.Key[copy(op.Key, markKey(m.First)):], m.MAC[:])
	m.appendLeaves(op.Value[:0])
	return op.Finish()
}

// parseMark reads a mark's row.
func parseMark(key, value []byte) (Mark, error) {
	const prefix = len(prefixMark)
	if len(key) != prefix+8+32 || len(value)%leafIDLen != 0 || len(value) > MaxMark*leafIDLen {
		return Mark{}, fmt.Errorf("mark %x: %w: %d bytes", key, ErrCorrupt, len(value))
	}
	return Mark{First: binary.BigEndian.Uint64(key[prefix:]), MAC: [32]byte(key[prefix+8:]), Leaves: parseLeafIDs(value)}, nil
}

// Marks implements Store.
func (p *Pebble) Marks(_ context.Context, index uint64) (marks []Mark, err error) {
	err = p.eachMark(index-min(index, MaxMark-1), index+1, func(key, value []byte) error {
		m, err := parseMark(key, value)
		if err == nil && index < m.End() {
			marks = append(marks, m)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read marks at %d: %w", index, err)
	}
	return marks, nil
}

// eachMark calls each with the rows of marks of batches that begin at an index in [from, to).
func (p *Pebble) eachMark(from, to uint64, each func(key, value []byte) error) (err error) {
	it, err := p.db.NewIter(&pebble.IterOptions{LowerBound: markKey(from), UpperBound: markKey(to)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if err := each(it.Key(), it.Value()); err != nil {
			return err
		}
	}
	return it.Error()
}

// DropMarks implements Store. Not with each publication: range tombstones add up
// in the memtable, and each read there has to look at all of them.
func (p *Pebble) DropMarks(_ context.Context, below uint64) error {
	b := p.db.NewBatch()
	defer b.Close()
	err := p.eachMark(below-min(below, MaxMark-1), below, func(key, value []byte) error {
		if m, err := parseMark(key, value); err == nil && m.End() > below {
			return nil
		}
		return b.Delete(bytes.Clone(key), nil) // one that can't be read as well
	})
	if err == nil {
		err = b.DeleteRange(markKey(0), markKey(below-min(below, MaxMark-1)), nil)
	}
	if err == nil {
		err = b.Commit(pebble.NoSync)
	}
	if err != nil {
		return fmt.Errorf("drop marks: %w", err)
	}
	return nil
}

// Indexes implements Store. Almost every identity that is looked up is new. Pebble's
// Get doesn't ask the filters of the last level, where most keys are, and would
// read a block from there for each; an iterator can be told to. One of them, moving
// forward, does for all.
func (p *Pebble) Indexes(_ context.Context, ids [][32]byte) (_ map[[32]byte]uint64, err error) {
	it, err := p.db.NewIter(&pebble.IterOptions{
		LowerBound: []byte(prefixID), UpperBound: []byte(prefixIDEnd), UseL6Filters: true})
	if err != nil {
		return nil, fmt.Errorf("look up identities: %w", err)
	}
	defer func() {
		if closeErr := it.Close(); err == nil && closeErr != nil {
			err = fmt.Errorf("look up identities: %w", closeErr)
		}
	}()
	var found map[[32]byte]uint64
	var buf [len(prefixID) + 32]byte
	key := append(buf[:0], prefixID...)
	for _, i := range inOrder(len(ids), func(i int) []byte { return ids[i][:] }) {
		key = append(key[:len(prefixID)], ids[i][:]...)
		if !it.SeekPrefixGE(key) || !bytes.Equal(it.Key(), key) {
			if err := p.damage(it.Error()); err != nil { // the next seek would clear it: not a miss
				return nil, fmt.Errorf("look up identity %x: %w", ids[i], err)
			}
			continue
		}
		v := it.Value()
		if len(v) != 8 {
			return nil, fmt.Errorf("look up identity %x: %w: %d bytes", ids[i], ErrCorrupt, len(v))
		}
		if found == nil {
			found = make(map[[32]byte]uint64)
		}
		found[ids[i]] = binary.BigEndian.Uint64(v)
	}
	return found, nil
}

// inOrder returns the numbers below n in the order of their keys: what is random is
// read and written much faster in the order in which it is stored.
func inOrder(n int, key func(int) []byte) []int32 {
	order := make([]int32, n)
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(i, j int32) int { return bytes.Compare(key(int(i)), key(int(j))) })
	return order
}
