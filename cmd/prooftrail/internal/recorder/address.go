package recorder

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// Bounds of what an event holds of a request's header, as verifier/event has them.
const (
	maxForwarded = 32
	maxHop       = 512
	maxAgent     = 4096
	maxHost      = 512
)

func contains(nets []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(nets, func(p netip.Prefix) bool { return p.Contains(a) })
}

// origin is where a request comes from. trusted says that the connection is a trusted proxy's.
func (p *Recorder) origin(r *http.Request) (o event.Origin, trusted bool) {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return event.Origin{}, false
	}
	addr := peer.Addr().Unmap().WithZone("")
	o.IP, o.Port = addr.String(), int(peer.Port())
	hops := hops(r.Header)
	if trusted = contains(p.cfg.TrustedProxies, addr); trusted && len(hops) > 0 {
		if client := clientOf(hops, p.cfg.TrustedProxies, addr); client != addr {
			o.IP, o.Port = client.String(), 0
		}
	}
	for _, h := range hops[max(0, len(hops)-maxForwarded):] {
		o.Forwarded = append(o.Forwarded, clip(h, maxHop))
	}
	o.UserAgent, o.Host = clip(r.UserAgent(), maxAgent), clip(r.Host, maxHost)
	o.TraceID = traceID(r.Header.Get("Traceparent"))
	return o, trusted
}

// hops are what X-Forwarded-For says, nearest last.
func hops(h http.Header) []string {
	lines := h["X-Forwarded-For"]
	if len(lines) == 0 {
		return nil
	}
	all := strings.Split(strings.Join(lines, ","), ",")
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all
}

// clientOf is the right-most address that isn't a trusted proxy's. What stands left of it was written by the client or by somebody
// unknown; what isn't an address ends the search.
func clientOf(hops []string, trusted []netip.Prefix, peer netip.Addr) netip.Addr {
	for _, hop := range slices.Backward(hops) {
		addr, err := netip.ParseAddr(hop)
		if err != nil {
			break
		}
		if peer = addr.Unmap().WithZone(""); !contains(trusted, peer) {
			break
		}
	}
	return peer
}

// traceID is the trace id of a traceparent header (W3C Trace Context section 3.2).
func traceID(parent string) string {
	parts := strings.Split(parent, "-")
	if len(parts) < 4 || len(parts[1]) != 32 || strings.Trim(parts[1], "0123456789abcdef") != "" {
		return ""
	}
	return parts[1]
}

// clip makes a text UTF-8, and cuts it to at most n bytes.
func clip(s string, n int) string {
	s = strings.ToValidUTF8(s, "\ufffd")
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
