package store_test

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/store"
)

const origin = "example.com/audit"

func openBook(t testing.TB, path string, agreed uint64) *store.Book {
	t.Helper()
	b, err := store.OpenBook(path, agreed)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// head makes a head; nobody looks at its signature here.
func head(size uint64, branch string) monitor.Head {
	root := sha256.Sum256(binary.BigEndian.AppendUint64([]byte(branch), size))
	c := verifier.Checkpoint{Origin: origin, Size: size, Root: root}
	return monitor.Head{Checkpoint: c, Note: []byte(c.Text() + "\n— x AAAA\n"), Seen: time.Unix(int64(size), 5).UTC(), From: "log", Standing: monitor.Open}
}

func add(t testing.TB, b *store.Book, h monitor.Head) {
	t.Helper()
	if _, isNew, err := b.Add(t.Context(), h); err != nil || !isNew {
		t.Fatalf("add size %d: new %v, %v", h.Size, isNew, err)
	}
}

func judge(t testing.TB, b *store.Book, h monitor.Head, s monitor.Standing) {
	t.Helper()
	if err := b.Judge(t.Context(), h.Checkpoint, s); err != nil {
		t.Fatal(err)
	}
}

func counts(t testing.TB, b *store.Book) monitor.Counts {
	t.Helper()
	n, err := b.Counts(t.Context(), origin)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sizes of the open heads.
func sizes(t testing.TB, b *store.Book, from uint64, limit int) []uint64 {
	t.Helper()
	open, err := b.Open(t.Context(), origin, from, limit)
	if err != nil {
		t.Fatal(err)
	}
	var ns []uint64
	for _, h := range open {
		if h.Standing != monitor.Open {
			t.Errorf("size %d is listed and not open", h.Size)
		}
		ns = append(ns, h.Size)
	}
	return ns
}

func TestBook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "book")
	b := openBook(t, path, 0)
	if n := counts(t, b); n != (monitor.Counts{}) {
		t.Errorf("an empty book: %+v", n)
	}
	if s, err := b.State(t.Context(), origin); s != nil || err != nil {
		t.Errorf("an empty book: state %q, %v", s, err)
	}
	for _, size := range []uint64{30, 10, 20, 1 << 62} {
		add(t, b, head(size, "a"))
	}
	add(t, b, head(20, "b"))
	other := head(20, "c")
	other.Origin = "example.com/other"
	add(t, b, other)

	again := head(10, "a")
	again.From, again.Seen, again.Note = "another", time.Now(), []byte("another")
	if stored, isNew, err := b.Add(t.Context(), again); err != nil || isNew || !reflect.DeepEqual(stored, head(10, "a")) {
		t.Errorf("the same again: %+v, new %v, %v", stored, isNew, err)
	}
	if ns := sizes(t, b, 0, 10); !reflect.DeepEqual(ns, []uint64{10, 20, 20, 30, 1 << 62}) {
		t.Errorf("open %v", ns)
	}
	if ns := sizes(t, b, 20, 2); !reflect.DeepEqual(ns, []uint64{20, 20}) {
		t.Errorf("open from 20, two: %v", ns)
	}
	judge(t, b, head(10, "a"), monitor.Agreed)
	judge(t, b, head(10, "a"), monitor.Agreed)
	judge(t, b, head(20, "b"), monitor.Forked)
	judge(t, b, head(30, "a"), monitor.Agreed)
	judge(t, b, head(30, "a"), monitor.Open)
	judge(t, b, head(99, "not there"), monitor.Agreed)
	if err := b.PutState(t.Context(), origin, []byte("state")); err != nil {
		t.Error(err)
	}
	if err := b.Judge(t.Context(), head(30, "a").Checkpoint, 'x'); err == nil {
		t.Error("an unknown standing is taken")
	}
	wrong := head(5, "a")
	wrong.Standing = 'x'
	if _, _, err := b.Add(t.Context(), wrong); err == nil {
		t.Error("an unknown standing is taken")
	}
	look := func() {
		t.Helper()
		if n := counts(t, b); n != (monitor.Counts{Open: 3, Agreed: 1, Forked: 1}) {
			t.Errorf("%+v", n)
		}
		if ns := sizes(t, b, 0, 10); !reflect.DeepEqual(ns, []uint64{20, 30, 1 << 62}) {
			t.Errorf("open %v", ns)
		}
		same, err := b.SameSize(t.Context(), head(20, "a").Checkpoint)
		want := head(20, "b")
		want.Standing = monitor.Forked
		if err != nil || !reflect.DeepEqual(same, []monitor.Head{want}) {
			t.Errorf("of the same size: %+v, %v", same, err)
		}
		if same, err := b.SameSize(t.Context(), head(20, "x").Checkpoint); err != nil || len(same) != 2 {
			t.Errorf("of the same size: %+v, %v", same, err)
		}
		if s, err := b.State(t.Context(), origin); string(s) != "state" || err != nil {
			t.Errorf("state %q, %v", s, err)
		}
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v, %v", info.Mode(), err)
		}
	}
	look()
	if _, err := store.OpenBook(path, 0); err == nil || !strings.Contains(err.Error(), "another process") {
		t.Errorf("opened twice: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = openBook(t, path, 0)
	look()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := b.Add(ended, head(7, "a")); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if _, _, err := b.Add(t.Context(), monitor.Head{Standing: monitor.Open}); err == nil {
		t.Error("a head without an origin is taken")
	}
	add(t, b, head(7, "a")) // what was refused has broken nothing
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if _, err := store.OpenBook(path, 0); err == nil {
		t.Error("a file that others can read is opened")
	}
}

// TestBookRoom: of the heads that agree the smallest are dropped; open ones are kept, as many as there is room for; and
// of forked ones some.
func TestBookRoom(t *testing.T) {
	b := openBook(t, filepath.Join(t.TempDir(), "book"), 10)
	first := head(1, "open")
	add(t, b, first)
	for size := uint64(2); size < 50; size++ {
		add(t, b, head(size, "a"))
		judge(t, b, head(size, "a"), monitor.Agreed)
	}
	if n := counts(t, b); n.Open != 1 || n.Agreed < 9 || n.Agreed > 11 || n.Agreed+n.Dropped != 48 {
		t.Errorf("%+v", n)
	}
	if same, err := b.SameSize(t.Context(), head(49, "b").Checkpoint); err != nil || len(same) != 1 {
		t.Errorf("the newest one: %v, %v", same, err)
	}
	if same, err := b.SameSize(t.Context(), head(2, "b").Checkpoint); err != nil || len(same) != 0 {
		t.Errorf("the oldest one: %v, %v", same, err)
	}

	b = openBook(t, filepath.Join(t.TempDir(), "book"), 0)
	var wg sync.WaitGroup
	for i := range uint64(16) { // at the same time: they share transactions
		wg.Go(func() {
			for j := range uint64(64) {
				if _, isNew, err := b.Add(t.Context(), head(1000+64*i+j, "a")); err != nil || !isNew {
					t.Errorf("%v, %v", isNew, err)
				}
			}
		})
	}
	wg.Wait()
	full := head(5, "a")
	for range 3 {
		if _, _, err := b.Add(t.Context(), full); !errors.Is(err, monitor.ErrFull) {
			t.Errorf("one too many: %v", err)
		}
	}
	if stored, isNew, err := b.Add(t.Context(), head(1000, "a")); err != nil || isNew || stored.Size != 1000 {
		t.Errorf("one that is there, in a full book: %v, %v", isNew, err)
	}
	if n := counts(t, b); n.Open != 1024 {
		t.Errorf("%+v", n)
	}
	for i := range uint64(16) {
		wg.Go(func() {
			for j := range uint64(64) {
				judge(t, b, head(1000+64*i+j, "a"), monitor.Forked)
			}
		})
	}
	wg.Wait()
	for i := range uint64(5) { // there is room for open ones, not for forked ones
		add(t, b, head(5000+i, "a"))
		judge(t, b, head(5000+i, "a"), monitor.Forked)
	}
	if n := counts(t, b); n != (monitor.Counts{Forked: 1024, Dropped: 5}) {
		t.Errorf("%+v", n)
	}
	if ns := sizes(t, b, 0, 10); ns != nil {
		t.Errorf("open %v", ns)
	}
}

// TestBookTogether: what is done at the same time is all there, once.
func TestBookTogether(t *testing.T) {
	b := openBook(t, filepath.Join(t.TempDir(), "book"), 0)
	var wg sync.WaitGroup
	var mu sync.Mutex
	news := 0
	for range 20 {
		wg.Go(func() {
			for size := uint64(1); size <= 20; size++ {
				_, isNew, err := b.Add(t.Context(), head(size, "a"))
				if err != nil {
					t.Error(err)
				}
				if isNew {
					mu.Lock()
					news++
					mu.Unlock()
				}
				judge(t, b, head(size, "a"), monitor.Agreed)
				if err := b.PutState(t.Context(), origin, []byte{byte(size)}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if n := counts(t, b); n != (monitor.Counts{Agreed: 20}) || news != 20 {
		t.Errorf("%+v, %d new ones", n, news)
	}
}

// addOn adds heads to a book, judges them, and writes the size of each to its output once that is stored.
func addOn(path string) error {
	b, err := store.OpenBook(path, 0)
	if err != nil {
		return err
	}
	ctx := context.Background()
	n, err := b.Counts(ctx, origin)
	for size := n.Agreed + 1; err == nil; size++ {
		h := head(size, "a")
		if _, _, err = b.Add(ctx, h); err == nil {
			err = b.Judge(ctx, h.Checkpoint, monitor.Agreed)
		}
		if err == nil {
			err = b.PutState(ctx, origin, binary.BigEndian.AppendUint64(nil, size))
		}
		if err == nil {
			err = binary.Write(os.Stdout, binary.BigEndian, size)
		}
	}
	return err
}

// TestBookKill kills a writer with SIGKILL, again and again: what it said to be stored is there.
func TestBookKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "book")
	said := uint64(0)
	for i := range 10 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), bookEnv+"="+path)
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		var n uint64
		for binary.Read(out, binary.BigEndian, &n) == nil {
			if n != said+1 && n != said+2 { // one was stored and not said
				t.Fatalf("stored %d after %d", n, said)
			}
			if said = n; n%7 == uint64(i%7) {
				time.AfterFunc(time.Duration(i)*time.Millisecond, func() { _ = cmd.Process.Kill() })
			}
		}
		_ = cmd.Wait() // killed
		b := openBook(t, path, 0)
		c := counts(t, b)
		state, err := b.State(t.Context(), origin)
		if err != nil {
			t.Fatal(err)
		}
		if s := binary.BigEndian.Uint64(append(make([]byte, 8-len(state)), state...)); s < said || s > said+1 || c.Agreed < said || c.Open+c.Agreed > said+1 {
			t.Errorf("after %d: state %d, %+v", said, s, c)
		}
		for size := uint64(1); size <= said; size++ {
			if stored, isNew, err := b.Add(t.Context(), head(size, "a")); err != nil || isNew || stored.Standing != monitor.Agreed {
				t.Fatalf("size %d of %d: %+v, new %v, %v", size, said, stored, isNew, err)
			}
		}
		b.Close()
	}
	if said < 10 {
		t.Errorf("only %d heads", said)
	}
}
