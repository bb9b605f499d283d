package monitor_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// call makes one request and returns status and body.
func call(t *testing.T, method, url string, body []byte) (int, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, b
}

// TestDistributor speaks the protocol as github.com/transparency-dev/distributor's client and its witnesses do.
func TestDistributor(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	w1, w2 := logtest.NewWitness("witness.example/one"), logtest.NewWitness("w2")
	policy := key.Policy(t, "witness a "+w1.VKey, "witness b "+w2.VKey, "group g all a b", "quorum g")
	h := logtest.New(t, key, "a", 500)
	fork := h.Fork("b", 400)
	fork.Grow(50)
	r := start(t, t.TempDir(), nil, monitor.LogConfig{Policy: policy, URL: serve(t, h)})
	r.checked(500)
	prefix := r.url + "/distributor/v0"
	log := prefix + "/logs/" + gossip.LogID(testOrigin)
	by := func(name string) string { return log + "/byWitness/" + url.PathEscape(name) + "/checkpoint" }

	var list []string
	if code, b := call(t, "GET", prefix+"/logs", nil); code != 200 || json.Unmarshal(b, &list) != nil || !slices.Equal(list, []string{gossip.LogID(testOrigin)}) {
		t.Errorf("logs: %d %s", code, b)
	}
	want := []string{w2.VKey, w1.VKey}
	slices.Sort(want)
	if code, b := call(t, "GET", prefix+"/witnesses", nil); code != 200 || json.Unmarshal(b, &list) != nil || !slices.Equal(list, want) {
		t.Errorf("witnesses: %d %s", code, b)
	}
	at := time.Unix(1790000000, 0)
	for _, tt := range []struct {
		name   string
		method string
		url    string
		body   []byte
		want   int
	}{
		{"nobody has cosigned", "GET", log + "/checkpoint.1", nil, 404},
		{"nor this one", "GET", by(w1.Name), nil, 404},
		{"no cosignature", "PUT", by(w1.Name), h.Note(500), 403},
		{"another's cosignature", "PUT", by(w1.Name), w2.Cosign(h.Note(500), at), 403},
		{"not a witness", "PUT", by("nobody"), w1.Cosign(h.Note(500), at), 404},
		{"a note of nobody", "PUT", by(w1.Name), []byte("no"), 400},
		{"a fork", "PUT", by(w1.Name), w1.Cosign(fork.Note(450), at), 422},
		{"the head", "PUT", by(w1.Name), w1.Cosign(h.Note(500), at), 200},
		{"again", "PUT", by(w1.Name), w1.Cosign(h.Note(500), at), 409},
		{"older", "PUT", by(w1.Name), w1.Cosign(h.Note(300), at.Add(time.Hour)), 409},
		{"fresher", "PUT", by(w1.Name), w1.Cosign(h.Note(500), at.Add(time.Minute)), 200},
		{"one", "GET", log + "/checkpoint.1", nil, 200},
		{"not two", "GET", log + "/checkpoint.2", nil, 404},
		{"the other one, elsewhere", "PUT", by(w2.Name), w2.Cosign(h.Note(400), at), 200},
		{"still not two", "GET", log + "/checkpoint.2", nil, 404},
		{"the other one", "PUT", by(w2.Name), w2.Cosign(h.Note(500), at), 200},
		{"no number", "GET", log + "/checkpoint.x", nil, 400},
		{"no log", "GET", prefix + "/logs/00/checkpoint.1", nil, 404},
	} {
		if code, b := call(t, tt.method, tt.url, tt.body); code != tt.want {
			t.Errorf("%s: %d %s, expected %d", tt.name, code, b, tt.want)
		}
	}
	// Both lines are put together.
	_, b := call(t, "GET", log+"/checkpoint.2", nil)
	c, w, err := policy.Verify(b)
	if err != nil || c.Size != 500 || len(w.Cosigned) != 2 || w.Status != verifier.Quorum {
		t.Errorf("checkpoint.2: %+v %+v %v\n%s", c, w, err, b)
	}
	_, b = call(t, "GET", by(w1.Name), nil)
	if c, w, err := policy.Verify(b); err != nil || c.Size != 500 || len(w.Cosigned) != 1 || w.Cosigned[0].Time.Unix() != at.Add(time.Minute).Unix() {
		t.Errorf("by witness: %+v %+v %v", c, w, err)
	}
	_, b = call(t, "GET", log+"/checkpoint.0", nil)
	if c, _, err := policy.Verify(b); err != nil || c.Size != 500 {
		t.Errorf("checkpoint.0: %+v %v", c, err)
	}
}

// TestOtherPeers: heads are pulled from distributors and from witnesses too.
func TestOtherPeers(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	a := logtest.New(t, key, "a", 300)
	b := a.Fork("b", 100)
	b.Grow(200)

	// A real witness that has cosigned a head of the second history.
	st := filepath.Join(t.TempDir(), "witness")
	if err := store.Create(st); err != nil {
		t.Fatal(err)
	}
	records, err := store.Open(st)
	if err != nil {
		t.Fatal(err)
	}
	defer records.Close()
	skey, err := witness.GenerateKey("witness.example", witness.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	cosigner, err := witness.ParseKey(skey)
	if err != nil {
		t.Fatal(err)
	}
	w, err := witness.New(t.Context(), witness.Config{Logs: []*verifier.LogKey{key.Policy(t).Log()}, Cosigners: []*witness.Cosigner{cosigner}, Store: records})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Add(t.Context(), 0, nil, b.Note(300)); err != nil {
		t.Fatal(err)
	}
	seesB := key.Policy(t, "witness w "+cosigner.VerifierKey(), "quorum w")
	distributor := start(t, t.TempDir(), nil, monitor.LogConfig{Policy: seesB, URL: serve(t, b)})
	distributor.checked(300)
	cosigned, err := w.Latest(t.Context(), testOrigin)
	if err != nil {
		t.Fatal(err)
	}
	if code, body := call(t, "PUT", distributor.url+"/distributor/v0/logs/"+gossip.LogID(testOrigin)+"/byWitness/witness.example/checkpoint", cosigned); code != 200 {
		t.Fatalf("%d %s", code, body)
	}
	server := httptest.NewServer(w.Handler())
	defer server.Close()
	for _, p := range []monitor.PeerConfig{
		{Name: "witness", Kind: monitor.WitnessKind, URL: server.URL},
		{Name: "distributor", Kind: monitor.Distributor, URL: distributor.url},
	} {
		r := start(t, t.TempDir(), func(c *monitor.Config) { c.Peers = []monitor.PeerConfig{p} }, monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, a)})
		wait(t, "evidence by "+p.Name, func() bool { return len(r.Status().Evidence) > 0 })
		convicts(t, key.Policy(t), r.Status().Evidence[0].File)
	}
}

// TestDistributeOnlyCosignatures: what somebody adds to a cosigned head under a witness's name isn't handed on:
// two such heads put together would be a note that nobody reads.
func TestDistributeOnlyCosignatures(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	ws := []*logtest.Witness{logtest.NewWitness("w1"), logtest.NewWitness("w2")}
	policy := key.Policy(t, "witness a "+ws[0].VKey, "witness b "+ws[1].VKey, "group g all a b", "quorum g")
	h := logtest.New(t, key, "a", 500)
	r := start(t, t.TempDir(), nil, monitor.LogConfig{Policy: policy, URL: serve(t, h)})
	r.checked(500)
	log := r.url + "/distributor/v0/logs/" + gossip.LogID(testOrigin)
	for _, w := range ws {
		note := w.Cosign(h.Note(500), time.Unix(1790000000, 0))
		for i := range 60 {
			note = append(note, "— "+w.Name+" "+base64.StdEncoding.EncodeToString([]byte{0, 0, 0, byte(i), 1, 2, 3})+"\n"...)
		}
		if code, b := call(t, "PUT", log+"/byWitness/"+w.Name+"/checkpoint", note); code != 200 {
			t.Fatalf("%d %s", code, b)
		}
	}
	_, b := call(t, "GET", log+"/checkpoint.2", nil)
	if _, w, err := policy.Verify(b); err != nil || w.Status != verifier.Quorum || bytes.Count(b, []byte("— ")) != 3 {
		t.Errorf("%+v %v\n%s", w, err, b)
	}
}
