package monitor

import (
	"net"
	"net/netip"
	"sync"
	"time"
)

// maxAddresses bounds how many addresses the limiter remembers, and then as many networks.
const maxAddresses = 10000

// burst is how many seconds' requests may come at once.
const burst = 4

const (
	// maxBodies is how many requests with a body may be under way, maxBodiesEach how many of one address: what
	// they hold in memory, a mebibyte each and as much again to check it, is bounded by that.
	maxBodies, maxBodiesEach = 64, 8
	// bodyTime is how long a body may take to be read.
	bodyTime = 10 * time.Second
)

// limiter lets each address do so many requests a second: a token bucket each.
type limiter struct {
	rate float64
	now  func() time.Time

	mu      sync.Mutex
	buckets map[netip.Prefix]*bucket
	swept   time.Time
	bodies  map[netip.Prefix]int // requests with a body that are under way
	all     int                  // of all addresses
}

type bucket struct {
	tokens float64
	at     time.Time
}

func newLimiter(rate float64, now func() time.Time) *limiter {
	return &limiter{rate: rate, now: now, buckets: map[netip.Prefix]*bucket{}, bodies: map[netip.Prefix]int{}}
}

// allow takes a token of an address, host:port.
func (l *limiter) allow(remote string) bool {
	who := prefixOf(remote)
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	b := l.buckets[who]
	if b == nil && len(l.buckets) >= maxAddresses {
		l.sweep(now)
		if len(l.buckets) >= maxAddresses { // a flood: one network's addresses share a bucket
			who = networkOf(who)
			b = l.buckets[who]
		}
	}
	if b == nil {
		if len(l.buckets) >= 2*maxAddresses {
			return false // from everywhere
		}
		b = &bucket{tokens: burst * l.rate, at: now}
		l.buckets[who] = b
	}
	b.tokens = min(b.tokens+max(now.Sub(b.at).Seconds(), 0)*l.rate, burst*l.rate)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// sweep forgets the addresses whose buckets are full again. It looks through all of them, at most once a
// second.
func (l *limiter) sweep(now time.Time) {
	if since := now.Sub(l.swept); since >= 0 && since < time.Second {
		return
	}
	l.swept = now
	for who, b := range l.buckets {
		if since := now.Sub(b.at); since >= burst*time.Second || since < 0 { // the clock was set back
			delete(l.buckets, who)
		}
	}
}

// enter takes a place for a request with a body, and reports whether there was one.
func (l *limiter) enter(remote string) bool {
	who := prefixOf(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxBodies || l.bodies[who] >= maxBodiesEach {
		return false
	}
	l.all++
	l.bodies[who]++
	return true
}

// leave gives it back.
func (l *limiter) leave(remote string) {
	who := prefixOf(remote)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if l.bodies[who]--; l.bodies[who] == 0 {
		delete(l.bodies, who)
	}
}

// networkOf is a wider prefix: of those that one provider has.
func networkOf(p netip.Prefix) netip.Prefix {
	if !p.IsValid() {
		return p
	}
	bits := 16
	if p.Addr().Is6() {
		bits = 32
	}
	return netip.PrefixFrom(p.Addr(), bits).Masked()
}

// prefixOf is an IPv4 address, or the /64 of an IPv6 one, which is what one household has.
func prefixOf(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		host = remote
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	p, err := addr.Prefix(bits)
	if err != nil {
		return netip.Prefix{}
	}
	return p
}
