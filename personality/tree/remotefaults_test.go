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
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/fieldmaskpb"

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
	for _, s := range c.servers {
		cfg := quick(s.addr)
		one := openRemote(t, cfg, r.TreeID())
		integrated(t, one, 10)
		if _, err := one.Root(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for size := 10; size < 40; size += 10 {
		recorders[size/10%2].old.Store(false)
		recorders[1-size/10%2].old.Store(true)
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
	for _, s := range c.servers {
		s.answer(recorders[0].change)
	}
	recorders[0].old.Store(true)
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
	c.sign(false)
	if err := r.Append(t.Context(), treetest.Leaves(10, 5)); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Integrate(t.Context(), 15); !errors.Is(err, tree.ErrStalled) {
		t.Errorf("no signer: %v", err)
	}
	if size, long := r.Stalled(); size != 10 || long < 2*time.Second {
		t.Errorf("stalled at %d for %v", size, long)
	}
	c.sign(true)
	integrated(t, r, 15)
	if _, long := r.Stalled(); long != 0 {
		t.Errorf("still stalled for %v", long)
	}
}

// TestRemoteFirstLeafStalls: in an empty tree the signers are waited for once, and not again with
// each call.
func TestRemoteFirstLeafStalls(t *testing.T) {
	c := startCluster(t, 1)
	cfg := quick(c.addresses()...)
	cfg.StallTimeout = time.Second
	id := createRemote(t, cfg)
	r := openRemote(t, cfg, id)
	c.sign(false)
	if err := r.Append(t.Context(), treetest.Leaves(0, 3)); !errors.Is(err, tree.ErrStalled) {
		t.Fatal(err)
	}
	began := time.Now()
	for range 3 {
		if got, err := r.Leaves(t.Context(), 0, 5); !errors.Is(err, tree.ErrStalled) {
			t.Errorf("%d leaves, %v", len(got), err)
		}
	}
	if time.Since(began) > 900*time.Millisecond {
		t.Errorf("it took %v", time.Since(began))
	}
	c.sign(true)
	if err := r.Append(t.Context(), treetest.Leaves(0, 3)); !errors.Is(err, tree.ErrIndexTaken) && !errors.Is(err, tree.ErrStalled) {
		t.Errorf("again: %v", err)
	}
	if _, err := r.Integrate(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := r.Append(t.Context(), treetest.Leaves(1, 2)); err != nil {
		t.Fatal(err)
	}
	integrated(t, r, 3)
}

// TestRemoteTLS: servers are checked, and where it would matter TLS isn't left out.
func TestRemoteTLS(t *testing.T) {
	cert, pool := selfSigned(t)
	c := &cluster{store: startCluster(t, 0).store}
	s := c.startServer(t, "127.0.0.1:0", grpc.Creds(credentials.NewServerTLSFromCert(&cert)))
	cfg := quick(s.addr)
	cfg.Patience = 200 * time.Millisecond
	cfg.TLS = &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if _, err := tree.CreateRemote(t.Context(), cfg); err != nil {
		t.Errorf("with its authority: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	cfg.CallTimeout = time.Second
	cfg.TLS = &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
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

// TestRemoteServerCantWork: one of two servers that can be reached and answers nothing as it
// should, or not at all, is left for the other: all is stored, and a tree is opened and made.
func TestRemoteServerCantWork(t *testing.T) {
	for name, answer := range map[string]func(context.Context) error{
		"unknown":  func(context.Context) error { return status.Error(codes.Unknown, "its database is gone") },
		"internal": func(context.Context) error { return status.Error(codes.Internal, "its database is gone") },
		"denied":   func(context.Context) error { return status.Error(codes.PermissionDenied, "by a proxy") },
		"no tree":  func(context.Context) error { return status.Error(codes.NotFound, "a replica that is behind") },
		"hangs":    func(ctx context.Context) error { <-ctx.Done(); return status.FromContextError(ctx.Err()).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			c := startCluster(t, 2)
			change := func(cfg *tree.RemoteConfig) {
				cfg.CallTimeout, cfg.AppendTimeout = 300*time.Millisecond, 300*time.Millisecond
			}
			r := remoteOf(t, c, change)
			c.servers[0].hold(answer)
			failed := 0
			size := 10
			for range 40 {
				if err := r.Append(t.Context(), treetest.Leaves(uint64(size), 2)); err != nil {
					failed++
					continue
				}
				size += 2
			}
			if failed > 1 { // of a write nobody knows what became
				t.Errorf("%d appends of 40 failed", failed)
			}
			integrated(t, r, size)
			for range 4 { // each begins with a server of its own choice
				cfg := quick(c.addresses()...)
				change(&cfg)
				openRemote(t, cfg, createRemote(t, cfg))
			}
		})
	}
}

// hold has a server fail before it does anything.
func (s *logServer) hold(f func(context.Context) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

// TestRemotePatience: what can't be true has to stay so for all of Patience, not what came before.
func TestRemotePatience(t *testing.T) {
	c := startCluster(t, 1)
	r := remoteOf(t, c, func(cfg *tree.RemoteConfig) { cfg.Patience = time.Second })
	began := time.Now()
	var bad atomic.Bool
	c.servers[0].answer(func(_ context.Context, _ string, _, reply any, err error) (any, error) {
		if time.Since(began) < 900*time.Millisecond {
			return nil, status.Error(codes.Unavailable, "injected")
		}
		if root, ok := reply.(*trillian.GetLatestSignedLogRootResponse); ok && !bad.Swap(true) {
			root.SignedLogRoot = nil
		}
		return reply, err
	})
	if root, err := r.Root(t.Context()); err != nil || root.Size != 10 {
		t.Errorf("%+v, %v", root, err)
	}
	if !bad.Load() {
		t.Error("no bad answer was given")
	}
}

// TestRemoteFrozen: a tree that is frozen takes no leaves, and none to begin a log in; one that
// somebody on the way only says so of does.
func TestRemoteFrozen(t *testing.T) {
	c := startCluster(t, 1)
	r := remoteOf(t, c, nil)
	c.servers[0].answer(func(_ context.Context, method string, _, reply any, err error) (any, error) {
		if method == addLeaves {
			return nil, status.Error(codes.PermissionDenied, "by a proxy")
		}
		return reply, err
	})
	if err := r.Append(t.Context(), treetest.Leaves(10, 1)); err == nil || errors.Is(err, tree.ErrNotWritable) {
		t.Errorf("by a proxy: %v", err)
	}
	c.servers[0].answer(nil)
	conn, err := grpc.NewClient(c.servers[0].addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	freeze := func(id int64) {
		t.Helper()
		_, err := trillian.NewTrillianAdminClient(conn).UpdateTree(t.Context(), &trillian.UpdateTreeRequest{
			Tree:       &trillian.Tree{TreeId: id, TreeState: trillian.TreeState_FROZEN},
			UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"tree_state"}},
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	freeze(r.TreeID())
	if err := r.Append(t.Context(), treetest.Leaves(11, 1)); !errors.Is(err, tree.ErrNotWritable) {
		t.Errorf("a frozen tree: %v", err)
	}
	cfg := quick(c.addresses()...)
	fresh := createRemote(t, cfg)
	freeze(fresh)
	if err := tree.TakeRemote(t.Context(), cfg, fresh); !errors.Is(err, tree.ErrNotWritable) {
		t.Errorf("to begin a log in: %v", err)
	}
}
