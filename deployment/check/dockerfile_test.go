package check

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
)

const dockerfile = "../docker/Dockerfile"

// stages reads the Dockerfile as BuildKit does, with its rules as errors.
func stages(t *testing.T) (all []instructions.Stage, args []instructions.ArgCommand) {
	t.Helper()
	b, err := os.ReadFile(dockerfile)
	if err != nil {
		t.Fatal(err)
	}
	ast, err := parser.Parse(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range ast.Warnings {
		t.Errorf("%s: %s", dockerfile, w.Short)
	}
	rules := linter.New(&linter.Config{Warn: func(rule, _, _, message string, at []parser.Range) {
		t.Errorf("%s: %s: %s %v", dockerfile, rule, message, at)
	}})
	all, args, err = instructions.Parse(ast.AST, rules)
	if err != nil {
		t.Fatal(err)
	}
	return all, args
}

// TestDockerfile: each image that is meant to run ends in the base without a shell, takes
// nothing but programs from the stage that built them, and isn't root's.
func TestDockerfile(t *testing.T) {
	all, args := stages(t)
	bases := map[string]string{}
	for _, a := range args {
		for _, kv := range a.Args {
			bases["${"+kv.Key+"}"] = kv.ValueString()
		}
	}
	if b := bases["${BASE_IMAGE}"]; !strings.Contains(b, "distroless/static") || !strings.Contains(b, "nonroot") {
		t.Errorf("images end in %q", b)
	}
	var run []string
	for _, s := range all {
		if bases[s.BaseName] == "" {
			t.Errorf("%s: from %s, which isn't one of the two images that can be pinned", s.Name, s.BaseName)
		}
		if s.BaseName != "${BASE_IMAGE}" {
			continue
		}
		run = append(run, s.Name)
		user, entry := "", ""
		for _, c := range s.Commands {
			switch c := c.(type) {
			case *instructions.UserCommand:
				user = c.User
			case *instructions.EntrypointCommand:
				entry = strings.Join(c.CmdLine, " ")
				if c.PrependShell {
					t.Errorf("%s: its entry point needs a shell", s.Name)
				}
			case *instructions.CopyCommand:
				if c.From == "" {
					t.Errorf("%s: copies %v from the tree", s.Name, c.SourcePaths)
				}
			case *instructions.RunCommand, *instructions.AddCommand, *instructions.EnvCommand:
				t.Errorf("%s: %s in an image without a shell", s.Name, c.Name())
			}
		}
		if user != "65532:65532" || !strings.HasPrefix(entry, "/usr/local/bin/") {
			t.Errorf("%s: user %q, entry point %q", s.Name, user, entry)
		}
	}
	if !slices.Equal(run, []string{"trillian-log-server", "trillian-log-signer", "prooftrail-monitor", "prooftrail"}) {
		t.Errorf("images: %v", run)
	}
}
