package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/client/spool"
)

const (
	maxLanes = 4096
	// laneBytes bounds a lane: some 70,000 events. laneSegment is what an empty one takes, and what
	// each exec reads at least: a hundred events.
	laneBytes, laneSegment = 64 << 20, 64 << 10
	// diskWait is how long a command that doesn't need the log waits for the disk.
	diskWait = time.Second
	// sweepAfter is how long a command has run before the other lanes are looked after.
	sweepAfter = time.Second
	// downFor is how long a log that couldn't be reached, or let exec wait in vain, isn't waited for any more, nor
	// sent to by commands that run for less than sweepAfter.
	downFor = time.Minute
)

// lane is a spool of its own, below the directory of all, and the queue that this process has on it. The
// kernel gives its lock back when the process ends, however it does.
type lane struct {
	base   string
	queue  *client.Queue
	client *client.Client
	failed chan struct{} // holds one when sending has failed
	closed bool
}

// openExec opens the first lane that nobody has, and that can be opened. A disk that hangs keeps no command waiting that doesn't need
// the log.
func openExec(e *cli.Env, x *execFlags) (*lane, error) {
	if x.required {
		return x.open(e)
	}
	type opened struct {
		l   *lane
		err error
	}
	c := make(chan opened, 1)
	go func() {
		l, err := x.open(e)
		c <- opened{l, err}
	}()
	select {
	case o := <-c:
		return o.l, o.err
	case <-time.After(diskWait):
		return nil, errors.New("the spool's disk doesn't answer")
	}
}

func (x *execFlags) open(e *cli.Env) (*lane, error) {
	lanes, err := x.lanes(e)
	if err != nil {
		return nil, err
	}
	if isDown(lanes.dir) {
		lanes.sendAfter = sweepAfter
	}
	for n := 1; n <= maxLanes; n++ {
		_, isNew := os.Stat(lanes.path(n))
		l, err := lanes.open(n)
		switch {
		case errors.Is(err, spool.ErrLocked):
		case err != nil && isNew == nil: // damaged, say: there are others
			e.Say("prooftrail exec: lane %d: %s", n, err)
		default:
			return l, err
		}
	}
	return nil, fmt.Errorf("%s: %d lanes are in use", lanes.dir, maxLanes)
}

// lanes is what all lanes of a spool have in common.
type lanes struct {
	dir, source  string
	cfg          client.Config
	requiredWait time.Duration
	sendAfter    time.Duration
	mask         *mask.Masker
}

func (x *execFlags) lanes(e *cli.Env) (*lanes, error) {
	cfg, err := x.config(e)
	if err != nil {
		return nil, err
	}
	cfg.CheckEvery = -1 // this process sees one head or two, and remembers none
	cfg.Alarm = func(err error) {
		e.Say("prooftrail exec: %s", err)
		sayEvidence(e, err)
	}
	dir, source, err := x.spoolDir()
	return &lanes{dir: dir, source: source, cfg: cfg, requiredWait: x.requiredWait, mask: x.mask}, err
}

func (s *lanes) path(n int) string { return filepath.Join(s.dir, strconv.Itoa(n)) }

// open opens the nth lane; spool.ErrLocked if another process has it, or this one.
func (s *lanes) open(n int) (_ *lane, err error) {
	l := &lane{base: s.dir, failed: make(chan struct{}, 1)}
	if l.client, err = client.New(s.cfg); err != nil {
		return nil, err
	}
	l.queue, err = l.client.OpenQueue(client.QueueConfig{
		Dir: s.path(n), Source: s.source + "/" + strconv.Itoa(n), Mask: s.mask,
		MaxBytes: laneBytes, SegmentBytes: laneSegment,
		DiskWait: diskWait, RequiredWait: s.requiredWait, SendAfter: s.sendAfter, Heartbeat: -1, MaxBackoff: 5 * time.Second,
		Observe: func(st client.QueueStats) {
			if !st.FailingSince.IsZero() {
				select {
				case l.failed <- struct{}{}:
				default:
				}
			}
		},
	})
	if err != nil {
		l.client.Close()
		return nil, err
	}
	return l, nil
}

// close gives the lane back. What is in the spool is on stable storage by then, and a disk that hangs keeps nobody waiting
// for the command's end.
func (l *lane) close() {
	if l.closed {
		return
	}
	l.closed = true
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = l.queue.Close()
		l.client.Close()
	}()
	select {
	case <-done:
	case <-time.After(diskWait):
	}
}

// deliver waits until all is in the log, but not when the log is known to be down, and no longer than wait; a
// signal ends it too. What is left stays in the spool.
func (l *lane) deliver(ctx context.Context, wait time.Duration, signals <-chan os.Signal) {
	select {
	case <-l.failed: // that was before
	default:
	}
	st := l.queue.Stats()
	switch {
	case !st.FailingSince.IsZero():
		l.markDown(st.LastError)
		return
	case wait == 0 || isDown(l.base) && st.Logged == 0:
		return
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.queue.Flush(ctx) }()
	select {
	case err := <-done:
		if err != nil { // it took longer
			l.markDown(ctx.Err())
		} else {
			l.markUp()
		}
	case <-l.failed:
		l.markDown(l.queue.Stats().LastError)
	case <-signals:
	}
}

// downFile is there, and new, while the log is known to be down.
func downFile(base string) string { return filepath.Join(base, "down") }

func isDown(base string) bool {
	info, err := os.Stat(downFile(base))
	if err != nil {
		return false
	}
	age := time.Since(info.ModTime())
	return age >= 0 && age < downFor // a clock that was put back says nothing
}

// markDown has the execs of the next minute not wait for the log, unless it answered: what it says is for a person to see, each
// time.
func (l *lane) markDown(why error) {
	if p := new(client.Problem); !errors.As(why, &p) && !errors.Is(why, verifier.ErrFailed) {
		_ = os.WriteFile(downFile(l.base), nil, 0o600)
	}
}

func (l *lane) markUp() {
	if _, err := os.Stat(downFile(l.base)); err == nil {
		_ = os.Remove(downFile(l.base))
	}
}

// sweepLater sends what other lanes hold while a command runs that runs for long. The function that it returns
// ends that.
func (r *execRun) sweepLater(ctx context.Context) (stop func()) {
	if r.lane == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-time.After(sweepAfter):
			_ = r.eachLane(ctx, r.env, func(l *lane) error { return l.flush(ctx, r.wait) })
		case <-ctx.Done():
		}
	}()
	return func() {
		cancel()
		select {
		case <-done:
		case <-time.After(diskWait):
		}
	}
}

// eachLane opens one lane after the other that nobody has. It ends early when the log doesn't answer.
func (x *execFlags) eachLane(ctx context.Context, e *cli.Env, do func(*lane) error) (err error) {
	lanes, err := x.lanes(e)
	if err != nil {
		return err
	}
	for n := 1; n <= maxLanes && ctx.Err() == nil; n++ {
		if _, statErr := os.Stat(lanes.path(n)); statErr != nil {
			break // lanes are made in order
		}
		l, laneErr := lanes.open(n)
		if errors.Is(laneErr, spool.ErrLocked) {
			continue // whoever has it sends what is in it
		}
		if laneErr == nil {
			laneErr = do(l)
			l.close()
		}
		if laneErr != nil {
			err = errors.Join(err, fmt.Errorf("lane %d: %w", n, laneErr))
		}
		if errors.Is(laneErr, context.DeadlineExceeded) {
			break // it would be the same with the others
		}
	}
	return err
}

// flush waits until a lane is empty, for as long as wait, or until what waiting won't mend.
func (l *lane) flush(ctx context.Context, wait time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- l.queue.Flush(ctx) }()
	for {
		select {
		case err := <-done:
			if err == nil && l.queue.Stats().Logged > 0 {
				l.markUp()
			}
			return err
		case <-l.failed:
			if err := l.queue.Stats().LastError; errors.Is(err, verifier.ErrFailed) || refusesToken(err) {
				return err
			}
		}
	}
}

func refusesToken(err error) bool {
	return errors.Is(err, client.ErrUnauthorized) || errors.Is(err, client.ErrForbidden)
}

// runFlush is exec --flush.
func (x *execFlags) runFlush(ctx context.Context, e *cli.Env) error {
	err := x.eachLane(ctx, e, func(l *lane) error { return l.flush(ctx, x.wait) })
	if refusesToken(err) && !errors.Is(err, verifier.ErrFailed) {
		return cli.Refused(err)
	}
	return err
}

// spoolDir makes the directory of all lanes, and says what their sources begin with: what was said when it was
// made, for numbers of one source aren't another's, and a machine's name may change.
func (x *execFlags) spoolDir() (dir, source string, err error) {
	if dir, err = x.spoolPath(); err != nil {
		return "", "", err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	given := strings.TrimRight(x.source, "/")
	source, err = madeOnce(filepath.Join(dir, "source"), func() string {
		if given != "" {
			return given
		}
		host, _ := os.Hostname()
		return "cron://" + url.PathEscape(cmp.Or(host, "localhost")) + "/" + url.PathEscape(cmp.Or(userName(), strconv.Itoa(os.Getuid())))
	})
	if err == nil && given != "" && given != source {
		err = fmt.Errorf("the spool %s is of the source %q, not %q", dir, source, given)
	}
	return dir, source, err
}

func (x *execFlags) spoolPath() (string, error) {
	if x.spool != "" {
		return x.spool, nil
	}
	if os.Getuid() == 0 {
		return "/var/lib/prooftrail/exec", nil
	}
	if state := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "prooftrail", "exec"), nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", fmt.Errorf("no --spool, and %w", err)
	}
	return filepath.Join(home, ".local", "state", "prooftrail", "exec"), nil
}

// madeOnce returns the text in a file, mode 0600, which the first process to ask for it has made: of several at once
// all get the same.
func madeOnce(file string, text func() string) (string, error) {
	b, err := os.ReadFile(file)
	if err == nil || !errors.Is(err, os.ErrNotExist) {
		return strings.TrimSpace(string(b)), err
	}
	f, err := os.CreateTemp(filepath.Dir(file), ".new-*") // mode 0600
	if err != nil {
		return "", err
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, err = f.WriteString(text() + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return "", err
	}
	if err := os.Link(f.Name(), file); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	if err := syncDir(filepath.Dir(file)); err != nil { // or another one is made after the machine has stopped
		return "", err
	}
	b, err = os.ReadFile(file)
	return strings.TrimSpace(string(b)), err
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
