package personality

import (
	"bytes"
	"context"
	"errors"

	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier"
)

// maxSwaps bounds how often somebody tries to keep a checkpoint while others do: each failure
// means that another one succeeded.
const maxSwaps = 10

// keeper keeps the newest signed checkpoint of a log without witnesses in its store, forward
// only. For one goroutine.
type keeper struct {
	store pubstore.Store
	vkey  string

	known bool   // what is kept has been read
	note  []byte // that
	size  uint64 // of the head that it is about, if the log did sign it; else 0
}

// keep keeps the checkpoint of a head, unless one of that head is kept already, which may have
// cosignatures, or a newer one.
func (k *keeper) keep(ctx context.Context, note []byte, size uint64) error {
	for range maxSwaps {
		if err := k.read(ctx); err != nil {
			return err
		}
		if k.size > 0 && k.size >= size || bytes.Equal(k.note, note) {
			return nil
		}
		err := k.store.PutCheckpoint(ctx, k.note, note)
		if err == nil {
			k.note, k.size = note, size
			return nil
		}
		k.known = false // an error may have happened after the write
		if !errors.Is(err, pubstore.ErrCheckpointMoved) {
			return err
		}
	}
	return pubstore.ErrCheckpointMoved
}

func (k *keeper) read(ctx context.Context) error {
	if k.known {
		return nil
	}
	note, err := k.store.Checkpoint(ctx)
	if errors.Is(err, pubstore.ErrNotFound) {
		note, err = nil, nil
	}
	if err != nil {
		return err
	}
	key, err := verifier.ParseLogKey(k.vkey)
	if err != nil {
		return err
	}
	k.known, k.note, k.size = true, note, 0
	if c, _, err := key.Verify(note); err == nil {
		k.size = c.Size
	}
	return nil
}
