package personality

import (
	"fmt"
	"testing"
)

func TestSubmitAndAudit(t *testing.T) {
	l := newTestLog(t)
	l.open(nil)
	for i := range 300 {
		id := fmt.Sprintf("e%d", i)
		if r := l.mustSubmit(id, "x"); r.Index != uint64(i) || r.Status != StatusAccepted {
			t.Fatalf("event %d: %s at %d", i, r.Status, r.Index)
		}
	}
	r := l.mustAudit()
	if r.Size != 300 {
		t.Errorf("audited %d entries, want 300", r.Size)
	}
}
