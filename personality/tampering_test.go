package personality_test

import (
	"bytes"
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

var update = flag.Bool("update", false, "write the tables of docs/tampering.md from what is found")

// tampering is one way to tamper with a log on disk, and what comes of it: a row of the
// tables of docs/tampering.md.
type tampering struct {
	name   string // what is done; the subtest's name
	from   string // the copy that it is done to: whole, if empty
	victim string // the event that is sent again and read: inFull, if empty
	files  bool   // the database stays closed
	do     func(h *hand)

	service string // what the service does, see found
	says    string // part of what it says when it doesn't start or refuses
	audit   string // the verifier's verdict, see verdict
	why     string // why that is all, or when it shows

	twice bool // the victim gets a second entry
}

// Events of whole: one in the full tile, one in the tile on the edge, the last one; and
// one of the tail.
const (
	inFull = "e10"
	inEdge = "e290"
	last   = "e299"
	inTail = "t2"
)

// A section is the table of one kind of row.
type section struct {
	title string
	rows  []tampering
}

// TestTampering tampers with each kind of row and file in turn: edited, deleted,
// exchanged, added. Then the real service opens it and is made to publish more, and the
// real verifier audits it all, with the head that an auditor remembers. Whatever it was,
// the service refuses, or the audit FAILED, or every old entry is as it was before.
// docs/tampering.md has the table, which must say what is found here.
func TestTampering(t *testing.T) {
	v := makeVictims(t)
	for id, receipt := range v.receipts { // whatever happens to the log
		if got, err := verifier.VerifyReceipt(receipt, v.policy); err != nil || got.Event.Text("/id") != id {
			t.Fatalf("the receipt of %s: %v", id, err)
		}
	}
	tables, all := make([]string, len(sections)), true
	for i, s := range sections {
		results := make([]found, len(s.rows))
		t.Run(s.title, func(t *testing.T) {
			for j, c := range s.rows {
				if testing.Short() && j%3 > 0 {
					continue
				}
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					results[j] = c.run(t, v)
				})
			}
		})
		tables[i] = table(s, results)
		all = all && !slices.Contains(results, found{})
	}
	if all && (!t.Failed() || *update) { // -run may have asked for some only
		compareDocs(t, tables)
	}
}

// found is what came of a tampering.
type found struct{ service, says, audit string }

func (c *tampering) run(t *testing.T, v *victims) (f found) {
	dir := filepath.Join(t.TempDir(), "log")
	from := whole
	if c.from != "" {
		from = c.from
	}
	copyTree(t, v.path(from), dir)
	h := &hand{t: t, v: v, dir: dir}
	if !c.files {
		h.db = openDatabase(t, dir)
	}
	c.do(h)
	if h.db != nil {
		check(t, h.db.Close())
	}
	f = c.try(t, v, dir)
	if !strings.Contains(f.says, c.says) || (c.says == "") != (f.says == "") {
		t.Errorf("it says %q, want %q", f.says, c.says)
	}
	if f.service != c.service || f.audit != c.audit {
		t.Errorf("got  service %q, audit %q, says %q\nwant service %q, audit %q", f.service, f.audit, f.says, c.service, c.audit)
	}
	return f
}

// try opens the log that was tampered with and uses it.
func (c *tampering) try(t *testing.T, v *victims, dir string) (f found) {
	svc, err := personality.Open(t.Context(), config(t, dir))
	if err != nil {
		return found{service: "doesn't start", says: err.Error(), audit: "–"}
	}
	s := serve(t, v, svc)
	defer s.end()
	state := filepath.Join(dir, "state")
	b, err := os.ReadFile(v.state)
	check(t, errors.Join(err, os.WriteFile(state, b, 0o600)))
	if s.ready().Refusing {
		f.service = "refuses"
		s.mustNotSign()
	} else {
		f.service = c.use(s)
	}
	report, err := s.audit(state, !s.ready().Refusing)
	f.audit = verdict(report, err)
	if s.ready().Refusing {
		f.says = s.ready().Reason
		s.mustRefuse()
	} else {
		s.mustHold(c, f.audit, report.Size)
	}
	goesOn := !s.ready().Refusing
	s.end()
	if goesOn {
		v.with(t, dir, func(svc *personality.Service) {
			if r := svc.Ready(t.Context()); !r.Ready {
				t.Errorf("after a restart: %+v", r)
			}
		})
	}
	return f
}

// use reads the victim's entry, sends old events again, and adds entries to where more
// tiles are full. It returns what the service does.
func (c *tampering) use(s *server) string {
	victim := cmp.Or(c.victim, inFull)
	did := []string{"goes on"}
	refuses := func(when string) bool {
		if s.ready().Refusing {
			did[0] = "refuses " + when
		}
		return s.ready().Refusing
	}
	note := func(what string, status int) {
		if status != http.StatusOK {
			did = append(did, fmt.Sprintf("%s: %d", what, status))
		}
	}
	note("by id", s.readByID(victim))
	status, got := s.send(victim, "x")
	if refuses("when the event is sent again") {
		return strings.Join(did, "; ")
	}
	switch {
	case got.Status == "accepted":
		did = append(did, "sent again: a new entry")
	default:
		note("sent again", status)
		note("read", s.read(victim))
	}
	did = append(did, s.others(victim)...)
	if n := s.sendMany("new", 220); !refuses("at the next publication") && n < 219 {
		did = append(did, "takes no events")
	}
	return strings.Join(did, "; ")
}

// others sends other events again: the victim's neighbour, and some that are far away.
func (s *server) others(victim string) (did []string) {
	var n int
	_, _ = fmt.Sscanf(victim[1:], "%d", &n) // an event to come has no neighbour
	for _, id := range []string{fmt.Sprint(victim[:1], n+1), "e150", "e295"} {
		if _, known := s.v.index[id]; !known {
			continue
		}
		status, got := s.send(id, "x")
		switch {
		case got.Status == "accepted":
			did = append(did, "others sent again: new entries")
		case got.Status != "duplicate" || got.Receipt == "":
			did = append(did, fmt.Sprintf("others sent again: %d", status))
		case got.Index != s.v.index[id]:
			s.t.Errorf("%s was at %d and is at %d", id, s.v.index[id], got.Index)
		}
	}
	return slices.Compact(did)
}

// mustRefuse checks what a service that refuses must do: take nothing, show no
// content, and say so.
func (s *server) mustRefuse() {
	s.t.Helper()
	for what, status := range map[string]func() int{
		"submit": func() int { status, _ := s.send("refused", "x"); return status },
		"entry":  func() int { return s.read(inFull) },
		"opening": func() int {
			status, _ := s.do(http.MethodGet, "/v1/logs/audit/openings?start=0&count=1", s.v.read, nil)
			return status
		},
	} {
		if got := status(); got != http.StatusServiceUnavailable && got != http.StatusUnauthorized {
			s.t.Errorf("%s, refusing: %d", what, got)
		}
	}
}

// mustNotSign checks that a service that refused at its start has signed nothing since.
func (s *server) mustNotSign() {
	s.t.Helper()
	status, note := s.do(http.MethodGet, "/logs/audit/checkpoint", "", nil)
	if status != http.StatusOK || bytes.Equal(note, s.v.forked) {
		return
	}
	head, _, err := s.v.policy.Verify(note)
	if err != nil || head.Size > s.v.size {
		s.t.Errorf("the checkpoint, refusing: %v\n%s", err, note)
	}
}

// mustHold checks the log of a service that goes on. If the audit found nothing, what is
// served of all old entries is what it was, but for what the audit says is withheld of
// the victim; and in any case no entry is there that nobody submitted, and none twice.
func (s *server) mustHold(c *tampering, audit string, size uint64) {
	s.t.Helper()
	paths := s.v.tilePaths()
	got := s.published(paths)
	ids, openings, err := s.openings(size)
	seen := map[string]bool{}
	for i, id := range ids {
		if id != "" && !known(id) || seen[id] && !(c.twice && id == c.victim) {
			s.t.Errorf("entry %d is event %s, which nobody submitted, or which is there already", i, id)
		}
		seen[id] = id != ""
	}
	if audit != "verified" && audit != "verified-redacted" {
		return
	}
	if err != nil || uint64(len(ids)) != size {
		s.t.Errorf("%d of %d openings: %v", len(ids), size, err)
	}
	for _, path := range paths {
		if want := s.v.tile(s.t, path); !bytes.Equal(got[path], want) {
			s.t.Errorf("%s has changed, and nothing says so", path)
		}
	}
	victim := s.v.index[cmp.Or(c.victim, inFull)]
	for key, want := range s.v.rows {
		index, ok := openingIndex(key)
		switch {
		case !ok:
		case audit == "verified-redacted" && index == victim:
			s.mustWithhold(openings[index], want)
		case !bytes.Equal(openings[index], want):
			s.t.Errorf("opening %d has changed, and nothing says so", index)
		}
	}
}

// mustWithhold checks that an opening is what it was but for values that are withheld.
func (s *server) mustWithhold(got, before []byte) {
	s.t.Helper()
	opening, err := seal.ParseOpening(got)
	check(s.t, err)
	want, err := seal.ParseOpening(before)
	check(s.t, err)
	withheld := opening.Withheld()
	want, err = want.Withhold(withheld...)
	check(s.t, err)
	if len(withheld) == 0 || !bytes.Equal(got, want.Bytes()) {
		s.t.Errorf("with %q withheld the victim's opening is\n%s\nwant\n%s", withheld, got, want.Bytes())
	}
}

// known says whether an event's id is one that was submitted, or one of the service's
// own, which are UUIDs.
func known(id string) bool {
	return len(id) == 36 || slices.ContainsFunc([]string{"e", "t", "f", "new"}, func(prefix string) bool {
		return strings.HasPrefix(id, prefix) && len(id) <= len(prefix)+3
	})
}

func idOf(opening []byte) string {
	o, err := seal.ParseOpening(opening)
	if err != nil {
		return ""
	}
	return o.Event().Text("/id")
}

// verdict is the audit's, in a few words.
func verdict(r *verifier.AuditReport, err error) string {
	switch {
	case r == nil || r.FailureCount == 0 && err != nil:
		return "can't be finished"
	case r.FailureCount == 0 && r.Openings != nil && r.Openings.Redacted > 0:
		return "verified-redacted"
	case r.FailureCount == 0:
		return "verified"
	case r.History.Status == verifier.HistoryOlder:
		return "**FAILED**: an older head than the remembered one"
	case r.History.Status == verifier.HistoryContradicts && r.Proven:
		return "**FAILED**: the log forked, with evidence"
	case r.Failures[0].Count == 0:
		return "**FAILED**: " + r.Failures[0].Reason
	case r.FailureCount > 1 && r.Failures[len(r.Failures)-1].Index != r.Failures[0].Index:
		return fmt.Sprintf("**FAILED** at entry %d and others", r.Failures[0].Index)
	case r.Failures[0].Count > 1:
		return fmt.Sprintf("**FAILED** at entries from %d on", r.Failures[0].Index)
	}
	return fmt.Sprintf("**FAILED** at entry %d", r.Failures[0].Index)
}
