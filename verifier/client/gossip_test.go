package client

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip/gossiptest"
)

// monitor makes one that has checked the log as it is now. It is the one place where these tests make
// monitors.
func (f *fakeLog) monitor() *gossiptest.Monitor {
	f.t.Helper()
	return gossiptest.NewMonitor(f.t, f.policy, f.tree(), f.checkpoint(len(f.entries)))
}

func gossiping(urls ...string) func(*Config) {
	return func(cfg *Config) {
		for _, u := range urls {
			cfg.Monitors = append(cfg.Monitors, gossip.Config{URL: u})
		}
	}
}

// TestGossip: an honest log, and monitors that follow it, know nothing of it yet, or are down.
func TestGossip(t *testing.T) {
	f, _ := with(t)
	behind := f.monitor()
	knowsNothing := gossiptest.NewMonitor(t, f.policy, f.tree(), nil)
	c := f.client(nil)
	submit(t, c, "d", "e")
	equal := f.monitor()
	c = f.client(gossiping(behind.URL, knowsNothing.URL, equal.URL, "http://127.0.0.1:1"))
	results, err := c.Gossip(t.Context()) // it has seen no head yet: it asks for one
	if err != nil || len(results) != 4 {
		t.Fatalf("%+v, %v", results, err)
	}
	for i, want := range []gossip.Status{gossip.StatusBehind, gossip.StatusUnproven, gossip.StatusAgrees, gossip.StatusUnreachable} {
		if r := results[i]; r.Status != want || r.Posted != (i < 3) {
			t.Errorf("%d: %+v", i, r)
		}
	}
	if note, cp := c.Newest(); cp.Size != 5 || len(behind.Open()) != 1 || string(behind.Open()[0]) != string(note) {
		t.Errorf("%q wasn't handed in: %q", note, behind.Open())
	}
	if r, err := c.Submit(t.Context(), rawEvent("f")); err != nil || !r.Verified() {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestGossipFork: a log that shows this client another history than the monitor is found out, whoever
// has the larger tree; and the next result of Submit says so.
func TestGossipFork(t *testing.T) {
	for name, more := range map[string][]string{"the monitor's tree is larger": nil, "ours is larger": {"g", "h", "i"}} {
		t.Run(name, func(t *testing.T) {
			f, _ := with(t)
			f.add(rawEvent("d"))
			f.add(rawEvent("e"))
			m := f.monitor()
			f.entries = f.entries[:4]
			f.fork(2)
			a := make(alarms, 1)
			c := f.client(func(cfg *Config) { gossiping("http://127.0.0.1:1", m.URL)(cfg); cfg.Alarm = a.say })
			if _, _, _, err := c.Checkpoint(t.Context()); err != nil {
				t.Fatal(err)
			}
			submit(t, c, more...)
			results, err := c.Gossip(t.Context())
			convicts(t, f, err)
			if len(results) != 2 || results[1].Status != gossip.StatusContradicts || !strings.Contains(err.Error(), m.URL) {
				t.Errorf("%+v, %v", results, err)
			}
			if len(m.Evidence()) == 0 {
				t.Error("the monitor wasn't told")
			}
			r, err := c.Submit(t.Context(), rawEvent("z"))
			convicts(t, f, err)
			if r.Status != Accepted || r.Verdict == nil || r.Verified() {
				t.Errorf("%+v", r)
			}
		})
	}
}

// TestGossipLies: nothing that a monitor says convicts the log, or breaks submitting.
func TestGossipLies(t *testing.T) {
	f, _ := with(t)
	stranger := newFakeLog(t)
	stranger.add(rawEvent("x"))
	forged, other := f.monitor(), f.monitor()
	forged.Set(stranger.checkpoint(1), [][]byte{stranger.checkpoint(1)}, (&verifier.Evidence{First: stranger.checkpoint(1), Second: f.checkpoint(3)}).Text())
	other.Instead(func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method == http.MethodPost {
			_, _ = w.Write([]byte(`{"origin":"` + origin + `","size":3,"verdict":"contradicts","reason":"because","evidence":["x"]}`))
		}
		return r.Method == http.MethodPost
	})
	c := f.client(gossiping(forged.URL, other.URL))
	results, err := c.Gossip(t.Context())
	if err != nil || results[0].Agreement() || results[1].Agreement() || results[0].Evidence != nil || results[1].Evidence != nil {
		t.Errorf("%+v, %v", results, err)
	}
	submit(t, c, "d")
}

// TestGossipEvery: rounds until the context ends; what is found is reported, and is an alarm.
func TestGossipEvery(t *testing.T) {
	f, _ := with(t)
	m := f.monitor()
	a := make(alarms, 1)
	c := f.client(func(cfg *Config) { gossiping(m.URL)(cfg); cfg.Alarm = a.say })
	ctx, cancel := context.WithCancel(t.Context())
	rounds := make(chan error)
	done := make(chan error, 1)
	go func() {
		done <- c.GossipEvery(ctx, time.Millisecond, func(rs []gossip.Comparison, err error) {
			if len(rs) != 1 || rs[0].Agreement() != (err == nil) {
				t.Errorf("%+v, %v", rs, err)
			}
			select {
			case rounds <- err:
			default: // nobody waits for this one
			}
		})
	}()
	for range 3 {
		if err := <-rounds; err != nil {
			t.Error(err)
		}
	}
	f.fork(1)
	m.Set(f.checkpoint(3), nil) // the monitor was shown the other one
	convicts(t, f, a.wait(t))
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestGossipConfig(t *testing.T) {
	f := newFakeLog(t)
	m := []gossip.Config{{URL: "https://m.example"}}
	for name, cfg := range map[string]Config{
		"no policy": {Monitors: m},
		"bad URL":   {Policy: f.policy, Monitors: append(m, gossip.Config{URL: "http://m.example"})},
	} {
		cfg.URL = f.srv.URL
		if _, err := New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	for _, c := range []*Client{f.client(nil), f.client(func(cfg *Config) { cfg.Policy = nil })} {
		if _, err := c.Gossip(t.Context()); err == nil {
			t.Error("no error")
		}
		if err := c.GossipEvery(t.Context(), 0, nil); err == nil {
			t.Error("no error")
		}
	}
	// Nothing to compare yet, and no log there.
	c := f.client(gossiping("http://127.0.0.1:1"))
	f.srv.Close()
	if _, err := c.Gossip(t.Context()); err == nil || errors.Is(err, verifier.ErrFailed) {
		t.Errorf("%v", err)
	}
}
