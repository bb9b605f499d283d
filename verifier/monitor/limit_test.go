package monitor

import (
	"fmt"
	"testing"
	"time"
)

// TestLimitFlood: whoever has a network of IPv6 addresses doesn't keep those of other networks out, and
// however many addresses call, a bounded number is remembered.
func TestLimitFlood(t *testing.T) {
	now := time.Unix(1790000000, 0)
	l := newLimiter(10, func() time.Time { return now })
	passed := 0
	for i := range 3 * maxAddresses {
		if l.allow(fmt.Sprintf("[2001:db8:1:%x::1]:4000", i)) {
			passed++
		}
	}
	if passed > maxAddresses+burst*10 {
		t.Errorf("%d of the flood passed", passed)
	}
	for _, peer := range []string{"192.0.2.7:4000", "[2001:470::1]:4000"} {
		if !l.allow(peer) {
			t.Errorf("%s is kept out", peer)
		}
	}
	for i := range 1 << 16 {
		l.allow(fmt.Sprintf("%d.%d.0.1:4000", i>>8, i&0xff))
	}
	if n := len(l.buckets); n > 2*maxAddresses {
		t.Errorf("%d are remembered", n)
	}
	now = now.Add(time.Minute)
	if l.allow("203.0.113.5:4000"); len(l.buckets) != 1 {
		t.Errorf("%d are remembered of a minute ago", len(l.buckets))
	}
}
