package personality

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// picky is an adapter of lines. A line is the id of an event, and can't be translated as long as it begins with
// what the adapter doesn't know yet.
type picky struct{ refuses string }

func (picky) Name() string { return "picky" }

func (p picky) Translate(r *ingest.Request) (items []ingest.Item, _ error) {
	for line := range bytes.Lines(r.Body) {
		line = bytes.TrimSpace(line)
		it := ingest.Item{Raw: line, Event: event.Event{ID: string(line), Source: r.Source, Time: time.Unix(1e9, 0).UTC(), Action: "auth.login",
			Outcome: "success", Actor: event.Actor{Type: "user", ID: "u"}, Target: []event.Target{{Type: "session", ID: "s"}}}}
		if p.refuses != "" && strings.HasPrefix(string(line), p.refuses) {
			it.Err = errors.New("the line: expected another beginning")
		}
		items = append(items, it)
	}
	return items, nil
}

// deliver sends lines, and expects a result for each.
func (l *testLog) deliver(lines string) []ingest.Result {
	l.t.Helper()
	taken, err := l.svc.Ingest(l.t.Context(), submitter("default"), Delivery{Adapter: "picky", Sender: ingest.SenderToken, Source: "cron://a", Body: []byte(lines)})
	if err != nil {
		l.t.Fatal(err)
	}
	return taken.Results
}

// inQuarantine are the ids of what is there.
func (l *testLog) inQuarantine() map[string]bool {
	l.t.Helper()
	list, err := l.svc.QuarantineList(l.t.Context(), OperatorCaller(), "", MaxQuarantineList)
	if err != nil {
		l.t.Fatal(err)
	}
	there := map[string]bool{}
	for _, q := range list {
		there[q.ID] = true
	}
	return there
}

// TestQuarantineMoves: the quarantine moves with the log, as it is when the log moves, also where an earlier run had copied
// it and was cut off; and what is in it can be replayed there, by an adapter that has learned meanwhile.
func TestQuarantineMoves(t *testing.T) {
	for _, w := range ways {
		t.Run(w.from+" to "+w.to, func(t *testing.T) {
			m := &move{testLog: &testLog{t: t, cfg: storedIn(t, w.from)}, to: &testLog{t: t, cfg: storedIn(t, w.to)}}
			m.cfg.Adapters, m.to.cfg.Adapters = []ingest.Adapter{picky{refuses: "new-"}}, []ingest.Adapter{picky{}}
			m.create()
			m.to.vkey, m.to.policy = m.vkey, m.policy
			m.open(nil)
			first := m.deliver("old-1\nnew-1\nnew-2\n")
			m.close()
			stopped := errors.New("stopped")
			_, err := m.migrateWith(t.Context(), func(run *migration) {
				run.step = func(name string, f func() error) error {
					if name == "anchor" {
						return stopped
					}
					return f()
				}
			})
			if !errors.Is(err, stopped) {
				t.Fatalf("the first run: %v", err)
			}
			m.open(nil)
			if err := m.svc.QuarantineDrop(t.Context(), OperatorCaller(), first[1].Quarantine); err != nil {
				t.Fatal(err)
			}
			m.deliver("new-3")
			want := m.inQuarantine()
			m.close()
			m.migrate()
			m.to.open(nil)
			got := m.to.inQuarantine()
			if len(got) != 2 || fmt.Sprint(got) != fmt.Sprint(want) || got[first[1].Quarantine] {
				t.Fatalf("moved: %v, want %v", got, want)
			}
			for id := range got {
				r, err := m.to.svc.QuarantineReplay(t.Context(), OperatorCaller(), id, "")
				if err != nil || len(r) != 1 || r[0].Status != ingest.Accepted {
					t.Errorf("replayed there: %+v, %v", r, err)
				}
			}
			if r := m.to.deliver("new-2\nold-1"); r[0].Status != ingest.Duplicate || r[1].Status != ingest.Duplicate {
				t.Errorf("sent again there: %+v", r)
			}
			m.to.mustAudit()
		})
	}
}

// editRow replaces text in a row of the database of a log that is closed.
func (l *testLog) editRow(key []byte, from, to string) {
	l.t.Helper()
	cfg, err := l.cfg.withDefaults()
	if err != nil {
		l.t.Fatal(err)
	}
	db, err := openPebble(cfg, cfg.Dir, true)
	if err != nil {
		l.t.Fatal(err)
	}
	v, closer, err := db.Get(key)
	if err != nil {
		l.t.Fatal(err)
	}
	edited := bytes.Replace(bytes.Clone(v), []byte(from), []byte(to), 1)
	if bytes.Equal(edited, v) {
		l.t.Fatalf("there is no %s in %s", from, v)
	}
	if err := errors.Join(closer.Close(), db.Set(key, edited, pebble.Sync), db.Close()); err != nil {
		l.t.Fatal(err)
	}
}

// TestQuarantineTampered: an item that somebody changed in the database is neither shown nor submitted.
func TestQuarantineTampered(t *testing.T) {
	for name, change := range map[string][2]string{
		"tenant":  {`"tenant":"default"`, `"tenant":"another"`},
		"source":  {`"source":"cron://a"`, `"source":"cron://b"`},
		"sender":  {`"sender":"token"`, `"sender":"hmacs"`},
		"content": {"new-1", "new-2"},
	} {
		l := &testLog{t: t, cfg: testConfig(t)}
		l.cfg.Adapters = []ingest.Adapter{picky{refuses: "new-"}}
		l.create()
		l.open(nil)
		id := l.deliver("new-1")[0].Quarantine
		l.close()
		l.editRow([]byte("pq"+id), change[0], change[1])
		l.cfg.Adapters = []ingest.Adapter{picky{}}
		l.open(nil)
		if _, err := l.svc.QuarantineReplay(t.Context(), OperatorCaller(), id, ""); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: replayed: %v", name, err)
		}
		if _, err := l.svc.QuarantineShow(t.Context(), OperatorCaller(), id); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: shown: %v", name, err)
		}
		if _, err := l.svc.QuarantineList(t.Context(), OperatorCaller(), "", 10); name != "content" && !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: listed: %v", name, err)
		}
		l.close()
	}
}

// TestQuarantineFaults: whatever fails, and was stored or wasn't, the delivery is sent again and the replay done again, until
// both are answered; then each event is in the log once, and nothing is left.
func TestQuarantineFaults(t *testing.T) {
	for _, step := range []string{"quarantine", "drop", "openings", "append"} {
		for _, o := range []outcome{failed, failedButStored} {
			l := &testLog{t: t, cfg: testConfig(t)}
			l.cfg.Adapters = []ingest.Adapter{picky{refuses: "new-"}}
			l.create()
			f := &fault{}
			l.open(withFaults(f))
			ctx := t.Context()
			if step != "drop" {
				f.next(step, o)
				d := Delivery{Adapter: "picky", Sender: ingest.SenderToken, Source: "cron://a", Body: []byte("old-1\nnew-1")}
				if _, err := l.svc.Ingest(ctx, submitter("default"), d); err == nil {
					t.Errorf("%s %s: the delivery was answered", step, o)
				}
			}
			again := l.deliver("old-1\nnew-1")
			if again[1].Status != ingest.Quarantined || len(l.inQuarantine()) != 1 {
				t.Fatalf("%s %s: sent again: %+v", step, o, again)
			}
			l.close()
			l.cfg.Adapters = []ingest.Adapter{picky{}}
			l.open(withFaults(f))
			if step != "quarantine" {
				f.next(step, o)
			}
			statuses := l.replayUntil(again[1].Quarantine)
			if left := f.left(); len(left) > 0 || len(l.inQuarantine()) != 0 {
				t.Errorf("%s %s: %v weren't met; left: %v; replayed: %v", step, o, left, l.inQuarantine(), statuses)
			}
			if r := l.deliver("old-1\nnew-1"); r[0].Status != ingest.Duplicate || r[1].Status != ingest.Duplicate {
				t.Errorf("%s %s: at last: %+v", step, o, r)
			}
			l.mustAudit()
			l.close()
		}
	}
}

// replayUntil replays an item until it is gone, as an operator would who sees an error.
func (l *testLog) replayUntil(id string) (statuses []string) {
	l.t.Helper()
	for range 5 {
		r, err := l.svc.QuarantineReplay(l.t.Context(), OperatorCaller(), id, "")
		switch {
		case errors.Is(err, ErrNotFound):
			return append(statuses, "gone")
		case err != nil:
			statuses = append(statuses, err.Error())
		default:
			return append(statuses, string(r[0].Status))
		}
	}
	l.t.Errorf("replayed again and again: %v", statuses)
	return statuses
}

// TestQuarantineOfTenants: each has room of its own, and an operator of one knows nothing of another's.
func TestQuarantineOfTenants(t *testing.T) {
	l := &testLog{t: t, cfg: testConfig(t)}
	l.cfg.Adapters, l.cfg.QuarantineItems = []ingest.Adapter{picky{refuses: "new-"}}, 1
	l.create()
	l.open(nil)
	deliver := func(tenant, line string) (*Taken, error) {
		return l.svc.Ingest(t.Context(), submitter(tenant), Delivery{Adapter: "picky", Sender: ingest.SenderToken, Source: "cron://a", Body: []byte(line)})
	}
	a, errA := deliver("one", "new-1")
	b, errB := deliver("two", "new-1")
	if errA != nil || errB != nil || a.Results[0].Quarantine == b.Results[0].Quarantine {
		t.Fatalf("%+v, %v; %+v, %v", a, errA, b, errB)
	}
	if _, err := deliver("one", "new-2"); !errors.Is(err, ErrQuarantineFull) {
		t.Errorf("more than there may be: %v", err)
	}
	if _, err := deliver("one", "new-1\nold-1"); err != nil {
		t.Errorf("what is there already, and what the log takes: %v", err)
	}
	admin := Caller{Token: &Token{ID: "x", Name: "admin", Tenant: "two", Roles: []Role{RoleAdmin}}}
	for _, err := range []error{
		second(l.svc.QuarantineShow(t.Context(), admin, a.Results[0].Quarantine)),
		second(l.svc.QuarantineReplay(t.Context(), admin, a.Results[0].Quarantine, "")),
		l.svc.QuarantineDrop(t.Context(), admin, a.Results[0].Quarantine),
	} {
		if !errors.Is(err, ErrNotFound) {
			t.Errorf("another tenant's: %v", err)
		}
	}
	list, err := l.svc.QuarantineList(t.Context(), admin, "", 10)
	if err != nil || len(list) != 1 || list[0].Tenant != "two" {
		t.Errorf("listed: %+v, %v", list, err)
	}
	if size := l.svc.quarantineSize(); size.Items != 2 {
		t.Errorf("size %+v", size)
	}
}

func second[T any](_ T, err error) error { return err }

// TestQuarantineOfSigningSources: what an adapter makes isn't signed. Where the source must sign, the item waits, and costs the
// others nothing; and replaying is no way around the key.
func TestQuarantineOfSigningSources(t *testing.T) {
	l := &testLog{t: t, cfg: testConfig(t)}
	l.cfg.Adapters = []ingest.Adapter{picky{}}
	l.create()
	l.open(nil)
	before := l.deliver("old-1")
	if _, err := l.svc.AddSourceKey(t.Context(), OperatorCaller(), SourceKeyRequest{Tenant: "default", Source: "cron://a", VKey: newSigningSource(t, "a").vkey, Required: true}); err != nil {
		t.Fatal(err)
	}
	r := l.deliver("old-1\nold-2")
	if r[0].Status != ingest.Duplicate || r[0].Index != before[0].Index || r[1].Status != ingest.Rejected || r[1].Quarantine == "" {
		t.Fatalf("delivered: %+v", r)
	}
	for source, want := range map[string]ingest.Status{"": ingest.Rejected, "cron://a/other": ingest.Rejected} {
		again, err := l.svc.QuarantineReplay(t.Context(), OperatorCaller(), r[1].Quarantine, source)
		if err != nil || len(again) != 1 || again[0].Status != want || again[0].Quarantine != r[1].Quarantine {
			t.Errorf("replayed as %q: %+v, %v", source, again, err)
		}
	}
	if left := l.inQuarantine(); len(left) != 1 {
		t.Errorf("left: %v", left)
	}
}

// TestQuarantineOddText: what is no UTF-8 is shown, listed and dropped as anything else is.
func TestQuarantineOddText(t *testing.T) {
	l := &testLog{t: t, cfg: testConfig(t)}
	l.cfg.Adapters = []ingest.Adapter{picky{refuses: "new-"}}
	l.create()
	l.open(nil)
	taken, err := l.svc.Ingest(t.Context(), submitter("default"), Delivery{Adapter: "picky", Sender: ingest.SenderToken, Source: "cron://\xff",
		Header: map[string][]string{"Content-Type": {"text/\xfe"}}, Query: map[string][]string{"a\xff": {"\xfd", "x"}}, Body: []byte("new-1\xff")})
	if err != nil {
		t.Fatal(err)
	}
	id := taken.Results[0].Quarantine
	if !l.inQuarantine()[id] {
		t.Errorf("%s isn't listed", id)
	}
	q, err := l.svc.QuarantineShow(t.Context(), OperatorCaller(), id)
	if err != nil || q.Source != "cron://\ufffd" || q.Query["a\ufffd"][1] != "x" || string(q.Raw) != "new-1\ufffd" {
		t.Errorf("shown: %+v, %v", q, err)
	}
	if err := l.svc.QuarantineDrop(t.Context(), OperatorCaller(), id); err != nil {
		t.Error(err)
	}
}

// TestQuarantineHides: a list, which isn't logged, has nothing of what came but its source; what is shown is masked, wherever it stood.
func TestQuarantineHides(t *testing.T) {
	l := &testLog{t: t, cfg: testConfig(t)}
	l.cfg.Adapters = []ingest.Adapter{picky{refuses: "new-"}}
	l.create()
	l.open(nil)
	taken, err := l.svc.Ingest(t.Context(), submitter("default"), Delivery{Adapter: "picky", Sender: ingest.SenderToken, Source: "cron://a",
		Header: map[string][]string{"Content-Type": {"text/plain"}}, Query: map[string][]string{"password": {"hunter2"}, "from": {"ann"}}, Body: []byte("new-1")})
	if err != nil {
		t.Fatal(err)
	}
	list, err := l.svc.QuarantineList(t.Context(), OperatorCaller(), "", 10)
	if err != nil || len(list) != 1 || list[0].Query != nil || list[0].Header != nil || list[0].Source != "cron://a" {
		t.Errorf("listed: %+v, %v", list, err)
	}
	q, err := l.svc.QuarantineShow(t.Context(), OperatorCaller(), taken.Results[0].Quarantine)
	if err != nil || q.Query.Get("password") != mask.Masked || q.Query.Get("from") != "ann" || q.Header.Get("Content-Type") != "text/plain" {
		t.Errorf("shown: %+v, %v", q, err)
	}
}

// TestReplayKeepsWhatItFindsNothingIn: an item of which no event comes, nor an error, isn't taken for done.
func TestReplayKeepsWhatItFindsNothingIn(t *testing.T) {
	l := &testLog{t: t, cfg: testConfig(t)}
	l.cfg.Adapters = []ingest.Adapter{picky{}}
	l.create()
	l.open(nil)
	id := l.deliver("\n")[0].Quarantine // an event without an id is refused
	_, err := l.svc.QuarantineReplay(t.Context(), OperatorCaller(), id, "")
	var form *FormError
	if !errors.As(err, &form) || !l.inQuarantine()[id] {
		t.Errorf("replayed: %v; left: %v", err, l.inQuarantine())
	}
}

// whole is picky once it knows what to refuse; until then it panics at any body.
type whole struct{ picky }

func (w whole) Translate(r *ingest.Request) ([]ingest.Item, error) {
	if w.refuses == "" {
		panic("at this body")
	}
	return w.picky.Translate(r)
}

// TestReplayInPartsKeepsTheSender: a part that fails again is still of who delivered it; and what was replayed under another source
// says so.
func TestReplayInPartsKeepsTheSender(t *testing.T) {
	l := &testLog{t: t, cfg: testConfig(t)}
	l.cfg.Adapters = []ingest.Adapter{whole{}}
	l.create()
	l.open(nil)
	id := l.deliver("old-1\nnew-1")[0].Quarantine
	l.close()
	l.cfg.Adapters = []ingest.Adapter{whole{picky{refuses: "new-"}}}
	l.open(nil)
	r, err := l.svc.QuarantineReplay(t.Context(), OperatorCaller(), id, "cron://b")
	if err != nil || len(r) != 2 || r[1].Status != ingest.Quarantined {
		t.Fatalf("replayed: %+v, %v", r, err)
	}
	list, err := l.svc.QuarantineList(t.Context(), OperatorCaller(), "", 10)
	if err != nil || len(list) != 1 || list[0].ID != r[1].Quarantine || list[0].Principal != submitter("default").Token.Principal() {
		t.Errorf("left: %+v, %v", list, err)
	}
	l.settle()
	if o := l.lastOwn(ActionQuarantineReplay); o.Text("/details/source") != "cron://b" {
		t.Errorf("logged: %s", o.JSON())
	}
}

// lastOwn is the last event of an action in the log.
func (l *testLog) lastOwn(action string) (found event.Fields) {
	l.t.Helper()
	for i := range l.svc.published.Load().head.Size {
		first, err := l.svc.entryAt(l.t.Context(), i)
		if err != nil {
			l.t.Fatal(err)
		}
		o := must(seal.ParseOpening(must(l.svc.store.Opening(l.t.Context(), i, first.leafHash))))
		if f := o.Event(); f.Text("/action") == action {
			found = f
		}
	}
	return found
}
