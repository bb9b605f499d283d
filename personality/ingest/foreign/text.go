package foreign

import (
	"net/netip"
	"strings"
	"time"
	"unicode/utf8"
)

// Clip cuts s so that it has at most limit bytes, whole characters, the last of them … where something
// was cut off. limit is at least 3.
func Clip(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	s = s[:limit-len("…")]
	for len(s) > 0 {
		if r, n := utf8.DecodeLastRuneInString(s); r != utf8.RuneError || n != 1 {
			break
		}
		s = s[:len(s)-1]
	}
	return s + "…"
}

// Action makes an action of a name that may be none: in lower case, with _ for what an action can't have,
// and with prefix in front if it has no dot. The same name makes the same action; "" makes "".
func Action(prefix, name string) string {
	var b strings.Builder
	for word := range strings.SplitSeq(strings.ToLower(name), ".") {
		if word = tame(word, "_-"); word == "" {
			continue
		}
		if b.Len() > 0 {
			b.WriteByte('.')
		}
		if word[0] < 'a' {
			b.WriteByte('x')
		}
		b.WriteString(word)
	}
	action := b.String()
	if action == "" {
		return ""
	}
	if !strings.Contains(action, ".") {
		action = prefix + "." + action
	}
	if len(action) > 128 {
		action = strings.TrimRight(action[:128], ".")
	}
	return action
}

// tame is a word with _ for each character that is neither a letter, a digit nor one of also.
func tame(s, also string) string {
	return strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || strings.ContainsRune(also, r) {
			return r
		}
		return '_'
	}, s)
}

// Token makes of a text what the type of a target or the code of a reason can be: letters, digits, "_.:-",
// at most 64; otherwise if nothing is left of it.
func Token(s, otherwise string) string {
	s = strings.TrimLeft(tame(Clip(s, 256), "_.:-"), "_.:-")
	if len(s) > 64 {
		s = s[:64]
	}
	if s == "" {
		return otherwise
	}
	return s
}

// IP returns the address that s is, as an event has it; "" if it is none, as where software writes "-" or the name of a
// service.
func IP(s string) string {
	addr, err := netip.ParseAddr(strings.TrimSpace(s))
	if err != nil {
		return ""
	}
	return addr.Unmap().WithZone("").String()
}

// Port returns n if it is a port, else 0.
func Port(n int64) int {
	if n < 1 || n > 65535 {
		return 0
	}
	return int(n)
}

// TraceID returns the trace id of a traceparent (W3C Trace Context); "" if it is none.
func TraceID(traceparent string) string {
	parts := strings.Split(Clip(traceparent, 128), "-")
	if len(parts) < 4 || len(parts[1]) != 32 || strings.Trim(parts[1], "0123456789abcdef") != "" || strings.Trim(parts[1], "0") == "" {
		return ""
	}
	return parts[1]
}

// Sane reports whether t can be a time at which something happened: from 2000 to 2199. Times outside come of seconds or
// microseconds where milliseconds were meant.
func Sane(t time.Time) bool {
	return t.Year() >= 2000 && t.Year() < 2200
}
