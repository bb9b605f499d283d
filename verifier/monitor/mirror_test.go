package monitor_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// mirrored waits until a monitor's mirror is complete up to a size.
func (r *rig) mirrored(size int) {
	r.t.Helper()
	wait(r.t, "mirrored", func() bool { return r.Status().Logs[0].Mirrored == uint64(size) })
}

// audit checks a log from what a URL serves.
func audit(t *testing.T, p *verifier.Policy, url string, size int) {
	t.Helper()
	s, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: url, Attempts: 1})
	if err != nil {
		t.Fatal(err)
	}
	report, err := verifier.Audit(t.Context(), verifier.AuditConfig{Source: s, Policy: p})
	if err != nil || report.Size != uint64(size) || report.Entries != uint64(size) {
		t.Errorf("%+v, %v", report, err)
	}
}

// TestMirror: what a mirror serves is the whole log, while the log is there and when it is gone.
func TestMirror(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", 70)
	policy := key.Policy(t)
	dir := t.TempDir()
	log := monitor.LogConfig{Policy: policy, URL: serve(t, h), Mirror: filepath.Join(dir, "mirror")}
	r := start(t, dir, nil, log)
	url := func() string { return r.url + "/mirror/" + gossip.LogID(testOrigin) }
	for _, n := range []int{0, 30, 156, 1, 600, 70000} {
		h.Grow(n)
		r.mirrored(h.Size())
		audit(t, policy, url(), h.Size())
	}
	h.Fault(func(w http.ResponseWriter, _ *http.Request) bool {
		http.Error(w, "gone", http.StatusServiceUnavailable)
		return true
	})
	audit(t, policy, url(), h.Size())
	r.stop()
	r = start(t, dir, nil, log)
	audit(t, policy, url(), h.Size())
}

// TestMirrorLater: a mirror that is asked for when much was read already begins at the first entry. Files that
// are lost are fetched again.
func TestMirrorLater(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", 1500)
	policy := key.Policy(t)
	dir := t.TempDir()
	log := monitor.LogConfig{Policy: policy, URL: serve(t, h)}
	r := start(t, dir, nil, log)
	r.checked(1500)
	r.stop()
	log.Mirror = filepath.Join(dir, "mirror")
	r = start(t, dir, nil, log)
	r.mirrored(1500)
	audit(t, policy, r.url+"/mirror/"+gossip.LogID(testOrigin), 1500)
	r.stop()
	for _, lost := range []string{"checkpoint", "tile/entries/001", "tile/0/002"} {
		if err := os.Remove(filepath.Join(log.Mirror, lost)); err != nil {
			t.Fatal(err)
		}
	}
	r = start(t, dir, nil, log)
	r.mirrored(1500)
	audit(t, policy, r.url+"/mirror/"+gossip.LogID(testOrigin), 1500)
}

// TestMirrorKeeps: what was checked stays as it is, whatever the log serves later.
func TestMirrorKeeps(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", 300)
	other := h.Fork("b", 280)
	other.Grow(100)
	policy := key.Policy(t)
	dir := t.TempDir()
	r := start(t, dir, nil, monitor.LogConfig{Policy: policy, URL: serve(t, h), Mirror: filepath.Join(dir, "mirror")})
	r.mirrored(300)
	// The head of one history, the tiles of another one.
	h.Fault(func(w http.ResponseWriter, req *http.Request) bool {
		if strings.HasSuffix(req.URL.Path, "/checkpoint") {
			return false
		}
		other.Serve(w, req)
		return true
	})
	h.Grow(50)
	wait(t, "alarm", func() bool {
		return r.alarms.rings("unproven-head") || r.alarms.rings("bad-entries") || r.Status().Logs[0].Heads.Open > 0
	})
	audit(t, policy, r.url+"/mirror/"+gossip.LogID(testOrigin), 300)
	h.Fault(nil)
	r.mirrored(350)
	audit(t, policy, r.url+"/mirror/"+gossip.LogID(testOrigin), 350)
	if len(r.Status().Evidence) > 0 {
		t.Error("convicted for wrong tiles")
	}
}

// TestMirrorConvicts: with a mirror the proof can be made when the log keeps its tiles back.
func TestMirrorConvicts(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	h := logtest.New(t, key, "a", 300)
	other := h.Fork("b", 200)
	other.Grow(70)
	policy := key.Policy(t)
	dir := t.TempDir()
	r := start(t, dir, nil, monitor.LogConfig{Policy: policy, URL: serve(t, h), Mirror: filepath.Join(dir, "mirror")})
	r.mirrored(300)
	h.Fault(func(w http.ResponseWriter, _ *http.Request) bool {
		http.NotFound(w, nil)
		return true
	})
	c, err := gossip.New(gossip.Config{URL: r.url})
	if err != nil {
		t.Fatal(err)
	}
	if a, err := c.PostHead(t.Context(), other.Note(270)); err != nil || a.Verdict != gossip.Contradicts {
		t.Fatalf("%+v, %v", a, err)
	}
	convicts(t, policy, r.Status().Evidence[0].File)
}
