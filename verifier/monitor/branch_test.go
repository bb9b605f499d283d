package monitor_test

import (
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/internal/logtest"
	"github.com/prooftrail/prooftrail/verifier/monitor"
)

// onlyFirst has the first caller do something; the others don't wait for it.
type onlyFirst struct{ begun atomic.Bool }

func (o *onlyFirst) Do(f func()) {
	if o.begun.CompareAndSwap(false, true) {
		f()
	}
}

// TestBranches: two heads that both extend what was seen last, and of which neither extends the
// other, however they come: the second one is compared with the first.
func TestBranches(t *testing.T) {
	for _, tt := range []struct {
		name string
		both bool // the proof for the posted one is still being fetched when the log's own head is taken
	}{{"one after the other", false}, {"at once", true}} {
		t.Run(tt.name, func(t *testing.T) {
			key := logtest.NewKey(t, testOrigin)
			a := logtest.New(t, key, "a", 1024)
			b := a.Fork("b", 1024)
			b.Grow(200)
			asked, answer := make(chan struct{}), make(chan struct{})
			var first onlyFirst
			url := serve(t, a)
			release := sync.OnceFunc(func() { close(answer) })
			t.Cleanup(release) // before the server is closed
			a.Fault(func(w http.ResponseWriter, r *http.Request) bool {
				// The log shows the tiles of b to whoever asks for the width that only b has.
				if !strings.HasSuffix(r.URL.Path, ".p/200") {
					return false
				}
				if tt.both {
					first.Do(func() { close(asked); <-answer }) // an open head is compared again meanwhile
				}
				b.Serve(w, r)
				return true
			})
			policy := key.Policy(t)
			r := start(t, t.TempDir(), nil, monitor.LogConfig{Policy: policy, URL: url})
			r.checked(1024)
			posted := make(chan struct{})
			go func() {
				defer close(posted)
				if _, err := r.Observe(t.Context(), b.Note(1224), "a submitter"); err != nil {
					t.Error(err)
				}
			}()
			if tt.both {
				<-asked
			} else {
				<-posted
			}
			a.Grow(100)
			wait(t, "the log's head", func() bool {
				s := r.Status().Logs[0]
				return s.Served != nil && s.Served.Size == 1124
			})
			release()
			<-posted
			wait(t, "evidence", func() bool { return len(r.Status().Evidence) > 0 })
			convicts(t, policy, r.Status().Evidence[0].File)
		})
	}
}
