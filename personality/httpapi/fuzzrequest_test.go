package httpapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/prooftrail/prooftrail/personality"
)

// fuzzAPI is an API without limits.
func fuzzAPI(f *testing.F) *API {
	f.Helper()
	a, err := New(Config{Log: newFakeLog(f), EventsPerSecond: -1, AuthFailuresPerMinute: -1,
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}})
	if err != nil {
		f.Fatal(err)
	}
	return a
}

// FuzzHeaders: what is read of a request's headers is harmless, and no more than they say.
func FuzzHeaders(f *testing.F) {
	a := fuzzAPI(f)
	f.Add("Bearer pt_a_b", "req-1", "gzip;q=0, br", "192.0.2.1, 10.0.0.7", "10.1.2.3:443")
	f.Add("bearer   x", "\x00", "GZIP", "::ffff:10.0.0.1, fe80::1%eth0,fd00::1", "[fd00::2%1]:1")
	f.Add("Basic x", strings.Repeat("a", 65), "gzip;q=1.0", "unknown", "@")
	f.Fuzz(func(t *testing.T, auth, id, encoding, forwarded, remote string) {
		h := http.Header{"Authorization": {auth}, "X-Request-Id": {id}, "Accept-Encoding": {encoding}, "X-Forwarded-For": {forwarded}, "User-Agent": {id}}
		if secret, ok := bearer(h); ok && (!strings.EqualFold(auth[:7], "bearer ") || !strings.HasSuffix(auth, secret) || strings.HasPrefix(secret, " ")) {
			t.Errorf("%q: credential %q", auth, secret)
		}
		if got := requestID(h); got == "" || len(got) > maxRequestID || !isToken(got) || got != id && len(got) != 13 {
			t.Errorf("%q: request id %q", id, got)
		}
		if got := userAgent(h); len(got) > 256 || !utf8.ValidString(got) {
			t.Errorf("%q: user agent %q", id, got)
		}
		if acceptsGzip(h) && !strings.Contains(strings.ToLower(encoding), "gzip") {
			t.Errorf("%q: takes gzip", encoding)
		}
		peer := a.peerIP(&http.Request{RemoteAddr: remote, Header: h})
		from, err := netip.ParseAddrPort(remote)
		if peer.IsValid() != (err == nil) || peer.Zone() != "" || peer.Is4In6() {
			t.Errorf("%q by %q: %v", remote, forwarded, peer)
		}
		if err != nil {
			return
		}
		if direct := from.Addr().Unmap().WithZone(""); !a.trusts(direct) && peer != direct {
			t.Errorf("%q: a stranger is believed to be %v", remote, peer)
		}
		if addressKey(peer) == "" {
			t.Errorf("%v has no key", peer)
		}
	})
}

// FuzzContentType: events are taken as the two types alone, and in UTF-8.
func FuzzContentType(f *testing.F) {
	for _, s := range []string{"application/json", "Application/JSON; charset=\"UTF-8\"", "application/x-ndjson;charset=latin1", "text/plain", "application/json;;", ""} {
		f.Add(s, "identity")
	}
	f.Add("application/json", "gzip")
	f.Fuzz(func(t *testing.T, contentType, coding string) {
		ndjson, err := eventsType(http.Header{"Content-Type": {contentType}, "Content-Encoding": {coding}})
		if err != nil {
			if p := problemOf(err); p.kind != kindMediaType || p.detail == "" {
				t.Errorf("%q: %v", contentType, err)
			}
			return
		}
		got, params, err := mime.ParseMediaType(contentType)
		want := map[bool]string{false: "application/json", true: "application/x-ndjson"}[ndjson]
		if charset, ok := params["charset"]; err != nil || got != want || ok && !strings.EqualFold(charset, "utf-8") || !strings.EqualFold(coding, "identity") {
			t.Errorf("%q, %q: taken as %s", contentType, coding, want)
		}
	})
}

// FuzzMatch: a path is at most one call's, and its parameters are what stands there.
func FuzzMatch(f *testing.F) {
	a := fuzzAPI(f)
	for _, s := range []string{"/v1/events", "/v1/events/a%2Fb", "/v1/logs/audit/entries/0", "/logs/audit/tile/0/x001/234.p/5", "/logs/audit/tile/entries/000", "//", "/v1/tokens/", "/%zz"} {
		f.Add("GET", s)
	}
	f.Fuzz(func(t *testing.T, method, path string) {
		u, err := url.ParseRequestURI(path)
		if err != nil || u.Path == "" {
			return
		}
		var args [3]string
		rt, p := a.match(&http.Request{Method: method, URL: u}, &args)
		if p != nil {
			if p.kind != kindNotFound && (p.kind != kindMethod || p.allow == "" || slices.Contains(strings.Split(p.allow, ", "), method)) {
				t.Errorf("%s %q: %+v", method, path, p)
			}
			return
		}
		if rt.method != method && (rt.method != "GET" || method != "HEAD") {
			t.Errorf("%s %q: route %s %s", method, path, rt.method, rt.pattern)
		}
		again, n := rt.pattern, 0
		for _, seg := range rt.segments {
			if seg[0] == '{' {
				again = strings.Replace(again, seg, args[n], 1)
				n++
			}
		}
		if again != u.Path {
			t.Errorf("%q: route %s with %q is %q", path, rt.pattern, args, again)
		}
	})
}

// FuzzNumbers: a number in a query or a path has one spelling.
func FuzzNumbers(f *testing.F) {
	for _, s := range []string{"", "0", "00", "-1", "+1", "18446744073709551615", "18446744073709551616", "1e3", "９"} {
		f.Add(s, uint64(1), uint64(100))
	}
	f.Fuzz(func(t *testing.T, s string, low, high uint64) {
		n, ok := parseNumber(s)
		if again := strconv.FormatUint(n, 10); ok && again != s {
			t.Errorf("%q was read as %d", s, n)
		}
		got, err := number(map[string]string{"n": s}, "n", low, high)
		if want := ok && low <= n && n <= high; want != (err == nil) || want && got != n {
			t.Errorf("%q within %d to %d: %d, %v", s, low, high, got, err)
		}
		if err != nil && problemOf(err).parameter != "n" {
			t.Errorf("%q: %v names no parameter", s, err)
		}
	})
}

// FuzzTokenBody: a request for a token comes back from its JSON, and a refusal names a member.
func FuzzTokenBody(f *testing.F) {
	for _, s := range []string{`{"name":"a","tenant":"b","roles":["submit"],"sources":["cron://"]}`, `{"Name":"a"}`, `{"name":1}`, `{"roles":{}}`, `[]`, `{"name":"a","name":"b"}`, `{"a/b":1}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var r personality.TokenRequest
		given, err := parseMembers(body)
		if err == nil {
			r, err = parseTokenRequest(given)
		}
		if err != nil {
			if p := problemOf(err); p.kind != kindInvalidRequest || !p.member || p.expected == "" || p.pointer != "" && p.pointer[0] != '/' {
				t.Errorf("%q: %+v", body, p)
			}
			return
		}
		members := map[string]any{}
		if json.Unmarshal(body, &members) != nil {
			t.Fatalf("%q was taken", body)
		}
		for name := range members {
			if !slices.Contains([]string{"name", "tenant", "roles", "sources"}, name) {
				t.Errorf("%q: member %q was taken", body, name)
			}
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		var std personality.TokenRequest
		if json.Unmarshal(body, &std) != nil || !reflect.DeepEqual(std, r) {
			t.Errorf("%q was read as %s", body, text)
		}
	})
}

// pieces gives a body in pieces of some size, then fails if it is to be cut short.
type pieces struct {
	body []byte
	size int
	end  error
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.body) == 0 {
		return 0, p.end
	}
	n := copy(b[:min(len(b), p.size)], p.body)
	p.body = p.body[n:]
	return n, nil
}

func (p *pieces) Close() error { return nil }

// FuzzReadBody: however a body arrives, it is read whole or refused, and the memory that it
// was counted for is given back.
func FuzzReadBody(f *testing.F) {
	a := fuzzAPI(f)
	f.Add([]byte("body"), uint16(0), uint16(100), false)
	f.Add(bytes.Repeat([]byte("x"), 20000), uint16(4095), uint16(20000), false)
	f.Add([]byte("a\nb\n\nc"), uint16(1), uint16(3), true)
	f.Fuzz(func(t *testing.T, body []byte, size, limit uint16, cutShort bool) {
		src := &pieces{body, int(size) + 1, io.EOF}
		if cutShort {
			src.end = io.ErrUnexpectedEOF
		}
		x := &exchange{api: a, w: httptest.NewRecorder(), r: &http.Request{Body: src, ContentLength: -1}}
		buf, tooLarge := getBuffer(), &problem{kind: kindRequestSize}
		err := x.readBody(buf, int(limit), tooLarge)
		switch {
		case len(body) > int(limit):
			if !errors.Is(err, tooLarge) && !cutShort {
				t.Errorf("%d bytes of at most %d: %v", len(body), limit, err)
			}
		case cutShort:
			if err == nil || problemOf(err).kind != kindInvalidRequest || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("cut short: %v", err)
			}
		case err != nil || !bytes.Equal(buf.b, body):
			t.Errorf("%d bytes came as %d: %v", len(body), len(buf.b), err)
		}
		a.releaseBody(buf)
		if n := a.bodyMemory.Load(); n != 0 {
			t.Fatalf("%d bytes are still counted", n)
		}
	})
}

// FuzzSourceKeyRequest: as FuzzTokenRequest, for keys of sources.
func FuzzSourceKeyRequest(f *testing.F) {
	for _, s := range []string{`{"tenant":"a","source":"cron://","vkey":"k+00000000+AA","required":false,"from":"2026-01-31T23:59:59+01:00"}`,
		`{"Tenant":"a"}`, `{"required":"no"}`, `{"from":"today"}`, `{"from":"0001-01-01T00:00:00Z"}`, `{"from":1}`, `[]`, `{"source":"a","source":"b"}`, `{"id":"x"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var r personality.SourceKeyRequest
		given, err := parseMembers(body)
		if err == nil {
			r, err = parseSourceKeyRequest(given)
		}
		if err != nil {
			if p := problemOf(err); p.kind != kindInvalidRequest || !p.member || p.expected == "" || p.pointer != "" && p.pointer[0] != '/' {
				t.Errorf("%q: %+v", body, p)
			}
			return
		}
		var members map[string]any
		if json.Unmarshal(body, &members) != nil {
			t.Fatalf("%q was taken", body)
		}
		if required, ok := members["required"].(bool); r.Required != (!ok || required) {
			t.Errorf("%q: required %v", body, r.Required)
		}
		if _, given := members["from"]; r.From.IsZero() == given {
			t.Errorf("%q: from %v", body, r.From)
		}
	})
}
