// Package ocsf makes events of those of the Open Cybersecurity Schema Framework, version 1.8, in the five classes that tell
// what a scheduler's audit log is about: 1006 Scheduled Job Activity, 3001 Account Change, 3002
// Authentication, 3004 Entity Management, 6003 API Activity. A request has one, an array, or one a line.
//
//	id        metadata.uid, else an HMAC of the whole
//	source    the request's parameter source, else ocsf:{vendor}/{product} of metadata.product
//	time      time, in milliseconds as the schema has it; where it can't be (before 2000, after 2199), time_dt
//	action    of class and activity, see actions; an activity of its own (99) by its name
//	outcome   denied for action_id 2 or a response of 401 or 403, else status_id, else status, else unknown
//	reason    status_code, else status or the response's code; status_detail, else message
//	actor     actor.user, else the user that it is about (3002), else what else actor has, else the product
//	origin    src_endpoint; http_request.user_agent and x_forwarded_for; the request's uid; trace.uid
//	target    the job, the user, the entity, the resources and the operation
//	job       of 1006
//	change    of an update, as a JSON Patch: the members that differ, if the state after it is there; else the whole
//	          of what is known of it
//	details   all attributes but observables, which say the same again
//
// Older versions of the schema are read the same way; their attributes have the same names.
package ocsf

// The classes that are read.
const (
	classJob    = 1006
	classChange = 3001
	classAuth   = 3002
	classEntity = 3004
	classAPI    = 6003
)

// A class is how events of a class are read.
type class struct {
	prefix  string           // of actions
	actions map[int64]string // by activity_id
	// before and after are where the state before and after an update is.
	before string
	after  []string
}

// classes are the classes by class_uid. The activities are those of version 1.8; 0 and 99 are every class's.
var classes = map[int64]class{
	classJob: {
		prefix: "job", before: "job", after: []string{"updated_job"},
		actions: map[int64]string{1: "job.create", 2: "job.update", 3: "job.delete", 4: "job.enable", 5: "job.disable", 6: "run.start"},
	},
	classChange: {
		prefix: "account", before: "user", after: []string{"user_result"},
		actions: map[int64]string{1: "account.create", 2: "account.enable", 3: "credential.rotate", 4: "credential.rotate",
			5: "account.disable", 6: "account.delete", 7: "access.grant", 8: "access.revoke", 9: "account.lock",
			10: "account.mfa_enable", 11: "account.mfa_disable", 12: "account.unlock"},
	},
	classAuth: {
		prefix: "auth",
		actions: map[int64]string{1: "auth.login", 2: "auth.logout", 3: "auth.ticket", 4: "auth.service_ticket",
			5: "auth.service_ticket_renew", 6: "auth.preauth", 7: "auth.account_switch"},
	},
	classEntity: {
		prefix: "entity", before: "entity", after: []string{"updated_entity", "entity_result"},
		actions: map[int64]string{1: "entity.create", 2: "entity.read", 3: "entity.update", 4: "entity.delete", 5: "entity.move",
			6: "entity.enroll", 7: "entity.unenroll", 8: "entity.enable", 9: "entity.disable", 10: "entity.activate",
			11: "entity.deactivate", 12: "entity.suspend", 13: "entity.resume"},
	},
	classAPI: {
		prefix:  "api",
		actions: map[int64]string{1: "api.create", 2: "api.read", 3: "api.update", 4: "api.delete"},
	},
}
