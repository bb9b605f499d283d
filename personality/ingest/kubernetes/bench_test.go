package kubernetes

import (
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
)

// BenchmarkTranslate is a batch of 400 audit events with masking: what a delivery costs before it is sealed.
func BenchmarkTranslate(b *testing.B) {
	body := `{"kind":"EventList","apiVersion":"audit.k8s.io/v1","items":[` + strings.Repeat(audited(b, nil)+",", 399) + audited(b, nil) + `]}`
	m, err := mask.New(nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		items, err := New().Translate(request(body))
		if err != nil {
			b.Fatal(err)
		}
		for i := range items {
			ingest.Mask(m, &items[i].Event)
		}
	}
}
