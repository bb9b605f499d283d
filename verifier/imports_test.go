package verifier_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// The rules of the design, "Layout and direction", as tests with allow-lists.

const module = "github.com/prooftrail/prooftrail"

// maxModules is how many modules, beside this one, the verifier's program may link.
const maxModules = 7

// verifierMayImport are the modules that code below verifier/ may import itself.
var verifierMayImport = []string{
	"golang.org/x/mod",
	"github.com/transparency-dev/merkle",
	"github.com/transparency-dev/formats",
}

// oneSmallLibrary: "verifier/client and verifier/monitor may each add one small library for
// what they keep on disk." The monitor's is below.
var oneSmallLibrary = []string{"verifier/client"}

// monitorMayImport says which package of the monitor may import what beyond that: what it keeps
// on disk, keys in an ssh-agent, and ML-DSA keys, of which formats shows no public half.
var monitorMayImport = map[string][]string{
	"verifier/monitor/store":    {"go.etcd.io/bbolt"},
	"verifier/monitor/agentkey": {"golang.org/x/crypto/ssh"},
	"verifier/monitor/witness":  {"filippo.io/mldsa"},
}

// adapterMayImport says which adapter below the client imports which library: the one that it adapts, with
// what that library's own signatures name, and nothing else. A program links what it imports: docs/decisions/0028-adapters.md.
var adapterMayImport = map[string][]string{
	"verifier/client/gocronaudit": {"github.com/go-co-op/gocron/v2", "github.com/google/uuid"},
	"verifier/client/robfigaudit": {"github.com/robfig/cron/v3"},
	"verifier/client/httpaudit":   {},
	"verifier/client/slogaudit":   {},
}

// verifierMayLink are modules that those above bring along.
var verifierMayLink = append([]string{
	"filippo.io/mldsa",    // formats: ML-DSA-44
	"golang.org/x/crypto", // formats: cryptobyte
	"golang.org/x/sys",    // x/crypto, on some systems
}, verifierMayImport...)

// verifierTestsMayImport are for tests below verifier/ only.
var verifierTestsMayImport = []string{
	"github.com/gowebpki/jcs", // the other canonicaliser
	"github.com/google/go-cmp",
	"github.com/rogpeppe/go-internal",
}

// internalMayImport says what packages of cmd/internal may import beside the standard library.
var internalMayImport = map[string][]string{
	"cmd/internal/manualtest": {"go.yaml.in/yaml/v3"},
	"cmd/internal/scripttest": {"github.com/rogpeppe/go-internal/testscript", module + "/deployment/porttest"},
}

// goFile is one file of the repository with its imports.
type goFile struct {
	dir     string // below the root, with slashes
	path    string
	test    bool
	imports []string
	ast     *ast.File
}

// repository parses every Go file. A file that doesn't parse is somebody's work in
// progress, or a failure of its own package.
func repository(t *testing.T) []goFile {
	t.Helper()
	var files []goFile
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() && (name == "testdata" || name == "vendor" || len(name) > 2 && (name[0] == '.' || name[0] == '_')) {
			return filepath.SkipDir
		}
		if d.IsDir() || !strings.HasSuffix(name, ".go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Logf("%s: left out: %v", path, err)
			return nil
		}
		rel := filepath.ToSlash(strings.TrimPrefix(path, ".."+string(filepath.Separator)))
		g := goFile{dir: dirOf(rel), path: rel, test: strings.HasSuffix(name, "_test.go"), ast: f}
		for _, spec := range f.Imports {
			if p, err := strconv.Unquote(spec.Path.Value); err == nil {
				g.imports = append(g.imports, p)
			}
		}
		files = append(files, g)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(files) == 0 {
		t.Fatal("no Go files found")
	}
	return files
}

func dirOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i]
	}
	return "."
}

// under reports whether path is root or below it.
func under(path string, roots ...string) bool {
	return slices.ContainsFunc(roots, func(root string) bool {
		return path == root || strings.HasPrefix(path, root+"/")
	})
}

// isStd reports whether an import path is one of the standard library's.
func isStd(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

func TestDirections(t *testing.T) {
	for _, f := range repository(t) {
		for _, imp := range f.imports {
			own, isOwn := strings.CutPrefix(imp, module+"/")
			switch {
			case isOwn && under(f.dir, "verifier") && !under(own, "verifier"),
				isOwn && under(f.dir, "cmd/prooftrail-verify") && !under(own, "verifier", f.dir),
				isOwn && under(f.dir, "cmd/prooftrail-monitor") && !under(own, "verifier", "cmd/internal", f.dir),
				isOwn && under(f.dir, "personality") && !under(own, "personality", "verifier"):
				t.Errorf("%s imports %s: cmd imports personality imports verifier, never the other way", f.path, own)
			case under(f.dir, "cmd/internal") && !isStd(imp) && !slices.Contains(internalMayImport[f.dir], imp):
				t.Errorf("%s imports %s: programs share what needs nothing else", f.path, imp)
			case isOwn && under(own, "cmd/internal") && strings.HasSuffix(own, "test") && !f.test:
				t.Errorf("%s imports %s: only tests may", f.path, own)
			case under(imp, "github.com/google/trillian") && f.dir != "." && !under(f.dir, "personality/tree", "personality/pebblestore"):
				t.Errorf("%s imports %s: only personality/tree and personality/pebblestore may", f.path, imp)
			case imp == "flag" && !f.test && !under(f.dir, "cmd"):
				t.Errorf("%s imports flag: only cmd/ may", f.path)
			case imp == "testing" && !f.test && !strings.HasSuffix(f.dir, "test"):
				t.Errorf("%s imports testing: only tests and conformance suites may", f.path)
			}
		}
	}
}

// TestVerifierImports: "std + x/mod + transparency-dev/{merkle,formats} + jcs only".
func TestVerifierImports(t *testing.T) {
	extra := map[string]string{}
	for _, f := range repository(t) {
		if !under(f.dir, "verifier", "cmd/prooftrail-verify") {
			continue
		}
		for _, imp := range f.imports {
			if isStd(imp) || under(imp, module) || under(imp, verifierMayImport...) || under(imp, monitorMayImport[f.dir]...) || under(imp, adapterMayImport[f.dir]...) || f.test && under(imp, verifierTestsMayImport...) {
				continue
			}
			if _, isAdapter := adapterMayImport[f.dir]; isAdapter {
				t.Errorf("%s imports %s: an adapter imports what it adapts", f.path, imp)
				continue
			}
			owner := slices.IndexFunc(oneSmallLibrary, func(dir string) bool { return under(f.dir, dir) })
			if owner >= 0 && (extra[oneSmallLibrary[owner]] == "" || extra[oneSmallLibrary[owner]] == imp) {
				extra[oneSmallLibrary[owner]] = imp
				continue
			}
			t.Errorf("%s imports %s", f.path, imp)
		}
	}
}

// TestOnlyCommandsTouchTheProcess: only cmd/ reads the environment or exits.
func TestOnlyCommandsTouchTheProcess(t *testing.T) {
	for _, f := range repository(t) {
		if f.test || under(f.dir, "cmd", "deployment/check/render") || !slices.Contains(f.imports, "os") {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "os" &&
				slices.Contains([]string{"Exit", "Getenv", "LookupEnv", "Environ", "Setenv", "ExpandEnv"}, sel.Sel.Name) {
				t.Errorf("%s uses os.%s: only programs may", f.path, sel.Sel.Name)
			}
			return true
		})
	}
}

// dependency is a package that a program links.
type dependency struct{ path, module string }

// dependencies asks the go command. A package that doesn't compile is still listed.
func dependencies(t *testing.T, pkg string) []dependency {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-f", "{{.ImportPath}} {{with .Module}}{{.Path}}{{end}} {{.Standard}}", pkg)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list -deps %s: %v", pkg, err)
	}
	var deps []dependency
	for line := range strings.Lines(string(out)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "false" {
			deps = append(deps, dependency{f[0], f[1]})
		}
	}
	if len(deps) == 0 {
		t.Fatalf("go list -deps %s: no packages", pkg)
	}
	return deps
}

func TestVerifierLinks(t *testing.T) {
	var modules []string
	for _, dep := range dependencies(t, "./cmd/prooftrail-verify") {
		own, isOwn := strings.CutPrefix(dep.path, module+"/")
		switch {
		case isOwn && !under(own, "verifier", "cmd/prooftrail-verify"):
			t.Errorf("prooftrail-verify links %s", own)
		case !isOwn && !slices.Contains(verifierMayLink, dep.module):
			t.Errorf("prooftrail-verify links %s of %s", dep.path, dep.module)
		}
		if !isOwn && !slices.Contains(modules, dep.module) {
			modules = append(modules, dep.module)
		}
	}
	if len(modules) > maxModules {
		t.Errorf("prooftrail-verify links %d modules, at most %d: %q", len(modules), maxModules, modules)
	}
}

// TestAdaptersLink: whoever doesn't import an adapter links nothing of what it adapts, and of adapters only what they may import
// comes in, with what that brings along.
func TestAdaptersLink(t *testing.T) {
	brings := []string{"github.com/jonboulle/clockwork", "github.com/robfig/cron/v3"} // gocron's
	for dir, own := range adapterMayImport {
		for _, dep := range dependencies(t, "./"+dir) {
			if !under(dep.path, module) && !slices.Contains(verifierMayLink, dep.module) && !slices.Contains(own, dep.module) &&
				!(len(own) > 1 && slices.Contains(brings, dep.module)) {
				t.Errorf("%s links %s", dir, dep.path)
			}
		}
	}
	for _, dep := range dependencies(t, "./verifier/client") {
		if under(dep.path, "github.com/go-co-op", "github.com/robfig", "github.com/google/uuid") {
			t.Errorf("verifier/client links %s", dep.path)
		}
	}
}

// TestLibraryLinks: nothing of the service, of gRPC, of protobuf, of a database or of
// metrics comes in through the back door, not even into client and monitor.
func TestLibraryLinks(t *testing.T) {
	forbidden := []string{module + "/personality", module + "/cmd", "google.golang.org", "github.com/golang/protobuf", "github.com/gogo/protobuf",
		"github.com/google/trillian", "github.com/cockroachdb/pebble", "github.com/go-sql-driver/mysql", "github.com/prometheus", "go.opentelemetry.io"}
	for _, dep := range dependencies(t, "./verifier/...") {
		if under(dep.path, forbidden...) {
			t.Errorf("verifier/... links %s", dep.path)
		}
	}
}
