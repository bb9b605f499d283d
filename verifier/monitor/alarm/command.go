package alarm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const (
	defaultCommandTimeout = 30 * time.Second
	maxCommandOutput      = 4 << 10
	// lingering is how long a program's children may hold its output after it has ended.
	lingering   = time.Second
	defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
)

// CommandConfig says which program gets alarms.
type CommandConfig struct {
	// Argv is the program and its arguments. No shell reads them.
	Argv []string
	// Name is "command" if empty.
	Name string
	// Monitor is this monitor's name, in the member of that name.
	Monitor string
	// Env is added to the program's environment, "NAME=value" each. Else it has a PATH and the
	// PROOFTRAIL_ALARM_… of docs/spec/alarms.md: nothing of the monitor's, which may hold secrets.
	Env []string
	// Dir is where it runs, "/" if empty.
	Dir string
	// Timeout is after how long it and what it has started are killed. Default 30 s.
	Timeout time.Duration
	// Log gets what it prints, at most 4 KiB. Discarded if nil.
	Log *slog.Logger
}

type command struct{ cfg CommandConfig }

// NewCommand returns a sink that runs a program for each notice, one at a time: the JSON of
// docs/spec/alarms.md on its standard input, exit code 0 if it was delivered.
func NewCommand(cfg CommandConfig) (Sink, error) {
	cfg.Name = cmp.Or(cfg.Name, "command")
	cfg.Dir = cmp.Or(cfg.Dir, "/")
	if cfg.Timeout <= 0 {
		cfg.Timeout = defaultCommandTimeout
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Argv) == 0 {
		return nil, fmt.Errorf("command %q: no program", cfg.Name)
	}
	if err := checkMonitor(cfg.Monitor); err != nil {
		return nil, fmt.Errorf("command %q: %w", cfg.Name, err)
	}
	for _, e := range cfg.Env {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" || strings.Contains(e, "\x00") {
			return nil, fmt.Errorf("command %q: in its environment: expected NAME=value", cfg.Name)
		}
	}
	path, err := exec.LookPath(cfg.Argv[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, fmt.Errorf("command %q: %w", cfg.Name, err)
	}
	cfg.Argv = append([]string{path}, cfg.Argv[1:]...)
	return &command{cfg}, nil
}

func (c *command) Name() string   { return c.cfg.Name }
func (c *command) Manner() Manner { return Manner{} }

func (c *command) Deliver(ctx context.Context, batch []Notice) error {
	for _, n := range batch {
		if err := c.run(ctx, n); err != nil {
			return err
		}
	}
	return nil
}

func (c *command) run(ctx context.Context, n Notice) error {
	body, err := n.message(c.cfg.Monitor)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.cfg.Argv[0], c.cfg.Argv[1:]...)
	cmd.Dir, cmd.Env = c.cfg.Dir, append(append([]string{defaultPath}, c.cfg.Env...), environment(n)...)
	cmd.Stdin = bytes.NewReader(append(body, '\n'))
	out := &head{}
	cmd.Stdout, cmd.Stderr = out, out
	cmd.WaitDelay = lingering
	ownGroup(cmd)
	cmd.Cancel = func() error { return killGroup(cmd) }
	err = cmd.Run()
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well, and left children that hold its output
		if err = killGroup(cmd); errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
	}
	if text := out.text(); text != "" {
		c.cfg.Log.LogAttrs(ctx, slog.LevelInfo, "a command for alarms printed", slog.String("sink", c.cfg.Name), slog.String("id", n.ID()), slog.String("output", text))
	}
	name := filepath.Base(c.cfg.Argv[0]) // arguments may hold credentials
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && err != nil:
		return fmt.Errorf("run %s: killed after %s", name, c.cfg.Timeout)
	case err != nil:
		return fmt.Errorf("run %s: %w", name, err)
	}
	return nil
}

// environment is what a program needs not parse JSON for.
func environment(n Notice) []string {
	const prefix = "PROOFTRAIL_ALARM_"
	return []string{
		prefix + "ID=" + n.ID(), prefix + "STATUS=" + string(n.Status), prefix + "REASON=" + string(n.Reason), prefix + "NAME=" + n.Name,
		prefix + "SEVERITY=" + string(n.Severity), prefix + "LOG=" + n.Log, prefix + "PEER=" + n.Peer,
		prefix + "SUMMARY=" + n.Summary, prefix + "SINCE=" + n.Since.Format(time.RFC3339),
	}
}

// head keeps the beginning of what is written to it.
type head struct {
	mu  sync.Mutex
	buf []byte
}

func (h *head) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.buf = append(h.buf, b[:min(len(b), maxCommandOutput-len(h.buf))]...)
	return len(b), nil
}

func (h *head) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return printable(strings.TrimSpace(string(h.buf)), maxCommandOutput)
}
