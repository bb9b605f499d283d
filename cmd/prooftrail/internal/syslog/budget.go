package syslog

import (
	"sync"

	"golang.org/x/time/rate"
)

// maxSenders bounds how many senders a Budget tells apart at a time.
const maxSenders = 4096

// Budget bounds what one sender may say: a steady rate, and how far it may run ahead of it. All senders of this machine together
// may say ten times that, and all others too, so that whoever makes up addresses gains little, and takes nothing from
// this machine's users. It is safe for concurrent use.
type Budget struct {
	rate  rate.Limit
	burst int

	mu            sync.Mutex
	local, others senders
}

// senders are those that have one limit together.
type senders struct {
	all      *rate.Limiter
	now, old map[string]*rate.Limiter // two generations: of those that are heard, none is forgotten
}

// NewBudget makes a budget of so many lines a second; 0 is no bound.
func NewBudget(perSecond float64, burst int) *Budget {
	some := func() senders {
		return senders{all: rate.NewLimiter(rate.Limit(10*perSecond), 10*burst), now: map[string]*rate.Limiter{}}
	}
	return &Budget{rate: rate.Limit(perSecond), burst: burst, local: some(), others: some()}
}

// Allow takes one line from the sender's budget; false if there is nothing left.
func (b *Budget) Allow(sender Sender) bool {
	if b.rate == 0 {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s, key := &b.others, sender.Key()
	if sender.Kind == Credentials {
		s = &b.local
	}
	l := s.now[key]
	if l == nil {
		if l = s.old[key]; l == nil {
			l = rate.NewLimiter(b.rate, b.burst)
		}
		if len(s.now) >= maxSenders {
			s.old, s.now = s.now, map[string]*rate.Limiter{}
		}
		s.now[key] = l
	}
	return l.Allow() && s.all.Allow()
}
