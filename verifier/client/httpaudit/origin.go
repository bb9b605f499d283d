package httpaudit

import (
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/prooftrail/prooftrail/verifier/client/internal/fit"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// maxForwarded is how many addresses of a header are logged, the nearest ones.
const maxForwarded = 32

// origin says where a request came from.
func (m *Middleware) origin(r *http.Request) *event.Origin {
	o := &event.Origin{UserAgent: fit.Text(r.UserAgent(), 4096), Host: fit.Text(r.Host, 512), RequestID: fit.Text(r.Header.Get(m.cfg.RequestID), 512), TraceID: traceID(r)}
	if o.RequestID == "" {
		o.RequestID = newID()
	}
	claims := m.claims(r)
	for _, c := range claims[max(0, len(claims)-maxForwarded):] {
		o.Forwarded = append(o.Forwarded, fit.Text(c, 512))
	}
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil { // a Unix socket, or what a router has put there
		ip, ok := address(r.RemoteAddr)
		if !ok {
			return o
		}
		peer = netip.AddrPortFrom(ip, 0)
	}
	ip := plain(peer.Addr())
	for i := len(claims) - 1; i >= 0 && m.trusts(ip); i-- {
		next, ok := address(claims[i])
		if !ok {
			break
		}
		ip = next
	}
	o.IP = ip.String()
	if ip == plain(peer.Addr()) && peer.Port() != 0 {
		o.Port = int(peer.Port())
	}
	return o
}

func (m *Middleware) trusts(ip netip.Addr) bool {
	for _, p := range m.cfg.Trusted {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

func plain(ip netip.Addr) netip.Addr { return ip.Unmap().WithZone("") }

// claims are the addresses of the header, the nearest one last.
func (m *Middleware) claims(r *http.Request) (all []string) {
	forwarded := strings.EqualFold(m.cfg.Header, "Forwarded")
	for _, line := range r.Header.Values(m.cfg.Header) {
		elements := strings.Split(line, ",")
		if forwarded {
			elements = splitQuoted(line, ',')
		}
		for _, element := range elements {
			if forwarded {
				element = forParameter(element)
			}
			if element = strings.TrimSpace(element); element != "" {
				all = append(all, element)
			}
		}
	}
	return all
}

// splitQuoted splits at a separator that isn't within quotation marks. Where one is left open, which may be a client's, to hide what
// the proxy adds behind it, all separators count.
func splitQuoted(s string, sep byte) (all []string) {
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == sep && !quoted:
			all = append(all, s[start:i])
			start = i + 1
		}
	}
	if quoted {
		return strings.Split(s, string(sep))
	}
	return append(all, s[start:])
}

// forParameter is the for of an element of Forwarded (RFC 7239 section 4); "unknown" if there is none, so that nothing to its
// left is believed.
func forParameter(element string) string {
	for _, pair := range splitQuoted(element, ';') {
		name, value, ok := strings.Cut(pair, "=")
		if ok && strings.EqualFold(strings.TrimSpace(name), "for") {
			return strings.Trim(strings.TrimSpace(value), `"`)
		}
	}
	return "unknown"
}

// address reads an address with or without a port.
func address(s string) (netip.Addr, bool) {
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	ip, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}, false
	}
	return plain(ip), true
}

// traceID is that of the header traceparent (W3C Trace Context, section 3.2): "version-format = trace-id "-" parent-id "-" trace-flags",
// of which "trace-id = 32HEXDIGLC", and not all zeros.
func traceID(r *http.Request) string {
	parts := strings.Split(r.Header.Get("Traceparent"), "-")
	if len(parts) < 4 || len(parts[0]) != 2 || len(parts[1]) != 32 || strings.Trim(parts[1], "0123456789abcdef") != "" || strings.Trim(parts[1], "0") == "" {
		return ""
	}
	return parts[1]
}
