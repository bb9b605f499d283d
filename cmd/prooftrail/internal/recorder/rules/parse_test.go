package rules_test

import (
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
)

// TestParseErrors: a file that is wrong is refused, and the error says where.
func TestParseErrors(t *testing.T) {
	rule := func(members string) string {
		return "version: 1\nrules:\n  - {name: a, path: \"/x/{id}\", action: job.update, target: {type: job, id: \"path:id\"}" + members + "}\n"
	}
	own := func(action string) string { return "version: 1\nrules: [{name: a, path: /x, action: " + action + "}]" }
	for text, want := range map[string]string{
		"":                                            "EOF",
		"version: 2":                                  "expected 1",
		"version: 1\nfoo: 1":                          "line 2: field foo not found",
		"version: 1\n---\nversion: 1":                 "one document",
		"version: 1\nbase: ready:none":                "there are",
		"version: 1\nrules: [null]":                   "rules[0]: expected a rule",
		"version: 1\nrules: [{name: A}]":              `rules[0] "A": name`,
		"version: 1\nrules: [{name: a}]":              `rules[0] "a": path`,
		"version: 1\nactor: [{}]":                     "actor[0]: expected one of",
		rule(", mode: strict"):                        `mode "strict"`,
		rule(", method: [get]"):                       "in capitals",
		rule(", action: job.read"):                    "already",
		own("audit.read, target: {type: job}"):        `action: "audit.read": expected dotted lower case`,
		own("job, target: {type: job}"):               `action: "job": expected dotted lower case`,
		own("job.read, target: {type: \"\"}"):         "target: type",
		own("job.read"):                               "target: type",
		rule(", if: {\"status:\": 200}"):              "isn't known before the answer",
		rule(", if: {\"body:x\": 200}"):               "line 3",
		rule(", if: {\"path:no\": 200}"):              "has no {no}",
		rule(", job: {trigger: now}"):                 `trigger "now"`,
		rule(", outcomes: [{then: good}]"):            `outcomes[0]: then "good"`,
		rule(", actions: [{then: Job}]"):              "actions[0]",
		rule(", change: {}"):                          "change: expected get or after",
		rule(", change: {get: x}"):                    "expected a path",
		rule(", change: {get: \"/{nope}\"}"):          "has no {nope}",
		rule(", change: {get: \"/{status:}\"}"):       "known before the answer",
		rule(", learn: {session: \"cookie:s\"}"):      "session and user",
		rule(", frobnicate: 1"):                       "frobnicate not found",
		"version: 1\nrules: [{name: a, path: x}]":     "expected / at its beginning",
		"version: 1\nrules: [{name: a, path: /x/..}]": "plain segment",
	} {
		if _, err := rules.Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, expected %q", text, err, want)
		}
	}
}

// TestBase: a file's own rules come before those of its base, and replace those of the same name.
func TestBase(t *testing.T) {
	set := parse(t, `
version: 1
base: ready:dkron
default: {safe: best-effort}
rules:
  - {name: job-run-2, method: [POST], path: "/v1/jobs/{job}/run", mode: required, action: run.start, target: {type: job, id: "path:job"}}
`)
	d, err := decide(t, set, "POST", "/v1/jobs/a/run")
	if err != nil || d.Mode != rules.Required {
		t.Errorf("%v %v", d.Mode, err)
	}
	if d, err = decide(t, set, "GET", "/v1/jobs"); err != nil || d.Mode != rules.BestEffort || d.Match.Rule.Action != "api.read" {
		t.Errorf("%v %v", d.Mode, err)
	}
	if d, err = decide(t, set, "DELETE", "/v1/jobs/a"); err != nil || d.Match.Rule.Action != "job.delete" || set.Scheduler != "dkron" {
		t.Errorf("%v %v", d.Match.Rule.Action, err)
	}
}
