package personality_test

import (
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
)

const tamperingPage = "../docs/tampering.md"

// table is a section of the page.
func table(s section, results []found) string {
	var b strings.Builder
	fmt.Fprintf(&b, "### %s\n\n| done | the service | the audit | remarks |\n|---|---|---|---|\n", s.title)
	for i, c := range s.rows {
		service := results[i].service
		if c.says != "" {
			service += ": “" + c.says + "”"
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", c.name, service, results[i].audit, c.why)
	}
	return b.String()
}

// compareDocs compares the page's tables with what was found.
func compareDocs(t *testing.T, tables []string) {
	t.Helper()
	const begin, end = "<!-- tables: go test ./personality -run TestTampering -update -->\n\n", "\n<!-- end of tables -->\n"
	page, err := os.ReadFile(tamperingPage)
	check(t, err)
	before, rest, ok := strings.Cut(string(page), begin)
	inside, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no tables", tamperingPage)
	}
	want := strings.Join(tables, "\n")
	if *update {
		check(t, os.WriteFile(tamperingPage, []byte(before+begin+want+end+after), 0o644)) //nolint:gosec // a page for everybody
		return
	}
	if inside != want {
		t.Errorf("%s doesn't say what was found; -update writes it:\n%s", tamperingPage, want)
	}
}

// tilePaths are the full tiles and bundles of whole, and the widest partial ones.
func (v *victims) tilePaths() (paths []string) {
	for key, value := range v.rows {
		switch {
		case strings.HasPrefix(key, "pt"):
			n := binary.BigEndian.Uint64([]byte(key[3:]))
			paths = append(paths, verifier.TilePath(int(key[2]), n, len(value)/32))
		case strings.HasPrefix(key, "pe"):
			n := binary.BigEndian.Uint64([]byte(key[2:]))
			width := len(v.rows[string(tileRow(0, n))]) / 32
			paths = append(paths, verifier.EntriesPath(n, width))
		}
	}
	return paths
}

// tile is what whole has at a path of tilePaths.
func (v *victims) tile(t *testing.T, path string) []byte {
	t.Helper()
	tile, err := verifier.ParseTilePath(path)
	check(t, err)
	if tile.Level == verifier.EntriesLevel {
		return v.rows[string(bundleRow(tile.N))]
	}
	return v.rows[string(tileRow(byte(tile.Level), tile.N))]
}

// openingIndex is the entry that an opening's row belongs to.
func openingIndex(key string) (index uint64, ok bool) {
	if !strings.HasPrefix(key, "po") {
		return 0, false
	}
	return binary.BigEndian.Uint64([]byte(key[2:10])), true
}
