package rules

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// maxOddPath bounds a path that isn't plain, in bytes: it is read in many ways.
const maxOddPath = 1024

// maxSegments bounds the segments of any path.
const maxSegments = 512

// ErrPath: a path that can be read in more ways than are looked at.
var ErrPath = errors.New("the path is too long, or too odd, to tell what it means")

// ErrOverrides: more methods or paths than are looked at.
var ErrOverrides = errors.New("too many headers or parameters name a method or a path")

// Readings returns the ways in which a server may read a path, as it stands in the request line, as segments; the
// first one is what RFC 3986 says. There is one alone if the path is plain: no segment is empty but the last, or
// a dot or two, or ends in a dot or a space, or has in it, once decoded, any of / \ % ; ? # or a control character, or what
// isn't UTF-8.
func Readings(escaped string) ([][]string, error) {
	first, err := split(escaped)
	if err != nil {
		return nil, err
	}
	if len(first) > maxSegments {
		return nil, ErrPath
	}
	if !slices.ContainsFunc(first, odd) {
		return [][]string{first}, nil
	}
	if len(escaped) > maxOddPath {
		return nil, ErrPath
	}
	all, seen := [][]string{first}, map[string]bool{strings.Join(first, "\x00/"): true}
	for how := range allReadings {
		r := how.read(escaped)
		if key := strings.Join(r, "\x00/"); !seen[key] {
			seen[key] = true
			all = append(all, r)
		}
	}
	return all, nil
}

// split is the reading of RFC 3986: split at each /, then decode. One / at the end doesn't count.
func split(escaped string) ([]string, error) {
	segments := strings.Split(trimEnds(escaped), "/")
	if len(segments) == 1 && segments[0] == "" {
		return nil, nil
	}
	for i, s := range segments {
		decoded, err := url.PathUnescape(s)
		if err != nil {
			return nil, ErrPath
		}
		segments[i] = decoded
	}
	return segments, nil
}

func trimEnds(path string) string { return strings.TrimSuffix(strings.TrimPrefix(path, "/"), "/") }

func odd(segment string) bool {
	return segment == "" || strings.HasSuffix(segment, ".") || strings.HasSuffix(segment, " ") || !utf8.ValidString(segment) ||
		strings.ContainsFunc(segment, func(r rune) bool { return r < ' ' || strings.ContainsRune("/\\%;?#", r) })
}

// reading is a set of liberties that servers take, each a bit.
type reading uint

const (
	dotsFirst   reading = 1 << iota // . and .. are resolved before anything is decoded, and again if resolve is set
	decodeFirst                     // %2F is decoded before the path is split
	decodeAgain                     // what was decoded is decoded once more, until nothing is left
	backslash                       // \ is /, and so are the two bytes of an overlong one
	cut                             // the path ends at ? # or NUL
	parameters                      // ; and what follows isn't part of a segment
	trim                            // dots and spaces at the end of a segment are dropped
	collapse                        // empty segments are dropped
	resolve                         // . and .. are resolved
	allReadings                     // one more than all of them
)

// read reads a path with these liberties.
func (how reading) read(path string) []string {
	path = trimEnds(path)
	if how&dotsFirst != 0 {
		path = strings.Join(resolveDots(strings.Split(path, "/")), "/")
	}
	segments := []string{path}
	if how&decodeFirst == 0 {
		segments = strings.Split(path, "/")
	}
	for i, s := range segments {
		segments[i] = how.decode(s)
	}
	path = strings.Join(segments, "/")
	if how&decodeFirst == 0 && how&backslash == 0 {
		return how.clean(segments)
	}
	if how&backslash != 0 {
		path = overlong.Replace(path)
	}
	return how.clean(strings.Split(path, "/"))
}

// overlong are other ways to write / and a dot.
var overlong = strings.NewReplacer(`\`, "/", "\xc0\xaf", "/", "\xc0\xae", ".", "\xc1\x9c", "/")

func (how reading) decode(s string) string {
	for range 4 {
		decoded, err := url.PathUnescape(s)
		if err != nil || decoded == s {
			break
		}
		if s = decoded; how&decodeAgain == 0 {
			break
		}
	}
	return s
}

// clean does what is done to segments.
func (how reading) clean(segments []string) []string {
	if how&cut != 0 {
		for i, s := range segments {
			if at := strings.IndexAny(s, "?#\x00"); at >= 0 {
				segments = append(segments[:i:i], s[:at])
				break
			}
		}
	}
	if how&parameters != 0 {
		segments = slices.Clone(segments)
		for i, s := range segments {
			segments[i], _, _ = strings.Cut(s, ";")
		}
	}
	if how&trim != 0 {
		segments = slices.Clone(segments)
		for i, s := range segments {
			if s != "." && s != ".." {
				segments[i] = strings.TrimRight(s, ". ")
			}
		}
	}
	if how&collapse != 0 {
		segments = slices.DeleteFunc(slices.Clone(segments), func(s string) bool { return s == "" })
	}
	if how&resolve != 0 {
		segments = resolveDots(segments)
	}
	for len(segments) > 0 && segments[len(segments)-1] == "" { // a / at the end
		segments = segments[:len(segments)-1]
	}
	return segments
}

// resolveDots is RFC 3986 section 5.2.4.
func resolveDots(segments []string) []string {
	out := make([]string, 0, len(segments))
	for _, s := range segments {
		switch s {
		case ".":
		case "..":
			out = out[:max(0, len(out)-1)]
		default:
			out = append(out, s)
		}
	}
	return out
}

// Headers from which some servers take the method, or the path. Some take - and _ for the same.
var (
	methodHeaders = []string{"X-Http-Method-Override", "X-Http-Method", "X-Method-Override"}
	pathHeaders   = []string{"X-Original-Url", "X-Rewrite-Url", "X-Http-Path-Override"}
)

func named(h http.Header, names []string) (values []string) {
	for name, v := range h {
		if isNamed(name, names) {
			values = append(values, v...)
		}
	}
	return values
}

func isNamed(header string, names []string) bool {
	header = strings.ReplaceAll(header, "_", "-")
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, header) })
}

// Overrides reports whether a header may say another method or path than the request line.
func Overrides(header string) bool {
	return isNamed(header, methodHeaders) || isNamed(header, pathHeaders)
}

// Bounds of what a request may name beside its request line. What names more is refused: else the one that counts could
// stand behind others.
const (
	maxMethods = 8
	maxPaths   = 4
)

// Methods returns the methods that a request may have: its own first, and those that it names elsewhere. It returns ErrOverrides
// if there are too many.
func Methods(method string, h http.Header, query []Param) ([]string, error) {
	all := []string{method}
	add := func(name string) {
		if name = strings.ToUpper(strings.TrimSpace(name)); name != "" && len(name) <= 32 && len(all) <= maxMethods && !slices.Contains(all, name) {
			all = append(all, name)
		}
	}
	add(method) // some take it in any case
	for _, v := range named(h, methodHeaders) {
		add(v)
	}
	for _, p := range query {
		if strings.EqualFold(p.Name, methodParam) {
			add(p.Value)
		}
	}
	if len(all) > maxMethods {
		return nil, ErrOverrides
	}
	return all, nil
}

// Paths returns the paths that a request may have, as Readings takes them: its own first, and those that its headers name. It
// returns ErrOverrides if there are too many.
func Paths(path string, h http.Header) ([]string, error) {
	all := []string{path}
	for _, v := range named(h, pathHeaders) {
		v, _, _ = strings.Cut(v, "?")
		if _, rest, ok := strings.Cut(v, "://"); ok {
			_, rest, _ = strings.Cut(rest, "/")
			v = "/" + rest
		}
		if len(all) <= maxPaths && !slices.Contains(all, v) {
			all = append(all, v)
		}
	}
	if len(all) > maxPaths {
		return nil, ErrOverrides
	}
	return all, nil
}

// Param is a parameter of a query.
type Param struct{ Name, Value string }

// maxParams bounds what is looked at of a query.
const maxParams = 256

// methodParam is the parameter from which some servers take the method.
const methodParam = "_method"

// Query reads a query as leniently as any server: parameters end at & or ;, and what isn't properly encoded stays as
// it is. Of more than 256 only those are looked at that may say another method; ok is false then.
func Query(raw string) (params []Param, ok bool) {
	ok = true
	for raw != "" {
		var one string
		if at := strings.IndexAny(raw, "&;"); at >= 0 {
			one, raw = raw[:at], raw[at+1:]
		} else {
			one, raw = raw, ""
		}
		if one == "" {
			continue
		}
		name, value, _ := strings.Cut(one, "=")
		if name = unescape(name); len(params) >= maxParams && !strings.EqualFold(name, methodParam) {
			ok = false
			continue
		}
		params = append(params, Param{name, unescape(value)})
	}
	return params, ok
}

func unescape(s string) string {
	if decoded, err := url.QueryUnescape(s); err == nil {
		return decoded
	}
	return s
}
