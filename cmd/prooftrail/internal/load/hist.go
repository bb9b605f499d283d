package load

import (
	"math/bits"
	"time"
)

// subBits is the resolution of a Histogram: each power of two is divided into
// 2^subBits buckets.
const subBits = 7

// Histogram counts durations from 0 to about 292 years in buckets whose width
// is at most 1/128 of their value: a quantile is at most 0.8 % too high, never
// too low. Below 256 ns it is exact. The maximum is exact. The zero value is
// empty; it isn't safe for concurrent use. Adding costs a few nanoseconds and
// no allocation.
type Histogram struct {
	counts [(64 - subBits) << subBits]uint64
	n      uint64
	max    time.Duration
}

// Add counts one duration; a negative one counts as 0.
func (h *Histogram) Add(d time.Duration) {
	d = max(d, 0)
	h.counts[bucket(uint64(d))]++
	h.n++
	h.max = max(h.max, d)
}

// Merge adds all that o has counted.
func (h *Histogram) Merge(o *Histogram) {
	for i, c := range o.counts {
		h.counts[i] += c
	}
	h.n += o.n
	h.max = max(h.max, o.max)
}

// Count is how many durations were added.
func (h *Histogram) Count() uint64 { return h.n }

// Max is the longest duration added, exactly.
func (h *Histogram) Max() time.Duration { return h.max }

// Quantile returns the smallest duration that at least the share q (0 to 1) of
// what was added doesn't exceed, rounded up to the end of its bucket; 0 when
// nothing was added.
func (h *Histogram) Quantile(q float64) time.Duration {
	rank := uint64(q * float64(h.n))
	if float64(rank) < q*float64(h.n) || rank == 0 {
		rank++
	}
	var seen uint64
	for i, c := range h.counts {
		if seen += c; seen >= rank && c > 0 {
			return min(bucketEnd(i), h.max)
		}
	}
	return h.max
}

// bucket is the number of v's bucket: v itself below 2^(subBits+1), then the
// exponent and the subBits bits after the leading one.
func bucket(v uint64) int {
	shift := max(bits.Len64(v)-subBits-1, 0)
	return shift<<subBits + int(v>>shift)
}

// bucketEnd is the greatest value of a bucket.
func bucketEnd(i int) time.Duration {
	if i < 2<<subBits {
		return time.Duration(i)
	}
	shift := i>>subBits - 1
	mantissa := uint64(i - shift<<subBits)
	return time.Duration((mantissa+1)<<shift - 1)
}
