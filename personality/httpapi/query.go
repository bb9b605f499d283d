package httpapi

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prooftrail/prooftrail/verifier"
)

// maxValue bounds the value of a query parameter, in bytes.
const maxValue = 4096

// parseQuery reads a query string that may hold the named parameters, each once.
// Anything else is refused: a misspelt parameter must not pass for a default.
func parseQuery(raw string, names ...string) (map[string]string, error) {
	if raw == "" {
		return nil, nil
	}
	values := make(map[string]string, len(names))
	for pair := range strings.SplitSeq(raw, "&") {
		key, value, ok := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(key)
		if err != nil || !slices.Contains(names, name) {
			return nil, badParameter(cut(key, 64), expectedNames(names))
		}
		if _, twice := values[name]; twice {
			return nil, badParameter(name, "it once")
		}
		if !ok {
			return nil, badParameter(name, "a value")
		}
		v, err := url.QueryUnescape(value)
		if err != nil || !utf8.ValidString(v) {
			return nil, badParameter(name, "percent-encoded UTF-8")
		}
		if len(v) > maxValue {
			return nil, badParameter(name, "at most 4096 bytes")
		}
		values[name] = v
	}
	return values, nil
}

func expectedNames(names []string) string {
	if len(names) == 0 {
		return "no parameters"
	}
	return "only the parameters " + strings.Join(names, ", ")
}

// number reads a required parameter that is a decimal number within low..high.
func number(values map[string]string, name string, low, high uint64) (uint64, error) {
	n, ok := parseNumber(values[name])
	if !ok || n < low || n > high {
		return 0, badParameter(name, "a decimal number from "+strconv.FormatUint(low, 10)+" to "+strconv.FormatUint(high, 10))
	}
	return n, nil
}

// pathIndex reads the index in a path. What can't be an index isn't there.
func (x *exchange) pathIndex(s string) (uint64, error) {
	n, ok := parseNumber(s)
	if !ok || n >= verifier.MaxTreeSize {
		return 0, &problem{kind: kindNotFound, parameter: "index", detail: "index: expected a decimal number"}
	}
	return n, nil
}

// parseNumber reads the one canonical spelling of a decimal number.
func parseNumber(s string) (uint64, bool) {
	if s == "" || len(s) > 1 && s[0] == '0' {
		return 0, false
	}
	n, err := strconv.ParseUint(s, 10, 64)
	return n, err == nil
}

// noQuery refuses any parameter.
func (x *exchange) noQuery() error {
	_, err := parseQuery(x.r.URL.RawQuery)
	return err
}

// checkLog compares the {log} of a path with the one log that is served.
func (x *exchange) checkLog() error {
	if x.args[0] != x.api.cfg.Log.LogName() {
		return &problem{kind: kindNotFound, parameter: "log", detail: "there is no log of this name"}
	}
	return nil
}
