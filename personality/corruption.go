package personality

import (
	"fmt"
	"sync"

	"github.com/cockroachdb/pebble/v2"
)

// corruption tells the service when Pebble finds that one of its files isn't as it
// wrote it: on reading, or in the background. Without somebody to be told, Pebble ends
// the process, and would again after each restart.
type corruption struct {
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found != nil {
		return
	}
	c.found = fmt.Errorf("%s is damaged: %w", info.Path, info.Details)
	if c.tell != nil {
		c.tell(c.found)
	}
}
