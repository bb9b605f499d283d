package rules_test

import (
	"testing"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
)

func TestReady(t *testing.T) {
	if len(rules.Names()) != 5 {
		t.Errorf("%q", rules.Names())
	}
	for _, name := range rules.Names() {
		if _, err := rules.Ready(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := rules.Ready("ready:../rest"); err == nil {
		t.Error("took a path")
	}
}
