package kubernetes

import (
	"regexp"
	"strings"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// kind is what a resource means to a scheduler's log.
type kind int

const (
	other kind = iota
	job
	credential
	access
	config
)

var kinds = map[string]kind{
	"batch/cronjobs": job, "batch/jobs": job,
	"/secrets": credential, "/serviceaccounts/token": credential,
	"rbac.authorization.k8s.io/roles": access, "rbac.authorization.k8s.io/rolebindings": access,
	"rbac.authorization.k8s.io/clusterroles": access, "rbac.authorization.k8s.io/clusterrolebindings": access,
	"/configmaps": config,
}

// doing are the actions of each kind by verb. What isn't here is kubernetes.VERB.
var doing = map[kind]map[string]string{
	job:        {"create": "job.create", "update": "job.update", "patch": "job.update", "delete": "job.delete", "deletecollection": "job.delete"},
	credential: {"create": "credential.create", "get": "credential.read", "list": "credential.read", "watch": "credential.read", "update": "credential.rotate", "patch": "credential.rotate", "delete": "credential.delete", "deletecollection": "credential.delete"},
	access:     {"create": "access.grant", "update": "access.grant", "patch": "access.grant", "delete": "access.revoke", "deletecollection": "access.revoke"},
	config:     {"create": "config.create", "get": "config.read", "list": "config.read", "watch": "config.read", "update": "config.update", "patch": "config.update", "delete": "config.delete", "deletecollection": "config.delete"},
}

var word = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,63}$`)

// kind of the request's resource.
func (a *audit) kind() kind {
	if a.Ref == nil {
		return other
	}
	name := a.Ref.APIGroup + "/" + a.Ref.Resource
	if a.Ref.Subresource != "" {
		name += "/" + a.Ref.Subresource
	}
	return kinds[name]
}

// act sets the action and what goes with it.
func (a *audit) act(c *cutter, e *event.Event) {
	k := a.kind()
	dry := a.dryRun()
	if verb := a.did(); dry != onlyTold {
		e.Action = doing[k][verb]
	}
	if dry != forReal {
		e.Details["dry_run"] = map[dryRun]string{perhaps: "asked for in the URL; whether it counted isn't recorded", onlyTold: "All"}[dry]
	}
	switch {
	case e.Action == "" && dry != onlyTold && a.isFinish(e):
	case e.Action == "" && word.MatchString(strings.ToLower(a.Verb)):
		e.Action = "kubernetes." + strings.ToLower(a.Verb)
	case e.Action == "":
		e.Action = "kubernetes.request"
	case k == job:
		a.actOnJob(c, e)
	case k == access:
		e.Change = a.change()
	}
	if e.Outcome != "success" {
		e.Change = nil // it changed nothing
	} else if strings.HasSuffix(e.Action, ".update") && e.Change == nil {
		e.Change = &event.Change{Patch: []event.Operation{{Op: "replace", Path: "", Value: unknown}}}
	}
}

// did is the verb of what the API server did: a patch or an update of what isn't there makes it.
func (a *audit) did() string {
	if a.code() == 201 && (a.Verb == "patch" || a.Verb == "update") {
		return "create"
	}
	return a.Verb
}

// unknown stands for an object that isn't in the audit event, because of the audit policy or because it doesn't
// belong into a log.
const unknown = "[not recorded]"

func (a *audit) actOnJob(c *cutter, e *event.Event) {
	e.Job = &event.Job{ID: c.text("job.id", a.object(), 512), Name: c.text("job.name", a.Ref.Name, 512)}
	if a.Ref.Resource == "jobs" {
		if a.did() == "create" && a.isRun(c, e) {
			return
		}
		e.Change = a.change()
		return
	}
	spec := a.cronSpec()
	e.Job.Schedule, e.Job.TZ = c.text("job.schedule", spec.Schedule, 4096), c.text("job.tz", spec.TimeZone, 128)
	if e.Action == "job.update" && a.Verb == "patch" && spec.Suspend != nil && a.patchesOnlySuspend() {
		e.Action = "job.enable"
		if *spec.Suspend {
			e.Action = "job.disable"
		}
	} else if spec.Suspend != nil {
		e.Details["suspend"] = *spec.Suspend
	}
	e.Change = a.change()
}

// cronController makes the jobs of CronJobs when they are due.
func (u *user) cronController() bool {
	return u.Username == serviceAccount+"kube-system:cronjob-controller" || u.Username == "system:kube-controller-manager"
}

// scheduledName is the name of a job that the controller made: of the CronJob, and the minute that it was due, of Unix time.
var scheduledName = regexp.MustCompile(`^(.+)-([0-9]{8})$`)

// isRun makes a run.start of a job that is of a CronJob. Without the object, as at the level Metadata, that shows in its name alone, which
// counts if the CronJob's controller made it.
func (a *audit) isRun(c *cutter, e *event.Event) bool {
	meta := a.requestMeta()
	name, cron := a.name(), meta.owner("CronJob")
	scheduled := a.User.cronController() && a.Impersonated == nil
	if m := scheduledName.FindStringSubmatch(name); cron == "" && scheduled && m != nil {
		cron = m[1]
	}
	if cron == "" {
		return false
	}
	e.Action, e.Job.Trigger = "run.start", "manual"
	e.Job.ID, e.Job.Name = c.text("job.id", a.Ref.Namespace+"/"+cron, 512), c.text("job.name", cron, 512)
	e.Job.RunID = c.text("job.run_id", a.object(), 512)
	if scheduled {
		e.Job.Trigger, e.Actor.Type = "schedule", "schedule"
		e.Job.ScheduledFor = meta.scheduledFor(name)
	}
	return true
}

// isFinish makes a run.finish of a status that is final.
func (a *audit) isFinish(e *event.Event) bool {
	failed, final := a.finished()
	if !final || a.code() >= 400 || a.Verb != "update" && a.Verb != "patch" {
		return false
	}
	meta := a.requestMeta()
	id := a.object()
	e.Action = "run.finish"
	e.Job = &event.Job{ID: cut(id, 512), Name: cut(a.Ref.Name, 512), RunID: cut(id, 512)}
	if cron := meta.owner("CronJob"); cron != "" {
		e.Job.ID, e.Job.Name = cut(a.Ref.Namespace+"/"+cron, 512), cut(cron, 512)
	}
	if failed != nil {
		e.Outcome, e.Reason = "failure", failed
	}
	return true
}
