package ingest

import (
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Mask takes secrets out of what an adapter made, before anything is sealed.
func Mask(m *mask.Masker, e *event.Event) { *e = m.Event(*e) }
