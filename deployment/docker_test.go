package deployment_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
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
	rsync := `tar -c --exclude='*_test.go' --exclude=testdata `
	for _, line := range strings.Split(readFile(t, "docker/Dockerfile.dockerignore"), "\n") {
		if name, ok := strings.CutPrefix(line, "!"); ok {
			rsync += " " + name
		}
	}
	copying := exec.Command("bash", "-c", "set -o pipefail; "+rsync+` | tar -x -C "$1"`, "bash", src)
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
	for name, arg := range map[string]string{"prooftrail": "version", "prooftrail-verify": "--help"} {
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

// trillianServers are Trillian's log server and signer, built once by the Dockerfile's own
// line. It takes minutes: they stay in .tools/.
var trillianServers = sync.OnceValues(func() (dir string, err error) {
	dockerfile, err := os.ReadFile("docker/Dockerfile")
	if err != nil {
		return "", err
	}
	line := regexp.MustCompile(`(?m)^RUN (go install .*)$`).FindSubmatch(dockerfile)
	version := regexp.MustCompile(`@(v\S+)`).FindSubmatch(dockerfile)
	if dir, err = filepath.Abs("../.tools/trillian-" + string(version[1])); err != nil {
		return "", err
	}
	if _, err := os.Stat(filepath.Join(dir, "trillian_log_signer")); err == nil {
		return dir, nil
	}
	build := exec.Command("bash", "-c", string(line[1]))
	build.Dir = os.TempDir() // not in this module
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOTOOLCHAIN=local", "GOBIN="+dir)
	out, err := build.CombinedOutput()
	if err != nil {
		return "", &buildError{err, string(out)}
	}
	return dir, nil
})

type buildError struct {
	err error
	out string
}

func (e *buildError) Error() string {
	return "build Trillian's servers: " + e.err.Error() + "\n" + e.out
}

func trillianServer(t *testing.T, name string) string {
	t.Helper()
	dir, err := trillianServers()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}
