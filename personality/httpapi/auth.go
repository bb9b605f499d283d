package httpapi

import (
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/personality"
)

var (
	challengeNone = []string{`Bearer realm="prooftrail"`}
	challengeBad  = []string{`Bearer realm="prooftrail", error="invalid_token"`}
)

// challenge is WWW-Authenticate (RFC 6750 §3): "If the request lacks any
// authentication information […], the resource server SHOULD NOT include an
// error code".
func (x *exchange) challenge() []string {
	if len(x.r.Header["Authorization"]) == 0 {
		return challengeNone
	}
	return challengeBad
}

// authenticate finds the token and charges the request to it, except where the
// events of the request are what is charged.
func (a *API) authenticate(x *exchange) error {
	secret, ok := bearer(x.r.Header)
	err := personality.ErrUnauthorized
	if ok {
		x.token, err = a.cfg.Log.Authenticate(x.r.Context(), secret)
	}
	if err != nil {
		x.token = nil
		if !errors.Is(err, personality.ErrUnauthorized) {
			return err
		}
		return a.refuseUnknown(x)
	}
	if a.tokens != nil {
		x.limit = a.tokens.get(x.token.ID)
	}
	if x.route.role == personality.RoleSubmit {
		return nil
	}
	return x.charge(1)
}

// refuseUnknown is 401, or 429 for an address that has tried too often.
func (a *API) refuseUnknown(x *exchange) error {
	if a.failures != nil {
		if wait := a.failures.get(addressKey(x.peerIP())).take(x.start, 1); wait > 0 {
			return &problem{kind: kindRate, retry: seconds(wait), detail: "too many requests without a valid token"}
		}
	}
	return &problem{kind: kindUnauthorized}
}

// charge takes n events from the token's rate.
func (x *exchange) charge(n int) error {
	if x.limit == nil {
		return nil
	}
	if wait := x.limit.take(time.Now(), n); wait > 0 {
		return &problem{kind: kindRate, retry: seconds(wait), detail: "the token's rate is used up"}
	}
	return nil
}

// bearer reads the credential of RFC 6750 §2.1. The scheme's case doesn't matter.
func bearer(h http.Header) (string, bool) {
	v := h["Authorization"]
	if len(v) != 1 {
		return "", false
	}
	const scheme = "bearer "
	if len(v[0]) <= len(scheme) || !strings.EqualFold(v[0][:len(scheme)], scheme) {
		return "", false
	}
	return strings.TrimLeft(v[0][len(scheme):], " "), true
}

// peerIP is the address that the request came from, as far as it is believed.
func (x *exchange) peerIP() netip.Addr {
	if !x.peer.IsValid() {
		x.peer = x.api.peerIP(x.r)
	}
	return x.peer
}

// peerIP is the connection's address or, when that is a trusted proxy's, the
// right-most address of X-Forwarded-For that isn't. What stands left of it was
// written by the client or by somebody unknown. What isn't an address ends the
// search: the last proxy before it then counts.
func (a *API) peerIP(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // not an IP socket
	}
	peer := ap.Addr().Unmap().WithZone("")
	if len(a.cfg.TrustedProxies) == 0 || !a.trusts(peer) {
		return peer
	}
	for _, line := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for line != "" {
			var hop string
			if i := strings.LastIndexByte(line, ','); i >= 0 {
				line, hop = line[:i], line[i+1:]
			} else {
				line, hop = "", line
			}
			addr, err := netip.ParseAddr(strings.TrimSpace(hop))
			if err != nil {
				return peer
			}
			peer = addr.Unmap().WithZone("")
			if !a.trusts(peer) {
				return peer
			}
		}
	}
	return peer
}

func (a *API) trusts(addr netip.Addr) bool {
	return slices.ContainsFunc(a.cfg.TrustedProxies, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// addressKey is what failures are counted by: one IPv6 host has a /64.
func addressKey(addr netip.Addr) string {
	if addr.Is6() {
		if p, err := addr.Prefix(64); err == nil {
			addr = p.Addr()
		}
	}
	return addr.String()
}

// seconds rounds up, for Retry-After; at least 1, at most an hour.
func seconds(d time.Duration) int {
	return int(min(max((d+time.Second-1)/time.Second, 1), 3600))
}
