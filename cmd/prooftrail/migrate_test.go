package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
)

// migrateRun is a log that moves on and on, from storage to storage, while the command that
// moves it is killed.
type migrateRun struct {
	*killRun
	kinds []string // the storages, in turn
	moves int
	file  string        // the configuration of the log as it is
	takes time.Duration // what a run takes, about

	kills, ended, source, held int
}

// TestMigrateKill kills `prooftrail migrate` with SIGKILL at random moments, and runs it
// again until the log has moved; then it moves on to the next storage. In between the old
// log is served, and goes on, unless it is held. After each move the whole log is checked: see
// killRun.check. PROOFTRAIL_KILLS sets how many kills there are.
func TestMigrateKill(t *testing.T) {
	kills := 12
	if text := os.Getenv("PROOFTRAIL_KILLS"); text != "" {
		var err error
		if kills, err = strconv.Atoi(text); err != nil {
			t.Fatalf("PROOFTRAIL_KILLS: %v", err)
		}
	}
	dir := t.TempDir()
	m := &migrateRun{killRun: newKillRun(t, filepath.Join(dir, "log0")), kinds: []string{"mysql", "mysql", "embedded"}, takes: 300 * time.Millisecond}
	m.file = m.config("log0", m.where)
	for range 3 {
		m.serve()
	}
	for m.kills < kills {
		m.move(kills)
		m.serve()
		if t.Failed() {
			t.Fatalf("after %d kills", m.kills)
		}
	}
	s := m.start()
	m.check(s, true)
	s.end(t, syscall.SIGTERM)
	t.Logf("%d kills in %d moves, %d of them of a run that had ended; the old log was served %d times in between, and was held %d times; %d answers, %d entries",
		m.kills, m.moves, m.ended, m.source, m.held, len(m.answers), len(m.log.leaves))
}

// serve serves the log where it is, under load, and checks it.
func (m *migrateRun) serve() {
	m.t.Helper()
	s := m.start()
	m.check(s, false)
	m.sendAgain(s)
	m.load(s, syscall.SIGTERM)
}

// config writes the configuration of a log in a directory and a storage.
func (m *migrateRun) config(name string, where []string) string {
	m.t.Helper()
	text := fmt.Sprintf("data: %s\n", filepath.Join(filepath.Dir(m.dir), name))
	if len(where) > 0 {
		text += fmt.Sprintf("storage: mysql\nmysql:\n  dsn: %q\n  password_file: %s\n", where[3], where[5])
	}
	file := filepath.Join(filepath.Dir(m.dir), name+".yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
	return file
}

// move moves the log to the next storage, killing the command until there were so many
// kills, and checks that the old one refuses then.
func (m *migrateRun) move(kills int) {
	m.t.Helper()
	var where []string
	if m.kinds[m.moves%len(m.kinds)] == "mysql" {
		where, _ = onMySQL(m.t, mariadbtest.Shared(m.t))
	}
	m.moves++
	name := fmt.Sprint("log", m.moves)
	to := m.config(name, where)
	anchor := filepath.Join(filepath.Dir(m.dir), name+".anchor")
	for m.kills < kills && !m.kill(to, anchor) {
		if m.mayServe() {
			m.held++
		}
	}
	out, err := exec.Command("prooftrail", "migrate", "--from", m.file, "--to", to).CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("moved")) {
		m.t.Fatalf("migrate: %v\n%s", err, out)
	}
	if !m.mayServe() {
		m.t.Error("the old log goes on")
	}
	m.file, m.where, m.dir = to, where, filepath.Join(filepath.Dir(m.dir), name)
}

// kill runs the command and kills it at a random moment, or at one soon after the new anchor
// was made, while the new log takes over. It reports whether it was too late for that.
func (m *migrateRun) kill(to, anchor string) (ended bool) {
	m.t.Helper()
	cmd := exec.Command("prooftrail", "migrate", "--from", m.file, "--to", to)
	began := time.Now()
	s := m.run(cmd)
	waited := make(chan error, 1)
	go func() { waited <- s.wait() }()
	moment := time.After(rand.N(m.takes * 9 / 8))
	if rand.N(2) == 0 {
		moment = soonAfter(anchor)
	}
	select {
	case err := <-waited:
		m.takes = time.Since(began)
		if err != nil {
			m.t.Fatalf("migrate: %v\n%s", err, s.stderr)
		}
		return true
	case <-moment:
	}
	m.kills++
	m.takes = m.takes * 6 / 5 // so that it comes further in the end
	_ = cmd.Process.Kill()    // it may end at this moment
	if err := <-waited; err == nil {
		m.ended++
	} else if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		m.t.Fatalf("migrate ended by itself: %v\n%s", cmd.ProcessState, s.stderr)
	}
	return cmd.ProcessState.Success()
}

// soonAfter tells of a moment within some milliseconds of a file's being there.
func soonAfter(file string) <-chan time.Time {
	c := make(chan time.Time, 1)
	go func() {
		for began := time.Now(); time.Since(began) < 20*time.Second && !isFile(file); <-time.After(100 * time.Microsecond) {
		}
		c <- <-time.After(rand.N(25 * time.Millisecond))
	}()
	return c
}

// TestMigrateInterrupted: what is interrupted says that it can be run again, and can.
func TestMigrateInterrupted(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"old", "new"} {
		if err := os.WriteFile(filepath.Join(dir, name+".yaml"), []byte("data: "+filepath.Join(dir, name)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run := func(ctx context.Context, want int, says string, args ...string) {
		t.Helper()
		var stdout, stderr strings.Builder
		if code := Run(ctx, args, strings.NewReader(""), &stdout, &stderr); code != want || !strings.Contains(stderr.String(), says) {
			t.Errorf("%q: exit code %d, %s; want %d, %s", args, code, stderr.String(), want, says)
		}
	}
	run(t.Context(), 0, "made the log", "init", "--data", filepath.Join(dir, "old"), "--origin", "o.example")
	interrupted, cancel := context.WithCancel(t.Context())
	cancel()
	migrate := []string{"migrate", "--from", filepath.Join(dir, "old.yaml"), "--to", filepath.Join(dir, "new.yaml")}
	run(interrupted, 2, "interrupted: run it again to go on", migrate...)
	run(t.Context(), 0, "moved o.example", migrate...)
	run(t.Context(), 0, "has moved already", migrate...)
}

// mayServe starts a server on the old log. Either it goes on, and then takes events; or it
// says that the log has moved, and serves what is published.
func (m *migrateRun) mayServe() (moved bool) {
	m.t.Helper()
	s := m.launch()
	resp, err := http.Get(s.url + "/readyz")
	if err != nil {
		m.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		m.t.Fatal(err)
	}
	if strings.Contains(string(body), "this log has moved to") {
		ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
		defer cancel()
		if err := waitStatus(ctx, s.url+"/logs/audit/checkpoint", "200"); err != nil {
			m.t.Error(err)
		}
		s.end(m.t, syscall.SIGTERM)
		return true
	}
	m.source++
	m.check(s, false)
	if rand.N(4) == 0 {
		m.load(s, syscall.SIGTERM)
	} else {
		s.end(m.t, syscall.SIGTERM)
	}
	return false
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}
