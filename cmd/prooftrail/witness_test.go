package main

import (
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/prooftrail/prooftrail/personality/witnesses/witnesstest"
)

// witnessScripts are the commands for scripts about witnesses. The witnesses of a script are
// the real ones, in the process of the test, and end with it.
//
//	witnesses POLICY K NAME...  begins witnesses that know the log of log/policy.txt, and writes
//	                            a policy file of that log that wants K of them
//	down NAME, up NAME          has a witness answer nothing, or again
//	fetch URL FILE              writes what a GET of URL is answered with to a file
//	post URL TOKEN EVENT STATUS FILE
//	                            posts an event once, which the client would do again, checks
//	                            the status and writes the answer to a file
type witnessScripts struct {
	t  *testing.T
	mu sync.Mutex
	ws map[string]*witnesstest.Witness // by working directory and name
}

func (s *witnessScripts) begin(ts *testscript.TestScript, _ bool, args []string) {
	log, _, _ := strings.Cut(ts.ReadFile("log/policy.txt"), "\n")
	policy, group := log+"\n", "group all-of-them "+args[1]
	for _, name := range args[2:] {
		w := witnesstest.New(s.t, strings.Fields(log)[1], name)
		s.mu.Lock()
		s.ws[ts.MkAbs(name)] = w
		s.mu.Unlock()
		policy += w.Line()
		group += " " + name
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(policy+group+"\nquorum all-of-them\n"), 0o600))
}

func (s *witnessScripts) witness(ts *testscript.TestScript, name string) *witnesstest.Witness {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.ws[ts.MkAbs(name)]
	if w == nil {
		ts.Fatalf("no witness %s", name)
	}
	return w
}

func (s *witnessScripts) down(ts *testscript.TestScript, _ bool, args []string) {
	s.witness(ts, args[0]).Down()
}

func (s *witnessScripts) up(ts *testscript.TestScript, _ bool, args []string) {
	s.witness(ts, args[0]).Up()
}

func fetch(ts *testscript.TestScript, _ bool, args []string) {
	resp, err := http.Get(args[0])
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), body, 0o600))
}

func post(ts *testscript.TestScript, _ bool, args []string) {
	req, err := http.NewRequest(http.MethodPost, args[0], strings.NewReader(ts.ReadFile(args[2])))
	ts.Check(err)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+strings.TrimSpace(ts.ReadFile(args[1])))
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	body, err := io.ReadAll(resp.Body)
	ts.Check(err)
	ts.Check(resp.Body.Close())
	if got := strconv.Itoa(resp.StatusCode); got != args[3] {
		ts.Fatalf("POST %s: %s, expected %s\n%s", args[0], got, args[3], body)
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[4]), body, 0o600))
}
