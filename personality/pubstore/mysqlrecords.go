package pubstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// Tokens implements Store.
func (m *MySQL) Tokens(ctx context.Context) (tokens []Token, err error) {
	err = m.records(ctx, "tokens", "SELECT id, token FROM prooftrail_token ORDER BY id", func(id string, v []byte) error {
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
func (m *MySQL) PutToken(ctx context.Context, t Token, hold string) error {
	return m.putRecord(ctx, "token", "REPLACE INTO prooftrail_token (id, token) VALUES (?, ?)", t.ID, t, hold)
}

// SourceKeys implements Store.
func (m *MySQL) SourceKeys(ctx context.Context) (keys []SourceKey, err error) {
	err = m.records(ctx, "source keys", "SELECT id, source_key FROM prooftrail_source_key ORDER BY id", func(id string, v []byte) error {
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
func (m *MySQL) PutSourceKey(ctx context.Context, k SourceKey, hold string) error {
	return m.putRecord(ctx, "source key", "REPLACE INTO prooftrail_source_key (id, source_key) VALUES (?, ?)", k.ID, k, hold)
}

// records calls each with the rows of a query, an id and JSON.
func (m *MySQL) records(ctx context.Context, what, query string, each func(id string, v []byte) error) (err error) {
	rows, err := m.db.QueryContext(ctx, query)
	if err != nil {
		return failed(err, "read %s", what)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		var v []byte
		if err := rows.Scan(&id, &v); err != nil {
			return failed(err, "read %s", what)
		}
		if err := each(id, v); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return failed(err, "read %s", what)
	}
	return nil
}

func (m *MySQL) putRecord(ctx context.Context, what, replace, id string, record any, hold string) error {
	v, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode %s: %w", what, err)
	}
	var held []byte
	err = m.inTx(ctx, func(tx *sql.Tx) error {
		// The row's lock keeps SetHold out.
		if err := tx.QueryRowContext(ctx, "SELECT hold FROM prooftrail_head WHERE one = 1 FOR UPDATE").Scan(&held); err != nil {
			return err
		}
		if string(held) != hold {
			return errHeadMoved
		}
		_, err := tx.ExecContext(ctx, replace, id, v)
		return err
	})
	if errors.Is(err, errHeadMoved) {
		stored, herr := m.Head(ctx)
		return errors.Join(fmt.Errorf("store %s: %w", what, &HeadMovedError{Stored: stored.Head, Want: stored.Head, Hold: true}), herr)
	}
	if err != nil {
		return failed(err, "store %s", what)
	}
	return nil
}
