package gossip_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// sameAnswer answers each request with the same body.
type sameAnswer []byte

func (a sameAnswer) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: 200, Request: r, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader(a))}, nil
}

const example = "../../testdata/example/"

func read(f *testing.F, name string) []byte {
	f.Helper()
	b, err := os.ReadFile(example + name)
	if err != nil {
		f.Fatal(err)
	}
	return b
}

// FuzzAnswers: whatever a monitor answers, what is returned without an error is within its limits
// and of the form that was asked for.
func FuzzAnswers(f *testing.F) {
	head := string(read(f, "log/checkpoint"))
	for _, v := range []any{
		gossip.Heads{Origin: origin, Checked: head, Open: []string{head, ""}},
		gossip.Heads{Origin: origin, Open: make([]string, gossip.MaxOpen+1)},
		gossip.Answer{Origin: origin, Size: 3, Verdict: gossip.Contradicts, Reason: "r", Checked: head, Evidence: []string{"00"}},
		gossip.Answer{Verdict: "maybe"},
		gossip.List{Evidence: []gossip.Listed{{ID: "00", Origin: origin, FirstSize: 1, SecondSize: 2}}},
		gossip.Taken{ID: gossip.EvidenceID([]byte("file"))},
	} {
		b, err := json.Marshal(v)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add(read(f, "fork.evidence"))
	f.Add([]byte(`{"origin":"example.com/audit","ORIGIN":"x","open":null} `))
	f.Fuzz(func(t *testing.T, body []byte) {
		c, err := gossip.New(gossip.Config{URL: "https://m.example", Transport: sameAnswer(body)})
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		if h, err := c.Heads(ctx, origin); err == nil && (h.Origin != origin || len(h.Open) > gossip.MaxOpen) || err != nil && !errors.Is(err, gossip.ErrAnswer) {
			t.Errorf("%q: heads %+v, %v", body, h, err)
		}
		if a, err := c.PostHead(ctx, []byte("note")); err == nil && a.Verdict != gossip.Agrees && a.Verdict != gossip.Contradicts && a.Verdict != gossip.Unknown {
			t.Errorf("%q: answer %+v", body, a)
		}
		if l, err := c.ListEvidence(ctx); err == nil && len(l) > gossip.MaxListed {
			t.Errorf("%q: list %+v", body, l)
		}
		id := gossip.EvidenceID(body)
		if b, err := c.Evidence(ctx, id); err != nil && len(body) <= verifier.MaxEvidenceBytes || err == nil && !bytes.Equal(b, body) {
			t.Errorf("%q: evidence %q, %v", body, b, err)
		}
		if id, err := c.PostEvidence(ctx, []byte("file")); err == nil && id != gossip.EvidenceID([]byte("file")) {
			t.Errorf("%q: taken as %q", body, id)
		}
	})
}

// FuzzCompare: whatever a monitor shows and names, a log is convicted only by evidence that
// convicts it, and agreement is with a head that the log signed.
func FuzzCompare(f *testing.F) {
	policy, err := verifier.ParsePolicy(read(f, "policy.txt"))
	if err != nil {
		f.Fatal(err)
	}
	head, fork, file := read(f, "log/checkpoint"), read(f, "fork/checkpoint"), read(f, "fork.evidence")
	own := gossip.Own{Policy: policy, Note: head, Tiles: verifier.Tiles(verifier.DirSource(os.DirFS(example + "log")))}
	f.Add("agrees", string(head), string(head), string(head), []byte{})
	f.Add("unknown", "", string(head), string(fork), []byte{})
	f.Add("contradicts", string(head), string(head), "", file)
	f.Add("contradicts", string(head), string(head), "", bytes.Replace(file, []byte("audit\n3\n"), []byte("audit\n2\n"), 1))
	f.Add("contradicts", "\n\n", "— \n\n— ", "example.com/audit\n0\n\n", []byte("prooftrail.evidence/1\n"))
	f.Fuzz(func(t *testing.T, verdict, answered, checked, open string, file []byte) {
		id := gossip.EvidenceID(file)
		m := http.NewServeMux()
		say := func(path string, v any) {
			m.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) })
		}
		say("POST /gossip/v1/heads", gossip.Answer{Origin: origin, Size: 3, Verdict: gossip.Verdict(verdict), Checked: answered, Evidence: []string{id}})
		say("GET /gossip/v1/logs/", gossip.Heads{Origin: origin, Checked: checked, Open: []string{open}})
		say("GET /gossip/v1/evidence", gossip.List{})
		m.HandleFunc("GET /gossip/v1/evidence/", func(w http.ResponseWriter, _ *http.Request) { w.Write(file) })
		c, err := gossip.New(gossip.Config{URL: "https://m.example", Transport: handled{m}})
		if err != nil {
			t.Fatal(err)
		}
		rs, err := gossip.Compare(t.Context(), []*gossip.Client{c}, own)
		if err != nil {
			t.Fatal(err)
		}
		r := rs[0]
		if r.Status == gossip.StatusContradicts {
			if _, err := r.Evidence.Check(policy); err != nil {
				t.Errorf("convicted by %q: %v", r.Evidence.Text(), err)
			}
		}
		if r.Agreement() && r.Checked == nil || len(r.Reason) > 700 {
			t.Errorf("%+v", r)
		}
	})
}

// handled answers with a handler, without a network.
type handled struct{ http.Handler }

func (h handled) RoundTrip(r *http.Request) (*http.Response, error) {
	w := &recorder{header: http.Header{}}
	h.ServeHTTP(w, r)
	return &http.Response{StatusCode: max(w.status, 200), Request: r, Header: w.header, Body: io.NopCloser(&w.Buffer)}, nil
}

type recorder struct {
	bytes.Buffer
	header http.Header
	status int
}

func (r *recorder) Header() http.Header    { return r.header }
func (r *recorder) WriteHeader(status int) { r.status = status }
