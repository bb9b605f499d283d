package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// Entry is an entry of the log as the server shows it to this token.
type Entry struct {
	Index    uint64
	Leaf     []byte // the entry, byte for byte
	LeafHash verifier.Hash
	// Opening is the entry's content; nil when it isn't this token's to read, or
	// is gone. With a policy: the receipt's, if only that shows it.
	Opening []byte
	Receipt []byte
	// Verdict is what the checks found; nil without a policy. Without an opening
	// it says [verifier.NotShown]: leaf, proof and signatures have been checked.
	Verdict *verifier.Verdict
}

type wireEntry struct {
	Index    *uint64         `json:"index"`
	Entry    string          `json:"entry"`
	LeafHash []byte          `json:"leaf_hash"`
	Opening  json.RawMessage `json:"opening"`
	Receipt  string          `json:"receipt"`
}

// Entry reads the entry at an index. With a policy, what comes is checked; the
// error is then a *ReceiptError or *EvidenceError, and the entry comes with it.
// The read is logged by the server when it shows content.
func (c *Client) Entry(ctx context.Context, index uint64) (*Entry, error) {
	e, err := c.entry(ctx, c.logPath("entries/"+strconv.FormatUint(index, 10)), nil)
	if err == nil && e.Index != index {
		return nil, fmt.Errorf("%w: entry %d, asked for %d", errProtocol, e.Index, index)
	}
	return e, err
}

// ErrNotShown: the server showed too little of the entry to tell whether it is
// the one of the event asked for. It may have been erased, or the token may not
// read it; or the server hides that it is another one.
var ErrNotShown = errors.New("the entry's source and id are not shown")

// Event reads the entry of the event with that source and id, as Entry does.
// With a policy it checks that it is the one asked for: the error is a
// *ReceiptError if it is another one, and ErrNotShown if it doesn't show; the
// entry comes with either.
func (c *Client) Event(ctx context.Context, source, id string) (*Entry, error) {
	e, err := c.entry(ctx, "/v1/events/"+url.PathEscape(id), url.Values{"source": {source}})
	if err != nil || e.Verdict == nil {
		return e, err
	}
	for pointer, want := range map[string]string{"/source": source, "/id": id} {
		if _, shown := e.Verdict.Event.Get(pointer); !shown {
			err = ErrNotShown
		} else if e.Verdict.Event.Text(pointer) != want {
			return e, &ReceiptError{e.Receipt, errors.New("it is of another event than the one asked for")}
		}
	}
	return e, err
}

func (c *Client) entry(ctx context.Context, path string, query url.Values) (*Entry, error) {
	var w wireEntry
	if err := c.doJSON(ctx, request{method: http.MethodGet, path: path, query: query, limit: limitEntry}, &w); err != nil {
		return nil, err
	}
	if w.Index == nil || w.Entry == "" || len(w.LeafHash) != len(verifier.Hash{}) || w.Receipt == "" {
		return nil, fmt.Errorf("%w: a member is missing", errProtocol)
	}
	e := &Entry{Index: *w.Index, Leaf: []byte(w.Entry), LeafHash: verifier.Hash(w.LeafHash), Receipt: []byte(w.Receipt)}
	if len(w.Opening) > 0 && !bytes.Equal(w.Opening, []byte("null")) {
		e.Opening = w.Opening
	}
	return e, c.checkEntry(e)
}

func (c *Client) checkEntry(e *Entry) error {
	if c.checker == nil {
		return nil
	}
	if err := c.checkEntryParts(e); err != nil {
		return receiptError(e.Receipt, err)
	}
	return nil
}

// checkEntryParts holds the parts of the answer against each other. All of the
// verdict's content is of one opening: the receipt's, the one beside it, or
// both, which then are the same.
func (c *Client) checkEntryParts(e *Entry) error {
	v, err := c.checker.checkLeaf(e.Receipt, e.Leaf, e.Index)
	if err != nil {
		return err
	}
	if v.LeafHash != e.LeafHash {
		return errors.New("the leaf hash is not the entry's")
	}
	if e.Opening != nil {
		o, err := seal.ParseOpening(e.Opening)
		switch {
		case err != nil:
			return err
		case o.LeafHash() != v.LeafHash:
			return errors.New("the opening is not the entry's")
		case v.Opening != nil && !bytes.Equal(v.Opening.Bytes(), e.Opening):
			return errors.New("it doesn't show the same as the opening beside it")
		}
		if err := show(v, o); err != nil {
			return err
		}
	} else if v.Opening != nil {
		e.Opening = v.Opening.Bytes()
	}
	e.Verdict = v
	return nil
}

// Receipt fetches the receipt of an entry, reissued at the newest head that the
// server's witnesses have cosigned, or at the newest of all where there is none with the
// entry; with Config.Wait Witnessed only at the former. With a policy it is checked; of an event that isn't this
// token's to read, against the leaf, and the verdict says [verifier.NotShown].
// The receipt comes with an error of the check.
func (c *Client) Receipt(ctx context.Context, index uint64) ([]byte, *verifier.Verdict, error) {
	b, err := c.receipt(ctx, index)
	if err != nil || c.checker == nil {
		return b, nil, err
	}
	if r, err := verifier.ParseReceipt(b); err == nil && r.Extra == nil {
		return c.bareReceipt(ctx, index, b)
	}
	v, err := c.checker.Check(b, nil)
	if err == nil && v.Index != index {
		return b, nil, &ReceiptError{b, fmt.Errorf("it is of entry %d, asked for %d", v.Index, index)}
	}
	return b, v, err
}

// bareReceipt checks a receipt without an opening: its leaf is the entry's.
func (c *Client) bareReceipt(ctx context.Context, index uint64, receipt []byte) ([]byte, *verifier.Verdict, error) {
	e, err := c.Entry(ctx, index)
	if err != nil {
		return receipt, nil, err
	}
	v, err := c.checker.checkLeaf(receipt, e.Leaf, index)
	if err != nil {
		return receipt, nil, &ReceiptError{Receipt: receipt, Err: err}
	}
	return receipt, v, nil
}

// Checkpoint fetches the log's checkpoint. With a policy its signatures are
// checked, and the head is remembered; the zero Checkpoint without one.
func (c *Client) Checkpoint(ctx context.Context) (note []byte, cp verifier.Checkpoint, w verifier.Witnesses, err error) {
	a, err := c.do(ctx, request{method: http.MethodGet, path: "/logs/" + url.PathEscape(c.cfg.Log) + "/checkpoint", limit: limitProblem})
	if err != nil {
		return nil, cp, w, err
	}
	if c.checker == nil {
		return a.body, cp, w, nil
	}
	head, err := c.checker.checkpoint(a.body)
	if err != nil {
		return a.body, cp, w, fmt.Errorf("checkpoint: %w", err)
	}
	return a.body, head.checkpoint, head.witnesses, nil
}

// ConsistencyProof fetches the RFC 6962 consistency proof between two sizes. It
// checks nothing: that takes the roots, see [verifier.CheckConsistency].
func (c *Client) ConsistencyProof(ctx context.Context, first, second uint64) ([]verifier.Hash, error) {
	return c.proof(ctx, "proofs/consistency", url.Values{"first": {strconv.FormatUint(first, 10)}, "second": {strconv.FormatUint(second, 10)}})
}

// proof fetches the hashes of a proof.
func (c *Client) proof(ctx context.Context, path string, query url.Values) ([]verifier.Hash, error) {
	var w struct {
		Proof [][]byte `json:"proof"`
	}
	if err := c.doJSON(ctx, request{method: http.MethodGet, path: c.logPath(path), limit: limitProblem, query: query}, &w); err != nil {
		return nil, err
	}
	proof := make([]verifier.Hash, len(w.Proof))
	for i, b := range w.Proof {
		if len(b) != len(proof[i]) {
			return nil, fmt.Errorf("%w: a hash of %d bytes", errProtocol, len(b))
		}
		proof[i] = verifier.Hash(b)
	}
	return proof, nil
}

// OpeningLine is one line of a bulk read of openings.
type OpeningLine struct {
	Index   uint64          `json:"index"`
	Opening json.RawMessage `json:"opening"` // nil when not given
	Reason  string          `json:"reason"`  // then why: "tenant" or "missing"
}

// Openings reads up to count openings from index start on, in order, and calls
// each for every one. The server may give fewer: ask again from the last index
// + 1; none at all means that start is past the published size. Nothing is
// checked: that takes the entries, as [verifier.Audit] reads them.
func (c *Client) Openings(ctx context.Context, start uint64, count int, each func(OpeningLine) error) error {
	a, err := c.do(ctx, request{
		method: http.MethodGet, path: c.logPath("openings"), limit: limitBatch,
		query: url.Values{"start": {strconv.FormatUint(start, 10)}, "count": {strconv.Itoa(count)}},
	})
	if err != nil {
		return err
	}
	next := start
	for line := range bytes.Lines(a.body) {
		var l OpeningLine
		if err := json.Unmarshal(line, &l); err != nil {
			return fmt.Errorf("%w: %w", errProtocol, err)
		}
		if l.Index != next {
			return fmt.Errorf("%w: opening %d, expected %d", errProtocol, l.Index, next)
		}
		next++
		if string(l.Opening) == "null" {
			l.Opening = nil
		}
		if err := each(l); err != nil {
			return err
		}
	}
	return nil
}
