package monitor_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// TestMirrorMidway: a mirror that is begun while the first reading isn't over has everything too, once it
// says so.
func TestMirrorMidway(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", 70000)
	var gone atomic.Bool
	gone.Store(true)
	h.Fault(func(w http.ResponseWriter, r *http.Request) bool {
		if gone.Load() && strings.Contains(r.URL.Path, "/tile/entries/265") { // 67840 and on
			http.Error(w, "gone", http.StatusServiceUnavailable)
			return true
		}
		return false
	})
	log := monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, h)}
	dir := t.TempDir()
	r := start(t, dir, nil, log)
	wait(t, "reading stops on the way", func() bool { return r.Status().Logs[0].ReadErr != nil })
	r.stop()
	gone.Store(false)
	log.Mirror = t.TempDir()
	r = start(t, dir, nil, log)
	wait(t, "the mirror is complete", func() bool { return r.Status().Logs[0].Mirrored == 70000 })
	for _, file := range []string{"checkpoint", "tile/entries/000", "tile/0/000", "tile/entries/255", "tile/entries/272", "tile/1/000"} {
		if code, b := call(t, "GET", r.url+"/mirror/"+gossip.LogID(testOrigin)+"/"+file, nil); code != 200 {
			t.Errorf("%s: %d %s", file, code, b)
		}
	}
}
