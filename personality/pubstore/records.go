package pubstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

// Records are what is kept by an id of its own, few and small: tokens, and keys of sources. Each is JSON.

// Tokens implements Store.
func (p *Pebble) Tokens(context.Context) ([]Token, error) {
	return pebbleRecords(p, "tokens", prefixToken, parseToken)
}

// PutToken implements Store.
func (p *Pebble) PutToken(ctx context.Context, t Token, hold string) error {
	return p.putRecord(ctx, "token", prefixToken+t.ID, t, hold)
}

// SourceKeys implements Store.
func (p *Pebble) SourceKeys(context.Context) ([]SourceKey, error) {
	return pebbleRecords(p, "source keys", prefixSourceKey, parseSourceKey)
}

// PutSourceKey implements Store.
func (p *Pebble) PutSourceKey(ctx context.Context, k SourceKey, hold string) error {
	return p.putRecord(ctx, "source key", prefixSourceKey+k.ID, k, hold)
}

// pebbleRecords returns what parse makes of what is stored under a prefix of two letters, in order.
func pebbleRecords[T any](p *Pebble, what, prefix string, parse func(id string, v []byte) (T, error)) (list []T, err error) {
	end := []byte{prefix[0], prefix[1] + 1}
	it, err := p.db.NewIter(&pebble.IterOptions{LowerBound: []byte(prefix), UpperBound: end})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", what, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		record, err := parse(string(it.Key()[len(prefix):]), it.Value())
		if err != nil {
			return nil, err
		}
		list = append(list, record)
	}
	return list, it.Error()
}

func (p *Pebble) putRecord(ctx context.Context, what, key string, record any, hold string) error {
	v, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode %s: %w", what, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.checkFree(ctx, hold); err != nil {
		return fmt.Errorf("store %s: %w", what, err)
	}
	if err := p.db.Set([]byte(key), v, pebble.Sync); err != nil {
		return fmt.Errorf("store %s: %w", what, err)
	}
	return nil
}
