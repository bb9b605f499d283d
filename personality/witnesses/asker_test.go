package witnesses

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	cosig "github.com/transparency-dev/formats/note"
	"github.com/transparency-dev/merkle/rfc6962"
	"github.com/transparency-dev/merkle/testonly"
	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
)

const origin = "example.com/audit"

// testLog is a log in memory.
type testLog struct {
	t      *testing.T
	tree   *testonly.Tree
	signer note.Signer
	vkey   string
}

func newTestLog(t *testing.T) *testLog {
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
	return a
}

// mustMeet asks for a head, and expects the quorum with so many cosignatures.
func mustMeet(t *testing.T, a *Asker, signed []byte, n int) []byte {
	t.Helper()
	got, who, err := a.Ask(t.Context(), signed)
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
	mustMeet(t, newAsker(t, l, 2, nil, one, two), l.grow(100), 2)
	if got := fmt.Sprint(one.Statuses()); got != "[409 200]" {
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
		"a conflict, no size":    write(409, "three\n"),
		"a size past the head":   write(409, "9223372036854775807\n"),
		"a size past all sizes":  write(409, "9223372036854775808\n"),
		"too much":               write(200, strings.Repeat("— two AAAAAAAAAAAA\n", 10_000)),
		"a known key, false":     write(200, ""),
		"it hangs":               func(_ http.ResponseWriter, r *http.Request, _ []byte) bool { <-r.Context().Done(); return true },
		"it cuts the connection": func(http.ResponseWriter, *http.Request, []byte) bool { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newTestLog(t)
			one, two := witnesstest.New(t, l.vkey, "one"), witnesstest.New(t, l.vkey, "two")
			var failed sync.Map
			a := newAsker(t, l, 1, func(c *Config) {
				c.Asked = func(url string, _ time.Duration, err error) { failed.Store(url, err) }
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
			two.Says(says)
			mustMeet(t, a, l.grow(5), 1)
			for began := time.Now(); ; <-time.After(5 * time.Millisecond) {
				if err, ok := failed.Load(two.Server.URL); ok {
					if err == nil || err.(error) == nil {
						t.Error("it is taken to have cosigned")
					}
					break
				}
				if time.Since(began) > 10*time.Second {
					t.Fatal("it is waited for without end")
				}
			}
			// It is left alone for a while, and asked again then.
			mustMeet(t, a, l.grow(5), 1)
			two.Says(nil)
			for began := time.Now(); ; <-time.After(20 * time.Millisecond) {
				_, who, err := a.Ask(t.Context(), l.grow(1))
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
	got, who, err := a.Ask(t.Context(), l.grow(4))
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
