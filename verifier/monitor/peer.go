package monitor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// maxUseless is how many evidence files that prove nothing are fetched from a peer in one round.
const maxUseless = 8

// peer is somebody to compare notes with.
type peer struct {
	m       *Monitor
	cfg     PeerConfig
	client  *gossip.Client             // of a monitor or distributor
	mirrors map[string]verifier.Source // by gossip.LogID

	mu      sync.Mutex
	ok      time.Time // of the last call that was answered as it should
	err     error     // of the last round; nil if it was good
	views   map[string]gossip.Verdict
	offered map[string]map[string]bool // by log: gossip.EvidenceID of the notes that the peer listed last
}

func newPeer(m *Monitor, cfg PeerConfig) (*peer, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	p := &peer{m: m, cfg: cfg, views: map[string]gossip.Verdict{}, offered: map[string]map[string]bool{}, mirrors: map[string]verifier.Source{}, ok: time.Now()}
	var err error
	p.client, err = gossip.New(gossip.Config{
		URL: cfg.URL, AllowHTTP: cfg.AllowHTTP, Timeout: cfg.Timeout, Transport: m.cfg.Transport, UserAgent: "prooftrail-monitor",
	})
	if err != nil {
		return nil, fmt.Errorf("peer %q: %w", cfg.Name, err)
	}
	if cfg.Mirrors {
		for _, l := range m.cfg.Logs {
			if l.Policy == nil {
				continue // refused later
			}
			id := gossip.LogID(l.Policy.Origin())
			if p.mirrors[id], err = m.httpSource(p.client.URL()+"/mirror/"+id, cfg.AllowHTTP, cfg.Timeout); err != nil {
				return nil, fmt.Errorf("peer %q: %w", cfg.Name, err)
			}
		}
	}
	return p, nil
}

// round compares notes about all logs: docs/spec/gossip.md, "A round".
func (p *peer) round(ctx context.Context) {
	err := p.each(ctx, false, func(ctx context.Context, f *follower) error {
		if err := p.pull(ctx, f); err != nil {
			return fmt.Errorf("heads of %s: %w", f.origin, err)
		}
		return nil
	})
	if p.cfg.Kind == Gossip && !p.gone(ctx, err) {
		err = errors.Join(err, p.exchange(ctx))
	}
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	p.err = err
	p.mu.Unlock()
	if err != nil {
		p.m.cfg.Log.WarnContext(ctx, "gossip", "peer", p.cfg.Name, "error", err)
	}
	p.watch()
}

// parallel is how many logs are talked about at once.
const parallel = 8

// each calls f for every log, until one call finds that nobody is there: it needn't be asked a hundred
// times. Of a peer that is known to be there, a call that takes too long says something about one log only.
func (p *peer) each(ctx context.Context, there bool, f func(context.Context, *follower) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	tokens := make(chan struct{}, parallel)
	errs := make([]error, len(p.m.logs))
	var wg sync.WaitGroup
	for i, log := range p.m.logs {
		tokens <- struct{}{}
		if ctx.Err() != nil {
			break
		}
		wg.Go(func() {
			defer func() { <-tokens }()
			errs[i] = f(ctx, log)
			if p.gone(ctx, errs[i]) && !(there && errors.Is(errs[i], context.DeadlineExceeded)) {
				cancel()
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// gone reports whether an error says that nobody is there: neither an answer nor our own doing.
func (p *peer) gone(ctx context.Context, err error) bool {
	return err != nil && (ctx.Err() != nil || errors.Is(err, gossip.ErrNoAnswer))
}

// answered notes that the peer is alive.
func (p *peer) answered() {
	p.mu.Lock()
	p.ok = time.Now()
	p.mu.Unlock()
}

// pull fetches the peer's heads of a log and takes them as if the log had served them. Those that are open since
// an earlier round are compared again in each look; the round doesn't wait for them.
func (p *peer) pull(ctx context.Context, f *follower) error {
	notes, err := p.fetch(ctx, f)
	if errors.Is(err, fs.ErrNotExist) { // it doesn't follow this log, or has no head yet
		p.answered()
		p.see(f, "")
		return nil
	}
	if err != nil {
		return err
	}
	p.answered()
	worst := gossip.Agrees
	var errs []error
	budget, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	for _, note := range notes {
		o, isNew, err := f.take(ctx, note, p.cfg.Name)
		if isNew && err == nil && o.standing == Open {
			f.judge(budget, o)
		}
		switch {
		case err != nil:
			errs = append(errs, err)
		case o.standing == Forked:
			worst = gossip.Contradicts
		case o.standing == Open && worst == gossip.Agrees:
			worst = gossip.Unknown
		case o.standing == Agreed:
			if _, w, err := f.policy.Verify(note); err == nil {
				f.cosign(&o.head, note, w)
			}
		}
	}
	p.see(f, worst)
	return errors.Join(errs...)
}

// fetch asks for notes in the peer's protocol.
func (p *peer) fetch(ctx context.Context, f *follower) ([][]byte, error) {
	switch p.cfg.Kind {
	case Distributor:
		note, err := patiently(ctx, func() ([]byte, error) { return p.client.Checkpoint(ctx, f.origin, 1) })
		return [][]byte{note}, err
	case WitnessKind:
		note, err := patiently(ctx, func() ([]byte, error) { return p.client.Cosigned(ctx, f.origin) })
		return [][]byte{note}, err
	}
	h, err := patiently(ctx, func() (gossip.Heads, error) { return p.client.Heads(ctx, f.origin) })
	if err != nil {
		return nil, err
	}
	var notes [][]byte
	if h.Checked != "" {
		notes = append(notes, []byte(h.Checked))
	}
	for _, n := range h.Open {
		notes = append(notes, []byte(n))
	}
	offered := map[string]bool{}
	for _, note := range notes {
		offered[gossip.EvidenceID(note)] = true // what it has needn't be posted
	}
	p.mu.Lock()
	p.offered[f.id] = offered
	p.mu.Unlock()
	return notes, nil
}

// see remembers what the peer's view of a log was; "" if it has none.
func (p *peer) see(f *follower, v gossip.Verdict) {
	p.mu.Lock()
	p.views[f.origin] = v
	p.mu.Unlock()
}

// exchange fetches the evidence that this monitor lacks, and hands over the heads and the evidence
// that the peer lacks.
func (p *peer) exchange(ctx context.Context) error {
	theirs, err := patiently(ctx, func() ([]gossip.Listed, error) { return p.client.ListEvidence(ctx) })
	if err != nil {
		return fmt.Errorf("list evidence: %w", err)
	}
	p.answered()
	var errs []error
	has := map[string]bool{}
	for _, l := range theirs {
		has[l.ID] = true
		if len(errs) == maxUseless {
			continue
		}
		if err := p.take(ctx, l); err != nil {
			errs = append(errs, fmt.Errorf("evidence %s: %w", clip(l.ID, 64), err))
		}
	}
	errs = append(errs, p.each(ctx, true, func(ctx context.Context, f *follower) error {
		if err := p.push(ctx, f); err != nil {
			return fmt.Errorf("post heads of %s: %w", f.origin, err)
		}
		return nil
	}))
	for _, e := range p.m.evidence.of("") {
		if has[e.ID] {
			continue
		}
		_, err := patiently(ctx, func() (string, error) { return p.client.PostEvidence(ctx, e.text) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("post evidence: %w", err))
		}
	}
	return errors.Join(errs...)
}

// take fetches and checks an evidence file of the peer.
func (p *peer) take(ctx context.Context, l gossip.Listed) error {
	f := p.m.byID[gossip.LogID(l.Origin)]
	if f == nil || p.m.evidence.get(l.ID) != nil || len(p.m.evidence.of(f.origin)) >= maxEvidence {
		return nil
	}
	file, err := patiently(ctx, func() ([]byte, error) { return p.client.Evidence(ctx, l.ID) })
	if err != nil {
		return err
	}
	_, err = p.m.takeEvidence(file)
	return err
}

// takeEvidence keeps a file from outside if it convicts a log that is followed.
func (m *Monitor) takeEvidence(file []byte) (*evidenceFile, error) {
	e, err := checkEvidence(file, func(origin string) *verifier.Policy {
		if f := m.byID[gossip.LogID(origin)]; f != nil {
			return f.policy
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return e, m.keepEvidence(m.byID[gossip.LogID(e.Origin)], e)
}

// push posts the heads that the peer doesn't list.
func (p *peer) push(ctx context.Context, f *follower) error {
	h, err := f.heads(ctx)
	if err != nil {
		return err
	}
	p.mu.Lock()
	offered := p.offered[f.id]
	p.mu.Unlock()
	notes := h.Open
	if h.Checked != "" {
		notes = append([]string{h.Checked}, notes...)
	}
	for _, note := range notes {
		if offered[gossip.EvidenceID([]byte(note))] {
			continue
		}
		a, err := patiently(ctx, func() (gossip.Answer, error) { return p.client.PostHead(ctx, []byte(note)) })
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it doesn't follow this log
		}
		if err != nil {
			return err
		}
		p.answered()
		for _, id := range a.Evidence[:min(len(a.Evidence), maxEvidence)] {
			if err := p.take(ctx, gossip.Listed{ID: id, Origin: f.origin}); err != nil {
				return err
			}
		}
	}
	return nil
}

// watch warns of a peer that is silent.
func (p *peer) watch() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cfg.Silent < 0 || time.Since(p.ok) < p.cfg.Silent {
		p.m.cfg.Alarms.Clear(alarmPeer, "", p.cfg.Name)
		return
	}
	p.m.cfg.Alarms.Raise(alarm.Alarm{Name: alarmPeer, Peer: p.cfg.Name, Severity: alarm.Warning,
		Summary: clip(errText("no answer from this peer since "+p.ok.UTC().Format(time.RFC3339), p.err), 1000)})
}
