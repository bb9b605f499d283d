// Package slogaudit makes events of the log/slog records that carry an action, and passes all others on.
//
//	h := slogaudit.New(q, slog.NewJSONHandler(os.Stderr, nil), slogaudit.Config{Actor: event.Actor{Type: "service", ID: "billing"}})
//	defer h.Close()
//	log := slog.New(h)
//	log.InfoContext(ctx, "job deleted", "action", "job.delete", "job", "j-42", "actor", "ada")
//	log.Info("listening", "port", 8080) // no action: goes to standard error alone
//
// # What becomes of attributes
//
// The attribute action counts where it is in no group, and only if it is an action as the event's schema writes it. Attributes with
// the name of a member of events are that member: outcome, reason, actor, origin, target, job, change, labels. A group, or a map, has the member's own
// members: slog.Group("actor", "type", "user", "id", "ada"); a text is the id of an actor of the type user, of a target of the type
// object or of a job, or the code of a reason. All others, and the message, are members of details; groups are objects there, a
// name gets _ for what names in events can't have, and a number that isn't an integer within ±(2^53-1) is a text.
//
// What isn't said: the outcome is failure at the level error, with the message as the reason, else success; actor and origin are
// the context's (client.CallerOf), or Config.Actor; the target is the job, or the actor's.
//
// # What it costs
//
// Nothing waits: events are handed over in memory to a goroutine that enqueues them in best effort, and a crash of the process
// loses those of its last milliseconds. Secrets are masked before the queue's spool, in events, and not in records that are passed on. A record that
// makes no valid event, or that there is no room for, is passed on, with the attribute audit_error.
package slogaudit

import (
	"context"
	"log/slog"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/internal/handover"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// Config says what events are made of. Its zero value is fine.
type Config struct {
	// Key is the attribute whose value is the action. Default action.
	Key string
	// Actor is who does it if neither the record nor the context says so. Default: the service slog.
	Actor event.Actor
	// Level is from which level on records with an action become events. Default: info.
	Level slog.Leveler
	// PassOn passes records on that have become events, too.
	PassOn bool
	// Memory is how many events wait at most to be enqueued. Default 4096.
	Memory int
	// Logger gets the events that couldn't be enqueued. It must not log here again. Default: nobody.
	Logger *slog.Logger
}

// Handler is a slog.Handler.
type Handler struct {
	cfg  *Config
	hand *handover.Handover
	next slog.Handler

	// with are the attributes and groups of With and WithGroup, in order.
	with []with
}

// with is a group that was opened, or else attributes.
type with struct {
	group string
	attrs []slog.Attr
}

// New returns a handler that makes events for the queue, and passes what isn't one on to the next handler. Close it before the queue.
func New(q client.Enqueuer, next slog.Handler, cfg Config) *Handler {
	if cfg.Key == "" {
		cfg.Key = "action"
	}
	if cfg.Actor.Type == "" {
		cfg.Actor = event.Actor{Type: "service", ID: "slog"}
	}
	if cfg.Level == nil {
		cfg.Level = slog.LevelInfo
	}
	return &Handler{cfg: &cfg, next: next, hand: handover.New(handover.Config{Queue: q, Adapter: "slog", Size: cfg.Memory, Logger: cfg.Logger})}
}

// Flush waits until all that was logged is in the queue.
func (h *Handler) Flush(ctx context.Context) error { return h.hand.Flush(ctx) }

// Close returns when all that was logged is in the queue. What is logged afterwards becomes no event, and is passed on.
func (h *Handler) Close() { h.hand.Close() }

// Enabled reports whether there may be an event, or the next handler wants the record.
func (h *Handler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.cfg.Level.Level() || h.next.Enabled(ctx, level)
}

// WithAttrs returns a handler whose records have these attributes too.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return h.add(h.next.WithAttrs(attrs), with{attrs: attrs}, len(attrs) == 0)
}

// WithGroup returns a handler whose further attributes are in a group.
func (h *Handler) WithGroup(name string) slog.Handler {
	return h.add(h.next.WithGroup(name), with{group: name}, name == "")
}

func (h *Handler) add(next slog.Handler, w with, nothing bool) slog.Handler {
	if nothing {
		return h
	}
	out := *h
	out.next = next
	out.with = append(h.with[:len(h.with):len(h.with)], w)
	return &out
}

// Handle makes an event, or passes the record on.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < h.cfg.Level.Level() {
		return h.pass(ctx, r)
	}
	members := h.members(r)
	action, ok := members[h.cfg.Key].(string)
	if !ok {
		return h.pass(ctx, r)
	}
	delete(members, h.cfg.Key)
	e := h.event(ctx, r, action, members)
	if err := valid(e); err != nil {
		r = r.Clone()
		r.AddAttrs(slog.String("audit_error", err.Error()))
		return h.pass(ctx, r)
	}
	taken := h.hand.Put(e)
	if !taken {
		r = r.Clone()
		r.AddAttrs(slog.String("audit_error", "the event was not taken: too many wait, or the handler is closed"))
	}
	if h.cfg.PassOn || !taken {
		return h.pass(ctx, r)
	}
	return nil
}

func (h *Handler) pass(ctx context.Context, r slog.Record) error {
	if !h.next.Enabled(ctx, r.Level) {
		return nil
	}
	return h.next.Handle(ctx, r)
}

// valid checks the event as the queue will, with what that adds.
func valid(e event.Event) error {
	e.ID, e.Source = "id", "cron://source/"
	_, err := e.Fields()
	return err
}
