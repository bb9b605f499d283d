package client

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip/gossiptest"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// alarms is an Alarm that tests wait for.
type alarms chan error

func (a alarms) say(err error) {
	select {
	case a <- err:
	default:
	}
}

func (a alarms) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-a:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("no alarm")
		return nil
	}
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); {
		if time.Now().After(deadline) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func submit(t *testing.T, c *Client, ids ...string) {
	t.Helper()
	for _, id := range ids {
		if r, err := c.Submit(t.Context(), rawEvent(id)); err != nil || !r.Verified() {
			t.Fatalf("%s: %+v, %v", id, r, err)
		}
	}
}

// convicts checks an error's evidence.
func convicts(t *testing.T, f *fakeLog, err error) {
	t.Helper()
	var evidence *EvidenceError
	if !errors.As(err, &evidence) {
		t.Fatalf("no evidence: %v", err)
	}
	if _, err := evidence.Evidence().Check(f.policy); err != nil {
		t.Errorf("it doesn't convict: %v", err)
	}
}

// TestForkInBackground: nobody has to ask. A fork is found, and comes with the next result, and every
// later one, though the receipt itself holds.
func TestForkInBackground(t *testing.T) {
	f := newFakeLog(t)
	a := make(alarms, 1)
	c := f.client(func(cfg *Config) { cfg.CheckEvery, cfg.Alarm = time.Millisecond, a.say })
	submit(t, c, "a", "b", "c")
	eventually(t, "heads proven", func() bool { return !c.checker.heads.unproven() })
	f.fork(1)
	if r, err := c.Submit(t.Context(), rawEvent("d")); err != nil && r.Verdict == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	convicts(t, f, a.wait(t))
	for _, id := range []string{"e", "f"} {
		r, err := c.Submit(t.Context(), rawEvent(id))
		convicts(t, f, err)
		if r.Status != Accepted || r.Verdict == nil || r.Verified() || len(r.Receipt) == 0 || !errors.Is(err, verifier.ErrFailed) {
			t.Errorf("%+v", r)
		}
	}
	results, err := c.SubmitBatch(t.Context(), [][]byte{rawEvent("g"), rawEvent("h")})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range results {
		convicts(t, f, r.Err)
	}
	if _, err := c.CheckHeads(t.Context()); err == nil {
		t.Error("CheckHeads says nothing of it")
	}
}

// gate holds requests back whose path has a part, until it is opened.
type gate struct {
	part   string
	opened chan struct{}
}

func (g gate) RoundTrip(r *http.Request) (*http.Response, error) {
	if strings.Contains(r.URL.Path, g.part) {
		select {
		case <-g.opened:
		case <-r.Context().Done():
			return nil, r.Context().Err()
		}
	}
	return http.DefaultTransport.RoundTrip(r)
}

// TestSubmitDoesNotWait: proofs that don't come keep no receipt back, and Close doesn't wait for them.
func TestSubmitDoesNotWait(t *testing.T) {
	f := newFakeLog(t)
	g := gate{"/tile/", make(chan struct{})}
	with := func(cfg *Config) { cfg.CheckEvery, cfg.HTTPClient = time.Nanosecond, &http.Client{Transport: g} }
	c := f.client(with)
	for i := range 50 {
		submit(t, c, fmt.Sprint("e", i))
	}
	c.Close()
	if !c.checker.heads.unproven() {
		t.Error("what wasn't shown is taken for proven")
	}
	submit(t, c, "after") // Close ends the background, no more

	d := f.client(with)
	submit(t, d, "x", "y")
	close(g.opened)
	eventually(t, "heads proven", func() bool { return !d.checker.heads.unproven() })
}

// TestChecksAreBounded: however many heads there are, they cost few requests; and with a bound on these
// some are proven each time, and all in the end.
func TestChecksAreBounded(t *testing.T) {
	f := newFakeLog(t)
	tree := gossiptest.NewTree(3000, 3000)
	for _, h := range tree {
		f.entries = append(f.entries, fakeEntry{sealed: seal.Sealed{LeafHash: h}})
	}
	see := func(c *Client) (n int) {
		for size := 2500; size <= 3000; size += 3 {
			n++
			_ = c.checker.heads.see(verifier.Checkpoint{Origin: origin, Size: uint64(size), Root: f.root(0, size)}, f.checkpoint(size))
		}
		return n
	}
	c := f.client(nil)
	n := see(c)
	r, err := c.CheckHeads(t.Context())
	if asked := f.requests("tile"); err != nil || r.Proven != n || asked > 4 {
		t.Errorf("%d requests for %d heads: %+v, %v", asked, n, r, err)
	}
	d := f.client(nil)
	see(d)
	for rounds, last := 0, 0; d.checker.heads.unproven(); rounds++ {
		before := f.requests("tile")
		r, err := d.checkHeads(t.Context(), 3)
		if asked := f.requests("tile") - before; err != nil || asked > 3 || r.Newest.Size != 2998 || r.Proven <= last || rounds > n {
			t.Fatalf("%d requests, %+v, %v", asked, r, err)
		}
		last = r.Proven
	}
}

// TestNoProof: a proof that can't be had, or that is rubbish, is an alarm and convicts nobody.
func TestNoProof(t *testing.T) {
	for name, answer := range map[string]func(f *fakeLog, w http.ResponseWriter){
		"unavailable": func(f *fakeLog, w http.ResponseWriter) { f.problem(w, 503, "unavailable") },
		"rubbish":     func(_ *fakeLog, w http.ResponseWriter) { _, _ = w.Write(make([]byte, 32)) },
		"lies": func(f *fakeLog, w http.ResponseWriter) {
			lie := f.tree()
			for i := range lie {
				lie[i][0] ^= 1
			}
			_, _ = w.Write(verifier.EncodeTile(lie))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeLog(t)
			a := make(alarms, 1)
			c := f.client(func(cfg *Config) { cfg.CheckEvery, cfg.Alarm = time.Millisecond, a.say })
			f.answer = func(w http.ResponseWriter, r *http.Request) bool {
				if strings.Contains(r.URL.Path, "/tile/") {
					answer(f, w)
					return true
				}
				return false
			}
			submit(t, c, "a", "b", "c")
			for range 3 {
				if err := a.wait(t); err == nil {
					t.Error("no error")
				}
				submit(t, c, "a")
			}
			f.mu.Lock()
			f.answer = nil
			f.mu.Unlock()
			eventually(t, "heads proven", func() bool { return !c.checker.heads.unproven() })
		})
	}
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

func remembering(file string) func(*Config) {
	return func(cfg *Config) { cfg.HeadsFile = file }
}

// TestHeadsFile: the next client knows what the last one saw, and a log that was put back or forked in
// between is found out.
func TestHeadsFile(t *testing.T) {
	for name, early := range map[string]bool{"proven": false, "closed before it was": true} {
		t.Run(name, func(t *testing.T) {
			f := newFakeLog(t)
			file := filepath.Join(t.TempDir(), "heads")
			c := f.client(remembering(file))
			if _, ok := c.Remembered(); ok {
				t.Error("a new file remembers something")
			}
			if c.Close(); exists(file) {
				t.Error("a file that remembers nothing was made")
			}
			c = f.client(remembering(file))
			submit(t, c, "a", "b", "c", "d", "e")
			if !early {
				if _, err := c.CheckHeads(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			c.Close()
			info, err := os.Stat(file)
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Fatalf("%v, %v", info, err)
			}
			text, err := os.ReadFile(file)
			if err != nil || !strings.Contains(string(text), `example.com/audit\n5\n`) {
				t.Fatalf("%s, %v", text, err)
			}
			again := f.client(remembering(file))
			if cp, ok := again.Remembered(); !ok || cp.Size != 5 || cp.Root != f.root(0, 5) {
				t.Errorf("%+v, %v", cp, ok)
			}
			submit(t, again, "f")
			if r, err := again.CheckHeads(t.Context()); err != nil || r.Newest.Size != 6 {
				t.Errorf("%+v, %v", r, err)
			}
			again.Close()
			f.fork(3)
			other := f.client(remembering(file))
			if _, _, _, err := other.Checkpoint(t.Context()); err == nil {
				t.Error("two roots of one size, and one was remembered")
			} else {
				convicts(t, f, err)
			}
			third := f.client(remembering(file))
			submit(t, third, "g")
			_, err = third.CheckHeads(t.Context())
			convicts(t, f, err)
			third.Close()
			fourth := f.client(remembering(file))
			_, err = fourth.CheckHeads(t.Context())
			convicts(t, f, err)
		})
	}
}

// TestHeadsFileMoments: programs that live for one event each lose no head between them, though none
// of them asks for a proof.
func TestHeadsFileMoments(t *testing.T) {
	f := newFakeLog(t)
	file := filepath.Join(t.TempDir(), "heads")
	once := func(id string) {
		c := f.client(func(cfg *Config) { cfg.HeadsFile, cfg.CheckEvery = file, time.Minute })
		submit(t, c, id)
		c.Close()
	}
	once("a")
	once("b")
	honest := f.entries[1]
	f.fork(1)
	once("c") // in the other history
	f.entries[1] = honest
	once("d") // and back
	if n := f.requests("/tile/"); n != 0 {
		t.Errorf("%d proofs were asked for", n)
	}
	c := f.client(remembering(file))
	_, err := c.CheckHeads(t.Context())
	convicts(t, f, err)
	for i := range maxFileHeads + 3 {
		once(fmt.Sprint("e", i))
	}
	_, seen, err := readFile(t, file, f.policy)
	if err != nil || len(seen) != maxFileHeads || seen[maxFileHeads-1].Checkpoint.Size != uint64(len(f.entries)) {
		t.Errorf("%d heads, %v", len(seen), err)
	}
}

func readFile(t *testing.T, file string, p *verifier.Policy) (proven *signedHead, seen []*signedHead, err error) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return parseHeads(b, p)
}

// TestHeadsFileShared: a client that is behind another one doesn't take the file back, and is compared
// with what the other one saw.
func TestHeadsFileShared(t *testing.T) {
	f := newFakeLog(t)
	file := filepath.Join(t.TempDir(), "heads")
	slow, fast := f.client(remembering(file)), f.client(remembering(file))
	submit(t, slow, "a", "b")
	submit(t, fast, "c", "d", "e")
	if _, err := fast.CheckHeads(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := slow.CheckHeads(t.Context()); err != nil {
		t.Fatal(err)
	}
	slow.Close()
	proven, seen, err := readFile(t, file, f.policy)
	newest := proven
	if len(seen) > 0 {
		newest = seen[len(seen)-1]
	}
	if err != nil || newest.Checkpoint.Size != 5 {
		t.Errorf("%+v, %v", newest, err)
	}
}

// TestHeadsFileBad: a file that isn't whole, that was changed, or that is another log's, is an error,
// no accusation, and stays as it is.
func TestHeadsFileBad(t *testing.T) {
	f, other := newFakeLog(t), newFakeLog(t)
	file := filepath.Join(t.TempDir(), "heads")
	c := f.client(remembering(file))
	submit(t, c, "a", "b")
	c.Close()
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(good)
	_, seen, _ := readFile(t, file, f.policy)
	twice := strings.Replace(text, `"proven": ""`, `"proven": `+strings.TrimSuffix(strings.SplitAfter(text, "\n")[4], "\n"), 1)
	if len(seen) != 2 || twice == text {
		t.Fatalf("%s", text)
	}
	for name, bad := range map[string]string{
		"empty":            "",
		"cut short":        text[:len(text)-3],
		"something more":   text + "x",
		"another version":  strings.Replace(text, "heads/1", "heads/2", 1),
		"a member more":    strings.Replace(text, `"seen"`, `"x": 1, "seen"`, 1),
		"spaces":           strings.Replace(text, `"seen"`, ` "seen"`, 1),
		"a size changed":   strings.Replace(text, `audit\n1\n`, `audit\n3\n`, 1),
		"a byte changed":   strings.Replace(text, `— `, `— x`, 1),
		"no list":          `{"v":"prooftrail.client-heads/1","proven":"","seen":null}`,
		"no object":        `[]`,
		"null":             `null`,
		"one size twice":   twice,
		"not a note":       strings.Replace(text, `"proven": ""`, `"proven": "x"`, 1),
		"more than it may": strings.Replace(text, `"proven": ""`, `"proven": "`+strings.Repeat("x", 3<<20)+`"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			if err := os.WriteFile(file, []byte(bad), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := New(Config{URL: f.srv.URL, Policy: f.policy, HeadsFile: file})
			if err == nil || errors.Is(err, verifier.ErrFailed) || !strings.Contains(err.Error(), file) {
				t.Errorf("error %v", err)
			}
			if now, err := os.ReadFile(file); err != nil || string(now) != bad {
				t.Errorf("it was changed: %v", err)
			}
		})
	}
	if err := os.WriteFile(file, good, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, cfg := range map[string]Config{
		"another log's key": {Policy: other.policy, HeadsFile: file},
		"no policy":         {HeadsFile: file},
		"no directory":      {Policy: f.policy, HeadsFile: filepath.Join(file, "x")},
	} {
		cfg.URL = f.srv.URL
		if _, err := New(cfg); err == nil || errors.Is(err, verifier.ErrFailed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// Spoilt while a client runs: it says so, and leaves it.
	a := make(alarms, 1)
	d := f.client(func(cfg *Config) { cfg.HeadsFile, cfg.Alarm = file, a.say })
	submit(t, d, "c")
	if err := os.WriteFile(file, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := d.CheckHeads(t.Context()); err == nil || errors.Is(err, verifier.ErrFailed) {
		t.Errorf("%v", err)
	}
	d.Close()
	if err := a.wait(t); err == nil {
		t.Error("no alarm")
	}
}
