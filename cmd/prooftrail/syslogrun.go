//go:build !client

package main

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/cronlog"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/syslog"
	"github.com/prooftrail/prooftrail/verifier/client"
)

// tickEvery is how often it is looked for events whose time has come.
const tickEvery = 250 * time.Millisecond

// syslogRun is one run of the command. A line goes from a listener through the translator, both in the listener's
// goroutine, to a keeper, which waits for the disk.
type syslogRun struct {
	*syslogFlags
	env        *cli.Env
	log        *slog.Logger
	queue      *client.Queue
	closeQueue func()
	translator *cronlog.Translator
	budget     *syslog.Budget
	listeners  []*syslog.Listener
	forwards   []*syslog.Forwarder
	keepers    *keepers
	counts     syslogCounts
	// Of the ticking goroutine.
	scanError string            // the last one
	said      map[string]uint64 // how many lines there were at the last report
}

// openSyslog opens all that the run needs: the queue first, for it is this process's alone.
func openSyslog(ctx context.Context, e *cli.Env, x *syslogFlags, log *slog.Logger) (_ *syslogRun, err error) {
	r := &syslogRun{syslogFlags: x, env: e, log: log, budget: syslog.NewBudget(x.rate, x.burst)}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	masker, err := x.masker()
	if err != nil {
		return nil, fmt.Errorf("--mask: %w", err)
	}
	if err := os.MkdirAll(x.base, 0o700); err != nil {
		return nil, fmt.Errorf("--spool: %w", err)
	}
	r.keepers = newKeepers(r)
	x.queue = client.QueueConfig{MaxEvents: x.spoolEvents, MaxBytes: x.spoolBytes, Observe: r.keepers.observe, Mask: masker}
	if x.whenFull == "wait" {
		x.queue.DiskWait = time.Hour
	}
	if r.queue, r.closeQueue, err = x.open(ctx, e, log); err != nil {
		return nil, err
	}
	if err := r.openTranslator(masker.Text); err != nil {
		return nil, err
	}
	for _, spec := range x.forward {
		f, err := syslog.NewForwarder(spec)
		if err != nil {
			return nil, fmt.Errorf("--forward: %w", err)
		}
		r.forwards = append(r.forwards, f)
	}
	r.keepers.start(r.queue)
	context.AfterFunc(ctx, r.keepers.stop)
	r.scanNow(ctx)
	for _, spec := range x.listen {
		l, err := syslog.Listen(spec, syslog.Config{Handle: r.handle, TLS: x.tls, Conns: x.conns, PeerConns: x.peerConns, Logger: log})
		if err != nil {
			return nil, fmt.Errorf("--listen: %w", err)
		}
		r.listeners = append(r.listeners, l)
	}
	return r, nil
}

func (r *syslogRun) openTranslator(mask func(string) string) error {
	file := filepath.Join(r.base, "job.key")
	text, err := madeOnce(file, func() string {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // it never fails: crypto/rand
		return hex.EncodeToString(key)
	})
	if err != nil {
		return fmt.Errorf("--spool: %w", err)
	}
	cfg := cronlog.Config{Mask: mask, Failures: r.cronLevel&4 != 0, User: accounts()}
	if cfg.Key, err = hex.DecodeString(text); err != nil || len(cfg.Key) != 32 {
		return fmt.Errorf("--spool: %s: expected 64 hexadecimal digits", file)
	}
	cfg.Host, _ = os.Hostname() // "" is left out
	if !r.noTabs {
		cfg.Tabs = &cronlog.Tabs{Spool: r.tabs, System: r.systemTab, SystemDir: r.systemD, State: filepath.Join(r.base, "crontabs")}
		if err := os.MkdirAll(cfg.Tabs.State, 0o700); err != nil {
			return fmt.Errorf("--spool: %w", err)
		}
	}
	r.translator = cronlog.New(cfg)
	var runs []cronlog.Run
	b, err := os.ReadFile(r.runsFile())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, &runs)
	}
	if err != nil { // ends of runs that began before won't be known as theirs; better than none at all
		r.log.Warn("the runs of last time are not known", "error", err)
		return nil
	}
	r.translator.Remember(runs)
	return nil
}

func (r *syslogRun) runsFile() string { return filepath.Join(r.base, "runs.json") }

// saveRuns keeps which runs have not ended, for the next process.
func (r *syslogRun) saveRuns() error {
	b, err := json.Marshal(r.translator.Runs())
	if err != nil {
		return err
	}
	temporary := r.runsFile() + ".new"
	if err := os.WriteFile(temporary, b, 0o600); err != nil {
		return err
	}
	return os.Rename(temporary, r.runsFile())
}

// accounts looks users up, and remembers them for a minute.
func accounts() func(uid int) string {
	var mu sync.Mutex
	var known map[int]string
	var since time.Time
	return func(uid int) string {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(since) > time.Minute || len(known) > 1000 {
			known, since = map[int]string{}, time.Now()
		}
		name, ok := known[uid]
		if !ok {
			if u, err := user.LookupId(strconv.Itoa(uid)); err == nil {
				name = u.Username
			}
			known[uid] = name
		}
		return name
	}
}

// run serves until the context ends or a socket fails.
func (r *syslogRun) run(ctx context.Context) error {
	stopMetrics, err := r.serveMetrics()
	if err != nil {
		r.close()
		return fmt.Errorf("--metrics: %w", err)
	}
	failed := make(chan error, len(r.listeners))
	var wg sync.WaitGroup
	for i, l := range r.listeners {
		kind, _, _ := strings.Cut(r.listen[i], ":")
		fmt.Fprintf(r.env.Stdout, "listening on %s:%s\n", kind, l.Addr())
		wg.Go(func() {
			if err := l.Serve(); err != nil {
				failed <- err
			}
		})
	}
	err = r.tick(ctx, failed)
	stopMetrics()
	r.log.Info("ending")
	r.keepers.stop()
	for _, l := range r.listeners {
		err = errors.Join(err, l.Close())
	}
	wg.Wait()
	r.reportNow(context.WithoutCancel(ctx))
	r.listeners = nil // they are closed
	r.close()
	return err
}

// tick does what is due at intervals.
func (r *syslogRun) tick(ctx context.Context, failed <-chan error) error {
	soon, report, scan := time.NewTicker(tickEvery), time.NewTicker(r.report), time.NewTicker(r.scan)
	defer soon.Stop()
	defer report.Stop()
	defer scan.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return err
		case <-soon.C:
			r.keep(r.translator.Tick(time.Now()))
		case <-scan.C:
			r.scanNow(ctx)
		case <-report.C:
			r.reportNow(ctx)
		}
	}
}

// close gives back what was opened. What is in the keepers is kept.
func (r *syslogRun) close() {
	for _, l := range r.listeners { // that never served
		_ = l.Close()
	}
	if r.keepers != nil {
		r.keepers.stop()
		r.keepers.end()
	}
	if r.translator != nil {
		if err := r.saveRuns(); err != nil {
			r.log.Warn("the runs of now won't be known next time", "error", err)
		}
	}
	if r.closeQueue != nil {
		r.closeQueue()
	}
	for _, f := range r.forwards { // last: nothing of ours waits for the other side
		f.Close()
	}
}

func (r *syslogRun) scanNow(ctx context.Context) {
	outs, err := r.translator.Scan(time.Now())
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != r.scanError && text != "" {
		r.log.WarnContext(ctx, "crontabs that can't be read", "error", err)
	}
	r.scanError = text
	r.keep(outs)
}

// handle gets each line.
func (r *syslogRun) handle(p syslog.Packet) {
	for _, f := range r.forwards {
		f.Send(p.Raw)
	}
	if !cronlog.MayMatter(p.Raw) {
		r.counts.ignored.Add(1)
		return
	}
	if !(p.Sender.Kind == syslog.Credentials && p.Sender.UID == 0) && !r.budget.Allow(p.Sender) {
		r.counts.over(p.Sender.Key())
		return
	}
	m, err := syslog.Parse(p.Raw, p.Received, r.location)
	if err != nil {
		r.counts.malformed.Add(1)
		return
	}
	r.keep(r.translator.Line(&cronlog.Line{Message: m, Sender: p.Sender, Received: p.Received, Cut: p.Cut}))
}

func (r *syslogRun) keep(outs []cronlog.Out) {
	for _, o := range outs {
		r.keepers.put(o)
	}
}
