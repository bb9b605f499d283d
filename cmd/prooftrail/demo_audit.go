//go:build !client

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/cockroachdb/pebble/v2"

	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// auditOriginal audits the log and returns its size. A log that doesn't hold
// is an error that matches verifier.ErrFailed.
func (d *demo) auditOriginal(ctx context.Context) (size uint64, err error) {
	report, err := d.audit(ctx, d.logDir())
	if report == nil {
		return 0, err
	}
	var opened uint64
	if report.Openings != nil {
		opened = report.Openings.Verified
	}
	if err == nil {
		err = checkOpened(report, d.recorder.counts().events)
	}
	fmt.Fprintf(d.env.Stdout, "\naudit of the log: %d entries re-hashed, the signed root recomputed, %d events opened: %s\n",
		report.Entries, opened, verdictWord(err))
	return report.Size, err
}

func verdictWord(err error) string {
	if err != nil {
		return "FAILED: " + err.Error()
	}
	return "✓ verified"
}

// audit serves a data directory and audits the whole of it over HTTP, as
// anybody with a read token could.
func (d *demo) audit(ctx context.Context, dir string) (report *verifier.AuditReport, err error) {
	server, err := d.serveLog(ctx, dir, "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, server.close(context.WithoutCancel(ctx))) }()
	source, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: server.url + "/logs/audit", Token: d.readToken})
	if err != nil {
		return nil, err
	}
	return verifier.Audit(ctx, verifier.AuditConfig{Source: source, Openings: source, Policy: d.policy})
}

// forge copies the data directory, changes one stored event in the copy, and
// audits that. found is the entry that the audit accused, nil if it accused none.
func (d *demo) forge(ctx context.Context) (forged uint64, found *uint64, err error) {
	victim := d.recorder.victim()
	if victim == nil {
		return 0, nil, errors.New("no event was logged")
	}
	for from, to := range map[string]string{
		d.logDir():             d.copyDir(),
		d.logDir() + ".anchor": d.copyDir() + ".anchor",
	} {
		if err := copyTree(from, to); err != nil {
			return 0, nil, fmt.Errorf("copy the log: %w", err)
		}
	}
	from, to, err := forgeOpening(ctx, d.copyDir(), victim.index, victim.leafHash)
	if err != nil {
		return 0, nil, fmt.Errorf("forge entry %d: %w", victim.index, err)
	}
	fmt.Fprintf(d.env.Stdout, "\nin a copy of the data directory, entry %d (%s by %q) is changed: outcome %s becomes %s\n",
		victim.index, victim.event.Action, victim.event.Actor.ID, from, to)
	report, err := d.audit(ctx, d.copyDir())
	if err != nil && !errors.Is(err, verifier.ErrFailed) || report == nil {
		return 0, nil, err
	}
	fmt.Fprintf(d.env.Stdout, "audit of the copy: %s\n", verdictWord(err))
	if len(report.Failures) > 0 {
		found = &report.Failures[0].Index
	}
	return victim.index, found, nil
}

// forgeOpening changes the outcome that a stored event shows, in the database
// itself: what somebody who controls the disk can do.
func forgeOpening(ctx context.Context, dir string, index uint64, leafHash verifier.Hash) (from, to string, err error) {
	opts := &pebble.Options{ErrorIfNotExists: true, Logger: silent{}, FormatMajorVersion: pebble.FormatNewest}
	pebblestore.Configure(opts)
	db, err := pebble.Open(filepath.Join(dir, "store"), opts)
	if err != nil {
		return "", "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	store := pubstore.NewPebble(db)
	opening, err := store.Opening(ctx, index, leafHash)
	if err != nil {
		return "", "", err
	}
	forged, from, to, err := forgeOutcome(opening)
	if err != nil {
		return "", "", err
	}
	return from, to, store.ReplaceOpening(ctx, index, leafHash, opening, forged)
}

// forgeOutcome changes the outcome that an opening shows.
func forgeOutcome(opening []byte) (forged []byte, from, to string, err error) {
	o, err := seal.ParseOpening(opening)
	if err != nil {
		return nil, "", "", err
	}
	from, to = o.Event().Text("/outcome"), "success"
	if from == to {
		to = "failure"
	}
	at := bytes.Index(opening, []byte(`"p":"/outcome"`))
	if at < 0 {
		return nil, "", "", errors.New("it has no outcome")
	}
	return append(bytes.Clone(opening[:at]), bytes.Replace(opening[at:], []byte(`"v":"`+from+`"`), []byte(`"v":"`+to+`"`), 1)...), from, to, nil
}

// silent is a logger for a database that is opened to be forged.
type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(format string, args ...any) {
	panic(fmt.Sprintf(format, args...))
}

// copyTree copies a file, or a directory with all that is in it, keeping modes.
func copyTree(from, to string) error {
	return filepath.Walk(from, func(path string, info os.FileInfo, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if info.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), info.Mode().Perm())
		}
		return copyFile(path, filepath.Join(to, rel), info.Mode().Perm())
	})
}

func copyFile(from, to string, mode os.FileMode) (err error) {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	_, err = io.Copy(out, in)
	return err
}
