package pubstore

import (
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// Configure sets what this package needs of the database that it will be handed, and
// leaves the rest alone.
//
// Openings are nearly all of the data, are written once and never again, and lie in
// the order of their keys. So their values go to files of their own when a memtable is
// flushed, and compactions, which would write each several times, move only keys:
// measured with batches of 500, an eighth less work an event. All other values stay in the
// tables, where a look-up finds them without a second read.
func Configure(o *pebble.Options) {
	o.Experimental.ValueSeparationPolicy = func() pebble.ValueSeparationPolicy {
		return pebble.ValueSeparationPolicy{
			Enabled: true, MinimumSize: 128, MaxBlobReferenceDepth: 10,
			// A value that was replaced, because some of it was erased, must be gone from the
			// disk before long: any garbage at all has its file rewritten. It is garbage once a
			// compaction has met the old key and the new one, so whoever erases has to ask
			// for a compaction of that key.
			RewriteMinimumAge: 10 * time.Minute, TargetGarbageRatio: 0,
		}
	}
	o.Experimental.SpanPolicyFunc = spanPolicy
}

// spanPolicy says how the keys from start on are stored, and up to which key.
func spanPolicy(start []byte) (policy pebble.SpanPolicy, end []byte, err error) {
	switch key := string(start); {
	case key < prefixOpening:
		return pebble.SpanPolicy{ValueStoragePolicy: pebble.ValueStorageLowReadLatency}, []byte(prefixOpening), nil
	case key < prefixOpeningEnd:
		return pebble.SpanPolicy{DisableValueSeparationBySuffix: true}, []byte(prefixOpeningEnd), nil
	}
	return pebble.SpanPolicy{ValueStoragePolicy: pebble.ValueStorageLowReadLatency}, nil, nil
}
