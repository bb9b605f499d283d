package monitor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

const (
	stateVersion  = "prooftrail.monitor-state/1"
	maxStateBytes = 4 << 20
	// hours is how many hourly sizes are remembered: a week.
	hours = 168
)

// logState is what a follower remembers of its log. Heads are signed notes, as they came.
type logState struct {
	// Checked is the newest head whose entries were all re-hashed.
	Checked string
	// Seen is the newest head that is known to be of one history with Checked.
	Seen string
	// Audit is the state of [verifier.Audit].
	Audit string
	// Served is the size of the largest head that the log itself has served.
	Served uint64
	// Grown is when Seen's size last changed.
	Grown time.Time
	// Sizes are those of Seen at the beginning of the last hours, the newest, Hour, last.
	Sizes []uint64
	Hour  time.Time
}

// stateJSON is its form in the book.
type stateJSON struct {
	Version string    `json:"v"`
	Checked string    `json:"checked,omitempty"`
	Seen    string    `json:"seen,omitempty"`
	Audit   string    `json:"audit,omitempty"`
	Served  uint64    `json:"served,omitempty"`
	Grown   time.Time `json:"grown,omitzero"`
	Sizes   []uint64  `json:"sizes,omitempty"`
	Hour    time.Time `json:"hour,omitzero"`
}

func (s *logState) bytes() ([]byte, error) {
	return json.Marshal(stateJSON{stateVersion, s.Checked, s.Seen, s.Audit, s.Served, s.Grown, s.Sizes, s.Hour})
}

// parseState reads it back; nil is the state of a log that was never seen.
func parseState(b []byte) (*logState, error) {
	if b == nil {
		return &logState{}, nil
	}
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
	if len(j.Sizes) > hours {
		return nil, fmt.Errorf("%d sizes, at most %d", len(j.Sizes), hours)
	}
	return &logState{j.Checked, j.Seen, j.Audit, j.Served, j.Grown, j.Sizes, j.Hour}, nil
}

// read returns how many entries the audit has read, also of one that isn't over.
func (s *logState) read() (uint64, error) {
	var audit struct {
		Checked struct {
			Size uint64 `json:"size"`
		} `json:"checked"`
	}
	if s.Audit == "" {
		return 0, nil
	}
	err := json.Unmarshal([]byte(s.Audit), &audit)
	return audit.Checked.Size, err
}

// auditState keeps the state of the audit in the follower's, which is stored at once.
type auditState struct {
	ctx context.Context
	f   *follower
}

var _ verifier.State = auditState{}

func (a auditState) String() string { return "state of the monitor" }

func (a auditState) Load() ([]byte, error) {
	a.f.mu.Lock()
	defer a.f.mu.Unlock()
	if a.f.state.Audit == "" {
		return nil, nil
	}
	return []byte(a.f.state.Audit), nil
}

// Save stores what was audited on the way now and then, and at the end with what moveOn remembers:
// a log that brings a head a second would else be stored twice for each. With a mirror it is the end alone: what
// was read and isn't complete in the mirror yet is read again after a crash.
func (a auditState) Save(b []byte) error {
	f := a.f
	f.mu.Lock()
	wait := f.mirror != nil || time.Since(f.stored) < savePause
	if wait {
		f.state.Audit = string(b)
	}
	f.mu.Unlock()
	if wait {
		return nil
	}
	return f.remember(a.ctx, func(s *logState) { s.Audit = string(b) })
}

// grow notes that the log has grown, for the alarms about that.
func (s *logState) grow(from uint64, now time.Time) {
	now = now.UTC()
	s.Grown = now
	hour := now.Truncate(time.Hour)
	if len(s.Sizes) == 0 || hour.Before(s.Hour) { // the first, or the clock was set back
		s.Sizes, s.Hour = []uint64{from}, hour
		return
	}
	sizes := slices.Clone(s.Sizes)
	for range min(int(hour.Sub(s.Hour)/time.Hour), hours) {
		sizes = append(sizes, from)
	}
	s.Sizes, s.Hour = sizes[max(len(sizes)-hours, 0):], hour
}

// thisHour returns how many entries came since the hour of the last growth began, and the mean of
// the hours before, which is only known after a day.
func (s *logState) thisHour(size uint64, now time.Time) (n, mean uint64, known bool) {
	last := len(s.Sizes) - 1
	if last < 0 || now.UTC().Truncate(time.Hour).After(s.Hour) || size < s.Sizes[last] {
		return 0, 0, false
	}
	n = size - s.Sizes[last]
	if last < 24 || s.Sizes[last] < s.Sizes[0] {
		return n, 0, false
	}
	return n, (s.Sizes[last] - s.Sizes[0]) / uint64(last), true
}
