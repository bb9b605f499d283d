package spool

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// testSpool opens a spool whose events say their seq, and whose reports say what was lost.
func testSpool(t *testing.T, dir string, fault func(string) (bool, error), change func(*Config)) *Spool {
	t.Helper()
	s, err := openTest(t, dir, fault, change)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func openTest(t *testing.T, dir string, fault func(string) (bool, error), change func(*Config)) (*Spool, error) {
	cfg := Config{Dir: dir, SegmentBytes: 4096, Logger: slog.New(slog.NewTextHandler(t.Output(), nil)),
		Report: func(st Stamp, l Losses) ([]byte, error) {
			return fmt.Appendf(nil, "lost %d-%d full %d disk %d damaged %d refused %d as %d", l.First, l.Last, l.Full, l.Disk, l.Damaged, l.Refused, st.Seq), nil
		}}
	if change != nil {
		change(&cfg)
	}
	return open(cfg, disk{fault})
}

// put appends an event that says its seq and is as long as padding makes it.
func put(t *testing.T, s *Spool, must bool, padding int) (Stamp, error) {
	t.Helper()
	return s.Append(t.Context(), must, 30+padding, func(st Stamp) ([]byte, error) {
		return fmt.Appendf(nil, "event %d of %d%s", st.Seq, st.Count, strings.Repeat(".", padding)), nil
	})
}

func mustPut(t *testing.T, s *Spool, n int) {
	t.Helper()
	for range n {
		if _, err := put(t, s, false, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// rest reads all that isn't acked, as text.
func rest(t *testing.T, s *Spool) (texts []string) {
	t.Helper()
	r := s.Reader()
	defer r.Close()
	for {
		records, err := r.Next(3, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(records) == 0 {
			return texts
		}
		for _, rec := range records {
			texts = append(texts, show(rec))
		}
	}
}

func show(r Record) string {
	if r.Damaged > 0 {
		return fmt.Sprintf("lost %d to %d", r.Damaged, r.Seq)
	}
	text, _, _ := strings.Cut(string(r.Payload), " of ")
	return strings.TrimRight(text, ".")
}

func events(from, to int) (texts []string) {
	for i := from; i <= to; i++ {
		texts = append(texts, fmt.Sprint("event ", i))
	}
	return texts
}

func expect(t *testing.T, got []string, want ...[]string) {
	t.Helper()
	if w := slices.Concat(want...); !slices.Equal(got, w) {
		t.Fatalf("got %q, want %q", got, w)
	}
}

// ack acks the next n.
func ack(t *testing.T, s *Spool, n int) {
	t.Helper()
	r := s.Reader()
	defer r.Close()
	for n > 0 {
		records, err := r.Next(n, 1<<20)
		if err != nil || len(records) == 0 {
			t.Fatalf("%d to ack: %v", n, err)
		}
		if err := s.Ack(records...); err != nil {
			t.Fatal(err)
		}
		n -= len(records)
	}
}

func TestSpool(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	small := func(c *Config) { c.SegmentBytes = 300 }
	s := testSpool(t, dir, nil, small)
	if got := rest(t, s); len(got) != 0 {
		t.Fatal(got)
	}
	mustPut(t, s, 20)
	expect(t, rest(t, s), events(1, 20))
	for acked := range 20 {
		expect(t, rest(t, s), events(acked+1, 20))
		ack(t, s, 1)
		if acked%3 == 0 {
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = testSpool(t, dir, nil, small)
		}
	}
	expect(t, rest(t, s))
	mustPut(t, s, 3)
	expect(t, rest(t, s), events(21, 23))
	if st := s.Stats(); st.Events != 3 || st.LastSeq != 23 || st.Acked != 20 || st.Lost.Count() != 0 || st.Gone != 0 {
		t.Errorf("%+v", st)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(left) > 2 {
		t.Errorf("%q, %v", left, err)
	}
	for _, path := range append(left, dir, filepath.Join(dir, "cursor"), filepath.Join(dir, "lock")) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// TestConcurrent has many append while one reads and acks: each comes once, in order.
func TestConcurrent(t *testing.T) {
	s := testSpool(t, filepath.Join(t.TempDir(), "spool"), nil, func(c *Config) { c.SegmentBytes = 4000 })
	const writers, each = 8, 200
	var wg sync.WaitGroup
	for range writers {
		wg.Go(func() {
			var last uint64
			for range each {
				st, err := put(t, s, false, 40)
				if err != nil || st.Seq <= last {
					t.Errorf("%+v, %v", st, err)
				}
				last = st.Seq
			}
		})
	}
	r := s.Reader()
	defer r.Close()
	for seq := uint64(0); seq < writers*each; {
		<-r.More()
		records, err := r.Next(50, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range records {
			if seq++; rec.Seq != seq || show(rec) != fmt.Sprint("event ", seq) {
				t.Fatalf("%q as seq %d, want %d", show(rec), rec.Seq, seq)
			}
		}
		if err := s.Ack(records...); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if st := s.Stats(); st.Events != 0 || st.Bytes > 6000 {
		t.Errorf("%+v", st)
	}
}

func TestLock(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := testSpool(t, dir, nil, nil)
	if _, err := openTest(t, dir, nil, nil); !errors.Is(err, ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := put(t, s, false, 0); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
	testSpool(t, dir, nil, nil)
}

// What isn't taken for want of room has used its seq, and is reported once there is room; what must be
// taken is refused instead, and has not.
func TestFull(t *testing.T) {
	for name, limit := range map[string]func(*Config){
		"events": func(c *Config) { c.MaxEvents = 16 },
		"bytes":  func(c *Config) { c.MaxBytes, c.SegmentBytes = 16*(recordBytes+100), 500 },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "spool")
			s := testSpool(t, dir, nil, limit)
			kept := 0
			for {
				_, err := put(t, s, false, 60)
				if errors.Is(err, ErrFull) {
					break
				}
				kept++
			}
			for range 4 {
				if _, err := put(t, s, false, 60); !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
				if _, err := put(t, s, true, 60); !errors.Is(err, ErrFull) {
					t.Fatal(err)
				}
			}
			if st := s.Stats(); st.Lost != (Losses{First: uint64(kept) + 1, Last: uint64(kept) + 5, Full: 5}) || st.LastSeq != uint64(kept)+5 {
				t.Fatalf("%+v", st)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			s = testSpool(t, dir, nil, limit)
			expect(t, rest(t, s), events(1, kept))
			ack(t, s, kept)
			<-s.Reader().More() // the report comes by itself
			report := fmt.Sprintf("lost %d-%d full 5 disk 0 damaged 0 refused 0 as %d", kept+1, kept+5, kept+6)
			expect(t, rest(t, s), []string{report})
			mustPut(t, s, 1)
			expect(t, rest(t, s), []string{report}, events(kept+7, kept+7))
			if st := s.Stats(); st.Lost.Count() != 0 || st.Gone != 0 {
				t.Errorf("%+v", st)
			}
			ack(t, s, 2)
			for range 100 { // what was delivered doesn't fill it
				if _, err := put(t, s, false, 60); err != nil {
					t.Fatal(err)
				}
				ack(t, s, 1)
			}
		})
	}
}

// TestRefused: what the log refuses for good is counted as the events are acked.
func TestRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := testSpool(t, dir, nil, nil)
	mustPut(t, s, 5)
	records, err := s.Reader().Next(4, 1000)
	if err != nil || len(records) != 4 {
		t.Fatal(records, err)
	}
	records[1].Refused = true
	if err := s.Ack(records...); err != nil {
		t.Fatal(err)
	}
	<-func() <-chan struct{} { r := s.Reader(); _, _ = r.Next(1, 1); return r.More() }()
	expect(t, rest(t, s), events(5, 5), []string{"lost 2-2 full 0 disk 0 damaged 0 refused 1 as 6"})
	st, err := put(t, s, false, 0)
	if err != nil || st != (Stamp{Seq: 7, Count: 5}) {
		t.Errorf("%+v, %v: of 6 before, one was refused", st, err)
	}
}

// TestFaults has the disk fail at every operation, with and without effect, before or after a restart:
// what was promised is there, once, in order; what wasn't is counted.
func TestFaults(t *testing.T) {
	for _, op := range []string{opCreate, opWrite, opSync, opTruncate} {
		for _, apply := range []bool{false, true} {
			for _, restart := range []bool{false, true} {
				for at := range 9 {
					t.Run(fmt.Sprintf("%s %v %d %v", op, apply, at, restart), func(t *testing.T) {
						t.Parallel()
						testFault(t, op, apply, at, restart)
					})
				}
			}
		}
	}
}

func testFault(t *testing.T, op string, apply bool, at int, restart bool) {
	dir := filepath.Join(t.TempDir(), "spool")
	var mu sync.Mutex
	n, broken := 0, false
	fault := func(now string) (bool, error) {
		mu.Lock()
		defer mu.Unlock()
		if n++; n > at && n <= at+5 {
			broken = true
		} else {
			broken = false
		}
		if broken && (now == op || op == opTruncate && now != opCreate) {
			return apply, syscall.ENOSPC
		}
		return true, nil
	}
	small := func(c *Config) { c.SegmentBytes = 200 }
	s := testSpool(t, dir, fault, small)
	var promised []string
	dropped := uint64(0)
	for i := range 15 {
		if i == 7 {
			mu.Lock()
			n = at + 6 // the disk is well again
			mu.Unlock()
			if restart {
				s.Close()
				s = testSpool(t, dir, nil, small)
			}
		}
		st, err := put(t, s, false, 0)
		switch {
		case err == nil:
			promised = append(promised, fmt.Sprint("event ", st.Seq))
		case errors.Is(err, ErrDisk) && errors.Is(err, syscall.ENOSPC) && i < 7:
			dropped++
		default:
			t.Fatal(err)
		}
	}
	if err := s.Close(); err != nil && restart {
		t.Fatal(err)
	}
	s = testSpool(t, dir, nil, small)
	var got, reports []string
	for _, text := range rest(t, s) {
		if strings.HasPrefix(text, "lost") {
			reports = append(reports, text)
		} else {
			got = append(got, text)
		}
	}
	expect(t, got, promised)
	var reported uint64
	for _, text := range reports {
		var first, last, full, disk uint64
		if _, err := fmt.Sscanf(text, "lost %d-%d full %d disk %d", &first, &last, &full, &disk); err != nil || full != 0 {
			t.Fatal(text, err)
		}
		reported += disk
	}
	if left := s.Stats().Lost; reported+left.Disk != dropped {
		t.Errorf("%d were dropped; reported are %d, to be reported %d", dropped, reported, left.Disk)
	}
	if st := s.Stats(); st.LastSeq != uint64(len(promised)+len(reports))+dropped {
		t.Errorf("last seq %d: %d promised, %d dropped, %d reports", st.LastSeq, len(promised), dropped, len(reports))
	}
}

// files returns what is in a directory, by name; of segments what was written.
func files(t *testing.T, dir string) map[string][]byte {
	t.Helper()
	all, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string][]byte{}
	for _, e := range all {
		if m[e.Name()], err = os.ReadFile(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(e.Name(), ".seg") {
			m[e.Name()] = bytes.TrimRight(m[e.Name()], "\x00")
		}
	}
	return m
}

func restore(t *testing.T, m map[string][]byte) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for name, b := range m {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestTornTail cuts the last segment at every length: what holds of it stays, and the next event comes
// right behind.
func TestTornTail(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := testSpool(t, dir, nil, nil)
	mustPut(t, s, 3)
	s.Close()
	m := files(t, dir)
	name := segmentName(1)
	whole := m[name]
	size := (len(whole) - headerBytes) / 3
	for n := range len(whole) * 2 {
		m[name] = whole[:n/2]
		if n%2 == 1 { // over the zeros that were there
			m[name] = append(bytes.Clone(m[name]), make([]byte, 300)...)
		}
		s := testSpool(t, restore(t, m), nil, nil)
		kept := max(0, n/2-headerBytes) / size
		expect(t, rest(t, s), events(1, kept))
		mustPut(t, s, 1)
		expect(t, rest(t, s), events(1, kept+1))
		s.Close()
	}
}

// A machine that stops may leave any part of the last group: none of it was promised, and whole records
// behind a torn one are cut off as well. The same damage in a group before is damage.
func TestTornGroup(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := testSpool(t, dir, nil, nil)
	mustPut(t, s, 2)
	s.Close()
	m := files(t, dir)
	of := s.cur.id
	name := segmentName(1)
	for place := uint64(3); place <= 5; place++ {
		m[name] = appendRecord(m[name], of, &record{seq: place, place: place, group: 3, payload: fmt.Appendf(nil, "event %d", place)})
	}
	at := bytes.Index(m[name], []byte("event 3"))
	torn := bytes.Clone(m[name])
	torn[at] = 0
	m[name] = torn
	s = testSpool(t, restore(t, m), nil, nil)
	expect(t, rest(t, s), events(1, 2))
	mustPut(t, s, 1)
	expect(t, rest(t, s), events(1, 3))

	m[name] = appendRecord(torn, of, &record{seq: 6, place: 6, group: 6, payload: []byte("event 6")})
	s = testSpool(t, restore(t, m), nil, nil)
	expect(t, rest(t, s), events(1, 2), []string{"lost 1 to 3"}, events(4, 6))
	ack(t, s, 6)
	<-func() <-chan struct{} { r := s.Reader(); return r.More() }()
	expect(t, rest(t, s), []string{"lost 3-3 full 0 disk 0 damaged 1 refused 0 as 7"})
}

// TestDamage changes every byte of a segment that isn't the last: all other events are still there, the
// damage is counted once, however often the spool is opened, and nothing is ever given that wasn't put in.
func TestDamage(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	small := func(c *Config) { c.SegmentBytes = 250 }
	s := testSpool(t, dir, nil, small)
	mustPut(t, s, 12)
	s.Close()
	m := files(t, dir)
	name := segmentName(1)
	whole := m[name]
	if len(m) < 5 {
		t.Fatal("too few segments")
	}
	size := recordBytes + len("event 1 of 0")
	for i := range whole {
		m[name] = bytes.Clone(whole)
		m[name][i] ^= 0x55
		dir := restore(t, m)
		for range 2 {
			s := testSpool(t, dir, nil, small)
			if i < headerBytes {
				expect(t, rest(t, s), events(1, 12))
			} else {
				n := (i - headerBytes) / size
				expect(t, rest(t, s), events(1, n), []string{fmt.Sprintf("lost 1 to %d", n+1)}, events(n+2, 12))
			}
			s.Close()
		}
		if i < headerBytes || i%7 != 0 {
			continue
		}
		s := testSpool(t, dir, nil, small)
		ack(t, s, 12)
		s.Close()
		s = testSpool(t, dir, nil, small)
		<-s.Reader().More()
		n := (i-headerBytes)/size + 1
		expect(t, rest(t, s), []string{fmt.Sprintf("lost %d-%d full 0 disk 0 damaged 1 refused 0 as 13", n, n)})
	}
	delete(m, name) // all of it
	s = testSpool(t, restore(t, m), nil, small)
	got := rest(t, s)
	if !strings.HasPrefix(got[0], "lost ") || got[len(got)-1] != "event 12" {
		t.Errorf("%q", got)
	}
}

// TestDamagedCursor: one slot is enough; without any, all that is there is delivered again, and nothing
// is numbered twice.
func TestDamagedCursor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	s := testSpool(t, dir, nil, nil)
	mustPut(t, s, 5)
	ack(t, s, 3)
	s.Close()
	m := files(t, dir)
	good := m["cursor"]
	newest := int(slotOffset(s.cur.version))
	for name, c := range map[string]struct {
		damage func([]byte) []byte
		from   int
	}{
		"newest slot": {func(b []byte) []byte { b[newest+30] ^= 1; return b }, 3},
		"other slot":  {func(b []byte) []byte { b[slotStride-newest+30] ^= 1; return b }, 4},
		"both":        {func(b []byte) []byte { clear(b); return b }, 1},
		"empty":       {func([]byte) []byte { return nil }, 1},
		"gone":        {nil, 1},
	} {
		t.Run(name, func(t *testing.T) {
			delete(m, "cursor")
			if c.damage != nil {
				m["cursor"] = c.damage(bytes.Clone(good))
			}
			s := testSpool(t, restore(t, m), nil, nil)
			got := rest(t, s)
			if name == "newest slot" { // acks are written one by one: how many the older one has isn't said
				c.from = 6 - len(got)
			}
			expect(t, got, events(c.from, 5))
			mustPut(t, s, 1)
			expect(t, rest(t, s), events(c.from, 6))
		})
	}
	m["cursor"] = make([]byte, len(good))
	delete(m, segmentName(1))
	if _, err := openTest(t, restore(t, m), nil, nil); err == nil {
		t.Error("a spool whose last seq nobody knows was opened")
	}
}

// TestReportBeforeCursor: a report that was written counts, although the cursor's write was lost.
func TestReportBeforeCursor(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	few := func(c *Config) { c.MaxEvents = 16 }
	s := testSpool(t, dir, nil, few)
	mustPut(t, s, 16)
	if _, err := put(t, s, false, 0); !errors.Is(err, ErrFull) {
		t.Fatal(err)
	}
	ack(t, s, 5)
	<-func() <-chan struct{} { r := s.Reader(); _, _ = r.Next(100, 1<<20); return r.More() }()
	s.Close()
	m := files(t, dir)
	c, err := parseCursor(m["cursor"])
	if err != nil || c.reports != 1 || c.lost.Count() != 0 {
		t.Fatalf("%+v, %v", c, err)
	}
	c.reports, c.lost, c.next = 0, Losses{First: 17, Last: 17, Full: 1}, 18
	m["cursor"] = cursorFile(&c)
	s = testSpool(t, restore(t, m), nil, few)
	mustPut(t, s, 1)
	report := "lost 17-17 full 1 disk 0 damaged 0 refused 0 as 18"
	expect(t, rest(t, s), events(6, 16), []string{report}, events(19, 19))
}

// TestReserved: the zeros of a segment that was left before they could be given back are no damage, and the next
// event comes behind what was written.
func TestReserved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	small := func(c *Config) { c.SegmentBytes = 300 }
	s := testSpool(t, dir, nil, small)
	mustPut(t, s, 12)
	s.Close()
	m := files(t, dir)
	for name := range m {
		if strings.HasSuffix(name, ".seg") {
			m[name] = append(m[name], make([]byte, 500)...)
		}
	}
	var log bytes.Buffer
	s = testSpool(t, restore(t, m), nil, func(c *Config) {
		small(c)
		c.Logger = slog.New(slog.NewTextHandler(&log, nil))
	})
	mustPut(t, s, 5)
	expect(t, rest(t, s), events(1, 17))
	if log.Len() > 0 {
		t.Errorf("logged %s", &log)
	}
}

// TestDamagedLast: a last segment of which nothing holds isn't taken for one that was just being made.
func TestDamagedLast(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "spool")
	small := func(c *Config) { c.SegmentBytes = 300 }
	s := testSpool(t, dir, nil, small)
	mustPut(t, s, 12)
	s.Close()
	m := files(t, dir)
	var last string
	for name := range m {
		if strings.HasSuffix(name, ".seg") {
			last = max(last, name)
		}
	}
	for i := range m[last] {
		m[last][i] ^= 0x55
	}
	dir = restore(t, m)
	s = testSpool(t, dir, nil, small)
	mustPut(t, s, 1)
	if got := rest(t, s); len(got) < 6 || got[0] != "event 1" {
		t.Errorf("%q", got)
	}
	if b, err := os.ReadFile(filepath.Join(dir, last+".damaged")); err != nil || !bytes.Equal(b, m[last]) {
		t.Error(err)
	}
}
