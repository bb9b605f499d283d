package pebblestore

import (
	"context"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
)

// formatMajorVersion pins what Pebble writes, so that a newer library doesn't
// change the files of an older one without anybody deciding it.
const formatMajorVersion = pebble.FormatValueSeparation

// CacheSize is the block cache that Configure asks for, in bytes. Pebble takes the
// memtables out of it, at most half of it here. The rest holds, before all, the
// filters of the identity hashes: twelve bits a leaf, 45 MiB for 30 million leaves. A log
// much larger than that wants a larger cache: set Options.CacheSize before.
const CacheSize = 128 << 20

// Configure sets what this package needs of the database that it will be handed, and
// leaves the rest alone; a Cache or CacheSize that is set already stays.
//
// Filters are on all levels, the last too, for almost every identity hash that is
// looked up is a new one and must be refused by memory, not by disk. The rest was
// measured, with batches of 500: small memtables, for a large one costs more in cache
// misses than it saves in compaction, and late compaction of level 0, for its
// tables are asked through their filters anyway.
func Configure(o *pebble.Options) {
	if o.FormatMajorVersion < formatMajorVersion {
		o.FormatMajorVersion = formatMajorVersion
	}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(12)
		o.Levels[i].BlockSize = 16 << 10
	}
	if o.Cache == nil && o.CacheSize == 0 {
		o.CacheSize = CacheSize
	}
	cache := o.CacheSize
	if o.Cache != nil {
		cache = o.Cache.MaxSize()
	}
	o.MemTableSize = uint64(min(max(cache/8, 1<<20), 16<<20))
	o.MemTableStopWritesThreshold = 4
	o.L0CompactionThreshold = 8
	o.L0StopWritesThreshold = 24
	o.LBaseMaxBytes = 128 << 20
	o.CompactionConcurrencyRange = func() (lower, upper int) { return 1, 2 }
}

type deferSync struct{}

// DeferSync returns a context under which transactions commit without waiting for
// the disk. Such a commit is visible at once and becomes durable with the next
// synced commit to the same *pebble.DB, of whomever: the write-ahead log keeps their
// order, so after a crash a later commit is never there without an earlier one.
func DeferSync(ctx context.Context) context.Context {
	return context.WithValue(ctx, deferSync{}, true)
}

func writeOptions(ctx context.Context) *pebble.WriteOptions {
	if ctx.Value(deferSync{}) != nil {
		return pebble.NoSync
	}
	return pebble.Sync
}
