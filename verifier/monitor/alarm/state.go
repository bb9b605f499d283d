package alarm

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/prooftrail/prooftrail/verifier/internal/atomicfile"
)

const (
	stateVersion = "prooftrail.alarms/1"
	// maxStateAlarms is more than a board holds: active ones, its own, and resolved ones that
	// a sink wasn't told of.
	maxStateAlarms = 2*MaxActive + 1024
	// maxStateAlarmBytes is more than one of them takes.
	maxStateAlarmBytes = 12 << 10
	maxStateBytes      = maxStateAlarms*maxStateAlarmBytes + 1024
)

// stateJSON is the state file. The digest is of the bytes of Alarms: with it a damaged file
// can't pass for one with other alarms, or none.
type stateJSON struct {
	Version string          `json:"v"`
	SHA256  string          `json:"sha256"`
	Alarms  json.RawMessage `json:"alarms"`
}

type stateAlarm struct {
	Alarm    Alarm               `json:"alarm"`
	Resolved time.Time           `json:"resolved_at,omitzero"`
	Sent     map[string]sentJSON `json:"sent,omitempty"` // by sink
}

type sentJSON struct {
	At       time.Time `json:"at"`
	Since    time.Time `json:"since"`
	Severity Severity  `json:"severity"`
	Resolved bool      `json:"resolved,omitempty"`
}

// marshal is json.Marshal without escapes for HTML, which would make bounded texts longer.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), nil
}

// stateBytes is the file of these alarms.
func stateBytes(all []stateAlarm) ([]byte, error) {
	if all == nil {
		all = []stateAlarm{}
	}
	alarms, err := marshal(all)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(alarms)
	b, err := marshal(stateJSON{stateVersion, hex.EncodeToString(sum[:]), alarms})
	return append(b, '\n'), err
}

// parseState reads a state file. What it accepts is what stateBytes makes, byte for byte.
func parseState(b []byte) ([]stateAlarm, error) {
	var j stateJSON
	if err := strict(b, &j); err != nil {
		return nil, err
	}
	if j.Version != stateVersion {
		return nil, fmt.Errorf("version %q, expected %q", j.Version, stateVersion)
	}
	if sum := sha256.Sum256(j.Alarms); j.SHA256 != hex.EncodeToString(sum[:]) {
		return nil, errors.New("its digest is another")
	}
	all, err := parseAlarms(j.Alarms)
	if err != nil {
		return nil, err
	}
	if again, err := stateBytes(all); err != nil || !bytes.Equal(again, b) {
		return nil, errors.New("it isn't in the form in which it is written")
	}
	return all, nil
}

// parseAlarms reads the list in a state file.
func parseAlarms(b []byte) ([]stateAlarm, error) {
	var all []stateAlarm
	if err := strict(b, &all); err != nil {
		return nil, err
	}
	if len(all) > maxStateAlarms {
		return nil, fmt.Errorf("%d alarms, at most %d", len(all), maxStateAlarms)
	}
	seen := map[key]bool{}
	for i, s := range all {
		if err := s.check(); err != nil {
			return nil, fmt.Errorf("alarm %d: %w", i, err)
		}
		if seen[s.Alarm.key()] {
			return nil, fmt.Errorf("alarm %d: there twice", i)
		}
		seen[s.Alarm.key()] = true
	}
	return all, nil
}

// strict decodes one JSON value with no members that aren't known, and nothing after it.
func strict(b []byte, to any) error {
	if len(b) > maxStateBytes {
		return fmt.Errorf("more than %d bytes", maxStateBytes)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(to); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return errors.New("something follows the JSON")
	}
	return nil
}

// check makes sure that the alarm is one that a board can have written.
func (s stateAlarm) check() error {
	a := clean(s.Alarm)
	a.Since, a.Ack = s.Alarm.Since, s.Alarm.Ack
	want, err1 := marshal(a)
	got, err2 := marshal(s.Alarm)
	switch {
	case err1 != nil || err2 != nil:
		return errors.Join(err1, err2)
	case !bytes.Equal(want, got):
		return errors.New("a text or the severity isn't one that is written")
	case len(s.Sent) > maxSinks:
		return fmt.Errorf("sent to %d sinks, at most %d", len(s.Sent), maxSinks)
	}
	times := []time.Time{a.Since}
	if !s.Resolved.IsZero() {
		times = append(times, s.Resolved)
	}
	if ack := a.Ack; ack != nil {
		if ack.By == "" || printable(ack.By, maxBy) != ack.By || printable(ack.Note, maxNote) != ack.Note {
			return errors.New("the acknowledgement isn't one that is written")
		}
		times = append(times, ack.At)
	}
	for name, sent := range s.Sent {
		if name == "" || printable(name, maxName) != name || sent.Severity != Critical && sent.Severity != Warning && sent.Severity != Info {
			return errors.New("what was sent isn't what is written")
		}
		times = append(times, sent.At, sent.Since)
	}
	for _, t := range times {
		if t.Location() != time.UTC || t.Unix() < 0 || t.Year() > 9999 || !t.Equal(t.Truncate(time.Millisecond)) {
			return errors.New("expected times of UTC from 1970 to 9999, in milliseconds")
		}
	}
	return nil
}

// snapshot is what the state file has to say now.
func (b *Board) snapshot() []stateAlarm {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make([]stateAlarm, 0, len(b.entries))
	for _, e := range b.entries {
		s := stateAlarm{Alarm: e.alarm, Resolved: e.resolved, Sent: map[string]sentJSON{}}
		for i, t := range e.told {
			if !t.at.IsZero() {
				s.Sent[b.outlets[i].health.Name] = sentJSON{t.at, t.since, t.severity, t.resolved}
			}
		}
		all = append(all, s)
	}
	return all
}

// save writes the state file. That it can't is an alarm, as long as it can't.
func (b *Board) save() error {
	if b.cfg.StateFile == "" {
		return nil
	}
	b.file.Lock()
	defer b.file.Unlock()
	all := b.snapshot()
	slices.SortFunc(all, func(x, y stateAlarm) int { return x.Alarm.key().compare(y.Alarm.key()) })
	data, err := stateBytes(all)
	if err == nil {
		err = atomicfile.Write(b.cfg.StateFile, data)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.clear(b.entries[key{name: StateUnwritable}])
		return nil
	}
	b.raise(clean(Alarm{Name: StateUnwritable, Severity: Warning, Summary: "the state of the alarms can't be written: a restart forgets acknowledgements",
		Details: map[string]string{"error": err.Error()}}), true)
	return fmt.Errorf("write alarm state: %w", err)
}

// restore reads the state file, if there is one.
func (b *Board) restore() error {
	file := b.cfg.StateFile
	if err := atomicfile.Sweep(file); err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	data, err := readState(file)
	if errors.Is(err, fs.ErrNotExist) {
		b.cfg.Log.LogAttrs(context.Background(), slog.LevelInfo, "no state of alarms yet", slog.String("file", file))
		return nil
	}
	if err != nil {
		return fmt.Errorf("state file: %w", err)
	}
	all, err := parseState(data)
	if err != nil {
		return b.damaged(err)
	}
	for _, s := range all {
		b.adopt(s)
	}
	return nil
}

func readState(file string) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, cmp.Or(err, errors.New(file+" is no regular file"))
	}
	return io.ReadAll(io.LimitReader(f, maxStateBytes+1))
}

// adopt takes an alarm of the state file.
func (b *Board) adopt(s stateAlarm) {
	e := &entry{alarm: s.Alarm, resolved: s.Resolved, told: make([]told, len(b.outlets))}
	// The board's own can be told from others by what only it raises.
	e.own = slices.Contains([]string{Overflow, SinkFailing, StateUnwritable, StateDamaged}, s.Alarm.Name)
	for i, o := range b.outlets {
		if sent, ok := s.Sent[o.health.Name]; ok {
			e.told[i] = told{at: sent.At, since: sent.Since, severity: sent.Severity, resolved: sent.Resolved}
		}
	}
	b.entries[s.Alarm.key()] = e
	if e.active() {
		e.restored = s.Alarm.Name != StateDamaged // which stays until it is acknowledged
		b.enter(e)
		return
	}
	b.gone++
	b.forget(e)
}

// damaged puts the state file aside and says so, loudly.
func (b *Board) damaged(why error) error {
	file := b.cfg.StateFile
	aside, err := putAside(file, b.now())
	if err != nil {
		return fmt.Errorf("the state file %s is damaged (%w), and can't be put aside: %w", file, why, err)
	}
	b.cfg.Log.LogAttrs(context.Background(), slog.LevelError, "the state of the alarms is damaged; it is put aside, and begun anew",
		slog.String("file", file), slog.String("kept", aside), slog.Any("error", why))
	b.raise(clean(Alarm{Name: StateDamaged, Severity: Critical,
		Summary: "the state of the alarms was damaged and is begun anew: acknowledgements, and alarms that nobody raises again, are forgotten",
		Details: map[string]string{"error": why.Error(), "kept": aside}}), true)
	return nil
}

// putAside gives the file another name, that no file has.
func putAside(file string, now time.Time) (string, error) {
	name := file + ".damaged-" + now.Format("20060102T150405Z")
	for i := range 100 {
		aside := name
		if i > 0 {
			aside += "-" + strconv.Itoa(i)
		}
		_, err := os.Lstat(aside)
		if err == nil {
			continue
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		return aside, errors.Join(os.Rename(file, aside), atomicfile.SyncDir(filepath.Dir(file)))
	}
	return "", errors.New("too many that are damaged are there already")
}
