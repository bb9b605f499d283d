package witness_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// serveEnv makes the test binary a witness, with key and store in the directory it names. It
// prints where it listens.
const serveEnv = "PROOFTRAIL_TEST_WITNESS"

func TestMain(m *testing.M) {
	if dir := os.Getenv(serveEnv); dir != "" {
		if err := serveIn(dir); err != nil {
			println(err.Error())
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func serveIn(dir string) error {
	vkey, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	key, err := verifier.ParseLogKey(string(vkey))
	if err != nil {
		return err
	}
	c, err := witness.LoadKeyFile(filepath.Join(dir, "key"))
	if err != nil {
		return err
	}
	st, err := store.Open(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	w, err := witness.New(context.Background(), witness.Config{Logs: []*verifier.LogKey{key}, Cosigners: []*witness.Cosigner{c}, Store: st})
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	if _, err := os.Stdout.WriteString(l.Addr().String() + "\n"); err != nil {
		return err
	}
	return http.Serve(l, w.Handler())
}

// TestKill kills a witness with SIGKILL, again and again, while clients of two histories of
// one log race: of all that it ever answered or served, one history at most is cosigned.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	a, b := newLog(t, testOrigin, "a", 40, 400), newLog(t, testOrigin, "b", 40, 400)
	skey, err := witness.GenerateKey("witness.example/w1", witness.Ed25519)
	if err != nil {
		t.Fatal(err)
	}
	c, err := witness.ParseKey(skey)
	if err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		witness.CreateKeyFile(filepath.Join(dir, "key"), skey), store.Create(filepath.Join(dir, "store")),
		os.WriteFile(filepath.Join(dir, "log"), []byte(a.key.String()), 0o600),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	led := &ledger{p: policy(t, a, []*witness.Cosigner{c}), sides: [2]*testLog{a, b}}
	// Past the 40 entries that both have, and 8 times at least.
	for i := 0; i < 8 || !led.seen[0] && !led.seen[1]; i++ {
		if i == 100 {
			t.Fatalf("after %d kills: %d heads, histories %v", i, led.heads, led.seen)
		}
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), serveEnv+"="+dir)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		addr, err := bufio.NewReader(out).ReadString('\n')
		if err != nil {
			t.Fatalf("start %d: %v", i, err)
		}
		led.mu.Lock()
		led.kill, led.killAt = cmd.Process, led.heads+3+5*i
		led.mu.Unlock()
		var wg sync.WaitGroup
		for _, l := range []*testLog{a, b, a, b} {
			wg.Go(func() { raceUntilDead(t, "http://"+strings.TrimSpace(addr), l, led) })
		}
		wg.Wait()
		_ = cmd.Wait() // killed
	}
	t.Logf("%d heads", led.heads)
}

// raceUntilDead asks for the next size, or for the same again, until nobody answers.
func raceUntilDead(t *testing.T, url string, l *testLog, led *ledger) {
	client := &http.Client{Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	known, to := 0, 1
	for {
		resp, err := client.Post(url+"/add-checkpoint", "text/plain", bytes.NewReader(l.request(t, known, to).Bytes()))
		if err != nil {
			return
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return
		}
		switch resp.StatusCode {
		case http.StatusOK:
			if err := led.saw(append(l.note(t, to), body...)); err != nil {
				t.Error(err)
			}
			known = to
		case http.StatusConflict:
			if known, err = strconv.Atoi(strings.TrimSpace(string(body))); err != nil {
				t.Error(err)
				return
			}
		case http.StatusUnprocessableEntity: // the other history has won
		default:
			t.Errorf("status %d: %s", resp.StatusCode, body)
			return
		}
		to = min(known+1, 400)
	}
}
