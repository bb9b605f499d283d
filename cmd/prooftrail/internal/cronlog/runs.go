package cronlog

import (
	"cmp"
	"container/list"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/event"
)

const (
	maxRuns = 8192 // that are remembered, ended ones too
	maxLate = 256  // errors of runs that are not known
	// lateFor is how long an error waits for the END that says whose it is, where UDP has lost the CMD.
	lateFor = 30 * time.Second
)

// runKey is a process of a machine.
type runKey struct {
	scope string
	pid   int
}

// Run is a run that was seen to start. Its members are exported for those who keep it as JSON.
type Run struct {
	Scope       string    `json:"scope,omitempty"`
	PID         int       `json:"pid"`    // of the command
	Parent      int       `json:"parent"` // of cron's process that waits for it; 0 if that isn't known
	ID          string    `json:"id"`
	Job         string    `json:"job"`
	User        string    `json:"user"`
	Name        string    `json:"name"` // masked
	Began       time.Time `json:"began"`
	Ended       bool      `json:"ended"`
	Outcome     string    `json:"outcome"` // of the end
	WithoutPIDs bool      `json:"without_pids,omitempty"`
}

// runs are the newest runs, by process: a process id that comes again is another run.
type runs struct {
	byKey   map[runKey]*list.Element
	order   *list.List // of *Run, oldest first
	max     int
	evicted uint64
}

// table has the runs of a scope: those that the kernel vouches for aren't forgotten for what others claim.
func (t *Translator) table(scope string) *runs {
	if scope == "" {
		return &t.runs
	}
	return &t.claims
}

func newRuns() runs {
	return runs{byKey: map[runKey]*list.Element{}, order: list.New(), max: maxRuns}
}

func (r *runs) get(scope string, pid int) *Run {
	if at := r.byKey[runKey{scope, pid}]; at != nil {
		return at.Value.(*Run)
	}
	return nil
}

func (r *runs) put(run *Run) {
	key := runKey{run.Scope, run.PID}
	if at := r.byKey[key]; at != nil {
		r.order.Remove(at)
	}
	r.byKey[key] = r.order.PushBack(run)
	for r.order.Len() > r.max {
		oldest := r.order.Remove(r.order.Front()).(*Run)
		delete(r.byKey, runKey{oldest.Scope, oldest.PID})
		if !oldest.Ended {
			r.evicted++
		}
	}
}

func (r *runs) open() (n int) {
	for at := r.order.Front(); at != nil; at = at.Next() {
		if !at.Value.(*Run).Ended {
			n++
		}
	}
	return n
}

// hasParent says whether some run that hasn't been forgotten is waited for by this process of cron's.
func (r *runs) hasParent(scope string, pid int) bool {
	for at := r.order.Back(); at != nil; at = at.Prev() {
		if run := at.Value.(*Run); run.Scope == scope && run.Parent == pid {
			return true
		}
	}
	return false
}

// Runs returns the runs that are remembered, for the next Translator to go on with.
func (t *Translator) Runs() (all []Run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, table := range []*runs{&t.runs, &t.claims} {
		for at := table.order.Front(); at != nil; at = at.Next() {
			all = append(all, *at.Value.(*Run))
		}
	}
	return all
}

// Remember takes over what Runs of another Translator returned.
func (t *Translator) Remember(all []Run) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range all {
		t.table(r.Scope).put(&r)
	}
}

// jobID is the id of a job: see the package comment.
func (t *Translator) jobID(scope, user, command string) string {
	return t.jobIDOf(t.short(user, 128), scope, user, command)
}

func (t *Translator) jobIDOf(name, scope, user, command string) string {
	return name + "/" + t.hmac("job", scope, user, command)[:32]
}

// command takes the text of CMD or END apart.
func command(text string) (pid int, cmd string) {
	if m := withPID().FindStringSubmatch(text); m != nil {
		pid, _ = strconv.Atoi(m[1])
		text = text[len(m[0]):]
	}
	return pid, strings.TrimSpace(text)
}

// started is for CMD.
func (t *Translator) started(l *Line, user, detail string) ([]Out, fate) {
	pid, cmd := command(detail)
	parent := l.PID
	if pid == 0 { // the command's process itself has written the line
		pid, parent = l.PID, 0
	}
	if pid == 0 {
		return nil, unknown
	}
	id, err := uuid.NewV7()
	if err != nil {
		return nil, unknown
	}
	r := &Run{Scope: l.scope(), PID: pid, Parent: parent, ID: id.String(), Job: t.jobID(l.machine(), user, cmd),
		User: t.short(user, 128), Name: t.short(cmd, 128), Began: l.Received, WithoutPIDs: parent == 0}
	var outs []Out
	if old := t.table(r.Scope).get(r.Scope, pid); old != nil && !old.Ended && !old.WithoutPIDs {
		// The process id is another's now: this one's END was lost.
		outs = append(outs, t.finish(l, old, ending{outcome: "unknown", reason: "end_not_seen"}))
	}
	t.table(r.Scope).put(r)
	e := t.runEvent(l, r, "run.start", "success")
	e.Details["command"] = t.masked(cmd)
	return append(outs, Out{Event: e, Lane: r.Job}), matters
}

// runEvent begins an event of a run.
func (t *Translator) runEvent(l *Line, r *Run, action, outcome string) event.Event {
	e := t.event(l, "root", action, outcome)
	e.Actor = event.Actor{Type: "schedule", ID: r.Job, OnBehalfOf: r.User}
	e.Target = []event.Target{{Type: "job", ID: r.Job, Name: r.Name}}
	e.Job = &event.Job{ID: r.Job, Name: r.Name, RunID: r.ID, Trigger: "schedule", Node: clip(t.host(l), 512)}
	if t.cfg.Tabs != nil && l.local() {
		e.Job.Schedule = t.cfg.Tabs.schedule(r.Job)
	}
	e.Details["user"] = r.User
	e.Details["process"] = r.PID
	return e
}

// ending is how a run ended.
type ending struct {
	code    int
	signal  bool
	outcome string // "" is failure
	reason  string // "" is made of code
}

// finish makes run.finish.
func (t *Translator) finish(l *Line, r *Run, end ending) Out {
	outcome := cmp.Or(end.outcome, "failure")
	e := t.runEvent(l, r, "run.finish", outcome)
	if outcome != "unknown" && !r.Began.IsZero() {
		ms := max(l.Received.Sub(r.Began).Milliseconds(), 0)
		e.Job.DurationMS = &ms
	}
	code := int64(end.code)
	switch {
	case outcome == "success":
		e.Job.ExitCode = &code
	case end.reason != "":
		e.Reason = &event.Reason{Code: end.reason}
	case end.signal:
		e.Reason = &event.Reason{Code: "signal_" + strconv.Itoa(end.code)}
		e.Details["signal"] = end.code
	default:
		e.Job.ExitCode = &code
		e.Reason = &event.Reason{Code: "exit_" + strconv.Itoa(end.code)}
	}
	if r.Began.IsZero() {
		e.Details["start_seen"] = false
	}
	if r.Ended {
		e.Details["corrects"] = r.Outcome // END came before the error
	}
	r.Ended, r.Outcome = true, outcome
	return Out{Event: e, Lane: r.Job}
}

// lateError is the end of a process of which no CMD was seen.
type lateError struct {
	line  Line
	pid   int
	end   ending
	until time.Time
}

// died is for the error that a process of cron's tells of one that it has waited for.
func (t *Translator) died(l *Line, pid int, end ending) ([]Out, fate) {
	r := t.table(l.scope()).get(l.scope(), pid)
	switch {
	case r != nil && (!r.Ended || r.Outcome != "failure"):
		return []Out{t.finish(l, r, end)}, matters
	case r != nil:
		return nil, ignored // said already
	case l.PID > 0 && t.table(l.scope()).hasParent(l.scope(), l.PID):
		return nil, ignored // the one that wrote the command's standard input
	case len(t.late) >= maxLate && l.scope() != "" || len(t.late) >= 2*maxLate:
		return nil, unknown
	}
	t.late = append(t.late, lateError{line: *l, pid: pid, end: end, until: l.Received.Add(lateFor)})
	return nil, matters
}

// ended is for END.
func (t *Translator) ended(l *Line, user, detail string) ([]Out, fate) {
	pid, cmd := command(detail)
	if pid == 0 {
		return t.endedWithout(l, user, cmd)
	}
	r := t.table(l.scope()).get(l.scope(), pid)
	if r != nil && r.Ended {
		return nil, matters // the error has said it
	}
	if r == nil {
		r = t.unseen(l, pid, user, cmd)
		t.table(r.Scope).put(r)
	}
	end := ending{outcome: "success"}
	if !t.cfg.Failures {
		end = ending{outcome: "unknown", reason: "failures_not_logged"}
	}
	for i, e := range t.late {
		if e.pid == pid && e.line.scope() == l.scope() {
			end = e.end
			t.late = append(t.late[:i], t.late[i+1:]...)
			break
		}
	}
	return []Out{t.finish(l, r, end)}, matters
}

// endedWithout is for END without a process id (-L without 8): it is of a run of that job, if there is just one.
func (t *Translator) endedWithout(l *Line, user, cmd string) ([]Out, fate) {
	job := t.jobID(l.machine(), user, cmd)
	var r *Run
	for at := t.table(l.scope()).order.Front(); at != nil; at = at.Next() {
		if run := at.Value.(*Run); run.Job == job && run.Scope == l.scope() {
			if !run.Ended {
				r = run
				break
			}
			r = run
		}
	}
	if r == nil {
		r = t.unseen(l, 0, user, cmd)
	}
	if r.Ended {
		return nil, matters
	}
	return []Out{t.finish(l, r, ending{outcome: "unknown", reason: "process_not_logged"})}, matters
}

// unseen is a run of which no CMD was seen.
func (t *Translator) unseen(l *Line, pid int, user, cmd string) *Run {
	return &Run{Scope: l.scope(), PID: pid, ID: "unseen-" + strconv.Itoa(pid) + "-" + strconv.FormatInt(l.Received.Unix(), 10),
		Job: t.jobID(l.machine(), user, cmd), User: t.short(user, 128), Name: t.short(cmd, 128)}
}

// expireLate makes events of errors for which no END has come.
func (t *Translator) expireLate(now time.Time) (outs []Out) {
	keep := t.late[:0]
	for _, e := range t.late {
		if now.Before(e.until) {
			keep = append(keep, e)
			continue
		}
		r := &Run{Scope: e.line.scope(), PID: e.pid, ID: "unseen-" + strconv.Itoa(e.pid) + "-" + strconv.FormatInt(e.line.Received.Unix(), 10), Job: "unknown", User: "unknown"}
		outs = append(outs, t.finish(&e.line, r, e.end))
	}
	t.late = keep
	return outs
}
