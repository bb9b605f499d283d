package syslog

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"
)

func zone(tb testing.TB, name string) *time.Location {
	tb.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		tb.Fatal(err)
	}
	return loc
}

func TestParse(t *testing.T) {
	received := time.Date(2026, 11, 27, 10, 20, 0, 0, time.UTC)
	at := time.Date(2026, 11, 27, 10, 19, 38, 0, time.UTC)
	exact := time.Date(2026, 11, 27, 9, 19, 38, 123456000, time.UTC)
	for raw, want := range map[string]Message{
		"<78>Nov 27 10:19:38 CRON[123]: (root) CMD ([124] x)":                                   {9, 6, at, true, "", "CRON", 123, "(root) CMD ([124] x)"},
		"<78>Nov 27 10:19:38 web1 CRON[123]: (root) CMD ([124] x)\n":                            {9, 6, at, true, "web1", "CRON", 123, "(root) CMD ([124] x)"},
		"<85>Nov 27 10:19:38 sudo:    alice : PWD=/\x00":                                        {10, 5, at, true, "", "sudo", 0, "   alice : PWD=/"},
		"<78>Nov 27 10:19:38 web1.example.com /usr/sbin/cron[123]: x":                           {9, 6, at, true, "web1.example.com", "/usr/sbin/cron", 123, "x"},
		"<78>Nov 27 10:19:38 cron[1]: a\tb\x7f\xff\ngrün":                                       {9, 6, at, true, "", "cron", 1, "a^Ib^?\\377^Jgrün"},
		"<78>2026-11-27T10:19:38.123456+01:00 web1 CRON[123]: x":                                {9, 6, exact, false, "web1", "CRON", 123, "x"},
		"<78>1 2026-11-27T10:19:38.123456+01:00 web1 CRON 123 - - (root) CMD ([1] x)":           {9, 6, exact, false, "web1", "CRON", 123, "(root) CMD ([1] x)"},
		"<78>1 2026-11-27T10:19:38.123456+01:00 web1 CRON 123 - [t tz=\"1\"] \xef\xbb\xbfx\r\n": {9, 6, exact, false, "web1", "CRON", 123, "x"},
		"<78>1 - - - - - -": {9, 6, time.Time{}, false, "", "", 0, ""},
	} {
		got, err := Parse([]byte(raw), received, time.UTC)
		if err != nil || !got.Time.Equal(want.Time) {
			t.Errorf("%q: %+v, %v", raw, got, err)
		}
		if got.Time = want.Time; got != want {
			t.Errorf("%q:\n got %+v\nwant %+v", raw, got, want)
		}
	}
	for _, raw := range []string{"", "\n", "x", "<>", "<1000>Nov 27 10:19:38 x: y", "<78>", "<78>1 x", "<78>Nov 31 99:19:38 x: y", "<78>\x00\x00", "<78>1 2026-99-27T10:19:38Z - - - - -", strings.Repeat("<78>", 1000)} {
		if m, err := Parse([]byte(raw), received, time.UTC); err == nil {
			t.Errorf("%q: %+v", raw, m)
		}
	}
}

// TestYearAndZone: what a line of RFC 3164 doesn't say is what is nearest to its receipt.
func TestYearAndZone(t *testing.T) {
	for name, tt := range map[string]struct {
		zone, received, wall, want string
	}{
		"just now":                         {"UTC", "2026-11-27T10:19:39Z", "Nov 27 10:19:38", "2026-11-27T10:19:38Z"},
		"old year's line in the new year":  {"UTC", "2027-01-01T00:00:01Z", "Dec 31 23:59:59", "2026-12-31T23:59:59Z"},
		"new year's line in the old year":  {"UTC", "2026-12-31T23:59:59Z", "Jan  1 00:00:01", "2027-01-01T00:00:01Z"},
		"new year in the zone, not in UTC": {"Europe/Berlin", "2026-12-31T23:30:00Z", "Jan  1 00:30:00", "2026-12-31T23:30:00Z"},
		"leap day":                         {"UTC", "2028-03-01T00:00:10Z", "Feb 29 23:59:59", "2028-02-29T23:59:59Z"},
		"leap day, received a year later":  {"UTC", "2029-02-28T00:00:00Z", "Feb 29 23:59:59", "2028-02-29T23:59:59Z"},
		"no leap year near":                {"UTC", "2026-03-01T00:00:00Z", "Feb 29 23:59:59", "2026-03-01T00:00:00Z"},
		"half past two, the first time":    {"Europe/Berlin", "2026-10-25T00:30:01Z", "Oct 25 02:30:00", "2026-10-25T00:30:00Z"},
		"half past two, the second time":   {"Europe/Berlin", "2026-10-25T01:30:01Z", "Oct 25 02:30:00", "2026-10-25T01:30:00Z"},
		"half an hour is put back":         {"Australia/Lord_Howe", "2026-04-04T15:15:01Z", "Apr  5 01:45:00", "2026-04-04T15:15:00Z"},
		"the hour that isn't":              {"Europe/Berlin", "2026-03-29T01:30:00Z", "Mar 29 03:30:00", "2026-03-29T01:30:00Z"},
	} {
		received, err := time.Parse(time.RFC3339, tt.received)
		if err != nil {
			t.Fatal(err)
		}
		m, err := Parse([]byte("<78>"+tt.wall+" cron[1]: x"), received, zone(t, tt.zone))
		if got := m.Time.UTC().Format(time.RFC3339); err != nil || got != tt.want || !m.TimeGuessed {
			t.Errorf("%s: %s, want %s; %v", name, got, tt.want, err)
		}
	}
}

// lines reads a stream to its end.
func lines(r *frameReader) (all []string, err error) {
	for {
		line, cut, err := r.next()
		if err != nil {
			return all, err
		}
		s := string(line)
		if cut {
			s += " (cut)"
		}
		all = append(all, s)
	}
}

func TestFrames(t *testing.T) {
	long := strings.Repeat("x", MaxLine+10)
	for name, tt := range map[string]struct {
		in   string
		want []string
		err  string
	}{
		"LF":                 {"<1>a\n<1>b\r\n\n<1>c", []string{"<1>a", "<1>b\r", "<1>c"}, "EOF"},
		"NUL":                {"<1>a\x00<1>b\x00", []string{"<1>a", "<1>b"}, "EOF"},
		"counted":            {"4 <1>a5 <1>\nb", []string{"<1>a", "<1>\nb"}, "EOF"},
		"counted, with LF":   {"4 <1>a\n4 <1>b\n", []string{"<1>a", "<1>b"}, "EOF"},
		"both":               {"4 <1>a<1>b\n4 <1>c", []string{"<1>a", "<1>b", "<1>c"}, "EOF"},
		"long":               {long + "\n<1>b\n", []string{long[:MaxLine] + " (cut)", "<1>b"}, "EOF"},
		"long, counted":      {"65546 " + long + "4 <1>b", []string{long[:MaxLine] + " (cut)", "<1>b"}, "EOF"},
		"not a number":       {"4x <1>a", nil, "malformed"},
		"too long":           {"99999999999999999999 x", nil, "malformed"},
		"ends in the line":   {"10 <1>a", nil, "unexpected EOF"},
		"ends in the number": {"10", nil, "unexpected EOF"},
		"endless":            {strings.Repeat("x", maxFrame+1), nil, "malformed"},
		"nothing":            {"", nil, "EOF"},
	} {
		begun := 0
		got, err := lines(&frameReader{r: bufio4k(strings.NewReader(tt.in)), begun: func() { begun++ }})
		if strings.Join(got, "|") != strings.Join(tt.want, "|") || !strings.Contains(err.Error(), tt.err) || begun < len(got) {
			t.Errorf("%s: %.60q, %v, %d begun", name, got, err, begun)
		}
		if strings.HasPrefix(tt.err, "malformed") != errors.Is(err, errFrame) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParse: whatever comes is taken apart or refused; what is taken has no control characters, and a time that can be told.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"<78>Nov 27 10:19:38 CRON[123]: (root) CMD ([124] x)", "<78>1 2026-11-27T10:19:38.123456+01:00 web1 CRON 123 - [a b=\"c\"] x",
		"<78>2026-11-27T10:19:38.123456+01:00 web1 CRON[123]: x", "<78>Feb 29 10:19:38 sudo: \xff\x00", "<0>Jan  1 00:00:00 x", "<78>9999-12-31T23:59:59-23:59 a b: c"} {
		f.Add([]byte(s), int64(1795774780))
	}
	f.Fuzz(func(t *testing.T, raw []byte, unix int64) {
		received := time.Unix(unix%4e9, 0)
		m, err := Parse(raw, received, zone(t, "Europe/Berlin"))
		if err != nil {
			return
		}
		if strings.ContainsFunc(m.Text+m.Host+m.Program, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0xfffd && !bytes.ContainsRune(raw, r) }) {
			t.Errorf("%q: %q %q %q", raw, m.Host, m.Program, m.Text)
		}
		if m.Facility < 0 || m.Facility > 23 || m.Severity < 0 || m.Severity > 7 || m.PID < 0 {
			t.Errorf("%q: %+v", raw, m)
		}
		if m.TimeGuessed && m.Time.Sub(received).Abs() > 370*24*time.Hour {
			t.Errorf("%q, received %v: %v", raw, received, m.Time)
		}
	})
}

// FuzzFrames: a stream gives the same lines however it is cut into reads; none is longer than MaxLine.
func FuzzFrames(f *testing.F) {
	for _, s := range []string{"<1>a\n<1>b\r\n\n", "4 <1>a5 <1>\nb", "10 x", "4x", "L\nL", "65546 LLLLL", "\x00\x001 a"} {
		f.Add(s, uint8(3))
	}
	f.Fuzz(func(t *testing.T, in string, step uint8) {
		in = strings.ReplaceAll(in, "L", strings.Repeat("long", MaxLine/16))
		if len(in) > 1<<20 {
			return
		}
		once, errOnce := lines(&frameReader{r: bufio4k(strings.NewReader(in)), begun: func() {}})
		some, errSome := lines(&frameReader{r: bufio4k(&stepReader{in, int(step) + 1}), begun: func() {}})
		if strings.Join(once, "|") != strings.Join(some, "|") || (errOnce.Error() != errSome.Error()) {
			t.Errorf("%.100q: %d lines, %v; %d lines, %v", in, len(once), errOnce, len(some), errSome)
		}
		for _, l := range once {
			if len(strings.TrimSuffix(l, " (cut)")) > MaxLine {
				t.Errorf("%.100q: a line of %d bytes", in, len(l))
			}
		}
	})
}
