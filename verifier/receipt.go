package verifier

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
)

// MaxReceiptBytes is the largest receipt that is read: room for the opening of the largest
// event, in base64, next to proof and checkpoint.
const MaxReceiptBytes = 4 << 20

const receiptHeader = "c2sp.org/tlog-proof@v1\n"

// Receipt is a c2sp.org/tlog-proof: evidence that the entry at Index is in the tree of the
// checkpoint, with the opening of the entry as extra data. Nothing in it is verified.
type Receipt struct {
	Index      uint64 // of the entry, at most MaxTreeSize
	Proof      []Hash // from the leaf's sibling up, at most MaxProofHashes
	Checkpoint []byte // signed note, at most MaxNoteBytes
	Extra      []byte // opening, nil if none
}

// ParseReceipt reads a receipt of at most MaxReceiptBytes. It is strict, so that what it
// accepts is, byte for byte, what [Receipt.Bytes] gives back. The result doesn't alias b.
// The checkpoint is kept verbatim: [Policy.Verify] reads it.
func ParseReceipt(b []byte) (*Receipt, error) {
	r, err := parseReceipt(b)
	if err != nil {
		return nil, fmt.Errorf("parse receipt: %w", err)
	}
	return r, nil
}

func parseReceipt(b []byte) (*Receipt, error) {
	if len(b) > MaxReceiptBytes {
		return nil, fmt.Errorf("more than %d bytes", MaxReceiptBytes)
	}
	// "The first line MUST be the string `c2sp.org/tlog-proof@v1`."
	rest, ok := bytes.CutPrefix(b, []byte(receiptHeader))
	if !ok {
		return nil, errors.New("the first line is not c2sp.org/tlog-proof@v1")
	}
	r := new(Receipt)
	line, rest, err := nextLine(rest)
	if err != nil {
		return nil, err
	}
	// "The second line MAY start with the string `extra` followed by a space (U+0020) and
	// base64-encoded opaque extra data. If no extra data is present, this line is omitted."
	if enc, ok := bytes.CutPrefix(line, []byte("extra ")); ok {
		if r.Extra, err = decodeExtra(enc); err != nil {
			return nil, err
		}
		if line, rest, err = nextLine(rest); err != nil {
			return nil, err
		}
	}
	// "The next line MUST start with the string `index` followed by a space (U+0020) and the
	// zero-based index of the entry in the log, represented as an ASCII decimal with no
	// leading zeroes (unless the index is `0`)."
	digits, ok := bytes.CutPrefix(line, []byte("index "))
	if !ok {
		return nil, errors.New("no index line")
	}
	if r.Index, err = parseDecimal(string(digits)); err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	if rest, err = r.parseProof(rest); err != nil {
		return nil, err
	}
	if len(rest) == 0 || len(rest) > MaxNoteBytes {
		return nil, fmt.Errorf("checkpoint of %d bytes, expected 1 to %d", len(rest), MaxNoteBytes)
	}
	r.Checkpoint = bytes.Clone(rest)
	return r, nil
}

// parseProof reads "zero or more non-empty lines" of "one SHA-256 hash per line" and the
// empty line after them.
func (r *Receipt) parseProof(b []byte) (rest []byte, err error) {
	for {
		line, rest, err := nextLine(b)
		if err != nil {
			return nil, err
		}
		if len(line) == 0 {
			return rest, nil
		}
		if len(r.Proof) == MaxProofHashes {
			return nil, fmt.Errorf("more than %d proof hashes", MaxProofHashes)
		}
		h, err := parseHash(string(line))
		if err != nil {
			return nil, fmt.Errorf("proof hash %d: %w", len(r.Proof), err)
		}
		r.Proof = append(r.Proof, h)
		b = rest
	}
}

// nextLine cuts the first line off; "lines separated by newlines (U+000A)".
func nextLine(b []byte) (line, rest []byte, err error) {
	line, rest, ok := bytes.Cut(b, []byte("\n"))
	if !ok {
		return nil, nil, errors.New("cut short: no checkpoint")
	}
	return line, rest, nil
}

func decodeExtra(enc []byte) ([]byte, error) {
	if len(enc) == 0 {
		return nil, errors.New("extra: empty, expected no such line")
	}
	// The decoder would skip carriage returns.
	if bytes.IndexByte(enc, '\r') >= 0 {
		return nil, errors.New("extra: carriage return")
	}
	out := make([]byte, b64.DecodedLen(len(enc)))
	n, err := b64.Decode(out, enc)
	if err != nil {
		return nil, errors.New("extra: expected canonical base64")
	}
	return out[:n:n], nil
}

// Bytes returns the receipt in its text form.
func (r *Receipt) Bytes() []byte { return r.Append(nil) }

// Append appends the text form to dst and returns it, with at most one allocation: what
// a server does once an event.
func (r *Receipt) Append(dst []byte) []byte {
	dst = growTo(dst, r.encodedLen())
	dst = append(dst, receiptHeader...)
	if len(r.Extra) > 0 {
		dst = append(dst, "extra "...)
		dst = base64.StdEncoding.AppendEncode(dst, r.Extra)
		dst = append(dst, '\n')
	}
	dst = append(dst, "index "...)
	dst = strconv.AppendUint(dst, r.Index, 10)
	dst = append(dst, '\n')
	for i := range r.Proof {
		dst = base64.StdEncoding.AppendEncode(dst, r.Proof[i][:])
		dst = append(dst, '\n')
	}
	dst = append(dst, '\n')
	return append(dst, r.Checkpoint...)
}

// encodedLen is an upper bound of the text's length.
func (r *Receipt) encodedLen() int {
	return len(receiptHeader) + len("extra \n") + base64.StdEncoding.EncodedLen(len(r.Extra)) +
		len("index \n\n") + 20 + 45*len(r.Proof) + len(r.Checkpoint)
}

// growTo makes room for n more bytes, exactly, so that a receipt isn't twice its size.
func growTo(dst []byte, n int) []byte {
	if cap(dst)-len(dst) >= n {
		return dst
	}
	out := make([]byte, len(dst), len(dst)+n)
	copy(out, dst)
	return out
}
