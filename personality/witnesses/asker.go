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
	// Timeout bounds how long one witness is waited for. Default 10 s.
	Timeout time.Duration
	// Grace is how long the others are waited for once the quorum is met. Default 500 ms.
	Grace time.Duration
	// AllowHTTP allows plain http to any host, not only to a loopback address. Cosignatures
	// can't be forged even so.
	AllowHTTP bool
	// Client makes the requests. Default: one that follows no redirect.
	Client *http.Client
	// Logger gets what failed. Default: nothing is logged.
	Logger *slog.Logger
	// Asked, if not nil, is called after each witness that was asked, with its URL and nil if
	// it has cosigned.
	Asked func(url string, took time.Duration, err error)
}

// Asker asks the witnesses of one log. One goroutine at a time calls Ask.
type Asker struct {
	cfg       Config
	witnesses []*witness
}

// ErrUnreachable: not even all witnesses that can be asked would meet the quorum.
var ErrUnreachable = errors.New("the policy's quorum can't be met by the witnesses that have a URL")

// New checks the configuration; it sends nothing. ErrUnreachable is found here.
func New(cfg Config) (*Asker, error) {
	if cfg.Policy == nil || cfg.Prove == nil {
		return nil, errors.New("witnesses: no policy or nothing to prove with")
	}
	if cfg.Timeout <= 0 {
		cfg.Timeout = 10 * time.Second
	}
	if cfg.Grace <= 0 {
		cfg.Grace = 500 * time.Millisecond
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Client == nil {
		cfg.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
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
	if !cfg.Policy.MetBy(names...) {
		return nil, ErrUnreachable
	}
	return a, nil
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

// An answer is what one witness said.
type answer struct {
	witness *witness
	lines   []byte
	err     error
}

// Ask has the witnesses cosign a head, of which note is the checkpoint with the log's
// signature and no other. It returns the note with the cosignatures that verify, and whose
// they are, once the quorum is met and the others have had the grace time; or when all have
// answered, or ctx ends. Too few cosignatures are no error: see the status.
//
// A witness that is still busy with an earlier head, or has failed just now, isn't asked.
func (a *Asker) Ask(ctx context.Context, note []byte) ([]byte, verifier.Witnesses, error) {
	head, who, err := a.cfg.Policy.Verify(note)
	if err != nil {
		return nil, who, fmt.Errorf("ask witnesses: %w", err)
	}
	answers := make(chan answer, len(a.witnesses))
	asked := 0
	for _, w := range a.witnesses {
		if !w.mu.TryLock() {
			continue
		}
		if time.Now().Before(w.after) {
			w.mu.Unlock()
			continue
		}
		asked++
		// To its own end, whatever becomes of the round: what it has cosigned is worth knowing.
		ctx := context.WithoutCancel(ctx)
		go func() {
			got := a.ask(ctx, w, head, note)
			w.mu.Unlock() // before anybody can ask again
			answers <- got
		}()
	}
	return a.gather(ctx, head, note, who, answers, asked)
}

// ask asks one witness.
func (a *Asker) ask(ctx context.Context, w *witness, head verifier.Checkpoint, note []byte) answer {
	began := time.Now()
	ctx, stop := context.WithTimeout(ctx, a.cfg.Timeout)
	defer stop()
	lines, err := w.add(ctx, a, head, note)
	if err == nil {
		lines, err = a.verified(w.names, note, lines)
	}
	if err == nil {
		w.size = head.Size
	}
	now := time.Now()
	w.pause(err, now)
	if err != nil {
		a.cfg.Logger.Warn("a witness doesn't cosign", "witness", w.url, "size", head.Size, "again_in", w.after.Sub(now).Round(time.Millisecond), "error", err)
	}
	if a.cfg.Asked != nil {
		a.cfg.Asked(w.url, now.Sub(began), err)
	}
	return answer{w, lines, err}
}

// errNotCosigned: there is no cosignature of the witness's key among its lines.
var errNotCosigned = errors.New("the answer has no cosignature by the policy's key of this witness")

// verified returns those lines of an answer that are cosignatures by the policy's keys of
// this witness, verified, one a key. "The client MUST ignore any cosignatures from unknown
// keys."
func (a *Asker) verified(names []string, note, lines []byte) ([]byte, error) {
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
func (a *Asker) gather(ctx context.Context, head verifier.Checkpoint, note []byte, who verifier.Witnesses, answers <-chan answer, asked int) ([]byte, verifier.Witnesses, error) {
	cosigned := bytes.Clone(note)
	var grace <-chan time.Time
	for range asked {
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
		if _, who, err = a.cfg.Policy.Verify(cosigned); err != nil {
			return nil, who, fmt.Errorf("cosigned checkpoint of size %d: %w", head.Size, err)
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
// own signature; none of a witness that can't be reached in time. A log whose store doesn't
// lead to each of these heads is an older copy, or another history: it must not sign.
func (a *Asker) Known(ctx context.Context) []Known {
	ctx, stop := context.WithTimeout(ctx, a.cfg.Timeout)
	defer stop()
	var mu sync.Mutex
	var known []Known
	var all sync.WaitGroup
	for _, w := range a.witnesses {
		all.Go(func() {
			note, err := w.latest(ctx, a)
			if err != nil {
				a.cfg.Logger.Warn("a witness's checkpoint of this log can't be read", "witness", w.url, "error", err)
			}
			if err != nil || note == nil {
				return
			}
			head, _, err := a.cfg.Policy.Verify(note)
			if err != nil {
				a.cfg.Logger.Warn("a witness's checkpoint of this log isn't one", "witness", w.url, "error", err)
				return
			}
			mu.Lock()
			defer mu.Unlock()
			known = append(known, Known{w.url, head, note})
		})
	}
	all.Wait()
	return known
}

// Known is a checkpoint that a witness serves.
type Known struct {
	Witness string // its URL
	Head    verifier.Checkpoint
	Note    []byte // verified
}
