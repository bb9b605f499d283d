package load

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Every value lies in its bucket, and buckets are as narrow as documented.
func TestBuckets(t *testing.T) {
	values := []uint64{0, 1, 255, 256, 257, math.MaxInt64}
	for shift := range 63 {
		values = append(values, 1<<shift, 1<<shift-1, 1<<shift+1)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		values = append(values, r.Uint64()>>(1+r.IntN(60)))
	}
	for _, v := range values {
		if v > math.MaxInt64 {
			continue
		}
		i := bucket(v)
		end := uint64(bucketEnd(i))
		if end < v || bucket(end) != i {
			t.Fatalf("value %d: bucket %d ends at %d, which is in bucket %d", v, i, end, bucket(end))
		}
		if end-v > v/128 {
			t.Fatalf("value %d: bucket ends at %d, more than 1/128 above", v, end)
		}
		if end < math.MaxInt64 && bucket(end+1) != i+1 {
			t.Fatalf("value %d is in bucket %d, expected %d", end+1, bucket(end+1), i+1)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var a, b, all Histogram
	r := rand.New(rand.NewPCG(3, 4))
	var exact []time.Duration
	for i := range 10_001 {
		d := time.Duration(r.ExpFloat64() * float64(5*time.Millisecond))
		exact = append(exact, d)
		[]*Histogram{&a, &b}[i%2].Add(d)
	}
	all.Merge(&a)
	all.Merge(&b)
	slices.Sort(exact)
	for _, q := range []float64{0, 0.5, 0.9, 0.99, 0.999, 1} {
		want := exact[max(int(math.Ceil(q*float64(len(exact))))-1, 0)]
		got := all.Quantile(q)
		if got < want || got > want+want/128 {
			t.Errorf("quantile %v: %v, exactly %v", q, got, want)
		}
	}
	if all.Count() != uint64(len(exact)) || all.Max() != exact[len(exact)-1] {
		t.Errorf("count %d, max %v", all.Count(), all.Max())
	}
	if got := new(Histogram).Quantile(0.5); got != 0 {
		t.Errorf("quantile of nothing: %v", got)
	}
}
