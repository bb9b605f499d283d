package client

import (
	"context"
	"sync"
	"time"
)

const (
	// firstCheck is how long after its first new head a client begins to check at the latest:
	// so that one that lives for a moment doesn't.
	firstCheck = time.Second
	// checkRequests is the most requests for tiles that one check in the background makes.
	checkRequests = 64
)

// watch is what checks heads in the background: a goroutine as long as there are heads to
// prove, else none.
type watch struct {
	ctx  context.Context // ends with Close; nil without a policy
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex
	running bool
	last    time.Time // end of the last check
}

// startWatch has new heads checked from now on, and those that were remembered.
func (c *Client) startWatch() {
	c.watch.ctx, c.watch.stop = context.WithCancel(context.Background())
	c.checker.heads.fresh = c.noticeHead
	if c.checker.heads.unproven() {
		c.noticeHead()
	}
}

// stopWatch ends the goroutine and saves what was seen.
func (c *Client) stopWatch() {
	if c.checker == nil {
		return
	}
	c.watch.mu.Lock()
	c.watch.stop() // under the lock, for noticeHead must not start another one then
	c.watch.mu.Unlock()
	c.watch.wg.Wait()
	if err := c.saveHeads(); err != nil {
		c.alarm(err)
	}
}

func (c *Client) alarm(err error) {
	if c.cfg.Alarm != nil {
		c.cfg.Alarm(err)
	}
}

// noticeHead sees to it that heads are checked before long. It doesn't wait.
func (c *Client) noticeHead() {
	w := &c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	if c.cfg.CheckEvery < 0 || w.running || w.ctx.Err() != nil {
		return
	}
	w.running = true
	w.wg.Go(c.watchHeads)
}

// watchHeads checks heads at intervals until all are proven, the log is convicted, or the client is
// closed.
func (c *Client) watchHeads() {
	w := &c.watch
	for {
		if sleep(w.ctx, w.due(c.cfg.CheckEvery)) != nil {
			return
		}
		_, err := c.checkHeads(w.ctx, checkRequests)
		if w.ctx.Err() != nil {
			return
		}
		if err != nil {
			c.alarm(err)
		}
		if err := c.saveHeads(); err != nil {
			c.alarm(err)
		}
		w.mu.Lock()
		w.last = time.Now()
		if w.running = c.checker.heads.unproven(); !w.running {
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
	}
}

// due is how long to wait for the next check.
func (w *watch) due(every time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.last.IsZero() {
		return min(every, firstCheck)
	}
	return max(0, every-time.Since(w.last))
}
