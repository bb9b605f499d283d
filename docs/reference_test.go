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

// metricsIn are the names of metrics in the sources below some directories.
func metricsIn(t *testing.T, dirs ...string) (names []string) {
	t.Helper()
	for _, dir := range dirs {
		for _, text := range sources(t, dir, false) {
			for _, m := range regexp.MustCompile(`"(prooftrail_[a-z_]+)"`).FindAllStringSubmatch(text, -1) {
				names = append(names, m[1])
			}
		}
	}
	return names
}

func TestMetricsAreListed(t *testing.T) {
	all := metricsIn(t, "personality", "cmd/prooftrail", "cmd/prooftrail-verify")
	rest := all
	for prefix, page := range map[string]string{"prooftrail_syslog_": "docs/cron.md", "prooftrail_proxy_": "docs/proxy.md"} { // they aren't the server
		of := func(name string) bool { return strings.HasPrefix(name, prefix) }
		listed(t, page, slices.DeleteFunc(slices.Clone(all), func(name string) bool { return !of(name) }))
		rest = slices.DeleteFunc(slices.Clone(rest), of)
	}
	listed(t, "docs/operate/metrics.md", rest)
	monitor := metricsIn(t, "cmd/prooftrail-monitor")
	listed(t, "docs/operate/monitor-metrics.md", monitor)
	for _, m := range regexp.MustCompile("\n\\| `(prooftrail_[a-z_]+)").FindAllStringSubmatch(strings.Join(pages(t)["docs/operate/monitor-metrics.md"].prose, "\n"), -1) {
		if !slices.Contains(monitor, m[1]) {
			t.Errorf("docs/operate/monitor-metrics.md lists %s, which isn't there", m[1])
		}
	}
}

// TestMonitorsAlarmsAreListed: each alarm of a monitor has its section.
func TestMonitorsAlarmsAreListed(t *testing.T) {
	text := strings.Join(pages(t)["docs/operate/monitor.md"].prose, "\n")
	_, text, _ = strings.Cut(text, "\n## Alarms\n")
	names := map[string]bool{}
	for _, m := range regexp.MustCompile(`\n\talarm[A-Z]\w+ += "([a-z-]+)"`).FindAllStringSubmatch(sources(t, "verifier/monitor", false)["verifier/monitor/watch.go"], -1) {
		names[m[1]] = true
	}
	for _, m := range regexp.MustCompile(`= "((?:alarm|witness)-[a-z-]+)" *(?://|\n)`).FindAllStringSubmatch(
		sources(t, "verifier/monitor", false)["verifier/monitor/alarm/board.go"]+sources(t, "cmd", false)["cmd/prooftrail-monitor/meanings.go"], -1) {
		names[m[1]] = true
	}
	if len(names) < 20 {
		t.Fatalf("only %d alarms were found", len(names))
	}
	for n := range names {
		if !strings.Contains(text, "\n### `"+n+"`\n") {
			t.Errorf("docs/operate/monitor.md has no section on %s", n)
		}
	}
	for _, m := range regexp.MustCompile("\n### `([a-z-]+)`\n").FindAllStringSubmatch(text, -1) {
		if !names[m[1]] {
			t.Errorf("docs/operate/monitor.md has a section %s, and there is no such alarm", m[1])
		}
	}
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
	for _, dir := range []string{"verifier", "personality", "cmd", "docs", "deployment"} {
		for _, text := range sources(t, dir, true) {
			all.WriteString(text)
		}
	}
	named := regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Za-z0-9_]+)`")
	for path, p := range pages(t) {
		for _, line := range p.prose {
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
	for _, m := range regexp.MustCompile(`= "(audit\.[a-z._]+)"`).FindAllStringSubmatch(sources(t, "personality", false)["personality/own.go"], -1) {
		want = append(want, m[1])
	}
	slices.Sort(want)
	listed(t, "docs/operate/audit-events.md", want)
}

// TestConfigurationIsTheManual: the pages show what serve --help and run --help print.
func TestConfigurationIsTheManual(t *testing.T) {
	for path, file := range map[string]string{"docs/operate/config.md": "cmd/prooftrail/manual.yaml", "docs/operate/monitor.md": "cmd/prooftrail-monitor/manual.yaml"} {
		manual, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(pages(t)[path].blocks, func(b block) bool {
			return b.kind == "yaml" && strings.Join(b.text, "\n") == strings.TrimSpace(string(manual))
		}) {
			t.Errorf("%s doesn't have %s in a yaml block", path, file)
		}
	}
}

// TestExitCodesAreListed: every command has a line in the operator's table.
func TestExitCodesAreListed(t *testing.T) {
	for path, file := range map[string]string{"docs/operate/commands.md": "cmd/prooftrail/run.go", "docs/operate/monitor.md": "cmd/prooftrail-monitor/run.go"} {
		text := strings.Join(pages(t)[path].prose, "\n")
		_, table, _ := strings.Cut(text, "## Exit codes")
		names := regexp.MustCompile(`\n\t\{Name: "([a-z-]+)", `).FindAllStringSubmatch(sources(t, "cmd", false)[file], -1)
		if len(names) == 0 {
			t.Fatalf("no commands found in %s", file)
		}
		for _, m := range names {
			if !strings.Contains(table, "`"+m[1]+"`") {
				t.Errorf("%s has no exit codes of %s", path, m[1])
			}
		}
	}
}
