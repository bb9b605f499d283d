package verifier

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
)

// FetchReceipt makes a receipt for the entry at index from a log's public files: its
// newest checkpoint, and the proof, which is computed here from tiles. It also returns the
// leaf. With openings, not nil, the opening is the receipt's extra data, unless the server
// says that it is another tenant's.
//
// Nothing is verified but the checkpoint's signature, which says how large the tree is:
// give the results to [Receipt.VerifyLeaf]. The error matches [ErrFailed] if what the log
// serves can't be right.
func FetchReceipt(ctx context.Context, s Source, openings OpeningSource, p *Policy, index uint64) (r *Receipt, leaf []byte, err error) {
	note, err := s.Get(ctx, "checkpoint", MaxNoteBytes)
	if err != nil {
		return nil, nil, err
	}
	head, _, err := p.Verify(note)
	if err != nil {
		return nil, nil, err
	}
	switch {
	case head.Size == 0:
		return nil, nil, fmt.Errorf("entry %d: the log is empty, by its checkpoint", index)
	case index >= head.Size:
		return nil, nil, fmt.Errorf("entry %d: the log has entries 0 to %d only, by its checkpoint", index, head.Size-1)
	}
	r = &Receipt{Index: index, Checkpoint: note}
	t := tileAt(EntriesLevel, index/TileWidth, head.Size)
	entries, err := getBundle(ctx, s, t)
	if at := index % TileWidth; at < uint64(len(entries)) {
		leaf = entries[at]
	} else if err != nil {
		return nil, nil, entryError(index, "read its bundle", err)
	}
	if r.Proof, err = ProveInclusion(ctx, Tiles(s), index, head.Size); err != nil {
		return nil, nil, entryError(index, "read its tiles", err)
	}
	if openings != nil {
		if r.Extra, err = fetchOpening(ctx, openings, index); err != nil {
			return nil, nil, entryError(index, "read its opening", err)
		}
	}
	return r, leaf, nil
}

// entryError names entry and operation; a log that doesn't serve what its checkpoint
// promises has FAILED.
func entryError(index uint64, op string, err error) error {
	if structural(err) {
		return failedf("entry %d: %s: %w", index, op, err)
	}
	return fmt.Errorf("entry %d: %s: %w", index, op, err)
}

// fetchOpening reads one opening; nil if the server says that it is another tenant's.
func fetchOpening(ctx context.Context, src OpeningSource, index uint64) ([]byte, error) {
	body, err := src.Openings(ctx, index, 1)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	line, err := bufio.NewReader(io.LimitReader(body, MaxOpeningLine+1)).ReadBytes('\n')
	if err != nil {
		return nil, errors.New("the server's answer is cut short or too long")
	}
	l, err := ParseOpeningLine(line[:len(line)-1])
	switch {
	case err != nil:
		return nil, failedf("%w", err)
	case l.Index != index:
		return nil, failedf("opening of entry %d was sent in its place", l.Index)
	case l.Reason == ReasonMissing:
		return nil, failedf("opening is missing")
	}
	return l.Opening, nil
}
