package cronlog

import (
	"slices"
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

func has(list []entry, id [2]string) bool {
	return slices.ContainsFunc(list, func(e entry) bool { return e.id() == id })
}

// schedules are those of all lines that are one job.
func schedules(list []entry, id [2]string) string {
	var all []string
	for _, e := range list {
		if e.id() == id {
			all = append(all, e.schedule)
		}
	}
	slices.Sort(all)
	return strings.Join(all, "; ")
}

// diff compares two versions. A job that is put into a comment is disabled, one that comes out of one is enabled.
func diff(before, after tab) (d difference) {
	var gone, come []entry
	for i, e := range before.jobs {
		switch {
		case has(before.jobs[:i], e.id()):
		case !has(after.jobs, e.id()):
			gone = append(gone, e)
		default:
			was, is := schedules(before.jobs, e.id()), schedules(after.jobs, e.id())
			if was != is {
				now := e
				e.schedule, now.schedule = was, is
				d.jobs = append(d.jobs, change{"job.update", e, now})
			}
		}
	}
	for i, e := range after.jobs {
		if !has(after.jobs[:i], e.id()) && !has(before.jobs, e.id()) {
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
	for _, e := range gone {
		if has(offAfter, e.id()) {
			all = append(all, change{"job.disable", e, e})
		} else {
			deleted = append(deleted, e)
		}
	}
	for _, e := range come {
		if has(offBefore, e.id()) {
			all = append(all, change{"job.enable", e, e})
		} else {
			created = append(created, e)
		}
	}
	// The same job has kept its schedule, or else its line.
	for _, same := range []func(a, b entry) bool{
		func(a, b entry) bool { return a.user == b.user && a.schedule == b.schedule },
		func(a, b entry) bool { return a.user == b.user && a.line == b.line },
	} {
		var left []entry
		for _, e := range deleted {
			i := slices.IndexFunc(created, func(c entry) bool { return same(e, c) })
			if i < 0 {
				left = append(left, e)
				continue
			}
			all = append(all, change{"job.update", e, created[i]})
			created = slices.Delete(created, i, i+1)
		}
		deleted = left
	}
	for _, e := range deleted {
		all = append(all, change{"job.delete", e, entry{}})
	}
	for _, e := range created {
		all = append(all, change{"job.create", entry{}, e})
	}
	return all
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
