package deployment_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// runLine is the line of the Dockerfile that begins with RUN and the words.
func runLine(t *testing.T, words string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^RUN (` + words + ` .*)$`).FindStringSubmatch(readFile(t, "docker/Dockerfile"))
	if m == nil {
		t.Fatalf("docker/Dockerfile has no line RUN %s", words)
	}
	return m[1]
}

// static fails unless the program needs no loader and no library: in an image without
// either it would not start.
func static(t *testing.T, path string) {
	t.Helper()
	f, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s isn't static: %s", path, p.Type)
		}
	}
	if libs, err := f.ImportedLibraries(); err != nil || len(libs) > 0 {
		t.Errorf("%s needs %v (%v)", path, libs, err)
	}
}

// TestImageBuild: the Dockerfile's own build line, in a copy of what .dockerignore lets
// into the build, makes programs that run without anything beside them.
func TestImageBuild(t *testing.T) {
	dir := t.TempDir()
	src, out := filepath.Join(dir, "src"), filepath.Join(dir, "out")
	if err := os.MkdirAll(src, 0o700); err != nil {
		t.Fatal(err)
	}
	pack := `tar -c --exclude='*_test.go' --exclude=testdata `
	for _, line := range strings.Split(readFile(t, "docker/Dockerfile.dockerignore"), "\n") {
		if name, ok := strings.CutPrefix(line, "!"); ok {
			pack += " " + name
		}
	}
	copying := exec.Command("bash", "-c", "set -o pipefail; "+pack+` | tar -x -C "$1"`, "bash", src)
	copying.Dir = ".."
	if b, err := copying.CombinedOutput(); err != nil {
		t.Fatalf("copy: %v\n%s", err, b)
	}
	build := exec.Command("bash", "-c", strings.ReplaceAll(runLine(t, "go build"), "/out/", out+"/"))
	build.Dir = src
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOFLAGS=-mod=readonly")
	if b, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, b)
	}
	for name, arg := range map[string]string{"prooftrail": "version", "prooftrail-verify": "--help", "prooftrail-monitor": "version"} {
		static(t, filepath.Join(out, name))
		alone := exec.Command(filepath.Join(out, name), arg)
		alone.Env, alone.Dir = []string{}, "/"
		if b, err := alone.CombinedOutput(); err != nil || !strings.Contains(string(b), name+" ") {
			t.Errorf("%s %s: %v\n%s", name, arg, err, b)
		}
	}
}

// trillianVersion is go.mod's.
func trillianVersion(t *testing.T) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^\s*github\.com/google/trillian (v\S+)`).FindStringSubmatch(readFile(t, "../go.mod"))
	if m == nil {
		t.Fatal("go.mod doesn't have Trillian")
	}
	return m[1]
}

// TestTrillianVersion: the servers are of the version that the service was tested with,
// wherever they are named.
func TestTrillianVersion(t *testing.T) {
	v := trillianVersion(t)
	for _, m := range regexp.MustCompile(`google/trillian/\S+@(v\S+)`).FindAllStringSubmatch(readFile(t, "docker/Dockerfile"), -1) {
		if m[1] != v {
			t.Errorf("docker/Dockerfile builds Trillian %s, go.mod has %s", m[1], v)
		}
	}
	if n := strings.Count(readFile(t, "kubernetes/overlays/trillian/kustomization.yaml"), "newTag: "+v); n != 2 {
		t.Errorf("kubernetes/overlays/trillian has %d images of %s, expected 2", n, v)
	}
}

// TestTrillianBuild: the Dockerfile builds both programs with what compose and Kubernetes need of
// them. The programs that deployment/test.sh has built for the tests lack Kubernetes's election.
func TestTrillianBuild(t *testing.T) {
	line := runLine(t, "go install")
	if !strings.Contains(line, " -tags mysql,etcd,k8s ") {
		t.Error("docker/Dockerfile must build Trillian for MySQL, and for the elections of compose (etcd) and Kubernetes")
	}
	for _, program := range []string{"trillian_log_server", "trillian_log_signer"} {
		if !strings.Contains(line, "/cmd/"+program+"@") {
			t.Errorf("docker/Dockerfile doesn't build %s", program)
		}
	}
}

// TestTrillianFlags: Trillian's programs have the flags that compose, Kubernetes and the units
// give them.
func TestTrillianFlags(t *testing.T) {
	module := strings.TrimSpace(command(t, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/google/trillian"))
	glob := func(patterns ...string) (all []string) {
		for _, p := range patterns {
			found, err := filepath.Glob(p)
			if err != nil || len(found) == 0 {
				t.Fatalf("no %s (%v)", p, err)
			}
			all = append(all, found...)
		}
		return all
	}
	var source strings.Builder
	for _, f := range glob(module+"/cmd/trillian_log_*/main.go", module+"/storage/mysql/provider.go", module+"/quota/etcd/quota_provider.go",
		module+"/util/election2/*/provider.go") {
		source.WriteString(readFile(t, f))
	}
	// Trillian's flags have underscores; those of others here have none.
	flag := regexp.MustCompile(`[\s'"\[(]--([a-z]+_[a-z_]+)`)
	seen := 0
	for _, f := range glob("compose/*trillian*", "compose/prepare.sh", "kubernetes/overlays/trillian/*.yaml", "systemd/trillian-*", "cluster.sh") {
		for _, m := range flag.FindAllStringSubmatch(readFile(t, f), -1) {
			seen++
			if !strings.Contains(source.String(), `("`+m[1]+`"`) {
				t.Errorf("%s: Trillian %s has no flag --%s", f, trillianVersion(t), m[1])
			}
		}
	}
	if seen < 30 {
		t.Errorf("only %d flags were found", seen)
	}
}

// trillianServer is one of Trillian's programs, of go.mod's version, where deployment/test.sh
// builds it.
func trillianServer(t *testing.T, name string) string {
	t.Helper()
	version := trillianVersion(t)
	dir := absolute(t, filepath.Join("..", ".tools", name+"-"+version))
	path := filepath.Join(dir, name)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%s is missing; build it: GOBIN=%s go install -tags mysql,etcd github.com/google/trillian/cmd/%s@%s", path, dir, name, version)
	}
	return path
}
