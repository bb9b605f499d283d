package pubstoretest

import (
	"fmt"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality/pubstore"
)

func sourceKey(id string) pubstore.SourceKey {
	return pubstore.SourceKey{ID: id, Tenant: "default", Source: "cron://" + id + "/", VKey: id + "+01020304+AAAA", Required: id != "b",
		From: time.Unix(1700000000, 5).UTC(), Created: time.Unix(1700000001, 0).UTC(), MAC: []byte(id)}
}

func testSourceKeys(t *testing.T, factory Factory) {
	s, reopen := created(t, factory)
	ctx := t.Context()
	for _, id := range []string{"b", "a", "c"} {
		check(t, s.PutSourceKey(ctx, sourceKey(id), ""))
	}
	check(t, s.PutToken(ctx, pubstore.Token{ID: "a", SecretHash: make([]byte, 32)}, ""))
	revoked := sourceKey("c")
	revoked.Revoked, revoked.Released = time.Unix(1700000002, 0).UTC(), true
	check(t, s.PutSourceKey(ctx, revoked, ""))
	got, err := reopen().SourceKeys(ctx)
	if want := []pubstore.SourceKey{sourceKey("a"), sourceKey("b"), revoked}; err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("SourceKeys: got %v, %v; want %v", got, err, want)
	}
}
