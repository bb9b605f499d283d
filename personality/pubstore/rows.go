package pubstore

import (
	"encoding/json"
	"fmt"
)

// What the stores have in common: how a row reads, and what can't be one.

func parseLog(v []byte) (Log, error) {
	var l Log
	if err := json.Unmarshal(v, &l); err != nil {
		return Log{}, fmt.Errorf("read the log's parameters: %w: %w", ErrCorrupt, err)
	}
	if l.Origin == "" || l.Name == "" || l.VKey == "" || l.TreeID == 0 || len(l.IDSecret) != 32 {
		return Log{}, fmt.Errorf("read the log's parameters: %w: a member is missing", ErrCorrupt)
	}
	return l, nil
}

// parseToken reads the token that is stored under id.
func parseToken(id string, v []byte) (Token, error) {
	var t Token
	if err := json.Unmarshal(v, &t); err != nil {
		return Token{}, fmt.Errorf("read token %q: %w: %w", id, ErrCorrupt, err)
	}
	if t.ID != id || len(t.SecretHash) != 32 {
		return Token{}, fmt.Errorf("read token %q: %w", id, ErrCorrupt)
	}
	return t, nil
}

// parseSourceKey reads the key of a source that is stored under id.
func parseSourceKey(id string, v []byte) (SourceKey, error) {
	var k SourceKey
	if err := json.Unmarshal(v, &k); err != nil {
		return SourceKey{}, fmt.Errorf("read source key %q: %w: %w", id, ErrCorrupt, err)
	}
	if k.ID != id || k.Tenant == "" || k.Source == "" || k.VKey == "" {
		return SourceKey{}, fmt.Errorf("read source key %q: %w", id, ErrCorrupt)
	}
	return k, nil
}

// check refuses a publication that can't follow the old head.
func (p *Publication) check(old Head) error {
	if len(p.Head.Hold) > MaxHold {
		return fmt.Errorf("a hold of %d bytes", len(p.Head.Hold))
	}
	if p.Head.Size <= old.Size {
		return fmt.Errorf("the new size %d must be above %d", p.Head.Size, old.Size)
	}
	for _, t := range p.Tiles {
		if len(t.Data) == 0 || len(t.Data)%32 != 0 || t.Width+len(t.Data)/32 > 256 {
			return fmt.Errorf("tile %d/%d: %d bytes don't fit a tile of width %d", t.Level, t.N, len(t.Data), t.Width)
		}
	}
	return nil
}

// checkHold refuses a hold that isn't of the old head.
func checkHold(old, held SealedHead) error {
	if held.Head != old.Head {
		return fmt.Errorf("the head of size %d can't be held as one of size %d", old.Size, held.Size)
	}
	if len(held.Hold) > MaxHold {
		return fmt.Errorf("a hold of %d bytes", len(held.Hold))
	}
	return nil
}

// checkTile checks a stored tile's length.
func checkTile(level int, n uint64, tile []byte) error {
	if len(tile) == 0 || len(tile)%32 != 0 || len(tile) > 256*32 {
		return fmt.Errorf("read tile %d/%d: %w: %d bytes", level, n, ErrCorrupt, len(tile))
	}
	return nil
}

// leafIDLen is a LeafID's length in a mark's value.
const leafIDLen = 2 * 32

// appendLeaves appends the leaf hash and the identity hash of each leaf.
func (m *Mark) appendLeaves(b []byte) []byte {
	for i := range m.Leaves {
		b = append(append(b, m.Leaves[i].Hash[:]...), m.Leaves[i].Identity[:]...)
	}
	return b
}

// parseLeafIDs reads what appendLeaves has written.
func parseLeafIDs(b []byte) (leaves []LeafID) {
	for ; len(b) >= leafIDLen; b = b[leafIDLen:] {
		leaves = append(leaves, LeafID{Hash: [32]byte(b), Identity: [32]byte(b[32:])})
	}
	return leaves
}
