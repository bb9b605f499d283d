package client

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

const (
	headsVersion = "prooftrail.client-heads/1"
	// maxFileHeads bounds how many heads that aren't proven yet are kept in the file.
	maxFileHeads = 32
	// maxFileNote bounds, in bytes, what is kept of a note with all its cosignatures. Of a longer
	// one the log's signature is enough.
	maxFileNote = 16 << 10
)

// headsFile is the file behind Config.HeadsFile.
type headsFile struct {
	mu    sync.Mutex
	state verifier.State // nil: none
	last  []byte         // what this client has read or written last
}

// headsJSON is the file's form. Notes are signed notes, whole.
type headsJSON struct {
	Version string `json:"v"`
	// Proven is the newest head of which it was proven that it extends all earlier ones but Seen;
	// "" if there was none yet.
	Proven string `json:"proven"`
	// Seen are heads that were seen and are yet to be proven, by size.
	Seen []string `json:"seen"`
}

func (j *headsJSON) bytes() ([]byte, error) {
	b, err := json.MarshalIndent(j, "", " ")
	return append(b, '\n'), err
}

// parseHeads reads a heads file: the proven head, nil if there is none, and those that aren't. It is
// strict: what it takes is, byte for byte, what was written.
func parseHeads(b []byte, p *verifier.Policy) (proven *signedHead, seen []*signedHead, err error) {
	var j headsJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, nil, err
	}
	if j.Version != headsVersion {
		return nil, nil, fmt.Errorf("version %q, expected %q", j.Version, headsVersion)
	}
	if again, err := j.bytes(); err != nil || !bytes.Equal(again, b) || j.Seen == nil {
		return nil, nil, errors.New("expected the JSON as it was written: it was changed")
	}
	if len(j.Seen) > maxFileHeads {
		return nil, nil, fmt.Errorf("%d heads, expected at most %d", len(j.Seen), maxFileHeads)
	}
	if j.Proven != "" {
		head, err := gossip.ReadHead(p, []byte(j.Proven)) // cosignatures don't matter: the policy may have changed
		if err != nil {
			return nil, nil, fmt.Errorf("proven: %w", err)
		}
		proven = &head
	}
	for i, note := range j.Seen {
		s, err := gossip.ReadHead(p, []byte(note))
		if err != nil {
			return nil, nil, fmt.Errorf("seen %d: %w", i, err)
		}
		if i > 0 && s.Checkpoint.Size <= seen[i-1].Checkpoint.Size || proven != nil && s.Checkpoint.Size == proven.Checkpoint.Size {
			return nil, nil, fmt.Errorf("seen %d: expected heads of increasing sizes, each once", i)
		}
		seen = append(seen, &s)
	}
	return proven, seen, nil
}

// loadHeads reads the file, at the beginning.
func (c *Client) loadHeads() error {
	if c.cfg.HeadsFile == "" {
		return nil
	}
	c.file.state = verifier.FileState(c.cfg.HeadsFile)
	b, err := c.file.state.Load()
	if err != nil {
		return fmt.Errorf("client: heads file %s: %w", c.cfg.HeadsFile, err)
	}
	if b == nil {
		return nil
	}
	proven, seen, err := parseHeads(b, c.cfg.Policy)
	if err != nil {
		// Not ErrFailed, whatever it wraps: it is our file that is bad.
		return fmt.Errorf("client: heads file %s: %s", c.cfg.HeadsFile, err.Error())
	}
	c.file.last = b
	h := &c.checker.heads
	h.proven, h.newest = proven, proven
	for _, s := range seen {
		if err := h.see(s.Checkpoint, s.Note); err != nil {
			return err
		}
	}
	if h.newest != nil {
		c.remembered = &h.newest.Checkpoint
	}
	return nil
}

// Remembered returns the newest head that the file of Config.HeadsFile held when the client was
// made. Not ok: there was none, and heads are compared with none from before.
func (c *Client) Remembered() (cp verifier.Checkpoint, ok bool) {
	if c.remembered == nil {
		return cp, false
	}
	return *c.remembered, true
}

// saveHeads writes the file, if anything has changed. A crash leaves the old one or the new one; what
// an old one lacks is seen again with the next receipt.
//
// The file never loses the newest head: what another process has put there is taken in before.
func (c *Client) saveHeads() error {
	f := &c.file
	if f.state == nil || c.checker.heads.head() == nil {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	there, err := f.state.Load()
	if err != nil {
		return fmt.Errorf("heads file %s: %w", c.cfg.HeadsFile, err)
	}
	if there != nil && !bytes.Equal(there, f.last) {
		if err := c.takeIn(there); err != nil {
			return fmt.Errorf("heads file %s: %s", c.cfg.HeadsFile, err.Error())
		}
	}
	b, err := c.checker.heads.file(c.cfg.Policy)
	if err != nil || bytes.Equal(b, there) {
		return err
	}
	if err := f.state.Save(b); err != nil {
		return fmt.Errorf("save heads file %s: %w", c.cfg.HeadsFile, err)
	}
	f.last = b
	return nil
}

// takeIn sees the heads of a file that somebody else has written.
func (c *Client) takeIn(b []byte) error {
	proven, seen, err := parseHeads(b, c.cfg.Policy)
	if err != nil {
		return err
	}
	if proven != nil {
		seen = append(seen, proven)
	}
	for _, s := range seen {
		// If it contradicts, the log is convicted from now on; it is saved all the same.
		_ = c.checker.heads.see(s.Checkpoint, s.Note)
	}
	return nil
}

// file returns what is to be remembered over restarts.
func (h *heads) file(p *verifier.Policy) ([]byte, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	j := headsJSON{Version: headsVersion, Seen: []string{}}
	var err error
	if h.proven != nil {
		if j.Proven, err = fileNote(h.proven, p); err != nil {
			return nil, err
		}
	}
	sizes := slices.Sorted(maps.Keys(h.pending))
	for _, size := range sizes[max(0, len(sizes)-maxFileHeads):] {
		note, err := fileNote(h.pending[size], p)
		if err != nil {
			return nil, err
		}
		j.Seen = append(j.Seen, note)
	}
	return j.bytes()
}

func fileNote(s *signedHead, p *verifier.Policy) (string, error) {
	if len(s.Note) <= maxFileNote {
		return string(s.Note), nil
	}
	bare, err := p.Log().Bare(s.Note)
	return string(bare), err
}
