package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
)

const statusHelp = `
Usage: prooftrail-monitor status --config FILE [--json]

Asks a running monitor, at its admin address, what it knows.

Example:
  prooftrail-monitor status --config monitor.yaml

Exit codes: 0 it is ready and no alarm is active; 1 one is, or it isn't ready; 2 it could not be
asked.
`

const ackHelp = `
Usage: prooftrail-monitor ack ID --by NAME [--note TEXT] --config FILE

Acknowledges an active alarm: it isn't sent again, until it becomes worse, and its end is still
sent. 'status' shows the ids.

Example:
  prooftrail-monitor ack 3f1c5a0b9d2e --by ada --note 'asked their operator' --config monitor.yaml

Exit codes: 0 acknowledged; 1 no such alarm is active; 2 failed.
`

// maxAnswerBytes bounds what is read of a monitor's answer.
const maxAnswerBytes = 64 << 20

// adminFlags say which monitor to ask.
type adminFlags struct{ config, admin string }

func (a *adminFlags) add(fs *cli.Flags) {
	fs.StringVar(&a.config, "config", "", "the monitor's configuration `file`, which has its admin address")
	fs.StringVar(&a.admin, "admin", "", "or that `address` and port")
}

// call asks the admin address, and returns the body of a 200.
func (a *adminFlags) call(ctx context.Context, method, path string, body []byte) ([]byte, int, error) {
	addr := a.admin
	if addr == "" {
		if a.config == "" {
			return nil, 0, errors.New("--config or --admin is needed; see --help")
		}
		f, err := loadConfig(a.config)
		if err == nil {
			err = f.err()
		}
		if err != nil {
			return nil, 0, err
		}
		if addr = f.cfg.Admin; addr == "" {
			return nil, 0, fmt.Errorf("%s has no admin address", a.config)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+addr+path, bytes.NewReader(body))
	if err != nil {
		return nil, 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{}} // no proxy: it is on this machine
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, fmt.Errorf("is it running? %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s", strings.TrimSpace(string(b)))
	}
	return b, resp.StatusCode, err
}

func runStatus(ctx context.Context, e *cli.Env, args []string) error {
	var admin adminFlags
	fs := cli.NewFlags(e, "status", statusHelp)
	admin.add(fs)
	asJSON := fs.Bool("json", false, "print one JSON object")
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	b, _, err := admin.call(ctx, http.MethodGet, "/v1/status", nil)
	if err != nil {
		return err
	}
	var v view
	if err := json.Unmarshal(b, &v); err != nil {
		return fmt.Errorf("the answer isn't a status: %w", err)
	}
	if *asJSON {
		if _, err := e.Stdout.Write(b); err != nil {
			return err
		}
	} else {
		v.text(e.Stdout)
	}
	if len(v.Alarms) > 0 || len(v.NotReady) > 0 {
		return cli.Refused(nil)
	}
	return nil
}

// text prints a status for people.
func (v *view) text(w io.Writer) {
	line := func(format string, args ...any) { fmt.Fprintln(w, printable(fmt.Sprintf(format, args...))) }
	ago := func(t time.Time) string { return showAge(v.Now, t) + " ago" }
	ready := "ready"
	if len(v.NotReady) > 0 {
		ready = "not ready: " + strings.Join(v.NotReady, "; ")
	}
	line("%s: %s, running since %s", v.Name, ready, showTime(v.Started))
	for _, a := range v.Alarms {
		about := strings.Trim(a.Log+" "+a.Peer, " ")
		acked := ""
		if a.Ack != nil {
			acked = ", acknowledged by " + a.Ack.By
		}
		line("alarm %s  %s %s %s, since %s%s", a.ID, a.Severity, a.Name, about, showTime(a.Since), acked)
		line("      %s", a.Summary)
	}
	for i := range v.Logs {
		l := &v.Logs[i]
		line("log   %s  %s", l.Origin, l.State)
		line("      served %s, checked %s", sizeOf(l.Served), sizeOf(l.Checked))
		if l.Witnesses > 0 {
			line("      cosigned by %d of %d witnesses: %s", len(l.Cosigned), l.Witnesses, l.Quorum)
		}
		for _, text := range []string{l.Err, l.ReadErr, l.BookErr} {
			if text != "" {
				line("      %s", text)
			}
		}
	}
	for i := range v.Peers {
		p := &v.Peers[i]
		line("peer  %s  answered %s", p.Name, ago(p.OK))
		for _, a := range p.Views {
			line("      %s: %s", a.Log, a.Verdict)
		}
		if p.Err != "" {
			line("      %s", p.Err)
		}
	}
	for _, ev := range v.Evidence {
		line("evidence against %s, sizes %d and %d: %s", ev.Origin, ev.First.Size, ev.Second.Size, ev.File)
	}
	if v.Witness != nil {
		for _, h := range v.Witness.Cosigned {
			line("witness cosigned %s at %s", h.Origin, sizeOf(h.Head))
		}
	}
	for _, s := range v.Sinks {
		line("receiver %s: %d taken, %d failed, %d waiting", s.Name, s.Sent, s.Failed, s.Pending)
	}
}

func sizeOf(h *headView) string {
	if h == nil {
		return "nothing yet"
	}
	return fmt.Sprintf("size %d", h.Size)
}

func runAck(ctx context.Context, e *cli.Env, args []string) error {
	var admin adminFlags
	var a acknowledgement
	fs := cli.NewFlags(e, "ack", ackHelp)
	admin.add(fs)
	fs.StringVar(&a.By, "by", "", "who: a `name`")
	fs.StringVar(&a.Note, "note", "", "a `text` for others")
	ids, err := fs.Positional(args, 1)
	if err != nil {
		return err
	}
	if len(ids) != 1 {
		return errors.New("expected the id of an alarm; see --help")
	}
	if err := fs.Needed("by"); err != nil {
		return err
	}
	if strings.ContainsFunc(ids[0], func(r rune) bool { return !strings.ContainsRune("0123456789abcdef", r) }) {
		return cli.Refusedf("%s isn't an id of an alarm", ids[0])
	}
	body, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, status, err := admin.call(ctx, http.MethodPost, "/v1/alarms/"+ids[0]+"/ack", body)
	if status == http.StatusNotFound {
		return cli.Refused(err)
	}
	if err != nil {
		return err
	}
	e.Say("acknowledged")
	return nil
}
