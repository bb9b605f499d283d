package personality

import (
	"errors"
	"testing"
	"time"
)

// TestQuorumLostRestart: a log that takes nothing without the quorum takes nothing after a restart
// either, until the quorum is back.
func TestQuorumLostRestart(t *testing.T) {
	l, ws := newWitnessedLog(t, 1, 1)
	l.cfg.Witnesses.Closed, l.cfg.Witnesses.Patience = true, time.Second
	l.open(nil)
	l.mustSubmit("a", "x")
	l.becomes(1)
	ws[0].Down()
	l.mustSubmit("b", "x")
	eventually(t, "no event is taken", func() bool { return !l.svc.Ready(t.Context()).Ready })
	l.close()
	l.open(nil)
	if r := l.submit(submitter("default"), "c", "x", Durable); !errors.Is(r.Err, ErrUnwitnessed) {
		t.Errorf("after a restart: %+v", r)
	}
	ws[0].Up()
	eventually(t, "events are taken", func() bool { return l.svc.Ready(t.Context()).Ready })
	if r := l.submit(submitter("default"), "c", "x", Witnessed); r.Err != nil || r.Receipt == nil {
		t.Errorf("%+v", r)
	}
}
