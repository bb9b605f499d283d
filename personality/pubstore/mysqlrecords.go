package pubstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
)

// Tokens implements Store.
func (m *MySQL) Tokens(ctx context.Context) ([]Token, error) {
	return mysqlRecords(ctx, m, "tokens", "SELECT id, token FROM prooftrail_token ORDER BY id", parseToken)
}

// PutToken implements Store.
func (m *MySQL) PutToken(ctx context.Context, t Token, hold string) error {
	return m.putRecord(ctx, "token", "REPLACE INTO prooftrail_token (id, token) VALUES (?, ?)", t.ID, t, hold)
}

// SourceKeys implements Store.
func (m *MySQL) SourceKeys(ctx context.Context) ([]SourceKey, error) {
	return mysqlRecords(ctx, m, "source keys", "SELECT id, source_key FROM prooftrail_source_key ORDER BY id", parseSourceKey)
}

// PutSourceKey implements Store.
func (m *MySQL) PutSourceKey(ctx context.Context, k SourceKey, hold string) error {
	return m.putRecord(ctx, "source key", "REPLACE INTO prooftrail_source_key (id, source_key) VALUES (?, ?)", k.ID, k, hold)
}

// mysqlRecords returns what parse makes of the rows of a query, an id and JSON.
func mysqlRecords[T any](ctx context.Context, m *MySQL, what, query string, parse func(id string, v []byte) (T, error)) (list []T, err error) {
	rows, err := m.db.QueryContext(ctx, query)
	if err != nil {
		return nil, failed(err, "read %s", what)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		var v []byte
		if err := rows.Scan(&id, &v); err != nil {
			return nil, failed(err, "read %s", what)
		}
		record, err := parse(id, v)
		if err != nil {
			return nil, err
		}
		list = append(list, record)
	}
	if err := rows.Err(); err != nil {
		return nil, failed(err, "read %s", what)
	}
	return list, nil
}

func (m *MySQL) putRecord(ctx context.Context, what, replace, id string, record any, hold string) error {
	v, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("encode %s: %w", what, err)
	}
	err = m.inTx(ctx, func(tx *sql.Tx) error {
		if err := checkFree(ctx, tx, holdAlone, hold); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, replace, id, v)
		return err
	})
	return m.heldError(ctx, err, "store "+what)
}
