package recorder

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestOrigin: X-Forwarded-For is read from the right, over trusted proxies only; what stands left of the client was written by
// itself.
func TestOrigin(t *testing.T) {
	p := &Recorder{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}}}
	for _, c := range []struct {
		peer, forwarded, ip string
		port                int
		trusted             bool
	}{
		{"192.0.2.1:1000", "", "192.0.2.1", 1000, false},
		{"192.0.2.1:1000", "203.0.113.9", "192.0.2.1", 1000, false},
		{"10.0.0.1:1000", "", "10.0.0.1", 1000, true},
		{"10.0.0.1:1000", "203.0.113.9", "203.0.113.9", 0, true},
		{"10.0.0.1:1000", "1.1.1.1, 203.0.113.9, 10.0.0.2", "203.0.113.9", 0, true},
		{"10.0.0.1:1000", "1.1.1.1, evil, 10.0.0.2", "10.0.0.2", 0, true},
		{"10.0.0.1:1000", "evil", "10.0.0.1", 1000, true},
		{"[::ffff:10.0.0.1]:1000", "203.0.113.9", "203.0.113.9", 0, true},
		{"[fd00::1]:1000", "::ffff:203.0.113.9", "203.0.113.9", 0, true},
		{"[2001:db8::1%eth0]:7", "", "2001:db8::1", 7, false},
	} {
		r := &http.Request{RemoteAddr: c.peer, Host: "h", Header: http.Header{}}
		if c.forwarded != "" {
			r.Header.Set("X-Forwarded-For", c.forwarded)
		}
		o, trusted := p.origin(r)
		if o.IP != c.ip || o.Port != c.port || trusted != c.trusted {
			t.Errorf("%s %q: %s %d %v, expected %s %d %v", c.peer, c.forwarded, o.IP, o.Port, trusted, c.ip, c.port, c.trusted)
		}
		if c.forwarded != "" && strings.Join(o.Forwarded, ", ") != c.forwarded {
			t.Errorf("%q became %q", c.forwarded, o.Forwarded)
		}
	}
	long := &http.Request{RemoteAddr: "192.0.2.1:1", Header: http.Header{"X-Forwarded-For": {strings.Repeat("1.1.1.1,", 100) + strings.Repeat("x", 1000)}}}
	if o, _ := p.origin(long); len(o.Forwarded) != maxForwarded || len(o.Forwarded[31]) != maxHop {
		t.Errorf("%d hops", len(o.Forwarded))
	}
}

// TestTrustedName: a trusted proxy says who somebody is, and the scheduler isn't asked.
func TestTrustedName(t *testing.T) {
	s := newStand(t, parsedRules(t, jobRules), scheduler(), func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	s.do("POST", "/jobs/a/run", "", "X-Forwarded-User: ada", "X-Forwarded-For: 203.0.113.9")
	if e := s.queue.next(1)[0]; e.Actor.ID != "ada" || e.Actor.AuthMethod != "proxy" || e.Details["actor"] != "proxy" || e.Origin.IP != "203.0.113.9" {
		t.Errorf("%+v %+v", e.Actor, e.Origin)
	}
}

// TestForward: only if it is asked for, the client is added to what proxies say.
func TestForward(t *testing.T) {
	var got http.Header
	s := newStand(t, parsedRules(t, jobRules), func(_ http.ResponseWriter, r *http.Request) { got = r.Header }, func(c *Config) { c.Forward = true })
	s.do("GET", "/jobs/a", "", "X-Forwarded-For: 203.0.113.9")
	if !slices.Equal(got["X-Forwarded-For"], []string{"203.0.113.9, 127.0.0.1"}) || got.Get("X-Forwarded-Proto") != "http" || got.Get("X-Forwarded-Host") == "" {
		t.Errorf("%v", got)
	}
}
