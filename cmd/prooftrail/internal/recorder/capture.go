package recorder

import (
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// budget is memory for the copies of all bodies. Whoever gets none of it makes no copy.
type budget struct{ left atomic.Int64 }

func newBudget(bytes int64) *budget {
	b := &budget{}
	b.left.Store(bytes)
	return b
}

func (b *budget) take(n int64) bool {
	if b.left.Add(-n) < 0 {
		b.left.Add(n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.left.Add(n) }

// capture is a copy of the beginning of a body.
type capture struct {
	limit  int
	budget *budget

	mu    sync.Mutex
	data  []byte
	taken int64 // of the budget
	total int64 // bytes that went by
	cut   bool  // there was more than was copied
	done  bool  // the body has ended
}

// grow is what a copy takes of the budget at a time.
const grow = 4 << 10

// write takes note of what went by.
func (c *capture) write(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total += int64(len(b))
	if c.cut || len(b) == 0 {
		return
	}
	room := c.limit - len(c.data)
	if len(b) > room {
		b, c.cut = b[:room], true
	}
	if need := int64(len(c.data)+len(b)) - c.taken; need > 0 {
		need = (need + grow - 1) / grow * grow
		if !c.budget.take(need) {
			c.cut = true
			return
		}
		c.taken += need
	}
	c.data = append(c.data, b...)
}

func (c *capture) end() {
	c.mu.Lock()
	c.done = true
	c.mu.Unlock()
}

// copied returns the copy, and whether it is all of the body.
func (c *capture) copied() (data []byte, all bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.data, c.done && !c.cut
}

func (c *capture) size() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.total
}

// release gives the memory back. The copy isn't to be used any more.
func (c *capture) release() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.budget.give(c.taken)
	c.data, c.taken, c.cut = nil, 0, true
}

// tee is a body of which a copy is made as it is read.
type tee struct {
	io.ReadCloser
	copy   *capture // nil: none
	before func()   // called before each Read
	after  func(error)
}

// Read implements io.Reader.
func (t *tee) Read(b []byte) (int, error) {
	if t.before != nil {
		t.before()
	}
	n, err := t.ReadCloser.Read(b)
	if t.after != nil {
		t.after(err)
	}
	if t.copy != nil {
		t.copy.write(b[:n])
		if err == io.EOF {
			t.copy.end()
		}
	}
	return n, err
}

// patientWriter gives a client a time for each write of its answer, however long all of it takes. Between two of them there is none:
// a stream that is silent is the scheduler's affair, and HTTP/2 resets one whose time is over.
type patientWriter struct {
	http.ResponseWriter
	control  *http.ResponseController
	patience time.Duration
}

// limit and free do nothing where there are no deadlines: then the client has all the time.
func (w *patientWriter) limit() { _ = w.control.SetWriteDeadline(time.Now().Add(w.patience)) }
func (w *patientWriter) free()  { _ = w.control.SetWriteDeadline(time.Time{}) }

// end is for what the server writes when the handler has returned.
func (w *patientWriter) end() { w.limit() }

// WriteHeader implements http.ResponseWriter. One of 1xx is sent at once.
func (w *patientWriter) WriteHeader(status int) {
	w.limit()
	defer w.free()
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *patientWriter) Write(b []byte) (int, error) {
	w.limit()
	defer w.free()
	return w.ResponseWriter.Write(b)
}

// FlushError is what http.ResponseController calls.
func (w *patientWriter) FlushError() error {
	w.limit()
	defer w.free()
	return w.control.Flush()
}

// Unwrap is for http.ResponseController.
func (w *patientWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
