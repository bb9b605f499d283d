package main

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// maxCommand bounds what is logged of a command line, in bytes.
const maxCommand = 32 << 10

// execEvents makes the two events of a run. The lane's queue masks every text in them.
type execEvents struct {
	base    event.Event
	command []string
}

// newExecEvents makes the events, and checks that they are valid: what is wrong with a flag is the same in
// each run, and is better said before the first one.
func newExecEvents(x *execFlags) (*execEvents, error) {
	run, err := uuid.NewV7()
	if err != nil {
		return nil, err
	}
	job := x.job
	job.RunID = run.String()
	job.Node, _ = os.Hostname() // "" is left out
	details := map[string]any{"uid": strconv.Itoa(os.Getuid())}
	if name := userName(); name != "" {
		details["user"] = name
	}
	if x.logCommand {
		details["command"] = shorten(x.command)
	}
	e := &execEvents{command: x.command, base: event.Event{
		Actor: x.actor, Job: &job, Details: details,
		Target: []event.Target{{Type: "job", ID: job.ID, Name: job.Name}},
	}}
	valid := e.start()
	valid.ID, valid.Source, valid.Time = job.RunID, "cron://host", time.Now()
	if _, err := valid.Fields(); err != nil {
		return nil, fmt.Errorf("the event that the flags make: %w", err)
	}
	return e, nil
}

// userName is the user's name, "" if it isn't to be had.
func userName() string {
	u, err := user.Current()
	if err != nil {
		return ""
	}
	return u.Username
}

// shorten keeps as many arguments as there is room for.
func shorten(args []string) []string {
	room := maxCommand
	for i, a := range args {
		if room -= len(a) + 4; room < 0 {
			return append(args[:i:i], fmt.Sprintf("[%d more arguments]", len(args)-i))
		}
	}
	return args
}

// useKey adds the HMAC of the command line under the spool's key. A digest without a key would let readers of the
// log try out what secrets are in it.
func (e *execEvents) useKey(spool string) error {
	text, err := madeOnce(filepath.Join(spool, "command.key"), func() string {
		key := make([]byte, 32)
		_, _ = rand.Read(key) // it never fails: crypto/rand
		return hex.EncodeToString(key)
	})
	if err != nil {
		return err
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != 32 {
		return fmt.Errorf("%s: expected 64 hexadecimal digits", filepath.Join(spool, "command.key"))
	}
	mac := hmac.New(sha256.New, key)
	for _, a := range e.command { // no argument has a NUL in it
		mac.Write(append([]byte(a), 0))
	}
	e.base.Details["command_hmac"] = hex.EncodeToString(mac.Sum(nil))
	return nil
}

// event returns a copy that can be changed.
func (e *execEvents) event(action, outcome string) event.Event {
	out, job := e.base, *e.base.Job
	out.Action, out.Outcome, out.Job = action, outcome, &job
	return out
}

func (e *execEvents) start() event.Event { return e.event("run.start", "success") }

// notStarted says that nothing came of a run.start, should that be logged later.
func (e *execEvents) notStarted() event.Event {
	out := e.event("run.finish", "denied")
	out.Reason = &event.Reason{Code: "not_logged", Text: "not started: run.start was not known to be in the log"}
	return out
}

func (e *execEvents) finish(p processEnd) event.Event {
	out := e.event("run.finish", "success")
	code, ms := int64(p.code()), p.took.Milliseconds()
	out.Job.ExitCode, out.Job.DurationMS = &code, &ms
	switch {
	case p.err != nil && code == exitNotFound:
		out.Reason = &event.Reason{Code: "not_found"}
	case p.err != nil:
		out.Reason = &event.Reason{Code: "not_executable"}
	case p.signal != 0:
		out.Reason = &event.Reason{Code: "signal_" + strconv.Itoa(p.signal), Text: p.signalName}
		details := map[string]any{"signal": p.signal}
		for name, v := range out.Details {
			details[name] = v
		}
		out.Details = details
	case code != 0:
		out.Reason = &event.Reason{Code: "exit_" + strconv.FormatInt(code, 10)}
	}
	if out.Reason != nil {
		out.Outcome = "failure"
	}
	return out
}
