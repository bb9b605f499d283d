package verifier

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
)

// Checkpoint is the head of a log: c2sp.org/tlog-checkpoint without extension lines.
type Checkpoint struct {
	Origin string // the log's identity; this project makes it the name of the log's key
	Size   uint64 // number of leaves, at most MaxTreeSize
	Root   Hash   // RFC 6962 Merkle tree hash at that size
}

// b64 is the standard encoding in its one canonical spelling: padding needed, no stray bits.
var b64 = base64.StdEncoding.Strict()

// Text returns the note text: three lines, each ended by a newline.
func (c Checkpoint) Text() string {
	return c.Origin + "\n" + strconv.FormatUint(c.Size, 10) + "\n" + b64.EncodeToString(c.Root[:]) + "\n"
}

// ParseCheckpoint reads a note text. It is strict: what it accepts is exactly what
// [Checkpoint.Text] gives back, so two texts never mean the same head. Extension lines are
// refused: "The use of extension lines is NOT RECOMMENDED, as they are not auditable by
// log monitors", and this log has none.
func ParseCheckpoint(text string) (Checkpoint, error) {
	c, err := parseCheckpoint(text)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("parse checkpoint: %w", err)
	}
	return c, nil
}

func parseCheckpoint(text string) (c Checkpoint, err error) {
	// "The note text is a sequence of at least three non-empty lines, separated by newlines".
	lines := strings.Split(text, "\n")
	if len(lines) != 4 || lines[3] != "" {
		return c, errors.New("not exactly three lines")
	}
	// "The origin MUST be non-empty".
	if err := checkOrigin(lines[0]); err != nil {
		return c, err
	}
	c.Origin = lines[0]
	// "the ASCII decimal representation of the number of leaves in the tree, with no leading
	// zeroes (unless the tree is empty, in which case the tree size is `0`)".
	if c.Size, err = parseDecimal(lines[1]); err != nil {
		return c, fmt.Errorf("tree size: %w", err)
	}
	// "the base64 encoding of the root of the [RFC 6962] Merkle hash tree".
	if c.Root, err = parseHash(lines[2]); err != nil {
		return c, fmt.Errorf("root hash: %w", err)
	}
	if c.Size == 0 && c.Root != EmptyRoot {
		return c, ErrEmptyRoot
	}
	return c, nil
}

// checkOrigin refuses what can't stand on the first line of a signed note: "Signed notes
// MUST be valid UTF-8 and MUST NOT contain any ASCII control characters".
func checkOrigin(origin string) error {
	switch {
	case origin == "":
		return errors.New("origin: empty")
	case !utf8.ValidString(origin):
		return errors.New("origin: not UTF-8")
	case strings.ContainsFunc(origin, func(r rune) bool { return r < 0x20 }):
		return errors.New("origin: control character")
	}
	return nil
}

// SignCheckpoint returns the signed note of a checkpoint with one signature. The signer's
// name must be the origin: "The log's key name in its signature line SHOULD match the origin
// line", which here is a MUST.
func SignCheckpoint(c Checkpoint, s note.Signer) ([]byte, error) {
	if s.Name() != c.Origin {
		return nil, fmt.Errorf("sign checkpoint: key name %q is not the origin %q", s.Name(), c.Origin)
	}
	text := c.Text()
	if _, err := parseCheckpoint(text); err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	msg, err := note.Sign(&note.Note{Text: text}, s)
	if err != nil {
		return nil, fmt.Errorf("sign checkpoint: %w", err)
	}
	return msg, nil
}

// ParseTreeSize reads a tree size: 0 to [MaxTreeSize], decimal, "with no leading zeroes
// (unless the tree is empty, in which case the tree size is `0`)" (c2sp.org/tlog-checkpoint).
func ParseTreeSize(s string) (uint64, error) { return parseDecimal(s) }

// ParseHash reads a hash in its one base64 spelling, 44 characters with padding.
func ParseHash(s string) (Hash, error) { return parseHash(s) }

// parseDecimal reads 0..MaxTreeSize in its one canonical spelling.
func parseDecimal(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil || len(s) > 1 && s[0] == '0' {
		return 0, errors.New("expected a decimal number without leading zeros, at most 2^63-1")
	}
	return n, nil
}

// parseHash reads 32 bytes of canonical base64.
func parseHash(s string) (h Hash, err error) {
	var buf [33]byte // 44 characters may decode to 33 bytes
	if len(s) != 44 || strings.ContainsAny(s, "\r\n") {
		return h, errors.New("expected 44 characters of base64")
	}
	n, err := b64.Decode(buf[:], []byte(s))
	if err != nil || n != len(h) {
		return h, errors.New("expected canonical base64 of 32 bytes")
	}
	return Hash(buf[:32]), nil
}
