package seal

import (
	"crypto/sha256"
	"testing"
)

// typical is an event of 850 bytes as a cron service sends it, and what the server adds:
// 33 fields, which make 2.4 KB of opening.
const typical = `{"schema":"prooftrail.event/1","id":"1ad3b84e-9764-7d92-a721-f2fdc99b0a0a","source":"cron://bench/3","seq":"196",` +
	`"time":"2026-11-25T22:45:36.308Z","action":"run.start","outcome":"success",` +
	`"actor":{"type":"schedule","id":"schedule/job-202338","name":"nightly and hourly production schedule","on_behalf_of":"u-1018"},` +
	`"target":[{"type":"job","id":"job-202338","name":"rotate access logs"}],` +
	`"job":{"id":"job-202338","name":"rotate access logs","schedule":"*/5 * * * *","tz":"Europe/Zurich",` +
	`"command_sha256":"9f2c1a7be03d55816f0d8e5ab7a1c4477f6a8e01d3b92c5407e1f2a3b4c5d6e7","run_id":"0eae94a0-8b62-71fd-9f48-7ef012ce1e3b",` +
	`"scheduled_for":"2026-11-25T22:45:36Z","trigger":"schedule","node":"worker-07.eu-central-1.example.com"},` +
	`"labels":{"env":"production","region":"eu-central-1","team":"data-platform"},"details":{"attempt":1,"queue":"default","slots":4},` +
	`"tenant":"default","received_at":"2026-11-25T22:45:36.308129252Z","ingest":{"peer_ip":"127.0.0.1","principal":"submit/67cdxib47n54"}}`

// BenchmarkAuditOpening is what an audit does with one opening: parse it and compute the
// leaf hash. blocks is how many blocks of 64 bytes SHA-256 goes through for it; what that
// takes by itself is BenchmarkHashFloor.
func BenchmarkAuditOpening(b *testing.B) {
	b.ReportAllocs()
	opening := sealed(b, typical).Opening
	b.SetBytes(int64(len(opening)))
	var p Parser
	for b.Loop() {
		if _, err := p.Parse(opening); err != nil {
			b.Fatal(err)
		}
		_ = p.LeafHash()
	}
	o := opened(b, opening)
	calls, blocks := hashCost(o)
	b.ReportMetric(float64(calls), "hashes")
	b.ReportMetric(float64(blocks), "blocks")
}

// hashCost is how often the leaf hash of an opening calls SHA-256, and how many blocks
// that are.
func hashCost(o *Opening) (calls, blocks int) {
	count := func(n int) {
		calls++
		blocks += (n + 1 + 8 + 63) / 64 // the padding of FIPS 180-4 section 5.1.1
	}
	var scratch []byte
	for i := range o.Fields {
		f := &o.Fields[i]
		if f.Shown {
			scratch = appendCommitted(scratch[:0], f.Salt, f.Value)
			count(len(scratch))
		}
		scratch = appendField(scratch[:0], f.Pointer, &Hash{})
		count(len(scratch))
		if i > 0 {
			count(1 + 2*len(Hash{}))
		}
	}
	count(len(`x[33,""]`) + hashLen)
	count(1 + leafLen)
	return calls, blocks
}

// BenchmarkHashFloor is what the blocks of BenchmarkAuditOpening take if they are those
// of a single message: less than that no audit of the opening can take.
func BenchmarkHashFloor(b *testing.B) {
	_, blocks := hashCost(opened(b, sealed(b, typical).Opening))
	text := make([]byte, blocks*sha256.BlockSize-9)
	for b.Loop() {
		_ = sha256.Sum256(text)
	}
}

// BenchmarkHashCalls is the same blocks in the calls that they come in, with nothing else
// around them: two blocks a call, more or less.
func BenchmarkHashCalls(b *testing.B) {
	calls, blocks := hashCost(opened(b, sealed(b, typical).Opening))
	var text [2*sha256.BlockSize - 9]byte
	for b.Loop() {
		for i := range calls {
			n := len(text)
			if i >= blocks-calls {
				n = sha256.BlockSize - 9
			}
			_ = sha256.Sum256(text[:n])
		}
	}
}
