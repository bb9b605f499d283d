package store_test

import (
	"context"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/monitor/store"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// writerEnv makes the test binary a program that swaps records in the store it names, and
// writes the number of each to its output once it is stored.
const writerEnv = "PROOFTRAIL_TEST_STORE"

// bookEnv makes it one that adds heads to the book it names.
const bookEnv = "PROOFTRAIL_TEST_BOOK"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		if err := writeOn(path); err != nil {
			println(err.Error())
			os.Exit(1)
		}
	}
	if path := os.Getenv(bookEnv); path != "" {
		if err := addOn(path); err != nil {
			println(err.Error())
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func numbered(n int64) *witness.Record {
	if n == 0 {
		return nil
	}
	return &witness.Record{Note: []byte("note " + strconv.FormatInt(n, 10)), Time: n}
}

func writeOn(path string) error {
	s, err := store.Open(path)
	if err != nil {
		return err
	}
	ctx := context.Background()
	old, err := s.Load(ctx, "x")
	if err != nil {
		return err
	}
	n := int64(0)
	if old != nil {
		n = old.Time
	}
	for ; ; n++ {
		if err := s.Swap(ctx, "x", numbered(n), numbered(n+1)); err != nil {
			return err
		}
		if err := binary.Write(os.Stdout, binary.BigEndian, n+1); err != nil {
			return err
		}
	}
}

// TestKill kills a writer with SIGKILL, again and again: what it said to be stored is there.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "store")
	if err := store.Create(path); err != nil {
		t.Fatal(err)
	}
	said := int64(0)
	for i := range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), writerEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var n int64
		for binary.Read(out, binary.BigEndian, &n) == nil {
			if n != said+1 && n != said+2 { // one was stored and not said
				t.Fatalf("stored %d after %d", n, said)
			}
			if said = n; n%7 == int64(i%7) {
				time.AfterFunc(time.Duration(i)*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait() // killed
		s, err := store.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		rec, err := s.Load(t.Context(), "x")
		if err != nil || !rec.Equal(numbered(said)) && !rec.Equal(numbered(said+1)) {
			t.Fatalf("after %d was stored: %v, %v", said, rec, err)
		}
		s.Close()
	}
	if said < 10 {
		t.Errorf("only %d writes", said)
	}
}
