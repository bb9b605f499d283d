package monitor_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"io/fs"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// programs is a directory for the time of all tests.
var programs string

// verifyProgram builds prooftrail-verify: evidence is judged by a process that shares nothing with the
// monitor.
var verifyProgram = sync.OnceValues(func() (string, error) {
	file := filepath.Join(programs, "prooftrail-verify")
	out, err := exec.Command("go", "build", "-o", file, "github.com/prooftrail/prooftrail/cmd/prooftrail-verify").CombinedOutput()
	if err != nil {
		err = &exec.Error{Name: string(out), Err: err}
	}
	return file, err
})

// convictsApart has the program convict with a file, and refuse it for another log.
func convictsApart(t testing.TB, key *logtest.Key, file string) {
	t.Helper()
	program, err := verifyProgram()
	if err != nil {
		t.Fatal(err)
	}
	policy := filepath.Join(t.TempDir(), "policy.txt")
	if err := os.WriteFile(policy, []byte("log "+key.VKey+"\nquorum none\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(program, "evidence", file, "--policy", policy).CombinedOutput()
	if err != nil || !strings.HasPrefix(string(out), "convicts: "+key.Origin) {
		t.Errorf("%s: %v\n%s", file, err, out)
	}
}

// address is a log's address, behind which anything may answer.
type address struct {
	handler atomic.Pointer[http.Handler]
	looks   atomic.Int64 // requests for the checkpoint
}

func (a *address) answer(h http.Handler) { a.handler.Store(&h) }

func (a *address) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/checkpoint") {
		a.looks.Add(1)
	}
	(*a.handler.Load()).ServeHTTP(w, r)
}

// scene is one log under attack by its operator, and a monitor.
type scene struct {
	*rig
	t      *testing.T
	key    *logtest.Key
	a      *logtest.History // what is shown first
	log    *address
	config monitor.LogConfig
}

// sceneSize is the size of the history that is shown first, with a full and a partial tile.
const sceneSize = 300

// soon makes alarms ring at once, and mutes those that are of no concern.
var soon = monitor.Expect{Reachable: 100 * time.Millisecond, Fresh: 100 * time.Millisecond, Explained: 100 * time.Millisecond,
	Cosigned: -1, Quorum: -1, Growth: -1, PerHour: -1}

func newScene(t *testing.T) *scene {
	key := logtest.NewKey(t, testOrigin)
	s := &scene{t: t, key: key, a: logtest.New(t, key, "a", sceneSize), log: new(address)}
	s.log.answer(s.a)
	s.config = monitor.LogConfig{Policy: key.Policy(t), URL: serve(t, s.log), Timeout: 300 * time.Millisecond, Expect: soon}
	return s
}

func (s *scene) begin() {
	s.rig = start(s.t, s.t.TempDir(), nil, s.config)
}

// fork makes a second history of a size, with the first 100 entries in common.
func (s *scene) fork(size int) *logtest.History {
	b := s.a.Fork("b", 100)
	b.Grow(size - 100)
	return b
}

// head signs any head.
func (s *scene) head(size uint64, root verifier.Hash) []byte {
	return s.key.Sign(s.t, verifier.Checkpoint{Origin: s.key.Origin, Size: size, Root: root}.Text())
}

// only answers a request for some files, and leaves the rest to the history.
func only(h *logtest.History, part string, f http.HandlerFunc) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, part) {
			f(w, r)
			return
		}
		h.Serve(w, r)
	})
}

// spoil changes a byte of some files.
func spoil(h *logtest.History, part string) http.Handler {
	return only(h, part, func(w http.ResponseWriter, r *http.Request) {
		b, ok := h.File(r.URL.Path)
		if !ok {
			http.NotFound(w, r)
			return
		}
		b = bytes.Clone(b)
		b[20] ^= 2 // in the root of the first leaf, or in the first hash
		_, _ = w.Write(b)
	})
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func text(b []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(b) }
}

// stall accepts and never answers.
func stall(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// drip sends some bytes at a time, for ever.
func drip(n int, each time.Duration) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		b := bytes.Repeat([]byte{'x'}, n)
		for {
			if _, err := w.Write(b); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
			select {
			case <-r.Context().Done():
				return
			case <-time.After(each):
			}
		}
	}
}

// endless sends as fast as it is read.
func endless(w http.ResponseWriter, _ *http.Request) {
	b := bytes.Repeat([]byte("audit\n"), 10000)
	for {
		if _, err := w.Write(b); err != nil {
			return
		}
	}
}

// bomb is 1 GiB, packed.
var bomb = sync.OnceValue(func() []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(make([]byte, 1<<20))
	_ = z.Close()
	return bytes.Repeat(b.Bytes(), 1<<10) // one after the other they are a packed file as well
})

func packed(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Encoding", "gzip")
	_, _ = w.Write(bomb())
}

// randomRoot is one of many.
func randomRoot(i int) verifier.Hash {
	return sha256.Sum256(binary.BigEndian.AppendUint64([]byte("root"), uint64(i)))
}

// attack is one thing that a log's operator can do, and what comes of it.
type attack struct {
	name string
	// fresh: the monitor begins when the attack is on. Else it has read sceneSize entries of a.
	fresh bool
	do    func(*scene)
	// then is done when alarm rings.
	then func(*scene)
	// Evidence that convicts, or no evidence and an alarm. With both, the alarm comes first, and the
	// evidence after then.
	evidence bool
	alarm    string
	// checked is the size that is checked at the end, of a; -1: nothing. It may be up to most, if that isn't 0.
	checked, most int
	config        func(*scene)
}

var attacks = []attack{
	// Two histories: what is shown contradicts itself.
	{name: "fork of the same size", evidence: true, checked: 300, do: func(s *scene) { s.log.answer(s.fork(300)) }},
	{name: "fork of a smaller size", evidence: true, checked: 300, do: func(s *scene) { s.a.Show(s.fork(200).Note(200)) }},
	{name: "fork of a larger size", evidence: true, checked: 300, do: func(s *scene) { s.log.answer(s.fork(500)) }},
	{name: "fork at a power of two", evidence: true, checked: 300, do: func(s *scene) { s.a.Show(s.fork(256).Note(256)) }},
	{name: "fork of a larger size, tiles kept back", alarm: "unproven-head", checked: 300, do: func(s *scene) { s.a.Show(s.fork(500).Note(500)) }},
	{name: "fork kept back until the first history has passed it", alarm: "unproven-head", evidence: true, checked: 600,
		do:   func(s *scene) { s.a.Show(s.fork(500).Note(500)) },
		then: func(s *scene) { s.a.Show(nil); s.a.Grow(300) }},
	{name: "rollback, and another branch that stays smaller", alarm: "unproven-head", checked: 300, do: func(s *scene) { s.log.answer(s.fork(200)) }},
	{name: "rollback, and another branch that grows past it", alarm: "unproven-head", evidence: true, checked: 300,
		do: func(s *scene) { s.log.answer(s.fork(200)) },
		then: func(s *scene) {
			b := s.fork(200)
			b.Grow(150)
			s.log.answer(b)
		}},
	{name: "an entry rewritten, signed anew", evidence: true, checked: 300, do: func(s *scene) { s.log.answer(s.a.Rewrite("x", 5)) }},
	{name: "an entry rewritten, signed anew after growth", evidence: true, checked: 300, do: func(s *scene) {
		b := s.a.Rewrite("x", 299)
		b.Grow(200)
		s.log.answer(b)
	}},
	{name: "another root signed at the same size, nothing else", evidence: true, checked: 300, do: func(s *scene) { s.a.Show(s.head(300, randomRoot(1))) }},
	{name: "a fork with wrong lines of the log's own key", evidence: true, alarm: "refused-head", checked: 300, do: func(s *scene) {
		note := s.fork(300).Note(300)
		_, sig, _ := bytes.Cut(s.a.Note(300), []byte("\n\n"))
		s.a.Show(append(note, sig...))
	}},
	{name: "flapping between two branches", evidence: true, checked: 300, do: func(s *scene) {
		b := s.fork(280)
		n := new(atomic.Int64)
		s.log.answer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.URL.Path, "/checkpoint") && n.Add(1)%2 == 0 {
				b.Serve(w, r)
				return
			}
			s.a.Serve(w, r)
		}))
	}},
	{name: "a fork shown once and then hidden", evidence: true, checked: 600, do: func(s *scene) {
		b, once := s.fork(400).Note(400), new(atomic.Bool)
		s.log.answer(only(s.a, "/checkpoint", func(w http.ResponseWriter, r *http.Request) {
			if once.CompareAndSwap(false, true) {
				_, _ = w.Write(b)
				return
			}
			s.a.Serve(w, r)
		}))
		s.looked()
		s.a.Grow(300)
	}},
	{name: "a fork shown once, and the log stands still", alarm: "unproven-head", checked: 300, do: func(s *scene) {
		s.a.Show(s.fork(400).Note(400))
		s.looked()
		s.a.Show(nil)
	}},
	{name: "a fork in a head that was posted alone", evidence: true, checked: 300, do: func(s *scene) {
		if a := s.post(s.fork(200).Note(200)); a.Verdict != gossip.Contradicts || len(a.Evidence) != 1 {
			s.t.Errorf("%+v", a)
		}
	}},
	{name: "a larger head of the first history to a submitter, a fork to everybody", evidence: true, checked: 300, most: 400, do: func(s *scene) {
		// The submitter asks about its head while the log still serves tiles for it.
		s.a.Grow(100)
		s.a.Show(s.a.Note(300))
		if a := s.post(s.a.Note(400)); a.Verdict != gossip.Agrees {
			s.t.Errorf("%+v", a)
		}
		b := s.a.Fork("b", 300)
		b.Grow(200)
		s.log.answer(b)
	}},

	// What isn't the log's head.
	{name: "older heads again", alarm: "went-back", checked: 300, do: func(s *scene) { s.a.Show(s.a.Note(120)) }},
	{name: "an older head for long", alarm: "stale-head", checked: 300, do: func(s *scene) { s.a.Show(s.a.Note(256)) }},
	{name: "extension lines", alarm: "signed-nonsense", checked: 300, do: func(s *scene) {
		s.a.Show(s.key.Sign(s.t, s.a.Head(300).Text()+"more\n"))
	}},
	{name: "an empty log with another root", alarm: "signed-nonsense", checked: 300, do: func(s *scene) { s.a.Show(s.head(0, randomRoot(1))) }},
	{name: "another origin in the text", alarm: "signed-nonsense", checked: 300, do: func(s *scene) {
		s.a.Show(s.key.Sign(s.t, verifier.Checkpoint{Origin: "example.com/other", Size: 300}.Text()))
	}},
	{name: "a head of size 2^62", alarm: "unproven-head", checked: 300, do: func(s *scene) { s.a.Show(s.head(1<<62, randomRoot(1))) }},
	{name: "not signed", alarm: "refused-head", checked: 300, do: func(s *scene) { s.a.Show([]byte(s.a.Head(300).Text() + "\n— x AAAAAAAA\n")) }},
	{name: "garbage", alarm: "refused-head", checked: 300, do: func(s *scene) { s.a.Show([]byte{0xff, 0, 1, 2}) }},
	{name: "nothing", alarm: "refused-head", checked: 300, do: func(s *scene) { s.a.Show([]byte{}) }},
	{name: "another log's head", alarm: "refused-head", checked: 300, do: func(s *scene) {
		s.a.Show(logtest.New(s.t, logtest.NewKey(s.t, "example.com/other"), "a", 400).Note(400))
	}},
	{name: "another key's head", alarm: "refused-head", checked: 300, do: func(s *scene) {
		other := logtest.NewKey(s.t, "example.com/other")
		s.a.Show(other.Sign(s.t, s.fork(300).Head(300).Text()))
	}},
	{name: "sixty-five signature lines", alarm: "refused-head", checked: 300, do: func(s *scene) {
		note := s.fork(300).Note(300)
		s.a.Show(append(note, strings.Repeat("— x AAAAAAAA\n", verifier.MaxSignatures)...))
	}},

	// What isn't what the head says.
	{name: "a bundle with a rewritten entry", fresh: true, alarm: "bad-entries", checked: -1, do: func(s *scene) { s.log.answer(spoil(s.a, "/tile/entries/")) }},
	{name: "a new bundle with a rewritten entry", alarm: "bad-entries", checked: 300, do: func(s *scene) {
		s.log.answer(spoil(s.a, "/tile/entries/001.p/144"))
		s.a.Grow(100)
	}},
	{name: "a wrong tile of level 0", fresh: true, alarm: "bad-entries", checked: -1, do: func(s *scene) { s.log.answer(spoil(s.a, "/tile/0/")) }},
	{name: "a wrong tile of level 1", fresh: true, alarm: "bad-entries", checked: -1, do: func(s *scene) { s.log.answer(spoil(s.a, "/tile/1/")) }},
	{name: "wrong tiles from now on", alarm: "unproven-head", checked: 300, do: func(s *scene) {
		s.log.answer(spoil(s.a, "/tile/0/"))
		s.a.Grow(400)
	}},
	{name: "another root signed, right tiles", fresh: true, alarm: "bad-entries", checked: -1, do: func(s *scene) { s.a.Show(s.head(300, randomRoot(1))) }},
	{name: "entries that are no leaves", fresh: true, alarm: "bad-entries", checked: -1, do: func(s *scene) {
		s.log.answer(only(s.a, "/tile/entries/", text(bytes.Repeat([]byte{0, 1, 'x'}, 256))))
	}},
	{name: "a head ahead of its tiles", alarm: "unproven-head", checked: 300, do: func(s *scene) {
		b := s.a.Fork("b", 300)
		b.Grow(300)
		s.a.Show(b.Note(600))
	}},
	{name: "tiles withheld from the first head on", fresh: true, alarm: "bad-entries", checked: -1, do: func(s *scene) { s.log.answer(only(s.a, "/tile/", status(404))) }},
	{name: "bundles that can't be had", alarm: "unread-entries", checked: 300, do: func(s *scene) {
		s.log.answer(only(s.a, "/tile/entries/", status(503)))
		s.a.Grow(300)
	}},
	{name: "a first head of size 2^62", fresh: true, alarm: "unproven-head", checked: -1, do: func(s *scene) { s.a.Show(s.head(1<<62, randomRoot(1))) },
		then: nil, config: func(s *scene) {
			s.log.answer(only(s.a, "/checkpoint", func(w http.ResponseWriter, r *http.Request) {
				if s.log.looks.Load() == 1 {
					_, _ = w.Write(s.head(1<<62, randomRoot(1)))
					return
				}
				s.a.Show(nil)
				s.a.Serve(w, r)
			}))
		}},

	// No answer, or too much of it.
	{name: "down", alarm: "log-unreachable", checked: 300, do: func(s *scene) { s.log.answer(status(503)) }},
	{name: "gone", alarm: "log-unreachable", checked: 300, do: func(s *scene) { s.log.answer(status(404)) }},
	{name: "stalled", alarm: "log-unreachable", checked: 300, do: func(s *scene) { s.log.answer(http.HandlerFunc(stall)) }},
	{name: "stalled tiles", alarm: "unproven-head", checked: 300, do: func(s *scene) { s.a.Grow(300); s.log.answer(only(s.a, "/tile/", stall)) }},
	{name: "a head that drips", alarm: "log-unreachable", checked: 300, do: func(s *scene) { s.log.answer(drip(1, 20*time.Millisecond)) }},
	{name: "bundles that drip fast enough", fresh: true, alarm: "unread-entries", checked: -1, do: func(s *scene) {
		s.log.answer(only(s.a, "/tile/entries/", func(w http.ResponseWriter, r *http.Request) {
			b, _ := s.a.File(r.URL.Path)
			for len(b) > 0 {
				n := min(len(b), 1000)
				_, _ = w.Write(b[:n])
				_ = http.NewResponseController(w).Flush()
				b = b[n:]
				select {
				case <-r.Context().Done():
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		}))
	}},
	{name: "a head without end", alarm: "log-unreachable", checked: 300, do: func(s *scene) { s.log.answer(http.HandlerFunc(endless)) }},
	{name: "tiles without end", alarm: "unproven-head", checked: 300, do: func(s *scene) { s.a.Grow(300); s.log.answer(only(s.a, "/tile/", endless)) }},
	{name: "a packed head of 1 GiB", alarm: "log-unreachable", checked: 300, do: func(s *scene) { s.log.answer(http.HandlerFunc(packed)) }},
	{name: "packed bundles of 1 GiB", fresh: true, alarm: "unread-entries", checked: -1, do: func(s *scene) { s.log.answer(only(s.a, "/tile/entries/", packed)) }},
	{name: "redirect to another host", alarm: "log-unreachable", checked: 300, do: func(s *scene) {
		other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { s.t.Error("the redirect was followed") }))
		s.t.Cleanup(other.Close)
		s.log.answer(http.RedirectHandler(other.URL+"/logs/audit/checkpoint", http.StatusFound))
	}},

	// Time.
	{name: "no quorum", alarm: "quorum-lost", checked: 300, config: func(s *scene) { s.witnessed(); s.config.Expect.Quorum = time.Millisecond }, do: func(*scene) {}},
	{name: "stale cosignatures", alarm: "stale-cosignatures", checked: 300, config: func(s *scene) { s.witnessed(); s.config.Expect.Cosigned = time.Hour },
		do: func(s *scene) {
			s.a.Show(logtest.NewWitness("example.com/w").Cosign(s.a.Note(300), time.Now().Add(-2*time.Hour)))
		}},
	{name: "a clock that is ahead", alarm: "clock", checked: 300, config: func(s *scene) { s.witnessed() },
		do: func(s *scene) {
			s.a.Show(logtest.NewWitness("example.com/w").Cosign(s.a.Note(300), time.Now().Add(time.Hour)))
		}},
	{name: "growth stopped", alarm: "growth-stopped", checked: 300, config: func(s *scene) { s.config.Expect.Growth = 200 * time.Millisecond }, do: func(*scene) {}},
	{name: "growth exploded", alarm: "growth-exploded", checked: 800, config: func(s *scene) { s.config.Expect.PerHour = 400 }, do: func(s *scene) { s.a.Grow(500) }},
}

// witnessed puts a witness into the policy.
func (s *scene) witnessed() {
	s.config.Policy = s.key.Policy(s.t, "witness w "+logtest.NewWitness("example.com/w").VKey, "quorum w")
}

// settled waits until all that is shown first is read, and nothing rings.
func (s *scene) settled() {
	s.t.Helper()
	s.checked(sceneSize)
	wait(s.t, "nothing is open", func() bool { return s.Status().Logs[0].Heads == monitor.Counts{Agreed: 1} })
	s.alarms.forget()
}

// looked waits until the monitor has looked at the log, more than once.
func (s *scene) looked() {
	s.t.Helper()
	looks := s.log.looks.Load()
	wait(s.t, "further looks", func() bool { return s.log.looks.Load() >= looks+3 })
}

// post hands in a head.
func (s *scene) post(note []byte) gossip.Answer {
	s.t.Helper()
	c, err := gossip.New(gossip.Config{URL: s.url})
	if err != nil {
		s.t.Fatal(err)
	}
	a, err := c.PostHead(s.t.Context(), note)
	if err != nil {
		s.t.Error(err)
	}
	return a
}

// TestAttacks: what is proven convicts, apart; what isn't rings, and convicts nobody; and what is checked is
// the first history, however far.
func TestAttacks(t *testing.T) {
	for i, tt := range attacks {
		if testing.Short() && i%5 > 0 { // under the race detector: all run without it
			continue
		}
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			if tt.config != nil {
				tt.config(s)
			}
			if tt.fresh {
				tt.do(s)
				s.begin()
			} else {
				s.begin()
				s.settled()
				tt.do(s)
			}
			s.looked()
			if tt.alarm != "" {
				wait(t, "alarm "+tt.alarm, func() bool { return s.alarms.ringed(tt.alarm) })
			}
			if tt.then != nil {
				tt.then(s)
			}
			if tt.evidence {
				wait(t, "evidence", func() bool { return len(s.Status().Evidence) > 0 })
				wait(t, "fork", func() bool { return s.alarms.rings("fork") })
			}
			if tt.checked > sceneSize {
				s.rig.checked(tt.checked)
			}
			s.looked()
			s.stop()
			s.after(tt)
		})
	}
}

// after looks at what is left of an attack.
func (s *scene) after(tt attack) {
	st := s.Status()
	for _, e := range st.Evidence {
		convictsApart(s.t, s.key, e.File)
	}
	files, err := filepath.Glob(filepath.Join(s.dir, "evidence", "*"))
	if err != nil || len(files) != len(st.Evidence) || (len(files) > 0) != tt.evidence || s.alarms.ringed("fork") != tt.evidence {
		s.t.Errorf("evidence %q, alarms %v", files, s.alarms.names())
	}
	switch c := st.Logs[0].Checked; {
	case tt.checked < 0:
		if c != nil {
			s.t.Errorf("checked %v", c)
		}
	case c == nil || int(c.Size) < tt.checked || int(c.Size) > max(tt.checked, tt.most) || *c != s.a.Head(int(c.Size)):
		s.t.Errorf("checked %v, expected size %d of the first history", c, tt.checked)
	}
	if size := diskUse(s.t, s.dir); size > 1<<20 {
		s.t.Errorf("%d bytes on the disk", size)
	}
	// A monitor that starts again knows what this one did.
	again := prepare(s.t, s.dir, nil, s.config)
	if now := again.Status(); len(now.Evidence) != len(st.Evidence) || again.alarms.rings("fork") != tt.evidence ||
		(now.Logs[0].Checked == nil) != (st.Logs[0].Checked == nil) || now.Logs[0].Checked != nil && *now.Logs[0].Checked != *st.Logs[0].Checked {
		s.t.Errorf("after a restart: %+v", now)
	}
	again.stop()
}

func diskUse(t testing.TB, dir string) (size int64) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && !d.IsDir() {
			size += info.Size()
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
	return size
}

// heapPeak is the largest heap while f runs, over what it was before.
func heapPeak(f func()) uint64 {
	var before, m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	over, peak := make(chan struct{}), uint64(0)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
			select {
			case <-over:
				return
			case <-tick.C:
			}
		}
	})
	f()
	close(over)
	wg.Wait()
	return peak - min(peak, before.HeapAlloc)
}

// TestBombs: whatever a log sends, memory stays what it was.
func TestBombs(t *testing.T) {
	bomb()
	for name, h := range map[string]http.HandlerFunc{"without end": endless, "packed": packed} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			s.log.answer(only(s.a, "/tile/entries/", h))
			peak := heapPeak(func() {
				s.begin()
				wait(t, "alarm", func() bool { return len(s.alarms.names()) > 0 })
				looks := s.log.looks.Load()
				wait(t, "further looks", func() bool { return s.log.looks.Load() >= looks+20 })
				s.stop()
			})
			if t.Logf("%d KiB", peak>>10); peak > 400<<20 { // two bundles of 16 MiB for each of 4 workers, and what is garbage
				t.Errorf("%d bytes of memory", peak)
			}
		})
	}
}

// TestManyHeads: a log that signs thousands of heads costs what a thousand cost.
func TestManyHeads(t *testing.T) {
	t.Run("open", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		s.log.answer(status(503)) // nothing is known yet to compare them with
		s.begin()
		s.observe(1100, func(i int) []byte { return s.head(1<<40+uint64(i), randomRoot(i)) })
		s.log.answer(s.a)
		s.checked(sceneSize)
		wait(t, "alarm", func() bool { return s.alarms.rings("too-many-heads") && s.alarms.rings("unproven-head") })
		n := s.Status().Logs[0].Heads
		if n.Open != 1024 || n.Forked != 0 {
			t.Errorf("%+v", n)
		}
		s.a.Grow(500) // the log is followed all the same
		s.checked(sceneSize + 500)
		// A fork is convicted all the same.
		if a := s.post(s.fork(200).Note(200)); a.Verdict != gossip.Contradicts {
			t.Errorf("%+v", a)
		}
		s.stop()
		if size := diskUse(t, s.dir); size > 8<<20 {
			t.Errorf("%d bytes on the disk", size)
		}
	})
	t.Run("forked", func(t *testing.T) {
		t.Parallel()
		s := newScene(t)
		s.begin()
		s.checked(sceneSize)
		const many = 300
		s.observe(many, func(i int) []byte { return s.head(200, randomRoot(i)) })
		st := s.Status()
		wait(t, "all are judged", func() bool {
			st = s.Status()
			n := st.Logs[0].Heads
			return n.Open == 0 && n.Forked+n.Dropped == many
		})
		if n := st.Logs[0].Heads; n.Forked != many || len(st.Evidence) != 16 {
			t.Errorf("%+v, %d files", n, len(st.Evidence))
		}
		s.stop()
		if size := diskUse(t, s.dir); size > 8<<20 {
			t.Errorf("%d bytes on the disk", size)
		}
		convictsApart(t, s.key, st.Evidence[15].File)
	})
}

// observe hands in n heads, several at a time.
func (s *scene) observe(n int, note func(int) []byte) {
	var wg sync.WaitGroup
	var next atomic.Int64
	for range 16 {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				if _, err := s.Observe(s.t.Context(), note(int(i)), "test"); err != nil {
					s.t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// TestNobodyIsKeptWaiting: a log keeps back the tiles of one head, and its accomplices ask about that one all the time.
// The others are looked at all the same.
func TestNobodyIsKeptWaiting(t *testing.T) {
	s := newScene(t)
	s.config.Timeout = 5 * time.Second
	s.log.answer(only(s.a, "/019", stall))
	s.begin()
	s.settled()
	far := s.fork(5000).Note(5000)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 400 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if a, err := s.Observe(ctx, far, "test"); err == nil && a.Verdict != gossip.Unknown {
					t.Errorf("%+v", a)
				}
				select {
				case <-ctx.Done():
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	s.a.Grow(300)
	s.checked(600)
	cancel()
	wg.Wait()
}

// TestEquivocation: a log shows each address its own history, and each monitor sees one. Gossip convicts,
// within one interval.
func TestEquivocation(t *testing.T) {
	key := logtest.NewKey(t, testOrigin)
	a := logtest.New(t, key, "a", 300)
	b := a.Fork("b", 100)
	b.Grow(200)
	url := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if host, _, _ := net.SplitHostPort(r.RemoteAddr); host == "127.0.0.2" {
			b.Serve(w, r)
			return
		}
		a.Serve(w, r)
	}))
	log := monitor.LogConfig{Policy: key.Policy(t), URL: url}
	one := start(t, t.TempDir(), nil, log)
	one.checked(300)
	two := start(t, t.TempDir(), func(c *monitor.Config) {
		c.Transport = &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}).DialContext}
		c.Peers = []monitor.PeerConfig{{Name: "one", URL: one.url}}
	}, log)
	for i, r := range []*rig{one, two} {
		wait(t, "evidence", func() bool { return len(r.Status().Evidence) > 0 })
		convictsApart(t, key, r.Status().Evidence[0].File)
		want := []*logtest.History{a, b}[i]
		r.checked(300)
		if c := r.Status().Logs[0].Checked; *c != want.Head(300) {
			t.Errorf("monitor %d: checked %v", i, c)
		}
	}
}
