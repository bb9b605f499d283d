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
func (p *Pebble) Tokens(context.Context) (tokens []Token, err error) {
	err = p.records("tokens", prefixToken, func(id string, v []byte) error {
		t, err := parseToken(id, v)
		tokens = append(tokens, t)
		return err
	})
	if err != nil {
		return nil, err
	}
	return tokens, nil
}

// PutToken implements Store.
func (p *Pebble) PutToken(ctx context.Context, t Token, hold string) error {
	return p.putRecord(ctx, "token", prefixToken+t.ID, t, hold)
}

// SourceKeys implements Store.
func (p *Pebble) SourceKeys(context.Context) (keys []SourceKey, err error) {
	err = p.records("source keys", prefixSourceKey, func(id string, v []byte) error {
		k, err := parseSourceKey(id, v)
		keys = append(keys, k)
		return err
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// PutSourceKey implements Store.
func (p *Pebble) PutSourceKey(ctx context.Context, k SourceKey, hold string) error {
	return p.putRecord(ctx, "source key", prefixSourceKey+k.ID, k, hold)
}

// records calls each with what is stored under a prefix of two letters, in order.
func (p *Pebble) records(what, prefix string, each func(id string, v []byte) error) (err error) {
	end := []byte{prefix[0], prefix[1] + 1}
	it, err := p.db.NewIter(&pebble.IterOptions{LowerBound: []byte(prefix), UpperBound: end})
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if err := each(string(it.Key()[len(prefix):]), it.Value()); err != nil {
			return err
		}
	}
	return it.Error()
}

func (p *Pebble) putRecord(ctx context.Context, what, key string, record any, hold string) error {
	v, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode %s: %w", what, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	stored, err := p.Head(ctx)
	if err == nil && stored.Hold != hold {
		err = &HeadMovedError{Stored: stored.Head, Want: stored.Head, Hold: true}
	}
	if err != nil {
		return fmt.Errorf("store %s: %w", what, err)
	}
	if err := p.db.Set([]byte(key), v, pebble.Sync); err != nil {
		return fmt.Errorf("store %s: %w", what, err)
	}
	return nil
}
