// Package rewrite is the operator who lies, in `prooftrail demo`: it makes a second history of a log from
// its public files and its signing key, in which one entry is another one. Every proof in it
// holds.
package rewrite

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
)

// History is a rewritten log, kept in memory. It serves c2sp.org/tlog-tiles below any prefix.
type History struct {
	note   []byte
	leaves [][]byte
	rows   [][]verifier.Hash // by level: leaf hashes, then roots of complete subtrees of 256, 256^2, …
}

// Of reads a log's head and entries, puts leaf in the place of the entry at index, and signs what that makes.
func Of(ctx context.Context, log verifier.Source, key *verifier.LogKey, signer note.Signer, index uint64, leaf []byte) (*History, error) {
	h := &History{}
	head, err := h.read(ctx, log, key)
	if err != nil {
		return nil, fmt.Errorf("rewrite the log: %w", err)
	}
	if index >= head.Size {
		return nil, fmt.Errorf("rewrite the log: no entry %d in a log of size %d", index, head.Size)
	}
	h.leaves[index] = leaf
	var tree verifier.CompactRange
	for _, leaf := range h.leaves {
		hash := verifier.LeafHash(leaf)
		tree.Append(hash)
		h.push(hash)
	}
	h.note, err = verifier.SignCheckpoint(verifier.Checkpoint{Origin: head.Origin, Size: tree.Size(), Root: tree.Root()}, signer)
	if err != nil {
		return nil, fmt.Errorf("rewrite the log: %w", err)
	}
	return h, nil
}

func (h *History) read(ctx context.Context, log verifier.Source, key *verifier.LogKey) (verifier.Checkpoint, error) {
	signed, err := log.Get(ctx, "checkpoint", verifier.MaxNoteBytes)
	if err != nil {
		return verifier.Checkpoint{}, err
	}
	head, _, err := key.Verify(signed)
	if err != nil {
		return head, err
	}
	for uint64(len(h.leaves)) < head.Size {
		n := uint64(len(h.leaves)) / verifier.TileWidth
		width := int(min(head.Size-n*verifier.TileWidth, verifier.TileWidth))
		b, err := log.Get(ctx, verifier.EntriesPath(n, width), int64(verifier.MaxBundleBytes))
		if err != nil {
			return head, err
		}
		entries, err := verifier.ParseBundle(b, width)
		if err != nil {
			return head, err
		}
		h.leaves = append(h.leaves, entries...)
	}
	return head, nil
}

// push adds a leaf hash, and the roots of the subtrees that it completes.
func (h *History) push(hash verifier.Hash) {
	for level := 0; ; level++ {
		if level == len(h.rows) {
			h.rows = append(h.rows, nil)
		}
		h.rows[level] = append(h.rows[level], hash)
		if len(h.rows[level])%verifier.TileWidth != 0 {
			return
		}
		var tree verifier.CompactRange
		for _, sub := range h.rows[level][len(h.rows[level])-verifier.TileWidth:] {
			tree.Append(sub)
		}
		hash = tree.Root()
	}
}

// ServeHTTP serves its files.
func (h *History) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/checkpoint") {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write(h.note)
		return
	}
	b, err := h.tile(r.URL.Path)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	_, _ = io.Copy(w, bytes.NewReader(b))
}

func (h *History) tile(path string) ([]byte, error) {
	_, file, _ := strings.Cut(path, "/tile/")
	t, err := verifier.ParseTilePath("tile/" + file)
	if err != nil {
		return nil, err
	}
	row := max(t.Level, 0)
	if row >= len(h.rows) || t.N > uint64(len(h.rows[row])) || int(t.N)*verifier.TileWidth+t.Width > len(h.rows[row]) {
		return nil, errors.New("no such tile")
	}
	from := int(t.N) * verifier.TileWidth
	if t.Level != verifier.EntriesLevel {
		return verifier.EncodeTile(h.rows[row][from : from+t.Width]), nil
	}
	var b []byte
	for _, leaf := range h.leaves[from : from+t.Width] {
		if b, err = verifier.AppendEntry(b, leaf); err != nil {
			return nil, err
		}
	}
	return b, nil
}
