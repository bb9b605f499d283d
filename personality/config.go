package personality

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// Config is how a log is opened. The zero value of every field but Dir has a
// meaning, given with it.
type Config struct {
	// Dir is the data directory, made by Create: the log's key and policy, and, unless it is
	// in a Database, all the rest. Then one process at a time.
	Dir string
	// Database is the MySQL or MariaDB database that the log is kept in. Several processes may
	// open it, each with a Dir that holds the same key. Nil: the log is in Dir.
	Database *mysqldb.Config
	// Trillian is how Trillian's log servers are reached, of a log whose tree a cluster keeps;
	// the rest of it is in the Database. Nil: Trillian's code runs in this process. Its Logger
	// is this one's.
	Trillian *tree.RemoteConfig
	// Anchor is the file that keeps the newest signed head (I3). It must not be
	// part of any backup that Dir is part of, and belongs on another volume in
	// production. Default: Dir with ".anchor" appended, beside the directory. Processes
	// that share a Database may share it, or have one each.
	Anchor string
	// QueueEvents bounds the events admitted and not yet sequenced; past it,
	// Admit waits. Default 4096.
	QueueEvents int
	// QueueBytes bounds the same by their size, about, in bytes. Default 64 MiB.
	QueueBytes int64
	// MaxUnpublished bounds the entries stored and not yet published; past it,
	// events are refused with ErrBusy until publishing goes on. Default 100000.
	MaxUnpublished int
	// MaxLag is the age of the oldest unpublished event past which the service
	// says that it isn't ready. Default 10 s.
	MaxLag time.Duration
	// MaxBatch bounds the events of one group commit, 1..1000. Greater batches
	// cost latency under load, smaller ones throughput. Default 500.
	MaxBatch int
	// CacheBytes is the block cache of the embedded database. Half of
	// it at most goes to memtables, and the filters of the identities live in it:
	// two times 12 bits an event. Default 128 MiB.
	CacheBytes int64
	// MinFree is the free space of the data directory's disk, in bytes, below which
	// events are refused with ErrFull. What is left is for signing what is stored, for
	// the database to put itself in order, and for the service's own events. Default
	// 256 MiB; negative for none, so that only a disk without any room counts as full.
	MinFree int64
	// Adapters know the forms of other systems: see package ingest. Their names differ.
	Adapters []ingest.Adapter
	// QuarantineItems bounds the items of one tenant in the quarantine, and QuarantineBytes what they
	// take in bytes, 1 MiB at least. A delivery that would add more is refused with
	// ErrQuarantineFull. Defaults 10000 and 64 MiB.
	QuarantineItems int
	QuarantineBytes int64
	// Witnesses says whose cosignatures the public heads need. Nil: nobody's.
	Witnesses *WitnessConfig
	// Logger gets what an operator should know. Default: nothing is logged.
	Logger *slog.Logger
	// Metrics gets counts and times. Default: none are kept.
	Metrics *Metrics
	// Now is the sequencer's clock. Default time.Now.
	Now func() time.Time

	fs         vfs.FS      // of the embedded database; tests lose power with it
	corruption *corruption // of its files
	room       *room       // the disk of Dir, made by withDefaults
}

// maxBatchEvents is the greatest MaxBatch.
const maxBatchEvents = 1000

// maxBatchBytes bounds the openings of one group commit. A single event's may
// exceed it and is then a batch of its own.
const maxBatchBytes = 8 << 20

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("the data directory is not given")
	}
	c.Dir = filepath.Clean(c.Dir)
	c.Anchor = cmp.Or(c.Anchor, c.Dir+".anchor")
	c.QueueEvents = cmp.Or(c.QueueEvents, 4096)
	c.QueueBytes = cmp.Or(c.QueueBytes, 64<<20)
	c.MaxUnpublished = cmp.Or(c.MaxUnpublished, 100_000)
	c.MaxLag = cmp.Or(c.MaxLag, 10*time.Second)
	c.MaxBatch = cmp.Or(c.MaxBatch, 500)
	c.CacheBytes = cmp.Or(c.CacheBytes, 128<<20)
	c.MinFree = cmp.Or(c.MinFree, 256<<20)
	c.QuarantineItems = cmp.Or(c.QuarantineItems, 10_000)
	c.QuarantineBytes = cmp.Or(c.QuarantineBytes, 64<<20)
	if c.Trillian != nil && c.Database == nil {
		return c, errors.New("a log whose tree a Trillian cluster keeps needs a database for the rest")
	}
	if c.Database != nil {
		c.MinFree = -1 // only the anchor is here, and its room is taken already
	}
	if err := c.checkLimits(); err != nil {
		return c, err
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Metrics == nil {
		c.Metrics = NewMetrics(nil)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.fs == nil {
		c.fs = vfs.Default
	}
	dir := filepath.Join(c.Dir, storeDir)
	if c.Database != nil {
		dir = filepath.Dir(c.Anchor)
	}
	c.room = newRoom(c, dir)
	return c, nil
}

// checkLimits names the first limit that is out of range.
func (c *Config) checkLimits() error {
	for _, l := range []struct {
		name            string
		value, min, max int64
	}{
		{"QueueEvents", int64(c.QueueEvents), 1, 1 << 24},
		{"QueueBytes", c.QueueBytes, 1 << 10, 1 << 40},
		{"MaxUnpublished", int64(c.MaxUnpublished), 1, 10_000_000},
		{"MaxBatch", int64(c.MaxBatch), 1, maxBatchEvents},
		{"CacheBytes", c.CacheBytes, 1 << 20, 1 << 40},
		{"QuarantineItems", int64(c.QuarantineItems), 1, 1_000_000},
		{"QuarantineBytes", c.QuarantineBytes, 1 << 20, 1 << 40},
		{"MaxLag", int64(c.MaxLag), 1, int64(24 * time.Hour)},
	} {
		if l.value < l.min || l.value > l.max {
			return &InvalidError{Field: l.name, Expected: fmt.Sprintf("a number from %d to %d", l.min, l.max)}
		}
	}
	return nil
}
