package verifier

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/prooftrail/prooftrail/verifier/internal/atomicfile"
)

const (
	stateVersion  = "prooftrail.audit-state/1"
	maxStateBytes = 2 << 20
)

// auditState is what an audit remembers for the next one.
//
// It moves forward only when everything up to there was checked and held, so an audit
// that was interrupted, or that FAILED, is done again from where the last good one was.
type auditState struct {
	// head is the newest signed note that was seen, whole, for two of them are evidence. It
	// may be ahead of the marks: then an audit up to it was interrupted.
	head []byte
	// checked is up to where leaves and tiles were checked.
	checked *mark
	// opened is up to where the openings were checked as well; nil if never.
	opened *mark
}

// mark is a place in the log from which an audit can go on: all entries before it held.
type mark struct {
	tree     *CompactRange
	lastTime time.Time // of the last leaf, zero if there is none
	sources  *sources  // of the entries before it; kept of opened only
}

// stateJSON is the file's form.
type stateJSON struct {
	Version string    `json:"v"`
	Head    string    `json:"head"`
	Checked *markJSON `json:"checked"`
	Opened  *markJSON `json:"opened,omitempty"`
}

type markJSON struct {
	Size     uint64    `json:"size"`
	Hashes   []string  `json:"hashes"`
	LastTime time.Time `json:"last_time"`

	Sources *sourcesJSON `json:"sources,omitempty"` // of opened
}

// parseState reads a state file; whether it fits the policy is for load to say.
func parseState(b []byte) (*auditState, error) {
	if len(b) > maxStateBytes {
		return nil, fmt.Errorf("more than %d bytes", maxStateBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var j stateJSON
	if err := dec.Decode(&j); err != nil {
		return nil, err
	}
	if dec.More() {
		return nil, errors.New("something follows the JSON object")
	}
	if j.Version != stateVersion {
		return nil, fmt.Errorf("version %q, expected %q", j.Version, stateVersion)
	}
	if j.Checked == nil {
		return nil, errors.New("no member checked")
	}
	s := &auditState{head: []byte(j.Head)}
	var err error
	if s.checked, err = j.Checked.mark(); err != nil {
		return nil, fmt.Errorf("checked: %w", err)
	}
	if j.Opened != nil {
		if s.opened, err = j.Opened.mark(); err != nil {
			return nil, fmt.Errorf("opened: %w", err)
		}
	}
	return s, nil
}

func (j *markJSON) mark() (*mark, error) {
	hashes, err := decodeHashes(j.Hashes)
	if err != nil {
		return nil, err
	}
	tree, err := NewCompactRange(j.Size, hashes)
	if err != nil {
		return nil, err
	}
	at := j.LastTime.UTC()
	if !at.IsZero() && (at.Unix() < 0 || at.Unix() > lastSecond) {
		return nil, errors.New("last_time: expected a time from 1970 to 9999") // as in leaves
	}
	s, err := j.Sources.sources()
	if err != nil {
		return nil, fmt.Errorf("sources: %w", err)
	}
	return &mark{tree, at, s}, nil
}

func (m *mark) json() *markJSON {
	if m == nil {
		return nil
	}
	return &markJSON{Size: m.tree.Size(), Hashes: encodeHashes(m.tree.hashes), LastTime: m.lastTime, Sources: m.sources.json()}
}

func (s *auditState) bytes() ([]byte, error) {
	checked := s.checked.json()
	checked.Sources = nil
	b, err := json.MarshalIndent(stateJSON{stateVersion, string(s.head), checked, s.opened.json()}, "", " ")
	return append(b, '\n'), err
}

// check makes sure that the state is about the policy's log and agrees with itself.
func (s *auditState) check(p *Policy) (Checkpoint, error) {
	head, _, err := p.Verify(s.head)
	if err != nil {
		return Checkpoint{}, fmt.Errorf("its head isn't one of this policy's log: %w", err)
	}
	for _, m := range []*mark{s.checked, s.opened} {
		if m == nil {
			continue
		}
		size := m.tree.Size()
		if size > head.Size || size == head.Size && m.tree.Root() != head.Root {
			return Checkpoint{}, errors.New("its hashes don't yield the root of its head")
		}
	}
	return head, nil
}

// State keeps what an audit remembers for the next one. One audit at a time uses it.
type State interface {
	// Load returns what was saved last, nil if nothing ever was. It is called once, before
	// anything else: what would keep Save from working should be an error here.
	Load() ([]byte, error)
	// Save replaces what is kept, whole and durably.
	Save(state []byte) error
	// String names it in errors.
	String() string
}

// FileState keeps the state in a file. One that doesn't exist is made, mode 0600; its directory
// must exist.
func FileState(path string) State { return fileState(path) }

type fileState string

func (f fileState) String() string { return "state file " + string(f) }

func (f fileState) Load() ([]byte, error) {
	if err := f.probe(); err != nil { // before hours of work whose end can't be kept
		return nil, err
	}
	file, err := os.Open(string(f))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return readLimited(file, -1, maxStateBytes, string(f))
}

// probe finds out whether Save has a chance: whether a file can be made where the state is
// to be.
func (f fileState) probe() error {
	tmp, err := os.CreateTemp(filepath.Dir(string(f)), filepath.Base(string(f))+".tmp*")
	if err != nil {
		return err
	}
	return errors.Join(tmp.Close(), os.Remove(tmp.Name()))
}

// Save implements [State].
func (f fileState) Save(state []byte) error { return atomicfile.Write(string(f), state) }

func encodeHashes(hs []Hash) []string {
	out := make([]string, len(hs))
	for i := range hs {
		out[i] = b64.EncodeToString(hs[i][:])
	}
	return out
}

func decodeHashes(ss []string) ([]Hash, error) {
	if len(ss) > MaxProofHashes {
		return nil, fmt.Errorf("%d hashes, at most %d", len(ss), MaxProofHashes)
	}
	out := make([]Hash, len(ss))
	for i, s := range ss {
		h, err := parseHash(s)
		if err != nil {
			return nil, fmt.Errorf("hash %d: %w", i, err)
		}
		out[i] = h
	}
	return out, nil
}
