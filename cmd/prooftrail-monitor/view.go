package main

import (
	"encoding/base64"
	"slices"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
)

// view is what the page and `status --json` show. The names in JSON stay.
type view struct {
	Name     string         `json:"name"`
	Version  string         `json:"version"`
	Now      time.Time      `json:"now"`
	Started  time.Time      `json:"started"`
	NotReady []string       `json:"not_ready"` // why; empty: it is ready
	Alarms   []alarmView    `json:"alarms"`
	Logs     []logView      `json:"logs"`
	Peers    []peerView     `json:"peers"`
	Evidence []evidenceView `json:"evidence"`
	Witness  *witnessView   `json:"witness,omitempty"`

	// For the operator's eyes alone.
	Sinks []alarm.SinkHealth `json:"receivers,omitempty"`
	// Public says that what only the operator may see was left out.
	Public bool `json:"-"`
}

// alarmView is an active alarm.
type alarmView struct {
	ID string `json:"id"`
	alarm.Alarm
	Meaning string `json:"meaning"` // of its name, in our words
}

// headView is a head.
type headView struct {
	Size uint64 `json:"size"`
	Root string `json:"root"`
}

func viewHead(c *verifier.Checkpoint) *headView {
	if c == nil {
		return nil
	}
	return &headView{c.Size, base64.StdEncoding.EncodeToString(c.Root[:])}
}

// logView is a log.
type logView struct {
	Origin   string            `json:"origin"`
	ID       string            `json:"id"`
	URL      string            `json:"url"`
	Checked  *headView         `json:"checked,omitempty"`
	Seen     *headView         `json:"seen,omitempty"`
	Served   *headView         `json:"served,omitempty"`
	ServedAt time.Time         `json:"served_at,omitzero"`
	LookedAt time.Time         `json:"looked_at,omitzero"`
	Grown    time.Time         `json:"grown_at,omitzero"`
	Read     uint64            `json:"read"`
	Cosigned []cosignatureView `json:"cosigned"`
	Quorum   string            `json:"quorum"`
	// Witnesses is how many the policy names.
	Witnesses  int    `json:"witnesses"`
	Open       uint64 `json:"open_heads"`
	Agreed     uint64 `json:"agreed_heads"`
	ForkedHead uint64 `json:"forked_heads"`
	Forked     bool   `json:"forked"`
	Mirrored   uint64 `json:"mirrored"`
	Err        string `json:"error,omitempty"`
	ReadErr    string `json:"read_error,omitempty"`
	BookErr    string `json:"book_error,omitempty"`
	// State is one word for all of it: forked, wrong, silent, reading, follows.
	State string `json:"state"`
}

// cosignatureView is a cosignature of the served head.
type cosignatureView struct {
	Witness string    `json:"witness"`
	Time    time.Time `json:"time"`
}

// peerView is a peer.
type peerView struct {
	Name  string          `json:"name"`
	Kind  string          `json:"kind"`
	URL   string          `json:"url"`
	OK    time.Time       `json:"answered_at"`
	Err   string          `json:"error,omitempty"`
	Views []peerAgreement `json:"logs"`
}

// peerAgreement is what a peer's heads of a log come to: agrees, contradicts, unknown, or none.
type peerAgreement struct {
	Log     string `json:"log"`
	Verdict string `json:"verdict"`
}

// evidenceView is an evidence file.
type evidenceView struct {
	ID     string   `json:"id"`
	Origin string   `json:"origin"`
	First  headView `json:"first"`
	Second headView `json:"second"`
	File   string   `json:"file,omitempty"`
}

// witnessView is our own witness.
type witnessView struct {
	VerifierKeys []string      `json:"verifier_keys"`
	Cosigned     []witnessHead `json:"cosigned"`
}

// witnessHead is what it has cosigned last of a log.
type witnessHead struct {
	Origin string    `json:"origin"`
	Head   *headView `json:"head,omitempty"` // nil: nothing yet
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// makeView puts together what is known now.
func makeView(name string, now time.Time, s monitor.Status, active []alarm.Alarm) view {
	v := view{
		Name: name, Version: cli.Version(), Now: now.UTC().Truncate(time.Second), Started: s.Started, NotReady: []string{},
		Alarms: []alarmView{}, Logs: []logView{}, Peers: []peerView{}, Evidence: []evidenceView{},
	}
	for _, a := range active {
		v.Alarms = append(v.Alarms, alarmView{a.ID(), a, meanings[a.Name]})
	}
	for i := range s.Logs {
		v.Logs = append(v.Logs, viewLog(&s.Logs[i], active))
	}
	for i := range s.Peers {
		v.Peers = append(v.Peers, viewPeer(&s.Peers[i]))
	}
	for _, e := range s.Evidence {
		ev := evidenceView{ID: e.ID, Origin: e.Origin, File: e.File}
		if e.Fork != nil {
			ev.First = headView{e.Fork.First.Size, e.Fork.First.Root}
			ev.Second = headView{e.Fork.Second.Size, e.Fork.Second.Root}
		}
		v.Evidence = append(v.Evidence, ev)
	}
	return v
}

func viewLog(l *monitor.LogStatus, active []alarm.Alarm) logView {
	v := logView{
		Origin: l.Origin, ID: l.ID, URL: l.URL, Checked: viewHead(l.Checked), Seen: viewHead(l.Seen), Served: viewHead(l.Served),
		ServedAt: l.ServedAt, LookedAt: l.LookedAt, Grown: l.Grown, Read: l.Read, Cosigned: []cosignatureView{},
		Quorum: string(l.Quorum), Witnesses: l.Witnesses, Open: l.Heads.Open, Agreed: l.Heads.Agreed, ForkedHead: l.Heads.Forked,
		Forked: l.Forked, Mirrored: l.Mirrored, Err: errText(l.Err), ReadErr: errText(l.ReadErr), BookErr: errText(l.BookErr),
	}
	for _, c := range l.Cosigned {
		v.Cosigned = append(v.Cosigned, cosignatureView{c.Witness, c.Time})
	}
	critical := slices.ContainsFunc(active, func(a alarm.Alarm) bool { return a.Log == l.Origin && a.Severity == alarm.Critical })
	switch {
	case l.Forked:
		v.State = "forked"
	case critical:
		v.State = "wrong"
	case l.Served == nil || l.Err != nil:
		v.State = "silent"
	case l.Checked == nil || l.Seen == nil || l.Checked.Size < l.Seen.Size:
		v.State = "reading"
	default:
		v.State = "follows"
	}
	return v
}

func viewPeer(p *monitor.PeerStatus) peerView {
	v := peerView{Name: p.Name, Kind: string(p.Kind), URL: p.URL, OK: p.OK, Err: errText(p.Err), Views: []peerAgreement{}}
	for origin, verdict := range p.Views {
		word := string(verdict)
		if word == "" {
			word = "none"
		}
		v.Views = append(v.Views, peerAgreement{origin, word})
	}
	slices.SortFunc(v.Views, func(a, b peerAgreement) int { return strings.Compare(a.Log, b.Log) })
	return v
}

// public leaves out what only the operator may see: texts of errors, which have addresses of this
// network in them, who posted a head, and who acknowledged what.
func (v view) public() view {
	v.Public, v.Sinks = true, nil
	v.Alarms, v.Logs, v.Peers, v.Evidence = slices.Clone(v.Alarms), slices.Clone(v.Logs), slices.Clone(v.Peers), slices.Clone(v.Evidence)
	for i := range v.Alarms {
		a := &v.Alarms[i]
		a.Summary, a.Details, a.Ack = "", nil, nil
	}
	for i := range v.Logs {
		l := &v.Logs[i]
		l.Err, l.ReadErr, l.BookErr = "", "", ""
	}
	for i := range v.Peers {
		v.Peers[i].Err = ""
	}
	for i := range v.Evidence {
		v.Evidence[i].File = ""
	}
	return v
}
