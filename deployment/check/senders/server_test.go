package senders

import (
	"encoding/json"
	"os"
	"testing"

	"github.com/prooftrail/prooftrail/deployment/check/servertest"
)

func TestMain(m *testing.M) { os.Exit(servertest.Main(m)) }

func newServer(t *testing.T) *servertest.Server {
	t.Helper()
	s := servertest.New(t)
	s.Start()
	return s
}

// quarantined are the reasons of what waits, by no particular order.
func quarantined(t *testing.T, s *servertest.Server) (reasons []string) {
	t.Helper()
	var list struct {
		Items []struct{ Adapter, Reason string }
	}
	if err := json.Unmarshal(s.Get("admin", "/v1/quarantine"), &list); err != nil {
		t.Fatal(err)
	}
	for _, q := range list.Items {
		reasons = append(reasons, q.Adapter+" "+q.Reason)
	}
	return reasons
}
