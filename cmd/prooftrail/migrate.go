//go:build !client

package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/personality"
)

const migrateHelp = `
Usage: prooftrail migrate --from FILE --to FILE [--json]

Moves a log to another storage, leaf for leaf: the same origin and key, the same entries
at the same indices under the same roots, the same tokens. Receipts and heads stay good.

Both FILEs are configurations as 'prooftrail serve --config' reads them: --from of the
log as it is, whose servers must all be stopped, --to of the log as it shall be. Of each,
data, storage and what belongs to that storage, anchor, and limits.min_free and
limits.cache_bytes count. The data directory, the anchor and the database of --to must be
new: the directory and the anchor are made, and the database must be empty.

All that was copied is read again and compared with the old log before the new one
takes over. From that moment on the old storage refuses to go on, and shows what is
published in it; the new one is served with the configuration of --to.

It may be ended at any moment, also by kill -9 or a loss of power: run the same again, and
it goes on from there. Until the new storage has taken over, the old log may be served
again in between.

Example:
  prooftrail migrate --from old.yaml --to new.yaml
  prooftrail serve --config new.yaml

Exit codes: 0 moved, now or before; 1 refused: the log can't be moved as it is, or not to
there; 2 failed, or the log is in use: run it again.
`

func runMigrate(ctx context.Context, e *cli.Env, args []string) error {
	var from, to string
	var asJSON bool
	fs := cli.NewFlags(e, "migrate", migrateHelp)
	fs.StringVar(&from, "from", "", "configuration `file` of the log as it is")
	fs.StringVar(&to, "to", "", "configuration `file` of the log as it shall be")
	fs.BoolVar(&asJSON, "json", false, "print the result as JSON")
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	if err := fs.Needed("from", "to"); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop) // the next signal has its usual effect

	cfg := personality.MigrateConfig{}
	var err error
	if cfg.From, cfg.FromPlace, err = migrateConfig(from); err != nil {
		return err
	}
	if cfg.To, cfg.ToPlace, err = migrateConfig(to); err != nil {
		return err
	}
	if cfg.To.Logger, err = newLogger(e.Stderr, LogConfig{Level: "warn", Format: "text"}); err != nil {
		return err
	}
	line := newProgressLine(e.Stderr)
	cfg.Progress = line.update
	done, err := personality.Migrate(ctx, cfg)
	line.clear()
	if err != nil {
		return migrateError(ctx, err)
	}
	return sayMigrated(e, cfg, done, asJSON, to)
}

// migrateConfig reads where a log is kept, and names that.
func migrateConfig(file string) (log personality.Config, place string, err error) {
	cfg, err := loadConfig(file)
	if err == nil && cfg.Data == "" {
		err = errors.New("data: expected the log's data directory")
	}
	if err == nil {
		err = cfg.Limits.check()
	}
	if err != nil {
		return log, "", fmt.Errorf("%s: %w", file, err)
	}
	log = personality.Config{Dir: cfg.Data, Anchor: cfg.Anchor, MinFree: cfg.Limits.MinFree, CacheBytes: cfg.Limits.CacheBytes}
	if err := cfg.openStorage(&log); err != nil {
		return log, "", fmt.Errorf("%s: %w", file, err)
	}
	place = cfg.Storage + ", in "
	if log.Database == nil {
		dir, err := filepath.Abs(cfg.Data)
		return log, place + dir, err
	}
	return log, place + log.Database.Place(), nil
}

// migrateError tells what doesn't help to be tried again, and what does.
func migrateError(ctx context.Context, err error) error {
	switch {
	case errors.Is(err, personality.ErrNotMigrated), errors.Is(err, fs.ErrExist):
		return cli.Refused(err)
	case ctx.Err() != nil:
		return errors.New("interrupted: run it again to go on")
	case errors.Is(err, personality.ErrInUse):
		return err
	}
	return fmt.Errorf("%w; once that is mended, run it again to go on", err)
}

// migrated is the result as JSON.
type migrated struct {
	Origin         string `json:"origin"`
	Size           uint64 `json:"size"`
	Root           string `json:"root"`
	From           string `json:"from"`
	To             string `json:"to"`
	Copied         uint64 `json:"copied"`
	WithoutOpening uint64 `json:"without_opening"`
	Already        bool   `json:"already"`
}

func sayMigrated(e *cli.Env, cfg personality.MigrateConfig, m *personality.Migrated, asJSON bool, to string) error {
	root := base64.StdEncoding.EncodeToString(m.Root[:])
	if asJSON {
		return json.NewEncoder(e.Stdout).Encode(migrated{
			Origin: m.Origin, Size: m.Size, Root: root, From: cfg.FromPlace, To: cfg.ToPlace,
			Copied: m.Copied, WithoutOpening: m.WithoutOpening, Already: m.Already,
		})
	}
	if m.Already {
		e.Say("%s has moved already, at size %d, root %s", m.Origin, m.Size, root)
	} else {
		e.Say("moved %s, size %d, root %s", m.Origin, m.Size, root)
	}
	if m.WithoutOpening > 0 {
		e.Say("%d entries had no opening, and have none now", m.WithoutOpening)
	}
	e.Say("  from  %s: refuses to go on", cfg.FromPlace)
	e.Say("  to    %s: prooftrail serve --config %s", cfg.ToPlace, to)
	return nil
}

// progressLine draws one line on a terminal; anywhere else it is silent.
type progressLine struct {
	w     io.Writer // nil: silent
	drawn time.Time
}

func newProgressLine(w io.Writer) *progressLine {
	if f, ok := w.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			return &progressLine{w: w}
		}
	}
	return &progressLine{}
}

// update draws it anew, at most five times a second.
func (p *progressLine) update(now personality.MigrateProgress) {
	if p.w == nil || time.Since(p.drawn) < 200*time.Millisecond && now.Done < now.Size {
		return
	}
	p.drawn = time.Now()
	what := "copied"
	if now.Checking {
		what = "checked"
	}
	fmt.Fprintf(p.w, "\r\x1b[K%s %d of %d entries", what, now.Done, now.Size)
}

// clear removes the line.
func (p *progressLine) clear() {
	if p.w != nil && !p.drawn.IsZero() {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}
