package personality

import (
	"bytes"
	"context"
	"errors"
	"strconv"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// QuarantineReplay translates an item of the quarantine again, as it came and with the time at which it came, and
// submits what is made of it. Unless it fails again, the item is removed from the quarantine; parts of it
// that fail are there then as items of their own. source, unless empty, takes the place of the one that the
// request named. The caller submits, not who delivered it: it may do so for every source of a tenant
// that it administers. Both are in the event that records it.
//
// It may be cut off at any moment and done again: the ids of events stay the same, and what the log has is a
// duplicate. ErrNotFound if there is no such item, or its adapter isn't
// there; *FormError if the adapter finds no items in it.
func (s *Service) QuarantineReplay(ctx context.Context, from Caller, id, source string) ([]ingest.Result, error) {
	release, err := s.use()
	if err != nil {
		return nil, err
	}
	defer release()
	q, err := s.inQuarantine(ctx, from, id)
	if err != nil {
		return nil, err
	}
	d := Delivery{Adapter: q.Adapter, Sender: q.Sender, Header: q.Header, Query: q.Query, Source: q.Source, Body: q.Raw,
		received: q.Received, replayOf: &q}
	if source != "" {
		d.Source = source
	}
	submitter := from
	submitter.Token = &Token{ID: from.Token.ID, Name: from.Token.Name, Tenant: q.Tenant, Roles: []Role{RoleSubmit}, Sources: []string{""}}
	_, items, err := s.translate(submitter, &d)
	if err != nil {
		return nil, err
	}
	if len(items) == 0 { // removed, it would be lost, and nothing of it in the log
		return nil, &FormError{errors.New("the adapter finds nothing in it")}
	}
	results, err := s.takeAll(ctx, submitter, &d, items)
	if err != nil {
		return nil, err
	}
	failed := false
	for i := range results {
		if results[i].Quarantine != "" && bytes.Equal(sum256(items[i].Raw), q.RawSHA256) {
			failed, results[i].Quarantine = true, id
		}
	}
	details := replayed(results)
	if source != "" {
		details["source"] = clip(source) // in place of the one that was delivered
	}
	if failed {
		return results, s.logQuarantine(ctx, from, q, ActionQuarantineReplay, &event.Reason{Code: "failed_again"}, details)
	}
	if err := s.logQuarantine(ctx, from, q, ActionQuarantineReplay, nil, details); err != nil {
		return nil, err
	}
	if err := s.dropQuarantined(ctx, id); !errors.Is(err, ErrNotFound) { // unless somebody else was faster
		return results, err
	}
	return results, nil
}

// replayed says what became of the items: how many of each status, and the first one's entry.
func replayed(results []ingest.Result) map[string]any {
	counts := map[ingest.Status]int{}
	details := map[string]any{}
	for _, r := range results {
		counts[r.Status]++
		if _, has := details["index"]; !has && (r.Status == ingest.Accepted || r.Status == ingest.Duplicate) {
			details["index"] = strconv.FormatUint(r.Index, 10)
		}
	}
	for status, n := range counts {
		details[string(status)] = n
	}
	return details
}
