package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
)

// TestEndLosesNothing: a head that was answered for is in the book, whether the process was killed or
// asked to end while others were on their way; asked to end, it ends in order.
func TestEndLosesNothing(t *testing.T) {
	for name, signal := range map[string]syscall.Signal{"killed": syscall.SIGKILL, "asked": syscall.SIGTERM} {
		t.Run(name, func(t *testing.T) {
			dir, signer := logOfOurOwn(t)
			answered := map[uint64]bool{}
			for round := range 3 {
				cmd, url := startRun(t, filepath.Join(dir, "m.yaml"))
				var mu sync.Mutex
				var posting sync.WaitGroup
				enough := make(chan struct{})
				var once sync.Once
				for w := range 4 {
					posting.Go(func() {
						for i := range uint64(60) {
							size := uint64(round)*1000 + uint64(w)*100 + i + 1
							if err := post(t.Context(), url, signer, size); err != nil {
								return // it has ended
							}
							mu.Lock()
							answered[size] = true
							if len(answered) > 40*(round+1) {
								once.Do(func() { close(enough) })
							}
							mu.Unlock()
						}
					})
				}
				<-enough
				if err := cmd.Process.Signal(signal); err != nil {
					t.Fatal(err)
				}
				posting.Wait()
				if err := cmd.Wait(); (err == nil) != (signal == syscall.SIGTERM) {
					t.Fatalf("ended with %v", err)
				}
				checkBook(t, filepath.Join(dir, "m", bookFile), answered)
			}
		})
	}
}

// logOfOurOwn is a monitor's configuration for a log that isn't there, and its key.
func logOfOurOwn(t *testing.T) (dir string, signer note.Signer) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(nil, "example.com/audit")
	if err == nil {
		signer, err = note.NewSigner(skey)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir = t.TempDir()
	var out strings.Builder
	if code := Run(t.Context(), []string{"init", "--data", filepath.Join(dir, "m")}, strings.NewReader(""), &out, &out); code != 0 {
		t.Fatal(out.String())
	}
	config := "name: m\ndata: m\nlogs:\n  - vkey: " + vkey + "\n    url: http://127.0.0.1:1/\nlisten: [127.0.0.1:0]\nadmin: \"\"\nlimits:\n  rate: 100000\nalarms:\n  repeat: 1h\n"
	if err := os.WriteFile(filepath.Join(dir, "m.yaml"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	return dir, signer
}

// startRun starts the program as a process.
func startRun(t *testing.T, config string) (cmd *exec.Cmd, url string) {
	t.Helper()
	cmd = exec.Command("prooftrail-monitor", "run", "--config", config)
	cmd.Stderr = t.Output()
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, url, ok := strings.Cut(strings.TrimSpace(line), " on ")
	if !ok {
		t.Fatalf("it said %q", line)
	}
	return cmd, url
}

// post posts a head that nobody can make anything of yet.
func post(ctx context.Context, url string, signer note.Signer, size uint64) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	signed, err := verifier.SignCheckpoint(verifier.Checkpoint{Origin: signer.Name(), Size: size, Root: verifier.Hash{1, byte(size)}}, signer)
	if err != nil {
		return err
	}
	c, err := gossip.New(gossip.Config{URL: url})
	if err != nil {
		return err
	}
	a, err := c.PostHead(ctx, signed)
	if err == nil && a.Verdict != gossip.Unknown {
		err = fmt.Errorf("%+v", a)
	}
	return err
}

func checkBook(t *testing.T, file string, answered map[uint64]bool) {
	t.Helper()
	book, err := store.OpenBook(file, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer book.Close()
	open, err := book.Open(t.Context(), "example.com/audit", 0, 10_000)
	if err != nil {
		t.Fatal(err)
	}
	kept := map[uint64]bool{}
	for i := range open {
		kept[open[i].Size] = true
	}
	for size := range answered {
		if !kept[size] {
			t.Errorf("the head of size %d was answered for, and is gone", size)
		}
	}
}
