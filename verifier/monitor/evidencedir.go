package monitor

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/atomicfile"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

const (
	// maxEvidence is how many files are kept for a log. One convicts it.
	maxEvidence = 16
	evidenceExt = ".evidence"
)

// evidenceDir holds evidence files, <id>.evidence, each checked before it got there and again when
// it is read at start.
type evidenceDir struct {
	dir string

	mu    sync.Mutex
	files map[string]*evidenceFile // by id
}

// evidenceFile is one of them.
type evidenceFile struct {
	gossip.Listed
	fork *verifier.Fork
	pair [2]verifier.Checkpoint
	text []byte
}

func openEvidenceDir(dir string, policy func(origin string) *verifier.Policy, log *slog.Logger) (*evidenceDir, error) {
	d := &evidenceDir{dir: dir, files: map[string]*evidenceFile{}}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("evidence: %w", err)
	}
	for _, entry := range entries {
		if !strings.HasSuffix(entry.Name(), evidenceExt) {
			continue
		}
		file := filepath.Join(dir, entry.Name())
		b, err := readFile(file, int64(verifier.MaxEvidenceBytes))
		if err != nil {
			return nil, fmt.Errorf("evidence: %w", err)
		}
		e, err := checkEvidence(b, policy)
		if err != nil {
			log.Warn("an evidence file isn't evidence about a log that is followed", "file", file, "error", err)
			continue
		}
		d.files[e.ID] = e
	}
	return d, nil
}

// readFile reads a file of at most limit bytes.
func readFile(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("%s: more than %d bytes", file, limit)
	}
	return b, err
}

// ErrProvesNothing is matched by the error about an evidence file that convicts nobody.
var ErrProvesNothing = errors.New("proves nothing")

// checkEvidence reads a file and convicts with it. The errors: malformed; [ErrUnknownLog];
// [verifier.ErrNotSigned]; [ErrProvesNothing].
func checkEvidence(file []byte, policy func(origin string) *verifier.Policy) (*evidenceFile, error) {
	e, err := verifier.ParseEvidence(file)
	if err != nil {
		return nil, err
	}
	origin := originOf(e.First)
	p := policy(origin)
	if p == nil {
		return nil, fmt.Errorf("%w %q", ErrUnknownLog, clip(origin, 200))
	}
	fork, err := e.Check(p)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrProvesNothing, err)
	}
	found := &evidenceFile{
		Listed: gossip.Listed{ID: gossip.EvidenceID(file), Origin: fork.Origin, FirstSize: fork.First.Size, SecondSize: fork.Second.Size},
		fork:   fork, text: file,
	}
	for i, note := range [][]byte{e.First, e.Second} {
		bare, err := p.Log().Bare(note)
		if err != nil {
			return nil, err
		}
		if found.pair[i], _, err = p.Log().Verify(bare); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// add keeps a file, and reports whether it is new: not the same one again, nor about the same two
// heads, nor one too many. It is on stable storage then.
func (d *evidenceDir) add(e *evidenceFile) (isNew bool, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, o := range d.files {
		if o.ID == e.ID || o.pair == e.pair {
			return false, nil
		}
		if o.Origin == e.Origin {
			n++
		}
	}
	if n >= maxEvidence {
		return false, nil
	}
	if err := atomicfile.Write(d.path(e.ID), e.text); err != nil {
		return false, fmt.Errorf("keep evidence: %w", err)
	}
	d.files[e.ID] = e
	return true, nil
}

// path is where a file is.
func (d *evidenceDir) path(id string) string { return filepath.Join(d.dir, id+evidenceExt) }

// get returns a file's text, nil if there is none of that id.
func (d *evidenceDir) get(id string) []byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	if e := d.files[id]; e != nil {
		return e.text
	}
	return nil
}

// of returns the evidence about a log, about all logs if origin is "", in a steady order.
func (d *evidenceDir) of(origin string) []*evidenceFile {
	d.mu.Lock()
	defer d.mu.Unlock()
	var es []*evidenceFile
	for _, e := range d.files {
		if origin == "" || e.Origin == origin {
			es = append(es, e)
		}
	}
	slices.SortFunc(es, func(a, b *evidenceFile) int { return strings.Compare(a.ID, b.ID) })
	return es
}
