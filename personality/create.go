package personality

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2/vfs"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/personality/pebblestore"
	"github.com/prooftrail/prooftrail/personality/pubstore"
	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Files of a data directory. Directories have mode 0700, files 0600.
const (
	storeDir  = "store"      // the embedded database: Trillian's part and ours
	keyFile   = "signer.key" // the log's private key, c2sp.org/signed-note skey
	policyFmt = "log %s\nquorum none\n"

	// PolicyFile is the c2sp.org/tlog-policy for those who verify the log.
	PolicyFile = "policy.txt"
)

// CreateConfig is what a new log is made with.
type CreateConfig struct {
	Config
	// Origin is the log's name for ever, the first line of its checkpoints: a
	// URL without scheme, such as example.com/audit. 1..128 bytes without spaces,
	// control characters or '+'.
	Origin string
	// Log is the short name in URLs, lower-case letters, digits and dashes.
	// Default "audit".
	Log string
	// TakeTree is the id of a tree of the Trillian cluster's to take, which must be a
	// PREORDERED_LOG without leaves. 0: one is made.
	TakeTree int64
}

// Created is what Create made.
type Created struct {
	VKey       string // the log's public key
	PolicyFile string // path
}

var logName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

func (c CreateConfig) check() error {
	if !logName.MatchString(c.Log) {
		return &InvalidError{Field: "log", Expected: "1 to 32 lower-case letters, digits and dashes"}
	}
	if strings.Contains(c.Origin, "://") {
		return &InvalidError{Field: "origin", Expected: "a URL without scheme, such as example.com/audit"}
	}
	if c.TakeTree < 0 || c.TakeTree > 0 && c.Trillian == nil {
		return &InvalidError{Field: "tree", Expected: "the positive id of a tree of a Trillian cluster"}
	}
	if c.Origin == "" || len(c.Origin) > 128 || strings.ContainsFunc(c.Origin, badInOrigin) || !event.ValidSource(ownScheme+c.Origin) {
		return &InvalidError{Field: "origin", Expected: "1 to 128 characters that a URL may have, without spaces or '+', such as example.com/audit"}
	}
	return nil
}

func badInOrigin(r rune) bool { return r <= ' ' || r > '~' || r == '+' }

// Create makes a log: an act of its own, never a side effect of opening one. It
// touches nothing that exists: if the data directory or the anchor does, the
// error is fs.ErrExist. The directory appears complete or not at all.
func Create(ctx context.Context, cfg CreateConfig) (*Created, error) {
	if cfg.Log == "" {
		cfg.Log = "audit"
	}
	if err := cfg.check(); err != nil {
		return nil, err
	}
	c, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, path := range []string{c.Dir, c.Anchor} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("create log: %s: %w", path, errors.Join(err, fs.ErrExist))
		}
	}
	c.room = newRoom(c, filepath.Dir(c.Dir))
	if err := c.room.atStart(); err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	building := c.Dir + ".creating"
	if err := os.Mkdir(building, 0o700); errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("create log: %w (an earlier attempt left it; remove it)", err)
	} else if err != nil {
		return nil, fmt.Errorf("create log: %w", err)
	}
	var anchored atomic.Bool // for this may go on while create hangs on a full disk
	vkey, err := unlessFull(c.room, func() (string, error) { return create(ctx, cfg, c, building, &anchored) })
	if err != nil {
		err = errors.Join(fmt.Errorf("create log: %w", err), os.RemoveAll(building))
		if anchored.Load() {
			err = errors.Join(err, os.Remove(c.Anchor))
		}
		return nil, err
	}
	return &Created{VKey: vkey, PolicyFile: filepath.Join(c.Dir, PolicyFile)}, nil
}

// create fills the directory that becomes c.Dir, makes the anchor and what the log is
// stored in, and gives the directory its name last.
func create(ctx context.Context, cfg CreateConfig, c Config, building string, anchored *atomic.Bool) (vkey string, err error) {
	skey, vkey, err := note.GenerateKey(rand.Reader, cfg.Origin)
	if err != nil {
		return "", fmt.Errorf("make signing key: %w", err)
	}
	if err := errors.Join(
		writeNew(filepath.Join(building, keyFile), skey+"\n"),
		writeNew(filepath.Join(building, PolicyFile), fmt.Sprintf(policyFmt, vkey)),
	); err != nil {
		return "", err
	}
	keys, err := deriveKeys(skey)
	if err != nil {
		return "", fmt.Errorf("derive keys: %w", err)
	}
	n := newLog{keys: keys, takeTree: cfg.TakeTree, empty: pubstore.Head{Root: sha256.Sum256(nil)}} // RFC 6962: the hash of nothing
	n.params = pubstore.Log{Origin: cfg.Origin, Name: cfg.Log, VKey: vkey, Created: c.Now().UTC(), IDSecret: make([]byte, 32)}
	if _, err := rand.Read(n.params.IDSecret); err != nil {
		return "", err
	}
	if err := createAnchor(c.Anchor, vkey, n.empty); err != nil {
		return "", err
	}
	anchored.Store(true)
	if err := c.storage().create(ctx, building, n); err != nil {
		return "", err
	}
	if err := syncDir(building); err != nil {
		return "", err
	}
	if err := os.Rename(building, c.Dir); err != nil {
		return "", err
	}
	return vkey, syncDir(filepath.Dir(c.Dir))
}

// newLog is what a storage is to hold at first.
type newLog struct {
	keys   keys
	params pubstore.Log // without the tree's id, and not sealed
	empty  pubstore.Head
	hold   string // of the empty head; see hold.go

	takeTree int64 // see CreateConfig
}

// storeIn makes the log in a store, with the tree that has been made for it.
func (n newLog) storeIn(ctx context.Context, store pubstore.Store, treeID int64) error {
	n.params.TreeID = treeID
	params, err := n.keys.sealLog(n.params)
	if err != nil {
		return err
	}
	return store.Create(ctx, params, n.keys.sealHeld(n.empty, n.hold))
}

// writeNew writes a file that must not exist, durably.
func writeNew(path, content string) (err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.WriteString(content); err != nil {
		return err
	}
	return f.Sync()
}

// openParts opens what the log stands on.
func openParts(ctx context.Context, c Config) (_ parts, err error) {
	p, openTree, err := c.storage().open(ctx)
	if err != nil {
		return parts{}, fmt.Errorf("open log in %s: %w", c.Dir, err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(fmt.Errorf("open log in %s: %w", c.Dir, err), p.close())
		}
	}()
	params, err := p.store.Log(ctx)
	if err != nil {
		return parts{}, err
	}
	if p.signer, p.keys, err = loadSigner(filepath.Join(c.Dir, keyFile), params); err != nil {
		return parts{}, err
	}
	if p.tree, err = treeOrExplain(openTree(ctx, params.TreeID)); err != nil {
		return parts{}, err
	}
	p.anchor = openAnchorOrExplain(c.fs, c.Anchor, params.VKey, p.sequencing != nil)
	return p, nil
}

// errNoTree: Trillian's tree is not there, or not as it was made.
var errNoTree = errors.New("the tree can't be used")

// treeOrExplain returns the tree, or one whose calls say why there is none: the
// log opens then, refuses, and shows what is published.
func treeOrExplain(t tree.Tree, err error) (tree.Tree, error) {
	if err == nil {
		return t, nil
	}
	for _, wrong := range []error{tree.ErrCorrupt, pebblestore.ErrCorrupt, tree.ErrNoTree, tree.ErrNotWritable} {
		if errors.Is(err, wrong) {
			return noTree{fmt.Errorf("%w: %w", errNoTree, err)}, nil
		}
	}
	return nil, err
}

type noTree struct{ err error }

func (t noTree) Append(context.Context, []tree.Leaf) error                { return t.err }
func (t noTree) Integrate(context.Context, uint64) (tree.Root, error)     { return tree.Root{}, t.err }
func (t noTree) Root(context.Context) (tree.Root, error)                  { return tree.Root{}, t.err }
func (t noTree) Leaves(context.Context, uint64, int) ([]tree.Leaf, error) { return nil, t.err }
func (t noTree) Close() error                                             { return nil }

// loadSigner reads the signing key, checks that it is this log's, and derives the
// other keys from it: they must not be in the store either.
func loadSigner(path string, params pubstore.Log) (signer note.Signer, k keys, err error) {
	if err := checkPrivate(path); err != nil {
		return nil, k, fmt.Errorf("signing key: %w", err)
	}
	skey, err := os.ReadFile(path)
	if err != nil {
		return nil, k, fmt.Errorf("signing key: %w", err)
	}
	text := strings.TrimSpace(string(skey))
	signer, err = note.NewSigner(text)
	if err != nil {
		return nil, k, fmt.Errorf("signing key %s: %w", path, err)
	}
	verifier, err := note.NewVerifier(params.VKey)
	if err != nil {
		return nil, k, fmt.Errorf("stored public key: %w", err)
	}
	if signer.Name() != verifier.Name() || signer.KeyHash() != verifier.KeyHash() {
		return nil, k, &otherLogError{fmt.Sprintf("signing key %s belongs to %s+%08x, this log's is %s+%08x", path,
			signer.Name(), signer.KeyHash(), verifier.Name(), verifier.KeyHash())}
	}
	if k, err = deriveKeys(text); err != nil {
		return nil, k, fmt.Errorf("signing key %s: %w", path, err)
	}
	return signer, k, k.checkLog(params)
}

// otherLogError: what is stored is another log than the key's.
type otherLogError struct{ text string }

func (e *otherLogError) Error() string { return e.text }

// checkPrivate refuses a file or directory that others than its owner may read:
// the directory holds events in the clear.
func checkPrivate(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s has mode %04o: others may read it; expected %04o", path, info.Mode().Perm(), info.Mode().Perm()&0o700)
	}
	return nil
}

// openAnchorOrExplain returns the anchor, or one whose Load says why there is
// none: the log opens then and refuses.
func openAnchorOrExplain(disk vfs.FS, path, vkey string, shared bool) Anchor {
	a, err := openAnchor(disk, path, vkey, shared)
	if err != nil {
		return noAnchor{err}
	}
	return a
}

type noAnchor struct{ err error }

func (a noAnchor) Load(context.Context) (pubstore.Head, error) { return pubstore.Head{}, a.err }
func (a noAnchor) Move(context.Context, pubstore.Head) error   { return a.err }
func (a noAnchor) Close() error                                { return nil }
