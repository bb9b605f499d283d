package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// sources returns the Go files below a directory of the repository, tests
// aside or tests alone, by path.
func sources(t *testing.T, dir string, tests bool) map[string]string {
	t.Helper()
	found := map[string]string{}
	err := fs.WalkDir(os.DirFS(root), dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") != tests {
			return err
		}
		data, err := os.ReadFile(filepath.Join(root, path))
		found[path] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// listed compares what the code has with the first column of a page's tables.
func listed(t *testing.T, path string, want []string) {
	t.Helper()
	if len(want) == 0 {
		t.Fatalf("nothing found in the code that %s must list", path)
	}
	text := strings.Join(pages(t)[path].prose, "\n")
	for _, w := range want {
		if !strings.Contains(text, "\n| `"+w) {
			t.Errorf("%s doesn't list %s", path, w)
		}
	}
}

func TestProblemsAreListed(t *testing.T) {
	text := sources(t, "personality/httpapi", false)["personality/httpapi/problem.go"]
	var want []string
	for _, m := range regexp.MustCompile(`\{"([a-z-]+)", (\d{3}), "`).FindAllStringSubmatch(text, -1) {
		want = append(want, m[1]+"` | "+m[2]+" |")
	}
	listed(t, "docs/errors.md", want)
}

func TestMetricsAreListed(t *testing.T) {
	var want []string
	for _, dir := range []string{"personality", "cmd"} {
		for _, text := range sources(t, dir, false) {
			for _, m := range regexp.MustCompile(`"(prooftrail_[a-z_]+)"`).FindAllStringSubmatch(text, -1) {
				want = append(want, m[1])
			}
		}
	}
	listed(t, "docs/operate/metrics.md", want)
}

func TestEventCodesAreListed(t *testing.T) {
	var want []string
	for _, m := range regexp.MustCompile(`\n\tCode\w+ += "(\w+)"`).FindAllStringSubmatch(sources(t, "verifier/event", false)["verifier/event/error.go"], -1) {
		want = append(want, m[1]+"`")
	}
	listed(t, "docs/spec/event.md", want)
}

// TestNamedTestsExist: a test that a page names, as the threats page does,
// is there.
func TestNamedTestsExist(t *testing.T) {
	var all strings.Builder
	for _, dir := range []string{"verifier", "personality", "cmd", "docs"} {
		for _, text := range sources(t, dir, true) {
			all.WriteString(text)
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)`")
	for _, path := range []string{"docs/threats.md", "docs/tampering.md", "docs/design.md"} {
		for _, line := range pages(t)[path].prose {
			for _, m := range named.FindAllStringSubmatch(line, -1) {
				if !strings.Contains(all.String(), "func "+m[1]+"(") {
					t.Errorf("%s names %s, which isn't there", path, m[1])
				}
			}
		}
	}
}

// TestActionsAreListed: the events that the service logs of itself.
func TestActionsAreListed(t *testing.T) {
	var want []string
	for _, m := range regexp.MustCompile(`= "(audit\.[a-z.]+)"`).FindAllStringSubmatch(sources(t, "personality", false)["personality/own.go"], -1) {
		want = append(want, m[1])
	}
	slices.Sort(want)
	listed(t, "docs/operate/audit-events.md", want)
}

// TestConfigurationIsTheManual: the page shows what serve --help prints.
func TestConfigurationIsTheManual(t *testing.T) {
	manual, err := os.ReadFile(filepath.Join(root, "cmd/prooftrail/manual.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range pages(t)["docs/operate/config.md"].blocks {
		if b.kind == "yaml" && strings.Join(b.text, "\n") == strings.TrimSpace(string(manual)) {
			return
		}
	}
	t.Error("docs/operate/config.md doesn't have cmd/prooftrail/manual.yaml in a yaml block")
}

// TestExitCodesAreListed: every command has a line in the operator's table.
func TestExitCodesAreListed(t *testing.T) {
	text := strings.Join(pages(t)["docs/operate/commands.md"].prose, "\n")
	_, table, _ := strings.Cut(text, "## Exit codes")
	names := regexp.MustCompile(`\n\t\{"([a-z]+)", "`).FindAllStringSubmatch(sources(t, "cmd/prooftrail", false)["cmd/prooftrail/run.go"], -1)
	if len(names) == 0 {
		t.Fatal("no commands found in cmd/prooftrail/run.go")
	}
	for _, m := range names {
		if !strings.Contains(table, "`"+m[1]+"`") {
			t.Errorf("docs/operate/commands.md has no exit codes of %s", m[1])
		}
	}
}
