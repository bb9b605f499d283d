package syslog

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	upstream "github.com/leodido/go-syslog/v4"
	"github.com/leodido/go-syslog/v4/rfc3164"
	"github.com/leodido/go-syslog/v4/rfc5424"
)

// MaxLine is how many bytes of a line are read.
const MaxLine = 64 << 10

// Message is a line, taken apart. What it says of itself is what its sender claims.
type Message struct {
	Facility, Severity int
	// Time is when the line says that it was written; zero if it doesn't say. TimeGuessed tells that the year and
	// the zone were not in it.
	Time        time.Time
	TimeGuessed bool
	Host        string // "" if it isn't in the line
	Program     string
	PID         int // 0 if it isn't in the line
	// Text has no control characters: they are written as cron writes them, ^I for a tab, and what isn't UTF-8 as
	// \377.
	Text string
}

// errSyntax is for lines of neither form.
var errSyntax = errors.New("syslog: neither RFC 3164 nor RFC 5424")

// Parse takes a line apart. What has no year and no zone is taken to be of the zone loc, in the year that is nearest to
// the receipt.
func Parse(raw []byte, received time.Time, loc *time.Location) (Message, error) {
	line := clean(bytes.TrimRight(raw, "\r\n\x00"))
	if _, rest, ok := strings.Cut(line, ">"); ok && strings.HasPrefix(rest, "1 ") {
		return parse5424(line)
	}
	return parse3164(line, received, loc)
}

func parse5424(line string) (Message, error) {
	parsed, err := rfc5424.NewParser().Parse([]byte(line))
	if err != nil {
		return Message{}, fmt.Errorf("syslog: RFC 5424: %w", err)
	}
	m, ok := parsed.(*rfc5424.SyslogMessage)
	if !ok || m == nil {
		return Message{}, errSyntax
	}
	out := ofBase(&m.Base)
	out.Text = strings.TrimPrefix(out.Text, "\ufeff")
	return out, nil
}

func parse3164(line string, received time.Time, loc *time.Location) (Message, error) {
	line, exact := cutRFC3339(line)
	parsed, err := rfc3164.NewParser(rfc3164.WithLenientDay()).Parse([]byte(line))
	if err != nil {
		return Message{}, fmt.Errorf("syslog: RFC 3164: %w", err)
	}
	m, ok := parsed.(*rfc3164.SyslogMessage)
	if !ok || m == nil {
		return Message{}, errSyntax
	}
	out := ofBase(&m.Base)
	switch {
	case !exact.IsZero():
		out.Time = exact
	case !out.Time.IsZero():
		out.Time, out.TimeGuessed = complete(out.Time, received, loc), true
	}
	return out, nil
}

// cutRFC3339 puts a time of RFC 3164 in the place of one of RFC 3339, which is what many send.
func cutRFC3339(line string) (string, time.Time) {
	pri, rest, ok := strings.Cut(line, ">")
	stamp, rest, ok2 := strings.Cut(rest, " ")
	if !ok || !ok2 {
		return line, time.Time{}
	}
	t, err := time.Parse(time.RFC3339Nano, stamp)
	if err != nil || t.Year() < 1970 || t.Year() > 9998 {
		return line, time.Time{}
	}
	return pri + ">" + t.Format(time.Stamp) + " " + rest, t
}

func ofBase(b *upstream.Base) (m Message) {
	text := func(s *string) string {
		if s == nil {
			return ""
		}
		return *s
	}
	if b.Priority != nil {
		m.Facility, m.Severity = int(*b.Priority)/8, int(*b.Priority)%8
	}
	if b.Timestamp != nil {
		m.Time = *b.Timestamp
	}
	m.Host, m.Program, m.Text = text(b.Hostname), text(b.Appname), text(b.Message)
	if n, err := strconv.Atoi(text(b.ProcID)); err == nil && n > 0 {
		m.PID = n
	}
	return m
}

// clean makes a line that holds no control characters and is UTF-8.
func clean(raw []byte) string {
	var b strings.Builder
	b.Grow(len(raw))
	for len(raw) > 0 {
		r, n := utf8.DecodeRune(raw)
		switch c := raw[0]; {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, "\\%03o", c)
		case c < ' ':
			b.WriteByte('^')
			b.WriteByte(c + '@')
		case c == 0x7f:
			b.WriteString("^?")
		default:
			b.Write(raw[:n])
		}
		raw = raw[n:]
	}
	return b.String()
}

// complete gives a wall clock time without year and zone the year and, where the clock shows a time twice, the one
// of both that is nearest to the receipt.
func complete(wall, received time.Time, loc *time.Location) (best time.Time) {
	here := received.In(loc)
	for year := here.Year() - 1; year <= here.Year()+1; year++ {
		at := time.Date(year, wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), wall.Nanosecond(), loc)
		if at.Month() != wall.Month() { // the 29th of February
			continue
		}
		for _, t := range append(twice(at), at) {
			if best.IsZero() || t.Sub(received).Abs() < best.Sub(received).Abs() {
				best = t
			}
		}
	}
	if best.IsZero() { // the 29th of February, three years from any leap year
		return received
	}
	return best
}

// twice returns the other times at which the clock shows the same as at t, when it is put back.
func twice(t time.Time) (all []time.Time) {
	for _, shift := range []time.Duration{-2 * time.Hour, -time.Hour, -30 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour} {
		other := t.Add(shift)
		if other.Format(time.DateTime) == t.Format(time.DateTime) {
			all = append(all, other)
		}
	}
	return all
}
