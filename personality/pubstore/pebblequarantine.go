package pubstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/cockroachdb/pebble/v2"
)

func quarantineKey(id string) []byte { return append([]byte(prefixQuarantine), id...) }

// PutQuarantined implements Quarantine.
func (p *Pebble) PutQuarantined(ctx context.Context, items []Quarantined, most QuarantineSize, hold string) error {
	p.quarantineMu.Lock()
	defer p.quarantineMu.Unlock()
	b := p.db.NewBatch()
	defer b.Close()
	sizes, err := p.fillQuarantine(ctx, b, items, hold)
	if err != nil {
		return fmt.Errorf("quarantine: %w", err)
	}
	for _, tenant := range sizes {
		if err := tenant.fits(most); err != nil {
			return fmt.Errorf("quarantine: %w", err)
		}
	}
	if b.Empty() {
		return nil
	}
	if err := b.Commit(pebble.Sync); err != nil {
		p.quarantine = nil // it may have happened
		return fmt.Errorf("quarantine: %w", err)
	}
	for tenant, size := range sizes {
		p.quarantine[tenant] = size
	}
	return nil
}

// fillQuarantine puts the items that aren't there into the batch, and returns what their tenants would have.
func (p *Pebble) fillQuarantine(ctx context.Context, b *pebble.Batch, items []Quarantined, hold string) (map[string]QuarantineSize, error) {
	if err := p.checkFree(ctx, hold); err != nil {
		return nil, err
	}
	have, err := p.quarantineSizes()
	if err != nil {
		return nil, err
	}
	sizes, seen := map[string]QuarantineSize{}, map[string]bool{}
	for i := range items {
		q := &items[i]
		there, err := p.has(quarantineKey(q.ID))
		if err != nil {
			return nil, err
		}
		if there || seen[q.ID] {
			continue
		}
		seen[q.ID] = true
		meta, err := q.encode()
		if err != nil {
			return nil, err
		}
		value := append(binary.BigEndian.AppendUint32(make([]byte, 0, 4+len(meta)+len(q.Raw)), uint32(len(meta))), meta...)
		if err := b.Set(quarantineKey(q.ID), append(value, q.Raw...), nil); err != nil {
			return nil, err
		}
		size, ok := sizes[q.Tenant]
		if !ok {
			size = have[q.Tenant]
		}
		sizes[q.Tenant] = QuarantineSize{size.Items + 1, size.Bytes + int64(len(meta)+len(q.Raw))}
	}
	return sizes, nil
}

// checkFree returns *HeadMovedError unless the head's hold is this one. A mutex is held that SetHold takes.
func (p *Pebble) checkFree(ctx context.Context, hold string) error {
	stored, err := p.Head(ctx)
	if err == nil && stored.Hold != hold {
		err = &HeadMovedError{Stored: stored.Head, Want: stored.Head, Hold: true}
	}
	return err
}

// has reports whether there is such a key, without a copy of its value.
func (p *Pebble) has(key []byte) (bool, error) {
	_, closer, err := p.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return false, nil
	}
	if err == nil {
		err = closer.Close()
	}
	return err == nil, p.damage(err)
}

// splitQuarantined takes a value apart.
func splitQuarantined(key, value []byte) (q Quarantined, raw []byte, err error) {
	if len(value) < 4 || uint64(len(value)) < 4+uint64(binary.BigEndian.Uint32(value)) {
		return q, nil, fmt.Errorf("quarantined item %q: %w: %d bytes", key, ErrCorrupt, len(value))
	}
	n := 4 + int(binary.BigEndian.Uint32(value))
	if q, err = parseQuarantined(string(key[len(prefixQuarantine):]), value[4:n]); err != nil {
		return q, nil, fmt.Errorf("quarantined item %q: %w", key, err)
	}
	return q, value[n:], nil
}

// quarantineSizes returns what each tenant has, read once. quarantineMu is held.
func (p *Pebble) quarantineSizes() (map[string]QuarantineSize, error) {
	if p.quarantine != nil {
		return p.quarantine, nil
	}
	sizes := map[string]QuarantineSize{}
	err := p.eachQuarantined("", func(key, value []byte) (bool, error) {
		q, _, err := splitQuarantined(key, value)
		if err == nil {
			size := sizes[q.Tenant]
			sizes[q.Tenant] = QuarantineSize{size.Items + 1, size.Bytes + int64(len(value)-4)}
		}
		return true, err
	})
	if err == nil {
		p.quarantine = sizes
	}
	return sizes, err
}

// eachQuarantined calls each with the rows behind an ID, as long as it says so.
func (p *Pebble) eachQuarantined(after string, each func(key, value []byte) (more bool, err error)) (err error) {
	it, err := p.db.NewIter(&pebble.IterOptions{LowerBound: quarantineKey(after), UpperBound: []byte(prefixQuarantineEnd)})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, it.Close()) }()
	for ok := it.First(); ok; ok = it.Next() {
		if after != "" && bytes.Equal(it.Key(), quarantineKey(after)) {
			continue
		}
		value, err := it.ValueAndErr()
		if err != nil {
			return p.damage(err)
		}
		if more, err := each(it.Key(), value); err != nil || !more {
			return err
		}
	}
	return p.damage(it.Error())
}

// Quarantined implements Quarantine.
func (p *Pebble) Quarantined(_ context.Context, id string) (Quarantined, error) {
	key := quarantineKey(id)
	value, err := p.get(key)
	if err != nil {
		return Quarantined{}, fmt.Errorf("read quarantined item: %w", err)
	}
	q, raw, err := splitQuarantined(key, value)
	if err != nil {
		return Quarantined{}, err
	}
	return q.withRaw(raw)
}

// ListQuarantined implements Quarantine.
func (p *Pebble) ListQuarantined(_ context.Context, tenant, after string, count int) (list []Quarantined, err error) {
	err = p.eachQuarantined(after, func(key, value []byte) (bool, error) {
		if len(list) == count {
			return false, nil
		}
		q, _, err := splitQuarantined(key, value)
		if err == nil && (tenant == "" || q.Tenant == tenant) {
			list = append(list, q)
		}
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("list the quarantine: %w", err)
	}
	return list, nil
}

// DropQuarantined implements Quarantine.
func (p *Pebble) DropQuarantined(ctx context.Context, id, hold string) error {
	p.quarantineMu.Lock()
	defer p.quarantineMu.Unlock()
	if err := p.checkFree(ctx, hold); err != nil {
		return fmt.Errorf("drop quarantined item: %w", err)
	}
	sizes, err := p.quarantineSizes()
	if err != nil {
		return fmt.Errorf("drop quarantined item: %w", err)
	}
	key := quarantineKey(id)
	value, err := p.get(key)
	if err != nil {
		return fmt.Errorf("drop quarantined item: %w", err)
	}
	q, _, err := splitQuarantined(key, value)
	if err != nil {
		return err
	}
	if err := p.db.Delete(key, pebble.Sync); err != nil {
		p.quarantine = nil
		return fmt.Errorf("drop quarantined item: %w", err)
	}
	size := sizes[q.Tenant]
	sizes[q.Tenant] = QuarantineSize{size.Items - 1, size.Bytes - int64(len(value)-4)}
	return nil
}

// QuarantineSize implements Quarantine.
func (p *Pebble) QuarantineSize(context.Context) (all QuarantineSize, err error) {
	p.quarantineMu.Lock()
	defer p.quarantineMu.Unlock()
	sizes, err := p.quarantineSizes()
	if err != nil {
		return all, fmt.Errorf("size of the quarantine: %w", err)
	}
	for _, size := range sizes {
		all.Items += size.Items
		all.Bytes += size.Bytes
	}
	return all, nil
}
