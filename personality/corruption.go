package personality

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
)

// corruption tells the service when Pebble finds that one of its files isn't as it
// wrote it: on reading, or in the background. Without somebody to be told, Pebble ends
// the process, and would again after each restart.
type corruption struct {
	any   atomic.Bool // one was found
	mu    sync.Mutex
	found error // the first
	tell  func(error)
}

// listen has tell called with the first corruption, now if one was found already. A nil
// c, of a log that isn't in Pebble, finds none.
func (c *corruption) listen(tell func(error)) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tell = tell
	if c.found != nil {
		tell(c.found)
	}
}

// report is Pebble's listener.
func (c *corruption) report(info pebble.DataCorruptionInfo) {
	c.note(fmt.Errorf("%s is damaged: %w", info.Path, info.Details))
}

// note takes note of a corruption. Of one in a value file Pebble tells only who reads it.
func (c *corruption) note(found error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found != nil {
		return
	}
	c.any.Store(true)
	c.found = found
	if c.tell != nil {
		c.tell(c.found)
	}
}

// watch has Pebble report to c. What Pebble then tries again in the background, at once
// and for ever, would fill the operator's log: one report, and the refusal, say it all.
func (c *corruption) watch(opts *pebble.Options) {
	if c == nil {
		return
	}
	opts.EventListener = &pebble.EventListener{DataCorruption: c.report, BackgroundError: func(err error) {
		if !c.any.Load() || !pebble.IsCorruptionError(err) {
			opts.Logger.Errorf("background error: %v", err)
		}
	}}
}
