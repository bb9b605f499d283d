package verifier

import (
	"context"
	"testing"
)

func BenchmarkReceiptAppend(b *testing.B) {
	r := testReceipt(b, sharedLog(b, 300), 17)
	r.Proof = make([]Hash, 20) // as in a log of a million entries
	dst := make([]byte, 0, 16<<10)
	b.SetBytes(int64(len(r.Append(dst))))
	b.ReportAllocs()
	for b.Loop() {
		dst = r.Append(dst[:0])
	}
}

func BenchmarkReceiptParse(b *testing.B) {
	text := testReceipt(b, sharedLog(b, 300), 17).Bytes()
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseReceipt(text); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyReceipt(b *testing.B) {
	l := sharedLog(b, 300)
	text := testReceipt(b, l, 17).Bytes()
	b.ReportAllocs()
	for b.Loop() {
		if _, err := VerifyReceipt(text, l.policy); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPolicyVerify(b *testing.B) {
	l := sharedLog(b, 300)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, err := l.policy.Verify(l.files["checkpoint"]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCheckInclusion(b *testing.B) {
	l := sharedLog(b, 300)
	r := testReceipt(b, l, 17)
	c, _, _ := l.policy.Verify(r.Checkpoint)
	leaf := LeafHash(l.leaves[17])
	b.ReportAllocs()
	for b.Loop() {
		if err := CheckInclusion(17, c.Size, leaf, r.Proof, c.Root); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCompactRangeAppend(b *testing.B) {
	var r CompactRange
	for b.Loop() {
		r.Append(Hash{})
	}
}

// The audits report entries/s.
func benchmarkAudit(b *testing.B, l *testLog, src Source, openings OpeningSource) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Audit(context.Background(), AuditConfig{Source: src, Policy: l.policy, Openings: openings}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(len(l.leaves))*float64(b.N)/b.Elapsed().Seconds(), "entries/s")
}

func BenchmarkAuditMemory(b *testing.B) {
	l := syntheticLog(b, 200000)
	benchmarkAudit(b, l, l, nil)
}

func BenchmarkAuditHTTP(b *testing.B) {
	l := syntheticLog(b, 200000)
	benchmarkAudit(b, l, serve(b, l), nil)
}

func BenchmarkAuditOpenings(b *testing.B) {
	l := sharedLog(b, 20000)
	benchmarkAudit(b, l, l, l)
}

func BenchmarkAuditOpeningsHTTP(b *testing.B) {
	l := sharedLog(b, 20000)
	h := serve(b, l)
	benchmarkAudit(b, l, h, h)
}
