package seal

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/event"
)

func TestWithholdClosure(t *testing.T) {
	o := opened(t, sealed(t, full).Opening)
	const raw, before, after, command = "/ingest/raw_sha256", "/change/before_sha256", "/change/after_sha256", "/job/command_sha256"
	for _, c := range []struct {
		pointer string
		want    []string
	}{
		{"/ingest/principal", []string{"/ingest/principal"}},
		{"/received_at", []string{"/received_at"}},
		{raw, []string{raw}},
		{"/actor/name", []string{"/actor/name", raw}},
		{"/origin", []string{"/origin/forwarded", "/origin/ip", "/origin/port", raw}},
		{"/reason/text", []string{raw, "/reason/text"}},
		{"/details/n", []string{after, before, "/details/n", raw, command}},
		{"/change/patch", []string{after, before, "/change/patch", raw, command}},
		{"/target/10", []string{after, before, raw, command, "/target/10/id", "/target/10/name", "/target/10/type"}},
		{command, []string{after, before, raw, command}},
		{"/ingest", []string{"/ingest/peer_ip", "/ingest/principal", raw}},
	} {
		less, err := o.Withhold(c.pointer)
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(c.want)
		if got := less.Withheld(); !slices.Equal(got, c.want) {
			t.Errorf("Withhold(%s) withholds %v, want %v", c.pointer, got, c.want)
		}
	}
}

func TestWithholdRefuses(t *testing.T) {
	o := opened(t, sealed(t, full).Opening)
	for _, pointer := range []string{"", "/", "/nothing", "/actor/", "/act", "/target/1/id/", "/target/11", "/labels/other"} {
		var e *event.Error
		if _, err := o.Withhold("/actor/name", pointer); !errors.As(err, &e) || e.Code != event.CodeUnknown || e.Pointer != pointer {
			t.Errorf("Withhold(%q): %v", pointer, err)
		}
	}
	if _, err := o.Erase(event.MaxInteger+1, "/actor/name"); err == nil {
		t.Error("erased by an entry past 2^53-1")
	}
}

// TestErase erases each field in turn.
func TestErase(t *testing.T) {
	s := sealed(t, full)
	o := opened(t, s.Opening)
	kept := []string{"/schema", "/tenant", "/source", "/id", "/time", "/action", "/outcome", "/received_at"}
	for _, f := range o.Fields {
		less, err := o.Erase(12, f.Pointer)
		if slices.Contains(kept, f.Pointer) {
			var e *event.Error
			if !errors.As(err, &e) || e.Code != CodeErased {
				t.Errorf("%s: erased, or %v", f.Pointer, err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		again := opened(t, less.Bytes())
		if !bytes.Equal(again.Leaf(), s.Leaf) {
			t.Errorf("%s erased: another leaf", f.Pointer)
		}
		for _, g := range again.Fields {
			if !g.Shown && (g.ErasedBy == nil || *g.ErasedBy != 12) {
				t.Errorf("%s erased: %s is withheld without a record", f.Pointer, g.Pointer)
			}
		}
		if bytes.Contains(less.Bytes(), f.Salt) {
			t.Errorf("%s erased: its salt is still there", f.Pointer)
		}
	}
}

func TestEraseTwice(t *testing.T) {
	o := opened(t, sealed(t, full).Opening)
	hidden, err := o.Withhold("/actor/id")
	if err != nil {
		t.Fatal(err)
	}
	first, err := hidden.Erase(3, "/actor/name")
	if err != nil {
		t.Fatal(err)
	}
	second, err := first.Erase(9, "/actor")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range second.Fields {
		want := map[string]uint64{"/actor/id": 9, "/actor/name": 3, "/actor/type": 9, "/ingest/raw_sha256": 3}
		if index, ok := want[f.Pointer]; ok && (f.ErasedBy == nil || *f.ErasedBy != index) {
			t.Errorf("%s: erased by %v, want %d", f.Pointer, f.ErasedBy, index)
		}
	}
	*second.Fields[slices.IndexFunc(second.Fields, func(f OpenedField) bool { return f.Pointer == "/actor/id" })].ErasedBy = 10
	if n := slices.IndexFunc(second.Fields, func(f OpenedField) bool { return f.Pointer == "/actor/type" }); *second.Fields[n].ErasedBy != 9 {
		t.Error("erased fields share their index")
	}
}
