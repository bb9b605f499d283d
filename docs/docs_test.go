// Package docs_test keeps the documentation true: README.md and every page
// below docs/.
//
//   - Every link between pages, with its anchor, leads somewhere, and every
//     page can be reached from README.md.
//   - Every code block says what it is. Blocks marked sh and console are run, page
//     by page and in order, in one bash a page, in an empty directory, with the
//     programs of this repository in PATH. Each command must succeed. Where a console
//     block shows output, the command must have printed those lines in that
//     order; numbers may differ, and … stands for anything. Blocks marked json
//     must be JSON. Blocks marked python and js, and those marked go that name a file in
//     their first line, are saved under that name, and sh and console blocks run them.
//     Blocks marked text are not run: what they show needs a
//     machine of its own, or isn't a command.
//   - The worked example of docs/spec verifies.
package docs_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = ".."

// A page is one Markdown file.
type page struct {
	path   string // relative to the root, with slashes
	lines  []string
	blocks []block
	prose  []string // the lines outside code blocks; the others are empty
}

// A block is a fenced code block.
type block struct {
	kind string // what stands behind the opening fence
	line int    // of the opening fence, from 1
	text []string
}

// pages reads README.md and all of docs/.
func pages(t *testing.T) map[string]*page {
	t.Helper()
	all := map[string]*page{}
	read := func(path string) {
		data, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(path)))
		if err != nil {
			t.Fatal(err)
		}
		all[path] = parsePage(path, string(data))
	}
	read("README.md")
	for _, dir := range []string{"docs", "deployment"} {
		err := fs.WalkDir(os.DirFS(root), dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() && strings.HasSuffix(path, ".md") {
				read(path)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func parsePage(path, text string) *page {
	p := &page{path: path, lines: strings.Split(text, "\n")}
	inside := false
	for i, line := range p.lines {
		kind, fence := strings.CutPrefix(line, "```")
		switch {
		case fence && !inside:
			p.blocks = append(p.blocks, block{kind: kind, line: i + 1})
			p.prose = append(p.prose, "")
		case fence || inside:
			b := &p.blocks[len(p.blocks)-1]
			if !fence {
				b.text = append(b.text, line)
			}
			p.prose = append(p.prose, "")
		default:
			p.prose = append(p.prose, line)
		}
		if fence {
			inside = !inside
		}
	}
	return p
}

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`^#{1,6} +(.*)$`)
	notSlug = regexp.MustCompile(`[^\p{L}\p{N}_ -]+`)
)

// anchors are the fragments that the page's headings make.
func (p *page) anchors() map[string]bool {
	found := map[string]bool{}
	for _, line := range p.prose {
		if m := heading.FindStringSubmatch(line); m != nil {
			slug := notSlug.ReplaceAllString(strings.ToLower(m[1]), "")
			found[strings.ReplaceAll(slug, " ", "-")] = true
		}
	}
	return found
}

// links are the targets of the page's links within the repository: path and
// fragment, with the number of the line.
func (p *page) links(visit func(line int, path, fragment string)) {
	for i, line := range p.prose {
		for _, m := range link.FindAllStringSubmatch(line, -1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			target, fragment, _ := strings.Cut(m[1], "#")
			path := p.path
			if target != "" {
				path = filepath.ToSlash(filepath.Join(filepath.Dir(p.path), target))
			}
			visit(i+1, path, fragment)
		}
	}
}

func TestLinks(t *testing.T) {
	all := pages(t)
	for _, p := range all {
		p.links(func(line int, path, fragment string) {
			if _, err := os.Stat(filepath.Join(root, path)); err != nil {
				t.Errorf("%s:%d: link to %s, which isn't there", p.path, line, path)
			} else if to := all[path]; fragment != "" && (to == nil || !to.anchors()[fragment]) {
				t.Errorf("%s:%d: %s has no heading #%s", p.path, line, path, fragment)
			}
		})
	}
}

func TestEveryPageIsReached(t *testing.T) {
	all := pages(t)
	reached := map[string]bool{}
	queue := []string{"README.md"}
	for len(queue) > 0 {
		path := queue[0]
		queue = queue[1:]
		if info, err := os.Stat(filepath.Join(root, path)); err == nil && info.IsDir() {
			path = filepath.ToSlash(filepath.Join(path, "README.md"))
		}
		p := all[path]
		if p == nil || reached[path] {
			continue
		}
		reached[path] = true
		p.links(func(_ int, to, _ string) { queue = append(queue, to) })
	}
	for path := range all {
		if !reached[path] {
			t.Errorf("%s can't be reached from README.md", path)
		}
	}
}
