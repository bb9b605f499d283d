package tree_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/trillian"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/prooftrail/prooftrail/personality/tree"
	"github.com/prooftrail/prooftrail/personality/tree/treetest"
)

const addLeaves = "/trillian.TrillianLog/AddSequencedLeaves"

// remoteOf makes a tree on a cluster, with ten leaves integrated, and opens it.
func remoteOf(t *testing.T, c *cluster, change func(*tree.RemoteConfig)) *tree.Remote {
	t.Helper()
	cfg := quick(c.addresses()...)
	cfg.Patience = time.Second
	if change != nil {
		change(&cfg)
	}
	r := openRemote(t, cfg, createRemote(t, cfg))
	if err := r.Append(t.Context(), treetest.Leaves(0, 10)); err != nil {
		t.Fatal(err)
	}
	integrated(t, r, 10)
	return r
}

// integrated integrates size leaves and checks the root, and the leaves, against a model.
func integrated(t *testing.T, r *tree.Remote, size int) {
	t.Helper()
	root, err := r.Integrate(t.Context(), uint64(size))
	if err != nil {
		t.Fatal(err)
	}
	if want := rootsOf(size)[size]; root != want {
		t.Fatalf("root %x of size %d, want %x", root.Hash, root.Size, want.Hash)
	}
	got, err := r.Leaves(t.Context(), 0, size+5)
	if err != nil || len(got) != size {
		t.Fatalf("%d leaves of %d, %v", len(got), size, err)
	}
	for i, want := range treetest.Leaves(0, size) {
		if !bytes.Equal(got[i].Value, want.Value) || got[i].IdentityHash != want.IdentityHash {
			t.Fatalf("leaf %d is %q", i, got[i].Value)
		}
	}
}

// recorder remembers what a server answered to reads, and gives it again as long as old.
type recorder struct {
	old     atomic.Bool
	answers sync.Map // of methods
}

func (o *recorder) leaves() *trillian.GetLeavesByRangeResponse {
	was, _ := o.answers.Load("leaves")
	r, _ := was.(*trillian.GetLeavesByRangeResponse)
	return r
}

func (o *recorder) change(_ context.Context, method string, request, reply any, err error) (any, error) {
	if method == addLeaves || err != nil {
		return reply, err
	}
	r, ok := request.(*trillian.GetLeavesByRangeRequest)
	if !o.old.Load() {
		if ok {
			method = "leaves"
		}
		o.answers.Store(method, reply)
		return reply, err
	}
	if !ok {
		if was, is := o.answers.Load(method); is {
			return was, nil
		}
		return reply, err
	}
	// The leaves that were there then.
	now := proto.Clone(reply.(proto.Message)).(*trillian.GetLeavesByRangeResponse)
	now.SignedLogRoot = o.leaves().SignedLogRoot
	now.Leaves = now.Leaves[:max(0, min(len(now.Leaves), 10-int(r.StartIndex)))]
	return now, nil
}

// TestRemoteBehind: one of two servers that answers with what was there before is asked again,
// and never believed; where all do for long, the tree is broken.
func TestRemoteBehind(t *testing.T) {
	c := startCluster(t, 2)
	r := remoteOf(t, c, nil)
	recorders := make([]*recorder, len(c.servers))
	for i, s := range c.servers {
		recorders[i] = &recorder{}
		s.answer(recorders[i].change)
	}
	for recorders[0].leaves() == nil || recorders[1].leaves() == nil { // each server is asked in turn
		integrated(t, r, 10)
		if _, err := r.Root(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	recorders[0].old.Store(true)
	for size := 10; size < 40; size += 10 {
		if err := r.Append(t.Context(), treetest.Leaves(uint64(size), 10)); err != nil {
			t.Fatal(err)
		}
		integrated(t, r, size+10)
		for range 3 {
			if root, err := r.Root(t.Context()); err != nil || root.Size != uint64(size+10) {
				t.Fatalf("%+v, %v", root, err)
			}
		}
	}
	c.servers[1].answer(recorders[0].change)
	if root, err := r.Root(t.Context()); !errors.Is(err, tree.ErrBroken) || !strings.Contains(err.Error(), "behind") {
		t.Errorf("all behind: %+v, %v", root, err)
	}
	if err := r.Append(t.Context(), treetest.Leaves(40, 1)); !errors.Is(err, tree.ErrBroken) {
		t.Errorf("all behind: append: %v", err)
	}
	recorders[0].old.Store(false)
	integrated(t, r, 40)
}

// TestRemoteLostAnswers: what a server stored and didn't say so is stored once: Append fails,
// reading back shows it, and going on from there loses and doubles nothing.
func TestRemoteLostAnswers(t *testing.T) {
	for name, lose := range map[string]func(s *logServer, n *atomic.Int32){
		"unavailable": func(s *logServer, n *atomic.Int32) {
			s.answer(func(_ context.Context, method string, _, reply any, err error) (any, error) {
				if method == addLeaves && n.Add(1)%2 == 1 {
					return nil, status.Error(codes.Unavailable, "injected")
				}
				return reply, err
			})
		},
		"deadline": func(s *logServer, n *atomic.Int32) {
			s.answer(func(_ context.Context, method string, _, reply any, err error) (any, error) {
				if method == addLeaves && n.Add(1)%2 == 1 {
					return nil, status.Error(codes.DeadlineExceeded, "injected")
				}
				return reply, err
			})
		},
		"one status short": func(s *logServer, n *atomic.Int32) {
			s.answer(func(_ context.Context, method string, _, reply any, err error) (any, error) {
				if add, ok := reply.(*trillian.AddSequencedLeavesResponse); ok && err == nil && n.Add(1)%2 == 1 {
					return &trillian.AddSequencedLeavesResponse{Results: add.Results[1:]}, nil
				}
				return reply, err
			})
		},
		"nothing": func(s *logServer, n *atomic.Int32) {
			s.answer(func(_ context.Context, method string, _, reply any, err error) (any, error) {
				if method == addLeaves && n.Add(1)%2 == 1 {
					return &trillian.AddSequencedLeavesResponse{}, nil
				}
				return reply, err
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, 1)
			r := remoteOf(t, c, nil)
			var n atomic.Int32
			lose(c.servers[0], &n)
			failed := 0
			for size := 10; size < 60; {
				err := r.Append(t.Context(), treetest.Leaves(uint64(size), 5))
				if err != nil {
					failed++
				}
				got, rerr := r.Leaves(t.Context(), uint64(size), 10)
				if rerr != nil || err == nil && len(got) != 5 || len(got) > 5 {
					t.Fatalf("append: %v; %d leaves, %v", err, len(got), rerr)
				}
				size += len(got)
				if size%5 != 0 { // the one that was sent alone
					if err := r.Append(t.Context(), treetest.Leaves(uint64(size), 5-size%5)); err != nil {
						failed++
					}
					got, rerr := r.Leaves(t.Context(), uint64(size), 10)
					if rerr != nil {
						t.Fatal(rerr)
					}
					size += len(got)
				}
			}
			if failed == 0 {
				t.Error("nothing was lost")
			}
			c.servers[0].answer(nil)
			root, err := r.Integrate(t.Context(), 60)
			if err != nil {
				t.Fatal(err)
			}
			integrated(t, r, int(root.Size))
		})
	}
}

// TestRemoteWrongAnswers (I7): an answer that can't be true is an error, never a zero value.
func TestRemoteWrongAnswers(t *testing.T) {
	c := startCluster(t, 1)
	r := remoteOf(t, c, func(cfg *tree.RemoteConfig) { cfg.Patience = 100 * time.Millisecond })
	badRoot := func(root []byte) *trillian.SignedLogRoot { return &trillian.SignedLogRoot{LogRoot: root} }
	for name, reply := range map[string]any{
		"no root":         &trillian.GetLatestSignedLogRootResponse{},
		"an empty root":   &trillian.GetLatestSignedLogRootResponse{SignedLogRoot: badRoot(nil)},
		"half a root":     &trillian.GetLatestSignedLogRootResponse{SignedLogRoot: badRoot([]byte{0, 1, 0})},
		"root of nothing": &trillian.GetLatestSignedLogRootResponse{SignedLogRoot: badRoot(make([]byte, 60))},
	} {
		c.servers[0].answer(func(_ context.Context, method string, _, good any, err error) (any, error) {
			if strings.HasSuffix(method, "GetLatestSignedLogRoot") {
				return reply, nil
			}
			return good, err
		})
		if root, err := r.Root(t.Context()); !errors.Is(err, tree.ErrCorrupt) || root != (tree.Root{}) {
			t.Errorf("%s: %+v, %v", name, root, err)
		}
	}
	for name, change := range map[string]func(*trillian.GetLeavesByRangeResponse){
		"no root":        func(p *trillian.GetLeavesByRangeResponse) { p.SignedLogRoot = nil },
		"a leaf missing": func(p *trillian.GetLeavesByRangeResponse) { p.Leaves = p.Leaves[1:] },
		"a leaf twice":   func(p *trillian.GetLeavesByRangeResponse) { p.Leaves[1] = p.Leaves[0] },
		"too many":       func(p *trillian.GetLeavesByRangeResponse) { p.Leaves = append(p.Leaves, p.Leaves...) },
		"a nil leaf":     func(p *trillian.GetLeavesByRangeResponse) { p.Leaves[2] = &trillian.LogLeaf{} },
		"no identity":    func(p *trillian.GetLeavesByRangeResponse) { p.Leaves[2].LeafIdentityHash = nil },
		"none at all":    func(p *trillian.GetLeavesByRangeResponse) { p.Leaves = nil },
	} {
		c.servers[0].answer(func(_ context.Context, _ string, _, good any, err error) (any, error) {
			if p, ok := good.(*trillian.GetLeavesByRangeResponse); ok && err == nil {
				p = proto.Clone(p).(*trillian.GetLeavesByRangeResponse)
				change(p)
				return p, nil
			}
			return good, err
		})
		if got, err := r.Leaves(t.Context(), 2, 5); !errors.Is(err, tree.ErrCorrupt) || got != nil {
			t.Errorf("%s: %d leaves, %v", name, len(got), err)
		}
	}
	c.servers[0].answer(nil)
	integrated(t, r, 10)
}

// TestRemoteServerGone: with one of two servers gone all goes on, and with both it waits for one.
func TestRemoteServerGone(t *testing.T) {
	c := startCluster(t, 2)
	r := remoteOf(t, c, func(cfg *tree.RemoteConfig) { cfg.Patience = 10 * time.Second })
	c.servers[0].server.Stop()
	add := func(size int) {
		t.Helper()
		for tried := 0; ; tried++ {
			err := r.Append(t.Context(), treetest.Leaves(uint64(size), 5))
			if err == nil {
				break
			}
			if tried == 3 {
				t.Fatal(err)
			}
		}
		integrated(t, r, size+5)
	}
	for size := 10; size < 50; size += 5 {
		add(size)
	}
	addr := c.servers[1].addr
	c.servers[1].server.Stop()
	back := time.AfterFunc(time.Second, func() { c.startServer(t, addr) })
	defer back.Stop()
	if root, err := r.Root(t.Context()); err != nil || root.Size != 50 {
		t.Errorf("%+v, %v", root, err)
	}
	add(50)
}

// TestRemoteCutMessages cuts the connection in the middle of answers, of any length.
func TestRemoteCutMessages(t *testing.T) {
	c := startCluster(t, 1)
	p := startProxy(t, c.servers[0].addr)
	r := remoteOf(t, c, func(cfg *tree.RemoteConfig) {
		cfg.Addresses, cfg.Patience = []string{p.addr}, 10*time.Second
	})
	size := uint64(10)
	for cut := int64(1); cut < 3000; cut = cut*3/2 + 1 {
		p.left.Store(cut)
		err := r.Append(t.Context(), treetest.Leaves(size, 20))
		got, rerr := r.Leaves(t.Context(), size, 30)
		if rerr != nil || err == nil && len(got) < 20 {
			t.Fatalf("cut after %d bytes: append: %v; %d leaves, %v", cut, err, len(got), rerr)
		}
		size += uint64(len(got))
	}
	p.left.Store(-1)
	integrated(t, r, int(size))
}

// TestRemoteMessageLimits: what doesn't fit one message goes in several, and comes in several.
func TestRemoteMessageLimits(t *testing.T) {
	c := startCluster(t, 1)
	r := remoteOf(t, c, func(cfg *tree.RemoteConfig) { cfg.MaxSend, cfg.MaxReceive = 2*tree.MaxLeafBytes, 1<<20 })
	leaves := treetest.Leaves(10, 100)
	for i := range leaves {
		leaves[i].Value = bytes.Repeat([]byte{byte(i)}, tree.MaxLeafBytes-i)
	}
	var messages atomic.Int32
	c.servers[0].answer(func(_ context.Context, method string, _, reply any, err error) (any, error) {
		if method == addLeaves {
			messages.Add(1)
		}
		return reply, err
	})
	if err := r.Append(t.Context(), leaves); err != nil {
		t.Fatal(err)
	}
	if n := messages.Load(); n != 64+36/2 { // the last ones are so much shorter that two fit
		t.Errorf("%d messages", n)
	}
	if _, err := r.Integrate(t.Context(), 110); err != nil {
		t.Fatal(err)
	}
	got, err := r.Leaves(t.Context(), 10, 100)
	if err != nil || len(got) != 100 {
		t.Fatalf("%d leaves, %v", len(got), err)
	}
	for i := range got {
		if !bytes.Equal(got[i].Value, leaves[i].Value) {
			t.Fatalf("leaf %d has %d bytes", got[i].Index, len(got[i].Value))
		}
	}
}

// TestRemoteStalls: signers that don't sign are named, with how long, and a missing leaf isn't.
func TestRemoteStalls(t *testing.T) {
	c := startCluster(t, 1)
	r := remoteOf(t, c, func(cfg *tree.RemoteConfig) { cfg.StallTimeout = 2 * time.Second })
	if _, long := r.Stalled(); long != 0 {
		t.Errorf("stalled for %v", long)
	}
	if _, err := r.Integrate(t.Context(), 11); !errors.Is(err, tree.ErrGap) {
		t.Errorf("a leaf that isn't there: %v", err)
	}
	if _, long := r.Stalled(); long != 0 {
		t.Errorf("stalled for %v, for a missing leaf", long)
	}
	c.signs.Store(false)
	if err := r.Append(t.Context(), treetest.Leaves(10, 5)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Integrate(t.Context(), 15); !errors.Is(err, tree.ErrStalled) {
		t.Errorf("no signer: %v", err)
	}
	if size, long := r.Stalled(); size != 10 || long < 2*time.Second {
		t.Errorf("stalled at %d for %v", size, long)
	}
	c.signs.Store(true)
	integrated(t, r, 15)
	if _, long := r.Stalled(); long != 0 {
		t.Errorf("still stalled for %v", long)
	}
}

// TestRemoteTLS: servers are checked, and where it would matter TLS isn't left out.
func TestRemoteTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	c := &cluster{store: startCluster(t, 0).store}
	s := c.startServer(t, "127.0.0.1:0", grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	cfg := quick(s.addr)
	cfg.Patience = 200 * time.Millisecond
	cfg.TLS = &tls.Config{RootCAs: pool} //nolint:gosec // RemoteConfig sets the minimum
	if _, err := tree.CreateRemote(t.Context(), cfg); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	cfg.CallTimeout = time.Second
	cfg.TLS = &tls.Config{RootCAs: x509.NewCertPool()} //nolint:gosec // likewise
	if _, err := tree.OpenRemote(ctx, cfg, 1); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("with another: %v", err)
	}
	cfg.TLS = nil
	if _, err := tree.OpenRemote(ctx, cfg, 1); err == nil {
		t.Error("in the clear, to a server with TLS")
	}
	for _, one := range []struct {
		addresses []string
		insecure  bool
		good      bool
	}{
		{[]string{"trillian.example:8090"}, false, false}, {[]string{"trillian.example:8090"}, true, true},
		{[]string{"10.1.2.3:8090", "127.0.0.1:1"}, false, false}, {[]string{"localhost:1", "[::1]:2", "127.0.0.9:3"}, false, true},
		{nil, true, false}, {[]string{""}, true, false}, {[]string{"host"}, true, false}, {[]string{":80"}, true, false}, {[]string{"a:1", "unix:/x"}, true, false},
	} {
		cfg := tree.RemoteConfig{Addresses: one.addresses, Insecure: one.insecure}
		if err := cfg.Check(); (err == nil) != one.good || err != nil && !errors.Is(err, tree.ErrInvalid) {
			t.Errorf("%q, insecure %t: %v", one.addresses, one.insecure, err)
		}
	}
}

func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}
