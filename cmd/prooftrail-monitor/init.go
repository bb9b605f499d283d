package main

import (
	"bytes"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"text/template"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

const initHelp = `
Usage: prooftrail-monitor init --data DIR [--policy FILE --url URL] [--peer NAME=URL]
           [--witness-name NAME] [flags]

Makes a monitor. In DIR, which must not exist or be empty, it makes

  monitor.yaml     the configuration, with comments: read it, and name your peers in it
  book             what the monitor sees is written down here
  evidence/        proof, if it comes to that
  policy.txt       a copy of --policy
  witness.key      with --witness-name: the key that heads are cosigned with (Ed25519)
  witness-mldsa44.key  with --ml-dsa too: a second one
  witness.store    what the witness has cosigned

A witness is for ever: its name and keys will be in policies. If witness.store is lost, or put
back to an older copy, it may cosign a second history: give up its keys then, and never put
witness.store into a backup that you would restore. The witness's verifier keys, and the lines for
the policies of logs, are printed.

Example:
  prooftrail-monitor init --data /var/lib/prooftrail-monitor/data --policy policy.txt \
      --url https://log.example.com/logs/audit --witness-name witness.example.org/w1 \
      --public-url https://monitor.example.org
  prooftrail-monitor check --config /var/lib/prooftrail-monitor/data/monitor.yaml

Exit codes: 0 made; 1 refused, because something is there already, and nothing was touched;
2 failed.
`

// initFlags is what init is told, and what the template of monitor.yaml gets.
type initFlags struct {
	dir, config, policy  string
	witnessName, witness string // the name, and the URL that logs ask
	mldsa                bool

	Name, Data, Policy, URL, Listen, Admin string
	Mirror                                 bool
	Peers                                  peerList
	Keys                                   []string
}

func runInit(_ context.Context, e *env, args []string) error {
	var in initFlags
	host, err := os.Hostname()
	if err != nil {
		host = "monitor"
	}
	f := newFlags(e, "init", initHelp)
	f.StringVar(&in.dir, "data", "", "`directory` to make")
	f.StringVar(&in.config, "config", "", "configuration `file` to make (default DIR/monitor.yaml)")
	f.StringVar(&in.Name, "name", host, "what alarms call this monitor: a `name`, such as monitor.example.org")
	f.StringVar(&in.policy, "policy", "", "policy `file` of a log to follow; more can be named in the configuration")
	f.StringVar(&in.URL, "url", "", "that log's `URL` (default: as the policy says)")
	f.BoolVar(&in.Mirror, "mirror", false, "keep a copy of that log, and serve it")
	f.Var(&in.Peers, "peer", "another monitor to compare notes with, `NAME=URL`; may be given several times")
	f.StringVar(&in.witnessName, "witness-name", "", "be a witness of this `name`, a URL without scheme, such as witness.example.org/w1")
	f.BoolVar(&in.mldsa, "ml-dsa", false, "make a key for ML-DSA-44 too")
	f.StringVar(&in.witness, "public-url", "", "the `URL` at which logs will reach this monitor, for the policy line")
	f.StringVar(&in.Listen, "listen", "127.0.0.1:8090", "`address` and port to listen on")
	f.StringVar(&in.Admin, "admin", "127.0.0.1:8091", "loopback `address` and port for the operator")
	if err := f.noArgs(args); err != nil {
		return err
	}
	if err := f.needed("data"); err != nil {
		return err
	}
	if in.config == "" {
		in.config = filepath.Join(in.dir, "monitor.yaml")
	}
	keys, err := in.check()
	if err != nil {
		return err
	}
	if err := in.make(keys); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return &exitError{exitRefused, err}
		}
		return fmt.Errorf("%w (remove what was made in %s before you try again)", err, in.dir)
	}
	return in.report(e, keys)
}

// peerList is a flag that may be given several times.
type peerList []PeerEntry

func (l *peerList) String() string { return "" }

// Set implements flag.Value.
func (l *peerList) Set(s string) error {
	name, url, ok := strings.Cut(s, "=")
	if !ok || name == "" || url == "" {
		return errors.New("expected NAME=URL")
	}
	*l = append(*l, PeerEntry{Name: name, URL: url})
	return nil
}

// newKey is a key that init makes.
type newKey struct {
	file, skey string
	cosigner   *witness.Cosigner
}

// check refuses what would fail later, and makes the keys, which shows whether the name is one.
// It touches nothing.
func (in *initFlags) check() (keys []newKey, err error) {
	if in.mldsa && in.witnessName == "" {
		return nil, errors.New("--ml-dsa is for a witness: --witness-name is needed")
	}
	if strings.Contains(in.witnessName, "://") {
		return nil, fmt.Errorf("--witness-name %s: it is for ever, and has no scheme: such as witness.example.org/w1", in.witnessName)
	}
	if in.URL != "" && in.policy == "" {
		return nil, errors.New("--url is a log's: --policy is needed")
	}
	if in.policy != "" {
		b, err := os.ReadFile(in.policy)
		if err != nil {
			return nil, fmt.Errorf("policy: %w", err)
		}
		p, err := verifier.ParsePolicy(b)
		if err != nil {
			return nil, fmt.Errorf("policy %s: %w", in.policy, err)
		}
		if in.URL == "" && p.LogURL() == "" {
			return nil, errors.New("--url is needed: the policy doesn't say where the log is")
		}
	}
	for _, k := range []struct {
		file string
		alg  witness.Algorithm
		made bool
	}{{"witness.key", witness.Ed25519, in.witnessName != ""}, {"witness-mldsa44.key", witness.MLDSA44, in.mldsa}} {
		if !k.made {
			continue
		}
		skey, err := witness.GenerateKey(in.witnessName, k.alg)
		if err != nil {
			return nil, fmt.Errorf("--witness-name: %w", err)
		}
		c, err := witness.ParseKey(skey)
		if err != nil {
			return nil, err
		}
		keys = append(keys, newKey{k.file, skey, c})
	}
	return keys, nil
}

// make makes it. An error that matches fs.ErrExist says that nothing was touched.
func (in *initFlags) make(keys []newKey) error {
	if _, err := os.Lstat(in.config); err == nil {
		return fmt.Errorf("%s: %w", in.config, fs.ErrExist)
	}
	if err := makeDir(in.dir); err != nil {
		return err
	}
	book, err := store.OpenBook(filepath.Join(in.dir, bookFile), 0)
	if err != nil {
		return err
	}
	if err := errors.Join(book.Close(), os.Mkdir(filepath.Join(in.dir, evidenceDir), 0o700)); err != nil {
		return err
	}
	if len(keys) > 0 {
		if err := store.Create(filepath.Join(in.dir, storeFile)); err != nil {
			return err
		}
	}
	if err := in.place(); err != nil {
		return err
	}
	for _, k := range keys {
		if err := witness.CreateKeyFile(filepath.Join(in.dir, k.file), k.skey); err != nil {
			return err
		}
		in.Keys = append(in.Keys, filepath.Join(in.Data, k.file))
	}
	if in.policy != "" {
		b, err := os.ReadFile(in.policy)
		if err != nil {
			return err
		}
		if err := writeNew(filepath.Join(in.dir, "policy.txt"), b); err != nil {
			return err
		}
		in.Policy = filepath.Join(in.Data, "policy.txt")
	}
	text, err := in.yaml()
	if err != nil {
		return err
	}
	return writeNew(in.config, text)
}

// makeDir makes a directory for its owner alone, or takes an empty one.
func makeDir(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	if len(entries) > 0 {
		return fmt.Errorf("%s isn't empty: %w", dir, fs.ErrExist)
	}
	return os.Chmod(dir, 0o700) //nolint:gosec // a directory has to be entered
}

// place finds what the data directory is to be called in the configuration.
func (in *initFlags) place() error {
	dir, err := filepath.Abs(in.dir)
	if err != nil {
		return err
	}
	config, err := filepath.Abs(filepath.Dir(in.config))
	if err != nil {
		return err
	}
	in.Data = dir
	if config == dir {
		in.Data = "."
	}
	return nil
}

//go:embed init.yaml
var initTemplate string

func (in *initFlags) yaml() ([]byte, error) {
	t, err := template.New("monitor.yaml").Funcs(template.FuncMap{"quote": strconv.Quote}).Parse(initTemplate)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, in); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// report says what was made, and what to give to others.
func (in *initFlags) report(e *env, keys []newKey) error {
	e.say("made a monitor in %s; its configuration is %s", in.dir, in.config)
	if len(keys) == 0 {
		return nil
	}
	e.say("lines for the policy of a log that is to ask this witness:")
	url := in.witness
	if url == "" {
		url = "URL"
		e.say("(put the URL at which it reaches this monitor in the place of URL)")
	}
	names := []string{in.witnessName}
	if len(keys) > 1 {
		names = []string{in.witnessName + "-ed25519", in.witnessName + "-mldsa44"}
	}
	for i, k := range keys {
		fmt.Fprintf(e.stdout, "witness %s %s %s\n", names[i], k.cosigner.VerifierKey(), url)
	}
	if len(keys) > 1 {
		fmt.Fprintf(e.stdout, "group %s any %s\n", in.witnessName, strings.Join(names, " "))
	}
	return nil
}

// writeNew writes a file that must not exist, for its owner alone, and syncs it.
func writeNew(name string, b []byte) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	if _, err = f.Write(b); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return errors.Join(err, os.Remove(name))
	}
	return nil
}
