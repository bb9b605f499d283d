package witnesses

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

// Config says whom to ask, and how.
type Config struct {
	// Policy names the log and its witnesses. Those without a URL aren't asked. Required.
	Policy *verifier.Policy
	// Prove returns the RFC 6962 consistency proof between two sizes, 0 < first < second.
	// Required.
	Prove func(ctx context.Context, first, second uint64) ([]verifier.Hash, error)
	// Check, if not nil, is given a checkpoint with the log's own signature that a witness
	// showed. An error means that the log can't go on from there, or doesn't know: the witness
	// isn't asked.
	Check func(ctx context.Context, k Known) error
	// Timeout bounds how long one witness is waited for. Default 10 s.
	Timeout time.Duration
	// Grace is how long the others are waited for once the quorum is met. Default 500 ms.
	Grace time.Duration
	// AllowHTTP allows plain http to any host, not only to a loopback address. Cosignatures
	// can't be forged even so.
	AllowHTTP bool
	// Client makes the requests. Default: one that follows no redirect, and keeps a connection
	// to each witness. Close closes its idle connections.
	Client *http.Client
	// Logger gets what failed. Default: nothing is logged.
	Logger *slog.Logger
	// Asked, if not nil, is called after each witness that was asked, with its URL.
	Asked func(url string, took time.Duration, o Outcome)
}

// Known is a checkpoint that a witness serves.
type Known struct {
	Witness string // its URL
	Head    verifier.Checkpoint
	Note    []byte // verified
}

// Asker asks the witnesses of one log. One goroutine at a time calls its methods.
type Asker struct {
	cfg       Config
	witnesses []*witness

	base    context.Context // of all requests
	stop    context.CancelFunc
	running sync.WaitGroup
}

// ErrUnreachable: not even all witnesses that can be asked would meet the quorum.
var ErrUnreachable = errors.New("the policy's quorum can't be met by the witnesses that have a URL")

// maxKeys is how many cosignatures a note can have, beside the log's signature.
const maxKeys = verifier.MaxSignatures - 1

// New checks the configuration; it sends nothing. ErrUnreachable is found here.
func New(cfg Config) (*Asker, error) {
	if cfg.Policy == nil || cfg.Prove == nil {
		return nil, errors.New("witnesses: no policy or nothing to prove with")
	}
	cfg = cfg.withDefaults()
	a := &Asker{cfg: cfg}
	var names []string
	for _, w := range cfg.Policy.Witnesses() {
		if w.URL == "" {
			continue
		}
		if err := checkURL(w.URL, cfg.AllowHTTP); err != nil {
			return nil, fmt.Errorf("witness %q: %w", w.Name, err)
		}
		a.add(w.Name, strings.TrimSuffix(w.URL, "/"))
		names = append(names, w.Name)
	}
	if len(names) > maxKeys {
		return nil, fmt.Errorf("%d witnesses with a URL, at most %d fit into a signed note", len(names), maxKeys)
	}
	if !cfg.Policy.MetBy(names...) {
		return nil, ErrUnreachable
	}
	a.base, a.stop = context.WithCancel(context.Background())
	return a, nil
}

func (c Config) withDefaults() Config {
	if c.Timeout <= 0 {
		c.Timeout = 10 * time.Second
	}
	if c.Grace <= 0 {
		c.Grace = 500 * time.Millisecond
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Client == nil {
		c.Client = &http.Client{
			Transport: &http.Transport{
				Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 1,
				IdleConnTimeout: 5 * time.Minute, MaxResponseHeaderBytes: maxAnswer,
			},
			// A redirect could lead anywhere, and a POST along it to a GET.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
	}
	return c
}

// Close ends what is under way, and waits for that. Nothing may be asked any more.
func (a *Asker) Close() {
	a.stop()
	a.running.Wait()
	a.cfg.Client.CloseIdleConnections()
}

// add adds a witness, or a further key of one.
func (a *Asker) add(name, url string) {
	for _, w := range a.witnesses {
		if w.url == url {
			w.names = append(w.names, name)
			return
		}
	}
	a.witnesses = append(a.witnesses, &witness{names: []string{name}, url: url})
}

func checkURL(s string, allowHTTP bool) error {
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("URL %q: expected https://host[:port][/path]", s)
	}
	ip := net.ParseIP(u.Hostname())
	loopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !allowHTTP && !loopback) {
		return fmt.Errorf("URL %q: expected https, or http to a loopback address", s)
	}
	return nil
}

// An answer is what one witness said: cosignature lines that verify, or why not.
type answer struct {
	lines []byte
	err   error
}

// Ask has the witnesses cosign a head, of which note is the checkpoint with the log's
// signature and no other. It returns the note with the cosignatures that verify, and whose
// they are, once the quorum is met and the others have had the grace time; or when all have
// answered, or ctx ends. Too few cosignatures are no error: see the status.
//
// A witness that is still busy with an earlier head, or has failed just now, isn't asked. Nor
// is one that was asked for this head since the time that is given, and cosigned it: that
// cosignature is taken again.
func (a *Asker) Ask(ctx context.Context, note []byte, since time.Time) ([]byte, verifier.Witnesses, error) {
	head, who, err := a.cfg.Policy.Verify(note)
	if err != nil {
		return nil, who, fmt.Errorf("ask witnesses: %w", err)
	}
	answers := make(chan answer, len(a.witnesses))
	expected := 0
	for _, w := range a.witnesses {
		if !w.mu.TryLock() {
			continue
		}
		if lines := w.cosigned(head, since); lines != nil {
			answers <- answer{lines, nil}
			expected++
			w.mu.Unlock()
			continue
		}
		if time.Now().Before(w.after) {
			w.mu.Unlock()
			continue
		}
		expected++
		// To its own end, whatever becomes of the round: what it has cosigned is worth knowing.
		a.running.Go(func() {
			got := a.ask(w, head, note)
			w.mu.Unlock() // before anybody can ask again
			answers <- got
		})
	}
	return a.gather(ctx, note, who, answers, expected)
}

// ask asks one witness, which is locked.
func (a *Asker) ask(w *witness, head verifier.Checkpoint, note []byte) answer {
	began := time.Now()
	ctx, stop := context.WithTimeout(a.base, a.cfg.Timeout)
	defer stop()
	lines, err := a.cosignatures(ctx, w, head, note)
	if a.base.Err() != nil {
		return answer{nil, context.Cause(a.base)} // being closed
	}
	now := time.Now()
	if err == nil {
		w.size, w.checked = head.Size, true
		w.head, w.lines, w.at = head, lines, began
	}
	w.pause(err, now)
	a.tell(w, head.Size, now, err)
	if a.cfg.Asked != nil {
		a.cfg.Asked(w.url, now.Sub(began), outcomeOf(err))
	}
	return answer{lines, err}
}

// maxAhead is how often in a row a witness may be ahead before it is worth telling: it may be
// whenever another server of the log has asked it.
const maxAhead = 3

// tell logs that a witness has begun or ceased to fail; what lasts is for metrics.
func (a *Asker) tell(w *witness, size uint64, now time.Time, err error) {
	if err == nil {
		if w.told {
			a.cfg.Logger.Info("a witness cosigns again", "witness", w.url, "size", size)
		}
		w.missed, w.told = 0, false
		return
	}
	w.missed++
	level := slog.LevelDebug
	if !w.told && (outcomeOf(err) != Ahead || w.missed > maxAhead) {
		level, w.told = slog.LevelWarn, true
	}
	a.cfg.Logger.Log(context.Background(), level, "a witness doesn't cosign", "witness", w.url, "size", size,
		"again_in", max(0, w.after.Sub(now)).Round(time.Millisecond), "error", err)
}

// cosignatures asks a witness. What it has seen is looked at before, if that isn't known, and
// after, if it says that the head doesn't extend that.
func (a *Asker) cosignatures(ctx context.Context, w *witness, head verifier.Checkpoint, note []byte) ([]byte, error) {
	if !w.checked {
		err := a.check(ctx, w)
		var answered *statusError
		if err != nil && !errors.As(err, &answered) { // else it may answer other calls
			return nil, err
		}
	}
	lines, err := w.add(ctx, a, head, note)
	if o := outcomeOf(err); o == Ahead || o == Inconsistent {
		if seen := a.check(ctx, w); errors.Is(seen, errSeen) {
			return nil, seen
		}
	}
	if err != nil {
		return nil, err
	}
	return a.verified(w.names, note, lines)
}

// errSeen: Check has an error.
var errSeen = errors.New("the log can't go on from what the witness has seen")

// check looks at what the witness has seen, and has the log look at it.
func (a *Asker) check(ctx context.Context, w *witness) error {
	k, err := a.look(ctx, w)
	if err == nil && k != nil && a.cfg.Check != nil {
		if err = a.cfg.Check(ctx, *k); err != nil {
			w.checked = false
			err = fmt.Errorf("%w: %w", errSeen, err)
		}
	}
	return err
}

// errNotCosigned: there is no cosignature of the witness's key among its lines.
var errNotCosigned = errors.New("the answer has no cosignature by the policy's key of this witness")

// verified returns those lines of an answer that are cosignatures by the policy's keys of
// this witness, verified, one a key. "The client MUST ignore any cosignatures from unknown
// keys."
func (a *Asker) verified(names []string, note, lines []byte) ([]byte, error) {
	if bytes.Count(lines, []byte("\n")) > maxKeys {
		return nil, fmt.Errorf("the witness's answer has more than %d lines", maxKeys)
	}
	var good []byte
	var has []string
	for line := range bytes.Lines(lines) {
		_, who, err := a.cfg.Policy.Verify(slices.Concat(note, line))
		if err != nil {
			return nil, fmt.Errorf("the witness's answer: %w", err)
		}
		if len(who.Cosigned) != 1 {
			continue
		}
		if name := who.Cosigned[0].Witness; slices.Contains(names, name) && !slices.Contains(has, name) {
			good, has = append(good, line...), append(has, name)
		}
	}
	if good == nil {
		return nil, errNotCosigned
	}
	return good, nil
}

// gather puts the answers together.
func (a *Asker) gather(ctx context.Context, note []byte, who verifier.Witnesses, answers <-chan answer, expected int) ([]byte, verifier.Witnesses, error) {
	cosigned := bytes.Clone(note)
	var grace <-chan time.Time
	for range expected {
		select {
		case got := <-answers:
			if got.err != nil {
				continue
			}
			cosigned = append(cosigned, got.lines...)
		case <-grace:
			return cosigned, who, nil
		case <-ctx.Done():
			return cosigned, who, nil
		}
		var err error
		if _, who, err = a.cfg.Policy.Verify(cosigned); err != nil { // each line alone was right
			return nil, who, fmt.Errorf("cosigned checkpoint: %w", err)
		}
		if who.Status == verifier.Quorum && grace == nil {
			timer := time.NewTimer(a.cfg.Grace)
			defer timer.Stop()
			grace = timer.C
		}
	}
	return cosigned, who, nil
}

// Known returns the checkpoints of this log that its witnesses serve and that have the log's
// own signature; none of a witness that can't be reached before ctx ends, which is looked at
// again before it is asked. A log whose store doesn't lead to each of these heads is an older
// copy, or another history: it must not sign.
func (a *Asker) Known(ctx context.Context) []Known {
	ctx, stop := context.WithTimeout(ctx, a.cfg.Timeout)
	defer stop()
	var mu sync.Mutex
	var known []Known
	var all sync.WaitGroup
	for _, w := range a.witnesses {
		all.Go(func() {
			w.mu.Lock()
			defer w.mu.Unlock()
			k, err := a.look(ctx, w)
			if err != nil {
				a.cfg.Logger.WarnContext(ctx, "what a witness has seen of this log isn't known yet", "witness", w.url, "error", err)
			}
			if k != nil {
				mu.Lock()
				defer mu.Unlock()
				known = append(known, *k)
			}
		})
	}
	all.Wait()
	return known
}

// look reads the checkpoint of this log that a witness serves, which is locked; nil if it
// shows none, or none that the log has signed.
func (a *Asker) look(ctx context.Context, w *witness) (*Known, error) {
	note, err := w.latest(ctx, a)
	if err != nil {
		return nil, fmt.Errorf("read the witness's checkpoint: %w", err)
	}
	w.checked = true
	if note == nil {
		return nil, nil
	}
	head, _, err := a.cfg.Policy.Verify(note)
	if err != nil { // anybody can say that, so it is no error
		a.cfg.Logger.WarnContext(ctx, "a witness's checkpoint of this log isn't one", "witness", w.url, "error", err)
		return nil, nil
	}
	w.size = head.Size
	return &Known{w.url, head, note}, nil
}
