package personality

import (
	"context"
	"reflect"
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
