package tree_test

import (
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/personality/tree/treetest"
)

// quick is a configuration with times for tests in one process.
func quick(addresses ...string) tree.RemoteConfig {
	return tree.RemoteConfig{Addresses: addresses, CallTimeout: 5 * time.Second, Patience: 2 * time.Second, StallTimeout: 10 * time.Second}
}

func createRemote(t testing.TB, cfg tree.RemoteConfig) int64 {
	t.Helper()
	id, err := tree.CreateRemote(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func openRemote(t testing.TB, cfg tree.RemoteConfig, id int64) *tree.Remote {
	t.Helper()
	r, err := tree.OpenRemote(t.Context(), cfg, id)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func TestRemoteSuite(t *testing.T) {
	suite := func(servers int, change func(*tree.RemoteConfig)) func(t *testing.T) {
		return func(t *testing.T) {
			treetest.Run(t, func(t *testing.T) treetest.Subject {
				cfg := quick(startCluster(t, servers).addresses()...)
				change(&cfg)
				id := createRemote(t, cfg)
				return treetest.Subject{
					Overlap: true, Split: true, Sizes: 70,
					Open: func(t *testing.T) tree.Tree { return openRemote(t, cfg, id) },
				}
			})
		}
	}
	t.Run("one server", suite(1, func(*tree.RemoteConfig) {}))
	t.Run("three servers", suite(3, func(*tree.RemoteConfig) {}))
}
