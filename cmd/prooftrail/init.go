//go:build !client

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/personality"
)

const initHelp = `
Usage: prooftrail init --data DIR --origin NAME [flags]

Makes a log, which is a thing for ever: its key signs everything that it will
hold, and its name (the origin) is in every signature.

In DIR, which must not exist yet, it makes the database, the signing key, a
policy.txt to give to everybody who is to verify the log, and tokens/, one token
for each role:

  submit.token   may submit events, of the tenant 'default'
  read.token     may read the events of all tenants: for auditors
  admin.token    may make, list and revoke tokens

Beside DIR it makes DIR.anchor, which remembers the newest signed head. A restored
backup of DIR is noticed because the anchor is ahead of it: never put the two into
one backup, and in production put the anchor on another volume (--anchor).

With --storage mysql the log is in a MySQL or MariaDB database, which must exist and be
empty, and DIR has only the key, the policy and the tokens. Give each further server a
copy of the key and policy.txt, and an anchor ('prooftrail anchor --help').

With --storage trillian the tree is made in a Trillian cluster, through its log servers, or
--trillian-tree takes one that somebody has made there: a PREORDERED_LOG without leaves, of
which no other log knows. All the rest is in a database as above.

Example:
  prooftrail init --data /var/lib/prooftrail --origin example.com/audit
  prooftrail serve --data /var/lib/prooftrail

Exit codes: 0 made; 1 refused, because something is there already, and nothing was
touched; 2 failed.
`

func runInit(ctx context.Context, e *cli.Env, args []string) error {
	var cfg personality.CreateConfig
	var storage storageFlags
	var source string
	fs := cli.NewFlags(e, "init", initHelp)
	fs.StringVar(&cfg.Dir, "data", "", "`directory` to make")
	fs.StringVar(&cfg.Origin, "origin", "", "the log's `name` for ever, a URL without scheme, such as example.com/audit")
	fs.StringVar(&cfg.Log, "log", "audit", "the log's short `name` in URLs")
	fs.StringVar(&cfg.Anchor, "anchor", "", "`file` for the newest signed head, outside every backup of DIR (default DIR.anchor)")
	storage.add(fs)
	fs.Int64Var(&cfg.TakeTree, "trillian-tree", 0, "`id` of an empty tree to take, for storage trillian (default: make one)")
	fs.StringVar(&source, "source", "", "what submit.token may speak for: events whose source begins with this `prefix`;\nempty: any source")
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	if err := fs.Needed("data", "origin"); err != nil {
		return err
	}
	if err := errors.Join(checkInit(cfg), storage.open(&cfg.Config)); err != nil {
		return err
	}
	made, err := personality.Create(ctx, cfg)
	if err != nil {
		return refusedIfExists(err)
	}
	e.Say("made the log %s in %s", cfg.Origin, cfg.Dir)
	e.Say("public key: %s", made.VKey)
	e.Say("policy for verifiers: %s", made.PolicyFile)
	if err := initTokens(ctx, e, cfg.Config, source); err != nil {
		return fmt.Errorf("the log is made, but not all its tokens (`prooftrail token add --data` makes more): %w", err)
	}
	return nil
}

// checkInit refuses what would be regretted, or fail with less to the point.
func checkInit(cfg personality.CreateConfig) error {
	if strings.Contains(cfg.Origin, "://") {
		return fmt.Errorf("--origin %s: it is for ever, and has no scheme: such as example.com/audit", cfg.Origin)
	}
	if parent := filepath.Dir(filepath.Clean(cfg.Dir)); !isDir(parent) {
		return fmt.Errorf("--data %s: there is no directory %s to make it in", cfg.Dir, parent)
	}
	return nil
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func refusedIfExists(err error) error {
	if errors.Is(err, fs.ErrExist) {
		return cli.Refused(err)
	}
	return err
}

// initTokens makes one token a role, prints each once and saves it.
func initTokens(ctx context.Context, e *cli.Env, cfg personality.Config, source string) (err error) {
	dir := filepath.Join(cfg.Dir, "tokens")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	svc, err := personality.Open(ctx, cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, svc.Close(ctx)) }()
	e.Say("tokens, each shown once and kept in %s:", dir)
	for _, r := range []personality.TokenRequest{
		{Name: "submit", Tenant: "default", Roles: []personality.Role{personality.RoleSubmit}, Sources: []string{source}},
		{Name: "read", Tenant: personality.AllTenants, Roles: []personality.Role{personality.RoleRead}},
		{Name: "admin", Tenant: personality.AllTenants, Roles: []personality.Role{personality.RoleAdmin}},
	} {
		_, secret, err := svc.AddToken(ctx, personality.OperatorCaller(), r)
		if err != nil {
			return fmt.Errorf("token %s: %w", r.Name, err)
		}
		if err := writeSecret(filepath.Join(dir, r.Name+".token"), secret); err != nil {
			return err
		}
		fmt.Fprintf(e.Stdout, "%-6s %s\n", r.Name, secret)
	}
	return nil
}

// newSecret makes a file that only its owner may read and that must not exist
// yet.
func newSecret(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

// writeSecret makes such a file with a text in it.
func writeSecret(path, text string) error {
	f, err := newSecret(path)
	if err != nil {
		return err
	}
	return fillSecret(f, text)
}

// fillSecret writes the text into a file that newSecret made, and closes it.
func fillSecret(f *os.File, text string) (err error) {
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString(text + "\n"); err != nil {
		return err
	}
	return f.Sync()
}
