package alarm_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
)

// taker is a sink that takes everything at once.
type taker int // of its batches

func (taker) Name() string                                  { return "taker" }
func (b taker) Manner() alarm.Manner                        { return alarm.Manner{Batch: int(b)} }
func (taker) Deliver(context.Context, []alarm.Notice) error { return nil }

// BenchmarkStorm raises as many alarms as a board holds, and delivers them.
func BenchmarkStorm(b *testing.B) {
	for _, batch := range []int{1, 64} {
		b.Run("batch="+strconv.Itoa(batch), func(b *testing.B) {
			for b.Loop() {
				board, err := alarm.New(alarm.Config{Sinks: []alarm.Sink{taker(batch)}})
				if err != nil {
					b.Fatal(err)
				}
				for i := range alarm.MaxActive {
					board.Raise(alarm.Alarm{Name: "peer-silent", Peer: strconv.Itoa(i)})
				}
				ctx, cancel := context.WithCancel(b.Context())
				cancel()
				if err := board.Run(ctx); err != nil {
					b.Fatal(err)
				}
				if h := board.Health()[0]; h.Sent != alarm.MaxActive {
					b.Fatalf("health %+v", h)
				}
			}
		})
	}
}
