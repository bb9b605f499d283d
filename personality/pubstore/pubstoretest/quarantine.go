package pubstoretest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

var plenty = pubstore.QuarantineSize{Items: 1 << 20, Bytes: 1 << 40}

// quarantined makes up an item.
func quarantined(id, tenant string, raw []byte) pubstore.Quarantined {
	sum := sha256.Sum256(raw)
	return pubstore.Quarantined{ID: id, Tenant: tenant, Adapter: "k", Sender: "token", Principal: "p/1", PeerIP: "::1",
		Received: time.Unix(1700000003, 5).UTC(), Status: "rejected", Reason: "why", Source: "cron://a",
		Header: http.Header{"Content-Type": {"text/plain"}}, Query: url.Values{"a": {"1", "2"}},
		RawBytes: int64(len(raw)), RawSHA256: sum[:], MAC: []byte("mac"), Raw: raw}
}

func ids(list []pubstore.Quarantined) (ids []string) {
	for _, q := range list {
		ids = append(ids, q.ID)
	}
	return ids
}

func testQuarantine(t *testing.T, factory Factory) {
	s, reopen := created(t, factory)
	ctx := t.Context()
	a, b, c := quarantined("a", "one", []byte("\x00\xff raw")), quarantined("b", "two", nil), quarantined("c", "one", bytes.Repeat([]byte("long"), 5<<20/4))
	check(t, s.PutQuarantined(ctx, nil, plenty, ""))
	check(t, s.PutQuarantined(ctx, []pubstore.Quarantined{c, a, b, a}, plenty, ""))
	again := a
	again.Reason = "another"
	check(t, s.PutQuarantined(ctx, []pubstore.Quarantined{again}, plenty, ""))
	s = reopen()
	for _, want := range []pubstore.Quarantined{a, b, c} {
		if got, err := s.Quarantined(ctx, want.ID); err != nil || !bytes.Equal(got.Raw, want.Raw) || show(got) != show(want) {
			t.Errorf("item %s: got %s, %v; want %s", want.ID, show(got), err, show(want))
		}
	}
	for _, l := range []struct {
		tenant, after string
		count         int
		want          []string
	}{
		{"", "", 10, []string{"a", "b", "c"}}, {"", "a", 10, []string{"b", "c"}}, {"", "", 2, []string{"a", "b"}}, {"", "c", 10, nil},
		{"one", "", 10, []string{"a", "c"}}, {"one", "a", 10, []string{"c"}}, {"two", "", 1, []string{"b"}}, {"three", "", 10, nil}, {"", "", 0, nil},
	} {
		list, err := s.ListQuarantined(ctx, l.tenant, l.after, l.count)
		if err != nil || !slices.Equal(ids(list), l.want) {
			t.Errorf("list of %q after %q: got %q, %v; want %q", l.tenant, l.after, ids(list), err, l.want)
		}
		for _, q := range list {
			if q.Raw != nil || q.Reason != "why" {
				t.Errorf("listed: %s with %d bytes", show(q), len(q.Raw))
			}
		}
	}
	sizeIs(t, s, 3, int64(len(a.Raw)+len(c.Raw)))
	check(t, s.DropQuarantined(ctx, "c", ""))
	if err := s.DropQuarantined(ctx, "c", ""); !errors.Is(err, pubstore.ErrNotFound) {
		t.Errorf("dropped again: %v", err)
	}
	if _, err := s.Quarantined(ctx, "c"); !errors.Is(err, pubstore.ErrNotFound) {
		t.Errorf("read after it was dropped: %v", err)
	}
	sizeIs(t, s, 2, int64(len(a.Raw)))
	sizeIs(t, reopen(), 2, int64(len(a.Raw)))
}

// show is an item without its content.
func show(q pubstore.Quarantined) string {
	q.Raw = nil
	return fmt.Sprintf("%+v", q)
}

// sizeIs checks the size: so many items, and so many bytes with at most a KiB more for each.
func sizeIs(t *testing.T, s pubstore.Store, items, raw int64) {
	t.Helper()
	size, err := s.QuarantineSize(t.Context())
	if err != nil || size.Items != items || size.Bytes < raw || size.Bytes > raw+items<<10 {
		t.Errorf("size %+v, %v; want %d items of %d bytes", size, err, items, raw)
	}
}

// testQuarantineFull: what doesn't fit isn't stored, nor what comes with it; each tenant has room of its own.
func testQuarantineFull(t *testing.T, factory Factory) {
	s, _ := created(t, factory)
	ctx := t.Context()
	put := func(most pubstore.QuarantineSize, items ...pubstore.Quarantined) error {
		return s.PutQuarantined(ctx, items, most, "")
	}
	two := pubstore.QuarantineSize{Items: 2, Bytes: 1 << 20}
	check(t, put(two, quarantined("a", "one", []byte("a"))))
	for _, items := range [][]pubstore.Quarantined{
		{quarantined("b", "one", nil), quarantined("c", "one", nil)},
		{quarantined("x", "two", nil), quarantined("b", "one", make([]byte, 1<<20))},
	} {
		if err := put(two, items...); !errors.Is(err, pubstore.ErrQuarantineFull) {
			t.Errorf("more than there may be: %v", err)
		}
	}
	sizeIs(t, s, 1, 1)
	check(t, put(two, quarantined("b", "one", nil), quarantined("a", "one", []byte("a"))))
	check(t, put(two, quarantined("a", "one", []byte("a")), quarantined("x", "two", nil), quarantined("y", "two", nil)))
	if err := put(two, quarantined("c", "one", nil)); !errors.Is(err, pubstore.ErrQuarantineFull) {
		t.Errorf("a third one: %v", err)
	}
	check(t, s.DropQuarantined(ctx, "a", ""))
	check(t, put(two, quarantined("c", "one", nil)))
	sizeIs(t, s, 4, 0)
}

// testQuarantineHeld: a log that has moved away takes none, and gives none up.
func testQuarantineHeld(t *testing.T, factory Factory) {
	s, _ := created(t, factory)
	ctx := t.Context()
	check(t, s.PutQuarantined(ctx, []pubstore.Quarantined{quarantined("a", "one", nil)}, plenty, ""))
	held := head(0)
	held.Hold = "moved"
	check(t, s.SetHold(ctx, head(0), held))
	var moved *pubstore.HeadMovedError
	if err := s.PutQuarantined(ctx, []pubstore.Quarantined{quarantined("b", "one", nil)}, plenty, ""); !errors.As(err, &moved) {
		t.Errorf("put on a held head: %v", err)
	}
	if err := s.DropQuarantined(ctx, "a", ""); !errors.As(err, &moved) {
		t.Errorf("drop on a held head: %v", err)
	}
	sizeIs(t, s, 1, 0)
	check(t, s.PutQuarantined(ctx, []pubstore.Quarantined{quarantined("b", "one", nil)}, plenty, "moved"))
	check(t, s.DropQuarantined(ctx, "a", "moved"))
	sizeIs(t, s, 1, 0)
}

// testQuarantineRace: many at once never store more than there may be, and lose none.
func testQuarantineRace(t *testing.T, factory Factory) {
	s, reopen := created(t, factory)
	const writers, most = 8, 20
	stored := make([][]string, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range most {
				id := fmt.Sprintf("%d-%d", w, i)
				tenants := []string{"one", "two"}
				items := []pubstore.Quarantined{quarantined(id, tenants[w%2], nil), quarantined(id+"x", tenants[(w+1)%2], nil)}
				err := s.PutQuarantined(t.Context(), items, pubstore.QuarantineSize{Items: most, Bytes: 1 << 30}, "")
				switch {
				case err == nil:
					stored[w] = append(stored[w], id, id+"x")
				case !errors.Is(err, pubstore.ErrQuarantineFull):
					t.Errorf("put: %v", err)
				}
				if i%3 == 0 && err == nil {
					if err := s.DropQuarantined(t.Context(), id, ""); err != nil {
						t.Errorf("drop: %v", err)
					}
					stored[w] = slices.Delete(stored[w], len(stored[w])-2, len(stored[w])-1)
				}
			}
		})
	}
	wg.Wait()
	want := slices.Concat(stored...)
	slices.Sort(want)
	s = reopen()
	list, err := s.ListQuarantined(t.Context(), "", "", 1000)
	if err != nil || !slices.Equal(ids(list), want) {
		t.Errorf("there are %q, %v; want %q", ids(list), err, want)
	}
	for _, tenant := range []string{"one", "two"} {
		if list, err := s.ListQuarantined(t.Context(), tenant, "", 1000); err != nil || len(list) > most {
			t.Errorf("tenant %s has %d items, %v; it may have %d", tenant, len(list), err, most)
		}
	}
	sizeIs(t, s, int64(len(want)), 0)
}
