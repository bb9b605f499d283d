package main

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/prooftrail/prooftrail/personality/httpapi/badtest"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/client"
)

const badConfig = `
log: {level: debug}
limits: {auth_failures_per_minute: -1, events_per_second: -1}
`

// TestBadRequests sends the corpus of bad requests to the program itself: each is refused,
// the log stays as it was, and the program's own log shows nothing of what was sent.
func TestBadRequests(t *testing.T) {
	corpus, err := badtest.Load("../../personality/httpapi/testdata/bad")
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(config, []byte(badConfig), 0o600); err != nil {
		t.Fatal(err)
	}
	k := newKillRun(t, filepath.Join(t.TempDir(), "log"))
	k.flags = []string{"--config", config}
	s := k.start()
	c, err := client.New(client.Config{URL: s.url, Token: k.tokens["submit"], Policy: k.policy, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var before verifier.Checkpoint
	size := func() uint64 {
		_, cp, _, err := c.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		before = cp
		return cp.Size
	}
	corpus.Run(t, &badtest.Server{Addr: strings.TrimPrefix(s.url, "http://"), Tokens: k.tokens, Size: size})
	raw := []byte(strings.Replace(corpus.File("plain.json"), "evt-sesame", "good", 1))
	r, err := c.Submit(t.Context(), raw)
	if err != nil || r.Index != before.Size || !r.Verified() {
		t.Errorf("the next event: %+v, %v; the log had %d entries", r, err, before.Size)
	}
	k.note(s, raw, r)
	k.check(s, true)
	s.end(t, syscall.SIGTERM)
	for line := range strings.Lines(s.stderr.String()) {
		if strings.Contains(strings.ToLower(line), badtest.Secret) || strings.Contains(line, k.tokens["submit"]) {
			t.Errorf("the program logged what was sent: %s", line)
		}
	}
}
