package main

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// behind makes RemoteAddr the address of the client when the connection is a trusted proxy's: the
// right-most address of X-Forwarded-For that isn't one. What stands left of it was written by the
// client or by somebody unknown; what isn't an address ends the search.
func behind(proxies []netip.Prefix, h http.Handler) http.Handler {
	if len(proxies) == 0 {
		return h
	}
	trusted := func(a netip.Addr) bool {
		return slices.ContainsFunc(proxies, func(p netip.Prefix) bool { return p.Contains(a) })
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ap, err := netip.ParseAddrPort(r.RemoteAddr)
		peer := ap.Addr().Unmap().WithZone("")
		if err != nil || !trusted(peer) {
			h.ServeHTTP(w, r)
			return
		}
		hops := strings.Split(strings.Join(r.Header["X-Forwarded-For"], ","), ",")
		for _, hop := range slices.Backward(hops) {
			addr, err := netip.ParseAddr(strings.TrimSpace(hop))
			if err != nil {
				break
			}
			if peer = addr.Unmap().WithZone(""); !trusted(peer) {
				break
			}
		}
		r2 := r.Clone(r.Context())
		r2.RemoteAddr = netip.AddrPortFrom(peer, 0).String()
		h.ServeHTTP(w, r2)
	})
}
