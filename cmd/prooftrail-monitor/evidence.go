package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

const evidenceHelp = `
Usage: prooftrail-monitor evidence [ID] --config FILE [--out FILE]

Lists the evidence in the monitor's directory, each file checked again, with the policies of the
configuration. With an ID, or its beginning, it copies that file out. The monitor may run or not.

Anybody who has the log's policy checks a file with prooftrail-verify evidence FILE --policy P,
offline, and without trusting this monitor.

Example:
  prooftrail-monitor evidence --config monitor.yaml
  prooftrail-monitor evidence 3f1c --config monitor.yaml --out fork.evidence

Exit codes: 0 listed, or copied; 1 there is no such file, it proves nothing, or FILE exists;
2 failed.
`

// heldEvidence is a file in the directory.
type heldEvidence struct {
	id, file string
	text     []byte
	fork     *verifier.Fork
	err      error // why it convicts nobody
}

func runEvidence(_ context.Context, e *cli.Env, args []string) error {
	fs := cli.NewFlags(e, "evidence", evidenceHelp)
	config := fs.String("config", "", "the monitor's configuration `file`")
	out := fs.String("out", "", "`file` to copy to, which must not exist (default: standard output)")
	ids, err := fs.Positional(args, 1)
	if err != nil {
		return err
	}
	if err := fs.Needed("config"); err != nil {
		return err
	}
	f, err := loadConfig(*config)
	if err != nil {
		return err
	}
	held, err := f.heldEvidence()
	if err != nil {
		return err
	}
	if len(ids) == 1 {
		return copyEvidence(e, held, ids[0], *out)
	}
	if *out != "" {
		return errors.New("--out is for one file: name its id")
	}
	if len(held) == 0 {
		e.Say("there is no evidence")
	}
	for _, h := range held {
		what := "proves nothing: "
		if h.err == nil {
			what = fmt.Sprintf("%s signed two histories, heads of size %d and %d", h.fork.Origin, h.fork.First.Size, h.fork.Second.Size)
		} else {
			what += h.err.Error()
		}
		fmt.Fprintf(e.Stdout, "%s  %s\n", h.id, printable(what))
	}
	return nil
}

// heldEvidence reads the directory.
func (f *file) heldEvidence() ([]heldEvidence, error) {
	policies := map[string]*verifier.Policy{}
	for i := range f.cfg.Logs {
		if p := f.policy(&f.cfg.Logs[i], fmt.Sprintf("logs[%d]", i)); p != nil {
			policies[p.Origin()] = p
		}
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	files, err := filepath.Glob(filepath.Join(globQuote(f.resolve(f.cfg.Data)), evidenceDir, "*.evidence"))
	if err != nil {
		return nil, err
	}
	var held []heldEvidence
	for _, name := range files {
		h := heldEvidence{file: name}
		if h.text, err = readEvidence(name); err != nil {
			return nil, err
		}
		h.id = gossip.EvidenceID(h.text)
		h.fork, h.err = convict(h.text, policies)
		held = append(held, h)
	}
	return held, nil
}

// globQuote makes a directory's name one that stands for itself.
func globQuote(dir string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
}

func readEvidence(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, int64(verifier.MaxEvidenceBytes)+1))
}

func convict(text []byte, policies map[string]*verifier.Policy) (*verifier.Fork, error) {
	e, err := verifier.ParseEvidence(text)
	if err != nil {
		return nil, err
	}
	origin, _, _ := strings.Cut(string(e.First), "\n")
	p := policies[origin]
	if p == nil {
		return nil, fmt.Errorf("it is about %q, which isn't followed", origin)
	}
	return e.Check(p)
}

func copyEvidence(e *cli.Env, held []heldEvidence, id, out string) error {
	var found []heldEvidence
	for _, h := range held {
		if strings.HasPrefix(h.id, id) {
			found = append(found, h)
		}
	}
	switch {
	case id == "" || len(found) == 0:
		return cli.Refusedf("there is no evidence %s", id)
	case len(found) > 1:
		return cli.Refusedf("%s stands for %d files; give more of the id", id, len(found))
	case found[0].err != nil:
		return cli.Refusedf("%s proves nothing: %w", found[0].file, found[0].err)
	case out == "":
		_, err := e.Stdout.Write(found[0].text)
		return err
	}
	if err := writeNew(out, found[0].text); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return cli.Refused(err)
		}
		return err
	}
	e.Say("prooftrail-verify evidence %s --policy policy.txt   says what it proves", out)
	return nil
}
