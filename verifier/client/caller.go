package client

import (
	"context"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// Enqueuer is what adapters need of a [Queue].
type Enqueuer interface {
	// Enqueue is as that of Queue.
	Enqueue(ctx context.Context, e event.Event, mode Mode) (Enqueued, error)
}

// Caller is who asks for something, and from where.
type Caller struct {
	Actor  event.Actor
	Origin *event.Origin // nil: not from elsewhere
}

type callerKey struct{}

// WithCaller returns a context that says who asks. httpaudit's middleware makes one of each request, and gocronaudit, robfigaudit
// and slogaudit say in their events what it says.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns who asks, if the context says so.
func CallerOf(ctx context.Context) (Caller, bool) {
	c, ok := ctx.Value(callerKey{}).(Caller)
	return c, ok
}
