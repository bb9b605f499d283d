package cronlog

import (
	"slices"
	"strconv"
	"strings"
)

// change is what became of a job.
type change struct {
	action        string // job.create and so on
	before, after entry
}

// difference is what has changed between two versions of a crontab.
type difference struct {
	jobs []change
	env  []envChange
}

type envChange struct {
	name          string
	before, after string
	had, has      bool
}

// id tells jobs apart: the schedule isn't in it.
func (e *entry) id() [2]string { return [2]string{e.user, e.command} }

// byJob has the schedules of a crontab's jobs. A crontab has tens of thousands of lines if its owner likes: whatever is made of one
// takes time in proportion to them.
type byJob map[[2]string][]string

func index(list []entry) byJob {
	jobs := byJob{}
	for _, e := range list {
		jobs[e.id()] = append(jobs[e.id()], e.schedule)
	}
	for _, all := range jobs {
		slices.Sort(all)
	}
	return jobs
}

func (b byJob) has(e entry) bool { return len(b[e.id()]) > 0 }

// schedule is that of all lines that are one job.
func (b byJob) schedule(e entry) string { return strings.Join(b[e.id()], "; ") }

// first leaves out all lines of a job but the first.
func first(list []entry) (jobs []entry) {
	seen := map[[2]string]bool{}
	for _, e := range list {
		if !seen[e.id()] {
			seen[e.id()] = true
			jobs = append(jobs, e)
		}
	}
	return jobs
}

// diff compares two versions. A job that is put into a comment is disabled, one that comes out of one is enabled.
func diff(before, after tab) (d difference) {
	var gone, come []entry
	old, now := index(before.jobs), index(after.jobs)
	for _, e := range first(before.jobs) {
		if !now.has(e) {
			gone = append(gone, e)
			continue
		}
		if was, is := old.schedule(e), now.schedule(e); was != is {
			changed := e
			e.schedule, changed.schedule = was, is
			d.jobs = append(d.jobs, change{"job.update", e, changed})
		}
	}
	for _, e := range first(after.jobs) {
		if !old.has(e) {
			come = append(come, e)
		}
	}
	d.jobs = append(d.jobs, match(gone, come, before.off, after.off)...)
	d.env = diffEnv(before.env, after.env)
	return d
}

// match says of jobs that are gone and jobs that have come which were switched, which changed their command, and which are new or
// deleted.
func match(gone, come, offBefore, offAfter []entry) (all []change) {
	var deleted, created []entry
	wasOff, isOff := index(offBefore), index(offAfter)
	for _, e := range gone {
		if isOff.has(e) {
			all = append(all, change{"job.disable", e, e})
		} else {
			deleted = append(deleted, e)
		}
	}
	for _, e := range come {
		if wasOff.has(e) {
			all = append(all, change{"job.enable", e, e})
		} else {
			created = append(created, e)
		}
	}
	// The same job has kept its schedule, or else its line.
	for _, key := range []func(e entry) [2]string{
		func(e entry) [2]string { return [2]string{e.user, e.schedule} },
		func(e entry) [2]string { return [2]string{e.user, strconv.Itoa(e.line)} },
	} {
		var same []change
		same, deleted, created = pair(deleted, created, key)
		all = append(all, same...)
	}
	for _, e := range deleted {
		all = append(all, change{"job.delete", e, entry{}})
	}
	for _, e := range created {
		all = append(all, change{"job.create", entry{}, e})
	}
	return all
}

// pair makes one change of a deleted and a created job with the same key, each in its order, and returns the others.
func pair(deleted, created []entry, key func(entry) [2]string) (same []change, gone, come []entry) {
	at := map[[2]string][]int{} // created ones
	for i, e := range created {
		at[key(e)] = append(at[key(e)], i)
	}
	used := map[int]bool{}
	for _, e := range deleted {
		k := key(e)
		if len(at[k]) == 0 {
			gone = append(gone, e)
			continue
		}
		i := at[k][0]
		at[k], used[i] = at[k][1:], true
		same = append(same, change{"job.update", e, created[i]})
	}
	for i, e := range created {
		if !used[i] {
			come = append(come, e)
		}
	}
	return same, gone, come
}

func diffEnv(before, after map[string]string) (all []envChange) {
	names := map[string]bool{}
	for n := range before {
		names[n] = true
	}
	for n := range after {
		names[n] = true
	}
	for n := range names {
		was, had := before[n]
		is, has := after[n]
		if was != is || had != has {
			all = append(all, envChange{n, was, is, had, has})
		}
	}
	slices.SortFunc(all, func(a, b envChange) int { return strings.Compare(a.name, b.name) })
	return all
}
