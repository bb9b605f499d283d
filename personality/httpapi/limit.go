package httpapi

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// maxLimiters bounds the limiters of one generation.
const maxLimiters = 10_000

// limiter is the rate of one token or address.
type limiter struct{ *rate.Limiter }

// take takes n at once, or nothing; then it says how long it takes until there
// would be n. n must not exceed the burst.
func (l *limiter) take(now time.Time, n int) time.Duration {
	if l.AllowN(now, n) {
		return 0
	}
	missing := float64(n) - l.TokensAt(now)
	if missing <= 0 || l.Limit() <= 0 {
		return time.Second // refilled between the two calls, or never will be
	}
	return max(time.Duration(missing/float64(l.Limit())*float64(time.Second)), 1)
}

// limiters holds limiters by key in two generations of at most maxLimiters
// each. When the newer is full the older is dropped, and with it what hasn't
// been asked for since. So memory is bounded and no step is long; whoever floods
// it with keys makes the limits of idle keys start anew, which gains them less
// than the keys they needed for it.
type limiters struct {
	rate  rate.Limit
	burst int

	mu       sync.Mutex
	now, old map[string]*limiter
}

func newLimiters(perSecond float64, burst int) *limiters {
	return &limiters{rate: rate.Limit(perSecond), burst: burst, now: make(map[string]*limiter)}
}

func (ls *limiters) get(key string) *limiter {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if l, ok := ls.now[key]; ok {
		return l
	}
	l, ok := ls.old[key]
	if !ok {
		l = &limiter{rate.NewLimiter(ls.rate, ls.burst)}
	}
	if len(ls.now) >= maxLimiters {
		ls.old, ls.now = ls.now, make(map[string]*limiter)
	}
	ls.now[key] = l
	return l
}
