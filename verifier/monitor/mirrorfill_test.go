package monitor_test

import (
	"bytes"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// TestMirrorSpoilt: a log that serves false entries to an audit that fails, below where an earlier one has come, doesn't
// get them into the mirror.
func TestMirrorSpoilt(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", 70_000)
	x := h.Rewrite("x", 270*256+3)
	var spoilt atomic.Int64 // times that the false bundle was served
	var honest atomic.Bool
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case honest.Load():
		case strings.HasSuffix(r.URL.Path, "/270") || strings.Contains(r.URL.Path, "/tile/1/001"):
			x.Serve(w, r) // it doesn't lead to the signed root, and so all is looked at again
			return
		case strings.HasSuffix(r.URL.Path, "/tile/entries/005"):
			if spoilt.Add(1) > 1 { // the first audit reads it as it is
				spoil(h, "").ServeHTTP(w, r)
				return
			}
		}
		h.Serve(w, r)
	}))
	dir := t.TempDir()
	r := start(t, dir, nil, monitor.LogConfig{Policy: key.Policy(t), URL: url, Mirror: filepath.Join(dir, "mirror"), Expect: soon})
	wait(t, "the false bundle is served", func() bool { return spoilt.Load() > 1 })
	wait(t, "alarm", func() bool { return r.alarms.rings("bad-entries") })
	honest.Store(true)
	r.checked(70_000)
	resp, err := http.Get(r.url + "/mirror/" + gossip.LogID(testOrigin) + "/tile/entries/005")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	want, _ := h.File("/tile/entries/005")
	if err != nil || !bytes.Equal(got, want) {
		t.Errorf("the mirror serves what the log never signed: %d bytes, %v", len(got), err)
	}
}
