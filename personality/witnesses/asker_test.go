package witnesses

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/personality/witnesses/witnesstest"
	"github.com/prooftrail/prooftrail/verifier"
	protocol "github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

const origin = "example.com/audit"

// testLog is a log in memory.
type testLog struct {
	t      testing.TB
	tree   *testonly.Tree
	signer note.Signer
	vkey   string
}

func newTestLog(t testing.TB) *testLog {
	t.Helper()
	skey, vkey, err := note.GenerateKey(rand.Reader, origin)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	return &testLog{t: t, tree: testonly.New(rfc6962.DefaultHasher), signer: signer, vkey: vkey}
}

// grow appends n entries and returns the checkpoint.
func (l *testLog) grow(n int) []byte {
	l.t.Helper()
	for range n {
		l.tree.AppendData(fmt.Appendf(nil, "entry %d", l.tree.Size()))
	}
	return l.checkpoint(verifier.Hash(l.tree.Hash()))
}

func (l *testLog) checkpoint(root verifier.Hash) []byte {
	l.t.Helper()
	signed, err := verifier.SignCheckpoint(verifier.Checkpoint{Origin: origin, Size: l.tree.Size(), Root: root}, l.signer)
	if err != nil {
		l.t.Fatal(err)
	}
	return signed
}

func (l *testLog) prove(_ context.Context, first, second uint64) ([]verifier.Hash, error) {
	p, err := l.tree.ConsistencyProof(first, second)
	out := make([]verifier.Hash, len(p))
	for i := range p {
		out[i] = verifier.Hash(p[i])
	}
	return out, err
}

// newAsker makes an asker whose policy wants k of the witnesses.
func newAsker(t *testing.T, l *testLog, k int, change func(*Config), ws ...*witnesstest.Witness) *Asker {
	t.Helper()
	policy := "log " + l.vkey + "\n"
	group := fmt.Sprintf("group all %d", k)
	for _, w := range ws {
		policy += w.Line()
		group += " " + w.Name
	}
	p, err := verifier.ParsePolicy([]byte(policy + group + "\nquorum all\n"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{Policy: p, Prove: l.prove, Timeout: 2 * time.Second, Grace: 100 * time.Millisecond}
	if change != nil {
		change(&cfg)
	}
	a, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// mustMeet asks for a head, and expects the quorum with so many cosignatures.
func mustMeet(t *testing.T, a *Asker, signed []byte, n int) []byte {
	t.Helper()
	got, who, err := a.Ask(t.Context(), signed, time.Now())
	if err != nil || who.Status != verifier.Quorum || len(who.Cosigned) != n {
		t.Fatalf("%+v, %v", who, err)
	}
	if _, again, err := a.cfg.Policy.Verify(got); err != nil || again.Status != verifier.Quorum || len(again.Cosigned) != n {
		t.Fatalf("the note: %+v, %v", again, err)
	}
	return got
}

// TestAsk: a growing log, witnesses that know nothing, or less, or the same head already.
func TestAsk(t *testing.T) {
	l := newTestLog(t)
	one, two := witnesstest.New(t, l.vkey, "one"), witnesstest.New(t, l.vkey, "two")
	a := newAsker(t, l, 2, nil, one, two)
	mustMeet(t, a, l.grow(0), 2)
	mustMeet(t, a, l.grow(7), 2)
	mustMeet(t, a, l.grow(1), 2)
	mustMeet(t, a, l.grow(0), 2) // again, for a fresh time
	if got := fmt.Sprint(one.Statuses(), two.Statuses()); got != "[200 200 200 200] [200 200 200 200]" {
		t.Errorf("answers %s", got)
	}
	// Another process of the same log has asked meanwhile, and this one is new.
	// It asks what the witnesses have seen, so that it begins there.
	mustMeet(t, newAsker(t, l, 2, nil, one, two), l.grow(100), 2)
	if got := fmt.Sprint(one.Statuses()); got != "[200]" {
		t.Errorf("answers %s", got)
	}
	mustMeet(t, a, l.grow(3), 2)
	if got := fmt.Sprint(one.Statuses()); got != "[409 200]" {
		t.Errorf("answers %s", got)
	}
}

// TestAskSome: what some witnesses say or don't say must not cost the others' quorum, and
// is no cosignature.
func TestAskSome(t *testing.T) {
	write := func(status int, text string) func(http.ResponseWriter, *http.Request, []byte) bool {
		return func(rw http.ResponseWriter, _ *http.Request, _ []byte) bool {
			rw.WriteHeader(status)
			_, _ = rw.Write([]byte(text))
			return true
		}
	}
	outcomes := map[string]Outcome{"422": Inconsistent, "a size past the head": Ahead, "a conflict at the head": Inconsistent}
	for name, says := range map[string]func(http.ResponseWriter, *http.Request, []byte) bool{
		"500": write(500, "no"), // as some say for an unknown origin
		"403": write(403, ""),
		"404": write(404, ""),
		"422": write(422, ""),
		"429": write(429, ""),
		"a redirect": func(rw http.ResponseWriter, r *http.Request, _ []byte) bool {
			http.Redirect(rw, r, "/elsewhere", http.StatusTemporaryRedirect)
			return true
		},
		"nothing":                write(200, ""),
		"no signature":           write(200, "hello\n"),
		"no line's end":          write(200, "— two AAAAAAAAAAAA"),
		"conflicts for ever":     write(409, "3\n"),
		"a conflict at the head": write(409, "5\n"),
		"conflicts that rise": func() func(http.ResponseWriter, *http.Request, []byte) bool {
			n := 0
			return func(rw http.ResponseWriter, r *http.Request, body []byte) bool {
				if r.Method == http.MethodPost {
					n++
				}
				return write(409, fmt.Sprintln(n))(rw, r, body)
			}
		}(),
		"many lines":            write(200, strings.Repeat("— x AAAAAAAAAAAA\n", 64)),
		"another's cosignature": write(200, ""),
		"no end": func(rw http.ResponseWriter, r *http.Request, _ []byte) bool {
			for r.Context().Err() == nil {
				if _, err := rw.Write(make([]byte, 1<<10)); err != nil {
					break
				}
			}
			return true
		},
		"a conflict, no size":    write(409, "three\n"),
		"a size past the head":   write(409, "9223372036854775807\n"),
		"a size past all sizes":  write(409, "9223372036854775808\n"),
		"too much":               write(200, strings.Repeat("— two AAAAAAAAAAAA\n", 10_000)),
		"a known key, false":     write(200, ""),
		"it hangs":               func(_ http.ResponseWriter, r *http.Request, _ []byte) bool { <-r.Context().Done(); return true },
		"it cuts the connection": func(http.ResponseWriter, *http.Request, []byte) bool { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of it is waiting
			l := newTestLog(t)
			one, two := witnesstest.New(t, l.vkey, "one"), witnesstest.New(t, l.vkey, "two")
			var failed sync.Map
			a := newAsker(t, l, 1, func(c *Config) {
				c.Asked = func(url string, _ time.Duration, o Outcome) { failed.Store(url, o) }
			}, one, two)
			if name == "a known key, false" {
				other := newTestLog(t)
				other.signer = l.signer
				cosigned, err := note.Sign(&note.Note{Text: "example.com/audit\n0\n" + base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"}, two.Signer)
				if err != nil {
					t.Fatal(err)
				}
				_, line, _ := bytes.Cut(cosigned, []byte("\n\n"))
				says = write(200, string(line))
			}
			if name == "another's cosignature" { // by a key of the policy, but not this witness's
				says = func(rw http.ResponseWriter, r *http.Request, body []byte) bool {
					req, err := protocol.ParseRequest(body)
					if err != nil || r.Method != http.MethodPost {
						return false
					}
					text, _, _ := strings.Cut(string(req.Note), "\n\n")
					signed, err := note.Sign(&note.Note{Text: text + "\n"}, one.Signer)
					if err != nil {
						t.Error(err)
					}
					_, line, _ := strings.Cut(string(signed), "\n\n")
					return write(200, line)(rw, r, body)
				}
			}
			two.Says(says)
			mustMeet(t, a, l.grow(5), 1)
			for began := time.Now(); ; <-time.After(5 * time.Millisecond) {
				if o, ok := failed.Load(two.Server.URL); ok {
					if want := outcomes[name]; want == "" && o != Failed || want != "" && o != want {
						t.Errorf("the outcome is %q", o)
					}
					break
				}
				if time.Since(began) > 10*time.Second {
					t.Fatal("it is waited for without end")
				}
			}
			mustMeet(t, a, l.grow(5), 1)
			// It may be left alone for a while, and is asked again then.
			two.Says(nil)
			for began := time.Now(); ; <-time.After(20 * time.Millisecond) {
				_, who, err := a.Ask(t.Context(), l.grow(1), time.Time{})
				if err != nil {
					t.Fatal(err)
				}
				if len(who.Cosigned) == 2 {
					return
				}
				if time.Since(began) > 10*time.Second {
					t.Fatalf("it isn't asked again: %+v", who)
				}
			}
		})
	}
}

// TestAskTooFew: without the quorum the status says so, and what there is is in the note.
func TestAskTooFew(t *testing.T) {
	l := newTestLog(t)
	one, two := witnesstest.New(t, l.vkey, "one"), witnesstest.New(t, l.vkey, "two")
	a := newAsker(t, l, 2, nil, one, two)
	two.Server.Close()
	got, who, err := a.Ask(t.Context(), l.grow(4), time.Time{})
	if err != nil || who.Status != verifier.Provisional || len(who.Cosigned) != 1 {
		t.Fatalf("%+v, %v", who, err)
	}
	if _, who, err := a.cfg.Policy.Verify(got); err != nil || len(who.Cosigned) != 1 {
		t.Errorf("%+v, %v", who, err)
	}
}

// TestKnown: what witnesses hold with the log's own signature is found, and nothing else.
func TestKnown(t *testing.T) {
	l := newTestLog(t)
	one, two, three := witnesstest.New(t, l.vkey, "one"), witnesstest.New(t, l.vkey, "two"), witnesstest.New(t, l.vkey, "three")
	a := newAsker(t, l, 1, nil, one, two, three)
	if got := a.Known(t.Context()); len(got) != 0 {
		t.Errorf("known before all: %+v", got)
	}
	mustMeet(t, newAsker(t, l, 1, nil, one), l.grow(3), 1)
	mustMeet(t, newAsker(t, l, 1, nil, two), l.grow(3), 1)
	three.Says(func(rw http.ResponseWriter, _ *http.Request, _ []byte) bool {
		_, _ = rw.Write(newTestLog(t).grow(100)) // another key's
		return true
	})
	sizes := map[uint64]bool{}
	for _, k := range a.Known(t.Context()) {
		sizes[k.Head.Size] = true
	}
	if len(sizes) != 2 || !sizes[3] || !sizes[6] {
		t.Errorf("known: %v", sizes)
	}
}

// TestNewRefuses: whom nobody could ask, or only in the clear.
func TestNewRefuses(t *testing.T) {
	l := newTestLog(t)
	w := witnesstest.New(t, l.vkey, "w")
	for _, c := range []struct {
		url  string
		http bool
		good bool
	}{
		{"https://witness.example", false, true}, {"https://witness.example/x/", false, true}, {"http://127.0.0.1:1", false, true},
		{"http://witness.example", false, false}, {"http://witness.example", true, true},
		{"ftp://witness.example", true, false}, {"https://user@witness.example", false, false}, {"https://witness.example?x", false, false},
		{"https:///x", false, false}, {"", false, false},
	} {
		p, err := verifier.ParsePolicy([]byte("log " + l.vkey + "\nwitness w " + w.VKey + " " + c.url + "\nquorum w\n"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = New(Config{Policy: p, Prove: l.prove, AllowHTTP: c.http})
		if (err == nil) != c.good || c.url == "" && !errors.Is(err, ErrUnreachable) {
			t.Errorf("%q, plain http %t: %v", c.url, c.http, err)
		}
	}
}

// TestAskOdd: a witness with the deviations that are met in the field cosigns as any other,
// from whatever it has cosigned before.
func TestAskOdd(t *testing.T) {
	l := newTestLog(t)
	odd := witnesstest.NewOdd(t, l.vkey, "odd")
	mustMeet(t, newAsker(t, l, 1, nil, odd), l.grow(3), 1)
	a := newAsker(t, l, 1, nil, odd)
	mustMeet(t, a, l.grow(1000), 1)
	mustMeet(t, a, l.grow(1), 1)
	for _, c := range odd.Calls() {
		req, err := protocol.ParseRequest(c.Body)
		if err != nil || len(c.Body) > 10<<10 || bytes.Count(req.Note, []byte("— ")) != 1 {
			t.Errorf("%v, %d bytes:\n%s", err, len(c.Body), c.Body)
		}
	}
}

// TestAskAgain: a head that a witness has cosigned is not sent to it again before its time,
// while another one is missing; and what it said then is joined to what that one says.
func TestAskAgain(t *testing.T) {
	l := newTestLog(t)
	one, two := witnesstest.New(t, l.vkey, "one"), witnesstest.New(t, l.vkey, "two")
	a := newAsker(t, l, 2, nil, one, two)
	two.Down()
	note := l.grow(4)
	if _, who, err := a.Ask(t.Context(), note, time.Time{}); err != nil || who.Status != verifier.Provisional || len(who.Cosigned) != 1 {
		t.Fatalf("%+v, %v", who, err)
	}
	one.Down()
	two.Up()
	for began := time.Now(); ; <-time.After(20 * time.Millisecond) {
		_, who, err := a.Ask(t.Context(), note, time.Now().Add(-time.Hour))
		if err == nil && who.Status == verifier.Quorum {
			break
		}
		if err != nil || time.Since(began) > 10*time.Second {
			t.Fatalf("%+v, %v", who, err)
		}
	}
	if got := fmt.Sprint(one.Statuses()); got != "[200]" {
		t.Errorf("answers %s", got)
	}
	one.Up()
	mustMeet(t, a, note, 2) // none is old enough: both are asked again
	if got := fmt.Sprint(one.Statuses(), two.Statuses()); got != "[200] [200 200]" {
		t.Errorf("answers %s", got)
	}
}

// TestCheck: what a witness has seen is shown to the log before it is asked for the first
// time, and when it says that it is ahead; and it isn't asked if the log can't go on from there.
func TestCheck(t *testing.T) {
	l, older := newTestLog(t), newTestLog(t)
	older.signer, older.vkey = l.signer, l.vkey
	one := witnesstest.New(t, l.vkey, "one")
	var checked []uint64
	bad := errors.New("not this one")
	a := newAsker(t, l, 1, func(c *Config) {
		c.Check = func(_ context.Context, k Known) error {
			checked = append(checked, k.Head.Size)
			return bad
		}
	}, one)
	mustMeet(t, a, l.grow(3), 1) // it has seen nothing
	mustMeet(t, newAsker(t, l, 1, nil, one), l.grow(6), 1)
	older.grow(4)
	// The witness is at 9, as it says to whoever offers it 4: it is looked at the next time.
	for range 2 {
		if _, who, err := a.Ask(t.Context(), older.grow(0), time.Time{}); err != nil || who.Status == verifier.Quorum {
			t.Fatalf("%+v, %v", who, err)
		}
	}
	if fmt.Sprint(checked) != "[9]" {
		t.Errorf("checked %v", checked)
	}
}

// TestClose: what is under way ends, though a witness hangs.
func TestClose(t *testing.T) {
	l := newTestLog(t)
	one := witnesstest.New(t, l.vkey, "one")
	one.Says(func(_ http.ResponseWriter, r *http.Request, _ []byte) bool { <-r.Context().Done(); return true })
	a := newAsker(t, l, 1, func(c *Config) { c.Timeout = time.Hour }, one)
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if _, who, err := a.Ask(ctx, l.grow(1), time.Time{}); err != nil || who.Status == verifier.Quorum {
		t.Fatalf("%+v, %v", who, err)
	}
	a.Close()
}

// TestKnownHangs: a witness that hangs is waited for no longer than it is said, and what the
// others show is there.
func TestKnownHangs(t *testing.T) {
	l := newTestLog(t)
	one, two := witnesstest.New(t, l.vkey, "one"), witnesstest.New(t, l.vkey, "two")
	mustMeet(t, newAsker(t, l, 2, nil, one, two), l.grow(3), 2)
	two.Says(func(_ http.ResponseWriter, r *http.Request, _ []byte) bool { <-r.Context().Done(); return true })
	a := newAsker(t, l, 1, func(c *Config) { c.Timeout = time.Hour }, one, two)
	ctx, stop := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer stop()
	if got := a.Known(ctx); len(got) != 1 || got[0].Head.Size != 3 || got[0].Witness != one.Server.URL {
		t.Errorf("known: %+v", got)
	}
}

// FuzzVerified: of whatever a witness answers only lines are taken that verify, and the note
// with them does.
func FuzzVerified(f *testing.F) {
	l := newTestLog(f)
	w := witnesstest.New(f, l.vkey, "w")
	p, err := verifier.ParsePolicy([]byte("log " + l.vkey + "\n" + w.Line() + "quorum w\n"))
	if err != nil {
		f.Fatal(err)
	}
	a, err := New(Config{Policy: p, Prove: l.prove})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(a.Close)
	checkpoint := l.grow(3)
	cosigned, who, err := a.Ask(context.Background(), checkpoint, time.Time{})
	if err != nil || who.Status != verifier.Quorum {
		f.Fatalf("%+v, %v", who, err)
	}
	line := cosigned[len(checkpoint):]
	for _, seed := range [][]byte{line, nil, []byte("\n"), []byte("— x AAAAAAAA\n"), append(bytes.Clone(line), line...), append([]byte("— x AAAAAAAA\n"), line...), line[:len(line)-1]} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, answer []byte) {
		good, err := a.verified([]string{"w"}, checkpoint, answer)
		if err != nil {
			if good != nil {
				t.Errorf("%q with %v", good, err)
			}
			return
		}
		if _, who, err := p.Verify(append(bytes.Clone(checkpoint), good...)); err != nil || len(who.Cosigned) != 1 {
			t.Errorf("%q gave %q: %+v, %v", answer, good, who, err)
		}
	})
}
