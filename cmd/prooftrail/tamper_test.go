package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"github.com/prooftrail/prooftrail/verifier"
)

// tamper DIR WHAT [INDEX] changes the database of a log that isn't running: the opening,
// entry or tile hash of an entry; the stored root; or it deletes the entry. Keys are those
// of package pubstore.
func tamper(ts *testscript.TestScript, _ bool, args []string) {
	dir := ts.MkAbs(args[0])
	if args[1] == "root" {
		ts.Check(editRow(dir, []byte("ph"), func(b []byte) []byte { b[len(b)-1] ^= 1; return b }))
		return
	}
	index, err := strconv.ParseUint(args[2], 10, 64)
	ts.Check(err)
	n, at := index/256, int(index%256)
	tile, bundle := binary.BigEndian.AppendUint64([]byte{'p', 't', 0}, n), binary.BigEndian.AppendUint64([]byte("pe"), n)
	var hash verifier.Hash
	ts.Check(editRow(dir, tile, func(b []byte) []byte { copy(hash[:], b[at*32:]); return b }))
	switch args[1] {
	case "opening":
		_, _, err = forgeOpening(context.Background(), dir, index, hash)
	case "tile":
		err = editRow(dir, tile, func(b []byte) []byte { b[at*32] ^= 1; return b })
	case "entry":
		err = editRow(dir, bundle, func(b []byte) []byte {
			start, _ := entryAt(b, at)
			return slices.Concat(b[:start], bytes.Replace(b[start:], []byte(`"time":"20`), []byte(`"time":"19`), 1))
		})
	case "delete":
		ts.Check(editRow(dir, bundle, func(b []byte) []byte {
			start, end := entryAt(b, at)
			return slices.Concat(b[:start], b[end:])
		}))
		err = editRow(dir, append(binary.BigEndian.AppendUint64([]byte("po"), index), hash[:]...), func([]byte) []byte { return nil })
	default:
		err = fmt.Errorf("tamper with %s?", args[1])
	}
	ts.Check(err)
}

// entryAt is where an entry of a bundle begins and ends, with its length.
func entryAt(bundle []byte, at int) (start, end int) {
	for range at + 1 {
		start, end = end, end+2+int(binary.BigEndian.Uint16(bundle[end:]))
	}
	return start, end
}

// editRow changes a row; nil deletes it.
func editRow(dir string, key []byte, change func([]byte) []byte) (err error) {
	opts := &pebble.Options{ErrorIfNotExists: true, Logger: silent{}}
	pebblestore.Configure(opts)
	db, err := pebble.Open(filepath.Join(dir, "store"), opts)
	if err != nil {
		return err
	}
	defer func() {
		if closeErr := db.Close(); err == nil {
			err = closeErr
		}
	}()
	v, closer, err := db.Get(key)
	if err != nil {
		return fmt.Errorf("row %x: %w", key, err)
	}
	changed := change(bytes.Clone(v))
	if err := closer.Close(); err != nil {
		return err
	}
	if changed == nil {
		return db.Delete(key, pebble.Sync)
	}
	return db.Set(key, changed, pebble.Sync)
}
