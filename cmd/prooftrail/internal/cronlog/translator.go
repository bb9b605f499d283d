package cronlog

import (
	"bytes"
	"cmp"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/syslog"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Config says what a Translator knows beside the lines.
type Config struct {
	Key  []byte              // under which ids and digests are made; of this machine alone
	Mask func(string) string // takes secrets out of a text
	Host string              // this machine's name
	// Tabs is where crontabs are; nil if they can't be read.
	Tabs *Tabs
	// Failures says that cron logs failures, -L has 4: then END without one is success.
	Failures bool
	// User returns the name of a user of this machine, "" if there is none.
	User func(uid int) string
}

// Line is a line of syslog.
type Line struct {
	syslog.Message
	Sender   syslog.Sender
	Received time.Time
	Cut      bool
}

// Out is an event, and what is to be done when it is kept.
type Out struct {
	Event event.Event
	// Lane: events with the same lane are to be kept in order.
	Lane string
	// Done is nil, or is to be called once, with whether the event is kept: it remembers what the event tells, or has it told again.
	// A process that ends before that tells it again, too.
	Done func(kept bool) error
}

// Stats are what became of lines.
type Stats struct {
	Matter  uint64 // made an event, or belong to one
	Ignored uint64 // of no matter
	Unknown uint64 // seem to be cron's, crontab's, sudo's or PAM's, and were not understood
	Forged  uint64
	Cut     uint64 // of those that matter
	Open    int    // runs that have not ended
	Evicted uint64 // runs that were forgotten because there were too many
	// LastUnknown is one of the unknown, masked.
	LastUnknown string
}

// Translator makes events of lines. It is safe for concurrent use.
type Translator struct {
	cfg Config

	mu      sync.Mutex
	stats   Stats
	runs    runs                   // of this machine, by its cron
	claims  runs                   // of whatever else says so
	deletes map[deleteKey]deletion // crontabs that are about to go
	told    map[string]*seenTab    // versions that are not in their files yet
	digests map[[sha256.Size]byte]string
	late    []lateError
	unread  map[string]string // why crontabs can't be read, as it was told
	cleaned bool              // State, of what a crash has left
}

// New makes a translator.
func New(cfg Config) *Translator {
	if cfg.User == nil {
		cfg.User = func(int) string { return "" }
	}
	return &Translator{cfg: cfg, runs: newRuns(), claims: newRuns(), deletes: map[deleteKey]deletion{}, told: map[string]*seenTab{}, unread: map[string]string{}}
}

// MayMatter says quickly of a raw line whether it is worth taking apart.
func MayMatter(raw []byte) bool {
	return bytes.Contains(raw, []byte("cron")) || bytes.Contains(raw, []byte("CRON")) || bytes.Contains(raw, []byte("pam_")) || bytes.Contains(raw, []byte("sudo"))
}

// fate is what a line is.
type fate int

const (
	matters fate = iota
	ignored
	unknown
	forged
)

// Line makes the events of a line.
func (t *Translator) Line(l *Line) []Out {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(l.Text) > maxLineText {
		short := *l
		short.Text, short.Cut = clip(l.Text, maxLineText), true
		l = &short
	}
	outs, f := t.dispatch(l)
	switch f {
	case matters:
		t.stats.Matter++
		if l.Cut {
			t.stats.Cut++
		}
	case ignored:
		t.stats.Ignored++
	case forged:
		t.stats.Forged++
		outs = []Out{t.forgedLine(l)}
	case unknown:
		t.stats.Unknown++
		t.stats.LastUnknown = t.short(l.Program+": "+l.Text, 256)
	}
	return outs
}

func (t *Translator) dispatch(l *Line) ([]Out, fate) {
	switch program := path.Base(l.Program); {
	case strings.HasPrefix(l.Text, "pam_"):
		return t.pam(l)
	case program == "cron" || program == "CRON":
		if l.Sender.Kind == syslog.Credentials && l.Sender.UID != 0 {
			return nil, forged
		}
		return t.cron(l)
	case program == "crontab":
		return t.crontab(l)
	case program == "sudo":
		return t.sudo(l)
	}
	return nil, ignored
}

// Stats returns what was counted so far.
func (t *Translator) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.Open, s.Evicted = t.runs.open()+t.claims.open(), t.runs.evicted+t.claims.evicted
	return s
}

// identity says what is known of who wrote the line, which is about the user.
func (t *Translator) identity(l *Line, user string) string {
	switch {
	case l.Sender.Kind != syslog.Credentials:
		return "claimed"
	case l.Sender.UID == 0:
		return "root"
	case user != "" && (t.cfg.User(l.Sender.UID) == user || user == "#"+strconv.Itoa(l.Sender.UID)):
		return "self"
	}
	return "claimed"
}

// event begins an event of a line that is about the user.
func (t *Translator) event(l *Line, user, action, outcome string) event.Event {
	e := event.Event{
		Action: action, Outcome: outcome, Time: l.at(),
		Labels:  map[string]string{"ingest.sender": string(l.Sender.Kind), "ingest.identity": t.identity(l, user)},
		Details: map[string]any{"received": l.Received.UTC().Format(time.RFC3339Nano), "program": clip(l.Program, 128)},
	}
	if l.PID > 0 {
		e.Details["pid"] = l.PID
	}
	if l.Sender.Kind == syslog.Credentials && l.Sender.UID != 0 {
		e.Details["sender_uid"] = l.Sender.UID
	}
	if l.Cut {
		e.Details["cut"] = true
	}
	switch l.Sender.Kind {
	case syslog.Network:
		e.Details["peer"] = l.Sender.Peer.Addr().String()
	case syslog.TLS:
		e.Labels["ingest.peer"] = t.short(l.Sender.Name, 256)
		e.Details["peer"] = l.Sender.Peer.Addr().String()
	}
	if host := t.host(l); host != "" {
		e.Origin = &event.Origin{Host: clip(host, 512)}
	}
	if !l.Time.IsZero() && !l.Time.Equal(e.Time) {
		e.Details["claimed_time"] = l.Time.UTC().Format(time.RFC3339Nano)
	}
	return e
}

// localSkew is how far the time of a line of this machine may be from the receipt. More is a program in another
// time zone, or a lie.
const localSkew = time.Minute

// at is when the line says that it was written, if that can be.
func (l *Line) at() time.Time {
	if l.Time.IsZero() || l.Sender.Kind == syslog.Credentials && l.Time.Sub(l.Received).Abs() > localSkew ||
		l.Time.Year() < 1970 || l.Time.UTC().Year() > 9999 || l.Time.UTC().Year() < 1970 {
		return l.Received
	}
	return l.Time
}

// host is the machine that the line is about.
func (t *Translator) host(l *Line) string {
	if l.local() {
		return t.cfg.Host
	}
	return l.Host
}

// local says whether the line is about this machine.
func (l *Line) local() bool {
	return l.Sender.Kind == syslog.Credentials || l.Sender.Kind == syslog.Relay
}

// scope tells machines apart, and what the kernel vouches for from what others may have made up.
func (l *Line) scope() string {
	switch l.Sender.Kind {
	case syslog.Credentials:
		return ""
	case syslog.Relay:
		return "relay"
	}
	return l.Sender.Key() + "|" + l.Host
}

// machine is the scope of jobs.
func (l *Line) machine() string {
	if l.local() {
		return ""
	}
	return l.scope()
}

// forgedLine is the event of a line that isn't by whom it says.
func (t *Translator) forgedLine(l *Line) Out {
	uid := strconv.Itoa(l.Sender.UID)
	e := t.event(l, "", "syslog.forged", "attempt")
	e.Labels["ingest.identity"] = "self" // it is about whoever sent it
	e.Reason = &event.Reason{Code: "sender", Text: "the kernel says that uid " + uid + " sent it"}
	e.Actor = event.Actor{Type: "user", ID: cmp.Or(t.cfg.User(l.Sender.UID), "#"+uid), AuthMethod: "unix-credentials"}
	e.Target = []event.Target{{Type: "program", ID: cmp.Or(clip(l.Program, 128), "?")}}
	e.Details["line"] = t.masked(l.Text)
	e.Details["sender_pid"] = l.Sender.PID
	return Out{Event: e, Lane: "forged"}
}

// maxLineText is more than cron (4 KiB), sudo (1 KiB) or PAM write.
const maxLineText = 8 << 10

// maxText bounds what of a line's text goes into an event.
const maxText = 4 << 10

func (t *Translator) masked(s string) string { return t.short(s, maxText) }

// maskMore is how much more of a text is masked than is shown of it: a secret that is known by its end, as the password in a URL by
// the @ behind it, isn't known when that is cut off.
const maskMore = 1 << 10

// short masks a text and cuts it. It is cut before too, for masking takes its time; the word that was cut then is left out.
func (t *Translator) short(s string, n int) string {
	cut := clip(s, n+maskMore)
	masked := t.cfg.Mask(cut)
	if at := strings.LastIndexAny(masked, " \t"); len(s) > n+maskMore && at > 0 {
		masked = masked[:at]
	}
	return clip(masked, n)
}

// hmac is what is said of content that may be guessed.
func (t *Translator) hmac(purpose string, parts ...string) string {
	mac := hmac.New(sha256.New, t.cfg.Key)
	for _, p := range append([]string{purpose}, parts...) {
		mac.Write(binary.BigEndian.AppendUint32(nil, uint32(len(p))))
		mac.Write([]byte(p))
	}
	return hex.EncodeToString(mac.Sum(nil))
}

// clip cuts a text to so many bytes, and makes it UTF-8.
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
