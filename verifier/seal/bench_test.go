package seal

import "testing"

func BenchmarkCommit(b *testing.B) {
	b.ReportAllocs()
	f := sampleFields(b)
	for b.Loop() {
		if _, err := Commit(f, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAt(b *testing.B) {
	b.ReportAllocs()
	c, err := Commit(sampleFields(b), nil)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		c.At(sealedAt)
	}
}

func BenchmarkParseOpening(b *testing.B) {
	b.ReportAllocs()
	c, err := Commit(sampleFields(b), nil)
	if err != nil {
		b.Fatal(err)
	}
	opening := c.At(sealedAt).Opening
	for b.Loop() {
		if _, err := ParseOpening(opening); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkLeaf(b *testing.B) {
	b.ReportAllocs()
	c, err := Commit(sampleFields(b), nil)
	if err != nil {
		b.Fatal(err)
	}
	o := opened(b, c.At(sealedAt).Opening)
	for b.Loop() {
		o.LeafHash()
	}
}

func BenchmarkIdentityHash(b *testing.B) {
	b.ReportAllocs()
	secret := make([]byte, 32)
	for b.Loop() {
		IdentityHash(secret, "default", "cron://node-7.example.com/main", "0198f2a4-7c3e-7b1a-9f00-5d0c8a1e2b3c")
	}
}
