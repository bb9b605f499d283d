package personality

import (
	"context"
	"math"
	"reflect"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// copyRecords copies tokens and the keys of sources. None is ever removed; one may have been revoked
// since an earlier run.
func (m *migration) copyRecords(ctx context.Context) error {
	tokens, err := m.src.store.Tokens(ctx)
	if err != nil {
		return err
	}
	for _, t := range tokens {
		if err := m.src.parts.keys.checkToken(t); err != nil {
			return err
		}
		if err := m.dst.store.PutToken(ctx, t, m.head.Hold); err != nil {
			return err
		}
	}
	keys, err := m.src.store.SourceKeys(ctx)
	if err != nil {
		return err
	}
	for _, k := range keys {
		if err := m.src.parts.keys.checkSourceKey(k); err != nil {
			return err
		}
		if err := m.dst.store.PutSourceKey(ctx, k, m.head.Hold); err != nil {
			return err
		}
	}
	return nil
}

// proveRecords compares what copyRecords has copied.
func (m *migration) proveRecords(ctx context.Context) error {
	old, err := m.src.store.Tokens(ctx)
	if err != nil {
		return err
	}
	tokens, err := m.dst.store.Tokens(ctx)
	if err == nil && !reflect.DeepEqual(tokens, old) {
		err = unfit("its tokens aren't the old log's: somebody wrote to it")
	}
	if err != nil {
		return err
	}
	oldKeys, err := m.src.store.SourceKeys(ctx)
	if err != nil {
		return err
	}
	keys, err := m.dst.store.SourceKeys(ctx)
	if err == nil && !reflect.DeepEqual(keys, oldKeys) {
		err = unfit("its source keys aren't the old log's: somebody wrote to it")
	}
	return err
}

// copyQuarantine makes the new log's quarantine the old one's: it copies what isn't there, and drops what the old one
// has no more.
func (m *migration) copyQuarantine(ctx context.Context) error {
	most := pubstore.QuarantineSize{Items: math.MaxInt64, Bytes: math.MaxInt64} // it fitted there
	there := map[string]bool{}
	err := eachQuarantined(ctx, m.dst.store, func(q pubstore.Quarantined) error { there[q.ID] = true; return nil })
	if err != nil {
		return err
	}
	err = eachQuarantined(ctx, m.src.store, func(q pubstore.Quarantined) error {
		if there[q.ID] {
			delete(there, q.ID)
			return nil
		}
		if err := m.src.parts.keys.checkQuarantined(q); err != nil {
			return err
		}
		whole, err := m.src.store.Quarantined(ctx, q.ID)
		if err != nil {
			return err
		}
		return m.dst.store.PutQuarantined(ctx, []pubstore.Quarantined{whole}, most, m.head.Hold)
	})
	for id := range there {
		if err != nil {
			break
		}
		err = m.dst.store.DropQuarantined(ctx, id, m.head.Hold)
	}
	return err
}

// eachQuarantined calls each with all items of a quarantine, without their content.
func eachQuarantined(ctx context.Context, from pubstore.Quarantine, each func(pubstore.Quarantined) error) error {
	for after := ""; ; {
		list, err := from.ListQuarantined(ctx, "", after, MaxQuarantineList)
		if err != nil || len(list) == 0 {
			return err
		}
		for _, q := range list {
			if err := each(q); err != nil {
				return err
			}
		}
		after = list[len(list)-1].ID
	}
}
