package personality

import "context"

// OpenStalled opens a log whose step (integrate, publish or anchor) fails for ever, so
// that what is sequenced is left where a crash before that step leaves it. Nothing is
// stored before hold is closed.
func OpenStalled(ctx context.Context, cfg Config, step string, hold chan struct{}) (*Service, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p, err := openParts(ctx, cfg)
	if err != nil {
		return nil, err
	}
	p.tree = heldTree{p.tree, hold}
	f := &fault{}
	withFaults(f)(&p)
	svc, err := open(ctx, cfg, p)
	if step == "anchor" {
		f.next("integrate", repeat(failed, 3)...) // so that all is published as one
	}
	f.next(step, repeat(failed, 10_000)...) // not while it opens: what it finds is whole
	return svc, err
}
