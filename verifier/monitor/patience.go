package monitor

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
)

// maxWaits is how often a call waits when the peer says that there were too many, each time as long as it
// asks for, but no longer than answerTime.
const maxWaits = 3

// patiently makes a call, and again when the peer has answered that there were too many. A monitor lets an
// address call so often; of many logs those that come last would else never have their turn.
func patiently[T any](ctx context.Context, call func() (T, error)) (T, error) {
	for waited := 0; ; waited++ {
		answer, err := call()
		var status *gossip.StatusError
		if waited == maxWaits || !errors.As(err, &status) || status.Code != http.StatusTooManyRequests {
			return answer, err
		}
		timer := time.NewTimer(min(max(status.RetryAfter, time.Second), answerTime))
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return answer, err
		}
	}
}
