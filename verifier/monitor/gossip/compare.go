package gossip

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

const (
	// compareTime bounds the comparison with one monitor, the log's proofs included.
	compareTime = 2 * time.Minute
	// maxFetched is how many evidence files of one monitor are fetched at a time. One that convicts is
	// enough.
	maxFetched = 8
	// maxReason bounds, in bytes, what is repeated of a monitor's words.
	maxReason = 600
)

// Status says how a monitor's heads and one's own go together, as far as it was proven here.
type Status string

const (
	// StatusAgrees: the monitor has checked every entry up to our head, or beyond it, and its head
	// and ours are of one history.
	StatusAgrees Status = "agrees"
	// StatusBehind: as StatusAgrees, but the monitor hasn't come as far as our head yet. What follows
	// its head was compared with nothing; it holds our head now, and will.
	StatusBehind Status = "behind"
	// StatusContradicts: the log signed two histories, and the evidence proves it.
	StatusContradicts Status = "contradicts"
	// StatusUnproven: the monitor answered, and neither one nor the other could be proven.
	StatusUnproven Status = "unproven"
	// StatusUnreachable: there was no answer.
	StatusUnreachable Status = "unreachable"
)

// Comparison is what came of comparing one's own head with a monitor's.
type Comparison struct {
	Monitor string `json:"monitor"` // its URL
	Status  Status `json:"status"`
	// Checked is the size of the head up to which the monitor has checked the log, if it showed one
	// that the log signed.
	Checked *uint64 `json:"checked_size,omitempty"`
	// Posted: the monitor has taken our head.
	Posted bool `json:"posted"`
	// Reason says why nothing was proven, or what else there is to know. Some of it may be the
	// monitor's words: print it with care.
	Reason string `json:"reason,omitempty"`
	// Evidence convicts the log by [verifier.Evidence.Check]. nil unless the status is
	// StatusContradicts.
	Evidence *verifier.Evidence `json:"evidence,omitempty"`
}

// Agreement reports whether the monitor's checked head and ours were proven to be of one history.
func (c *Comparison) Agreement() bool { return c.Status == StatusAgrees || c.Status == StatusBehind }

// Own is the head to compare with.
type Own struct {
	Policy *verifier.Policy
	// Note is the head as the log signed it. Others' signatures are kept in evidence, and not handed
	// to monitors.
	Note []byte
	// Tiles are the log's: all proofs are made from them.
	Tiles verifier.TileReader
}

// Compare hands a head to monitors, asks each for its own, and proves whether they are of one
// history. The results are in the order of the monitors, which are asked at once, each for at most two
// minutes. The error says that the note isn't one of the policy's log; nothing else is one.
//
// Nothing that a monitor says is believed. Its heads count if the log has signed them, agreement
// and contradiction only if the log's own tiles show them, and evidence if it convicts. So a monitor can
// keep itself from being compared with, and no more. What one of them knows of a fork, or what was
// found, is handed to the others.
//
// Cost: for each monitor three requests, one for each evidence file that it names (at most 8), and
// one proof, of a few tiles, for each head that it shows (at most 34).
func Compare(ctx context.Context, monitors []*Client, own Own) ([]Comparison, error) {
	head, bare, err := signedHead(own.Policy, own.Note)
	if err != nil {
		return nil, err
	}
	results := make([]Comparison, len(monitors))
	each(len(monitors), func(i int) {
		ctx, cancel := context.WithTimeout(ctx, compareTime)
		defer cancel()
		k := &comparer{Own: own, monitor: monitors[i], head: head, bare: bare}
		k.result.Monitor = monitors[i].URL()
		k.run(ctx)
		results[i] = k.result
	})
	spread(ctx, monitors, results)
	return results, nil
}

// each calls f for 0 to n-1 at once.
func each(n int, f func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// spread hands the evidence that was found to every monitor. Whether it is taken matters to nobody
// here: they can be told again in the next round.
func spread(ctx context.Context, monitors []*Client, results []Comparison) {
	files := map[string][]byte{} // by id
	for i := range results {
		if e := results[i].Evidence; e != nil {
			file := e.Text()
			files[EvidenceID(file)] = file
		}
	}
	if len(files) == 0 {
		return
	}
	each(len(monitors), func(i int) {
		if results[i].Status == StatusUnreachable {
			return
		}
		for _, file := range files {
			_, _ = monitors[i].PostEvidence(ctx, file)
		}
	})
}

// comparer compares with one monitor.
type comparer struct {
	Own
	monitor *Client
	head    verifier.Checkpoint // of Note
	bare    []byte              // Note with the log's signature alone
	result  Comparison

	reasons []string
	claim   bool // the monitor says that the log forked
	newest  *verifier.Checkpoint
}

func (k *comparer) run(ctx context.Context) {
	k.result.Status = StatusUnproven // until it is proven
	defer func() { k.result.Reason = clip(strings.Join(k.reasons, "; ")) }()
	answer, err := k.post(ctx)
	k.result.Posted = err == nil
	if err != nil {
		k.failed("hand in our head", err)
		if !answered(err) {
			return
		}
	}
	heads, err := k.monitor.Heads(ctx, k.head.Origin)
	if err != nil {
		k.failed("ask for its heads", err)
	} else {
		k.result.Status = StatusUnproven
	}
	if k.evidence(ctx, answer) {
		return
	}
	all := k.heads(ctx, answer.Checked, heads)
	if k.newest != nil {
		k.result.Checked = &k.newest.Size
	}
	if k.result.Evidence == nil && err == nil && all {
		k.agree()
	}
}

// post hands in our head.
func (k *comparer) post(ctx context.Context) (Answer, error) {
	a, err := k.monitor.PostHead(ctx, k.bare)
	if err == nil && (a.Origin != k.head.Origin || a.Size != k.head.Size) {
		return Answer{}, fmt.Errorf("%w: it is about another head", ErrAnswer)
	}
	return a, err
}

// answered reports whether there is anybody who answers, whatever it is.
func answered(err error) bool {
	var status *StatusError
	return errors.As(err, &status) || errors.Is(err, ErrAnswer)
}

// failed notes what couldn't be asked.
func (k *comparer) failed(what string, err error) {
	var status *StatusError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k.note("it doesn't follow this log")
		return
	case errors.As(err, &status), !errors.Is(err, ErrAnswer):
		k.result.Status = StatusUnreachable
	}
	k.note(fmt.Sprintf("could not %s: %v", what, err))
}

func (k *comparer) note(reason string) {
	if len(k.reasons) == 0 || k.reasons[len(k.reasons)-1] != reason {
		k.reasons = append(k.reasons, clip(reason))
	}
}

// evidence fetches what the monitor names as evidence against this log, and reports whether one of
// the files convicts it.
func (k *comparer) evidence(ctx context.Context, a Answer) bool {
	k.claim = a.Verdict == Contradicts
	ids := a.Evidence
	listed, err := k.monitor.ListEvidence(ctx)
	if err != nil {
		k.note(fmt.Sprintf("could not ask for its evidence: %v", err))
	}
	for _, l := range listed {
		if l.Origin == k.head.Origin {
			ids = append(ids, l.ID)
		}
	}
	k.claim = k.claim || len(ids) > 0
	tried := map[string]bool{}
	for _, id := range ids {
		if tried[id] || len(tried) == maxFetched {
			continue
		}
		tried[id] = true
		e, err := k.fetch(ctx, id)
		if err == nil {
			k.convict(e, "by evidence that it holds")
			return true
		}
		k.note(fmt.Sprintf("its evidence counts for nothing: %v", err))
	}
	return false
}

// fetch returns evidence that convicts this log.
func (k *comparer) fetch(ctx context.Context, id string) (*verifier.Evidence, error) {
	file, err := k.monitor.Evidence(ctx, id)
	if err != nil {
		return nil, err
	}
	e, err := verifier.ParseEvidence(file)
	if err != nil {
		return nil, err
	}
	if _, err := e.Check(k.Policy); err != nil {
		return nil, err
	}
	return e, nil
}

// convict notes a fork that is proven.
func (k *comparer) convict(e *verifier.Evidence, how string) {
	k.result.Status, k.result.Evidence = StatusContradicts, e
	k.reasons = nil
	k.note("the log signed two histories, " + how)
}

// heads holds every head that the monitor showed against ours, and reports whether each that the
// log has signed was proven to be of one history with it. It ends with the first one that convicts.
func (k *comparer) heads(ctx context.Context, checked string, h Heads) (all bool) {
	all = true
	seen := map[verifier.Checkpoint]bool{}
	for i, note := range append([]string{checked, h.Checked}, h.Open...) {
		if note == "" {
			continue
		}
		c, _, err := signedHead(k.Policy, []byte(note))
		if err != nil {
			k.note(fmt.Sprintf("one of its heads counts for nothing: %v", err))
			continue
		}
		if isChecked := i < 2; isChecked && (k.newest == nil || c.Size > k.newest.Size) {
			k.newest = &c
		}
		if seen[c] {
			continue
		}
		seen[c] = true
		e, err := Relate(ctx, k.Policy, k.Tiles, Head{k.head, k.Note}, Head{c, []byte(note)})
		if e != nil && err == nil {
			k.convict(e, fmt.Sprintf("by its head of size %d and ours of size %d", c.Size, k.head.Size))
			return false
		}
		if err != nil {
			k.note(fmt.Sprintf("its head of size %d and ours of size %d: %v", c.Size, k.head.Size, err))
			all = false
		}
	}
	return all
}

// agree concludes from heads that were all proven to be of one history with ours.
func (k *comparer) agree() {
	if k.newest == nil {
		k.note("it shows no head up to which it has checked this log")
		return
	}
	switch {
	case k.claim:
		// Its heads agree with ours, and perhaps it holds others of which it shows nothing now.
		k.note("it says that the log forked, and showed nothing that proves it")
	case k.newest.Size < k.head.Size:
		k.result.Status = StatusBehind
	default:
		k.result.Status = StatusAgrees
	}
}

// clip cuts a reason to what is repeated of others' words.
func clip(s string) string {
	if len(s) <= maxReason {
		return s
	}
	return strings.ToValidUTF8(s[:maxReason], "") + "…"
}
