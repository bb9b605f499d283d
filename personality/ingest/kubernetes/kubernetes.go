// Package kubernetes makes events of what the Kubernetes API server's audit webhook sends: an EventList of
// audit.k8s.io/v1.
//
// # What becomes an event
//
// One for each request that the API server's audit policy has it send, at the stage ResponseComplete or Panic. RequestReceived is
// skipped, and so is ResponseStarted of a watch, but for one of secrets. ResponseStarted of anything else is an event too: an exec
// or a port-forward may go on for hours, and its end may never be told.
//
//	cronjobs, jobs: create, update, delete      job.create, job.update, job.delete
//	cronjobs: a patch of spec.suspend alone     job.disable, job.enable
//	jobs that a CronJob owns: create            run.start; its trigger is schedule if the CronJob's controller made it,
//	                                            else manual
//	jobs/status with a condition that is final  run.finish
//	secrets, serviceaccounts/token              credential.create, .read, .rotate, .delete; never their content
//	roles, rolebindings, clusterroles, …        access.grant (create, update), access.revoke (delete)
//	configmaps                                  config.read, config.create, config.update, config.delete; no content
//	anything else, and what was a dry run       kubernetes.VERB
//
// # Whose word it is
//
// The audit event is the API server's. Much in it is the word of whoever made the request: the user agent, all source addresses but the last, the
// audit id (the header Audit-ID is taken as it is), names, objects. None of that may keep an event out of the
// log: a text that is too long is cut, and the event says so in details.cut. An audit id may come twice, by accident or by intent, so the
// event's id is the audit id and an HMAC of the whole audit event; origin.request_id is the audit id alone.
package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/prooftrail/prooftrail/personality/ingest"
)

// Adapter is the adapter "kubernetes".
type Adapter struct{}

// New makes the adapter.
func New() Adapter { return Adapter{} }

// Name implements ingest.Adapter.
func (Adapter) Name() string { return "kubernetes" }

const version = "audit.k8s.io/v1"

// Translate implements ingest.Adapter. The webhook's client sends a batch again a few times unless it is answered 2xx, and then
// drops it. So whatever comes is an item: a body that can't be read is one, whole.
func (Adapter) Translate(r *ingest.Request) ([]ingest.Item, error) {
	if len(r.Body) == 0 {
		return nil, errors.New("the body: expected an EventList of " + version)
	}
	whole := func(err error) ([]ingest.Item, error) { return []ingest.Item{{Raw: r.Body, Err: err}}, nil }
	l, err := split(r.Body)
	if errors.Is(err, ingest.ErrTooManyItems) {
		return nil, err
	}
	if err != nil {
		return whole(fmt.Errorf("the body: expected an EventList of %s as JSON: %w", version, plainError(err)))
	}
	if l.Kind == nil && l.APIVersion == nil && l.AuditID != nil {
		return []ingest.Item{item(r, r.Body)}, nil
	}
	if l.APIVersion == nil || *l.APIVersion != version {
		return whole(errors.New("apiVersion: expected " + version))
	}
	switch {
	case l.Kind == nil:
	case *l.Kind == "Event":
		return []ingest.Item{item(r, r.Body)}, nil
	case *l.Kind == "EventList":
		items := make([]ingest.Item, len(l.Items))
		for i, raw := range l.Items {
			items[i] = item(r, raw)
		}
		return items, nil
	}
	return whole(errors.New("kind: expected EventList"))
}

// item translates one audit event.
func item(r *ingest.Request, raw []byte) ingest.Item {
	it := ingest.Item{Raw: raw}
	var a audit
	if err := json.Unmarshal(raw, &a); err != nil {
		it.Err = fmt.Errorf("expected an Event of %s: %w", version, plainError(err))
		return it
	}
	a.leaveLong()
	if err := a.check(); err != nil {
		it.Err = err
		return it
	}
	if a.skipped() {
		it.Skip = true
		return it
	}
	it.Event, it.Untimed = a.event(r, it.Raw)
	return it
}

// plainError is an error of encoding/json that names members and types, and no value.
func plainError(err error) error {
	var kind *json.UnmarshalTypeError
	if errors.As(err, &kind) {
		value, _, _ := strings.Cut(kind.Value, " ") // of a number that doesn't fit it has the number behind
		return fmt.Errorf("%s: expected %s, not %s", cut(kind.Field, 128), kind.Type.Kind(), value)
	}
	var syntax *json.SyntaxError
	if errors.As(err, &syntax) {
		return fmt.Errorf("no JSON at byte %d", syntax.Offset)
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("no JSON: it ends too soon")
	}
	return err
}
