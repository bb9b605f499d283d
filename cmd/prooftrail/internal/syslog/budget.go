package syslog

import (
	"sync"

	"golang.org/x/time/rate"
)

// maxSenders bounds how many senders a Budget tells apart at a time.
const maxSenders = 4096

// Budget bounds what one sender may say: a steady rate, and how far it may run ahead of it. All senders together
// may say ten times that, so that whoever makes up addresses gains little. It is safe for concurrent use.
type Budget struct {
	rate  rate.Limit
	burst int

	mu       sync.Mutex
	all      *rate.Limiter
	now, old map[string]*rate.Limiter // two generations: of those that are heard, none is forgotten
}

// NewBudget makes a budget of so many lines a second; 0 is no bound.
func NewBudget(perSecond float64, burst int) *Budget {
	return &Budget{rate: rate.Limit(perSecond), burst: burst, all: rate.NewLimiter(rate.Limit(10*perSecond), 10*burst),
		now: map[string]*rate.Limiter{}}
}

// Allow takes one line from the sender's budget; false if there is nothing left.
func (b *Budget) Allow(sender string) bool {
	if b.rate == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.now[sender]
	if l == nil {
		if l = b.old[sender]; l == nil {
			l = rate.NewLimiter(b.rate, b.burst)
		}
		if len(b.now) >= maxSenders {
			b.old, b.now = b.now, map[string]*rate.Limiter{}
		}
		b.now[sender] = l
	}
	return l.Allow() && b.all.Allow()
}
