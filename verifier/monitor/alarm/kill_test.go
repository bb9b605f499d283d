package alarm_test

import (
	"context"
	"encoding/binary"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
)

// writerEnv makes the test binary a program that acknowledges alarms in the state file it
// names, and writes to its output how many of the notes are on the disk.
const writerEnv = "PROOFTRAIL_TEST_ALARMS"

func TestMain(m *testing.M) {
	if path := os.Getenv(writerEnv); path != "" {
		if err := acknowledgeOn(path); err != nil {
			println(err.Error())
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func acknowledgeOn(path string) error {
	b, err := alarm.New(alarm.Config{StateFile: path, Sinks: []alarm.Sink{nothing{}}})
	if err != nil {
		return err
	}
	go func() { _ = b.Run(context.Background()) }() // which writes the file as well; it never ends
	for i := range 100 {
		b.Raise(alarm.Alarm{Name: "filler", Peer: strconv.Itoa(i), Summary: "so that the file is large"})
	}
	b.Raise(fork)
	n, err := noted(b)
	for ; err == nil; n++ {
		if err = b.Acknowledge(fork.ID(), "a", strconv.FormatInt(n+1, 10)); err == nil {
			err = binary.Write(os.Stdout, binary.BigEndian, n+1)
		}
	}
	return err
}

type nothing struct{}

func (nothing) Name() string                                  { return "nothing" }
func (nothing) Manner() alarm.Manner                          { return alarm.Manner{} }
func (nothing) Deliver(context.Context, []alarm.Notice) error { return io.ErrUnexpectedEOF }

// noted is the number that the acknowledgement of fork says.
func noted(b *alarm.Board) (int64, error) {
	for _, a := range b.Active() {
		if a.ID() == fork.ID() && a.Ack != nil {
			return strconv.ParseInt(a.Ack.Note, 10, 64)
		}
	}
	return 0, nil
}

// TestKill kills a writer with SIGKILL, again and again: the file is never damaged, what was
// acknowledged is, and no temporary file stays.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "alarms")
	said := int64(0)
	for i := range 12 {
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
		for first := true; binary.Read(out, binary.BigEndian, &n) == nil; first = false {
			if n != said+1 && n != said+2 { // one was written and not said
				t.Fatalf("note %d after %d", n, said)
			}
			if said = n; first {
				time.AfterFunc(time.Duration(3*i)*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait() // killed
		b, err := alarm.New(alarm.Config{StateFile: path})
		if err != nil {
			t.Fatal(err)
		}
		if n, err := noted(b); err != nil || n != said && n != said+1 {
			t.Fatalf("after %d was acknowledged: %d, %v", said, n, err)
		}
		if files, err := os.ReadDir(dir); err != nil || len(files) != 1 {
			t.Fatalf("files %v, %v", files, err)
		}
		if got := len(b.Active()); got < 101 {
			t.Fatalf("%d alarms", got)
		}
	}
	t.Logf("%d acknowledgements", said)
}
