package main

import (
	_ "embed"
	"net/netip"
	"time"
)

// Config is the configuration of `prooftrail-monitor run`. The comments here are the manual:
// manual.yaml, which `run --help` prints, is made from them, and a test keeps the two the same.
// Relative file names are relative to the directory of the file.
type Config struct {
	// What alarms call this monitor, such as monitor.example.org.
	Name string `yaml:"name"`
	// Directory that `prooftrail-monitor init` made: the book of heads, evidence, mirrors, the
	// state of alarms, what the witness has cosigned. One process at a time has it open.
	Data string `yaml:"data"`

	// The logs to follow, one at least.
	Logs []LogEntry `yaml:"logs"`
	// Who else sees heads of these logs. Without any, a second history that is shown to others
	// alone isn't noticed.
	Peers []PeerEntry `yaml:"peers"`
	// A witness cosigns the heads of the logs, at POST /add-checkpoint. Without keys and without
	// agent.public_key there is none.
	Witness WitnessSection `yaml:"witness"`
	// Where alarms go.
	Alarms AlarmsSection `yaml:"alarms"`

	// How often each log is looked at and each peer is asked.
	Interval time.Duration `yaml:"interval"`
	// PEM file of the certificate authorities that logs, peers and receivers of alarms are checked
	// with, instead of the system's.
	CA string `yaml:"ca"`

	// Addresses and ports to listen on, for peers, submitters, logs that ask the witness, and
	// people: gossip, evidence, mirrors, add-checkpoint, the status page, /healthz, /readyz.
	Listen []string `yaml:"listen"`
	// Plain http is served on loopback addresses only, unless trusted_proxies or insecure says
	// more.
	TLS TLSSection `yaml:"tls"`
	// Networks of the proxies in front, such as 10.0.0.0/8: plain http may be served to them, and
	// their X-Forwarded-For is believed. Naming one that others can send from lets them choose the
	// address that limits count.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// Serve plain http to anybody. Nothing that is served is secret, and nothing can be forged; who
	// is on the way can withhold.
	Insecure bool `yaml:"insecure"`
	// The status page at / of listen. It shows names and sizes, and no address of a submitter or
	// text of an error: those are on the page of admin alone.
	Page bool `yaml:"page"`
	// Loopback address and port for the operator: /metrics, the whole status, acknowledgements.
	// Whoever has an account on this machine can use it. Empty: none, and `status` and `ack` don't
	// work.
	Admin string `yaml:"admin"`
	// Address and port that serves /metrics and nothing else, for a Prometheus on another machine.
	// Alarms with their logs and peers are in it. Empty: none.
	Metrics string `yaml:"metrics"`

	Limits LimitsSection `yaml:"limits"`
	Log    LogSection    `yaml:"log"`

	// How long to wait for requests under way, after SIGTERM or SIGINT. What was seen is on the
	// disk before it is answered; a second signal ends the process at once.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
}

// LogEntry is one of the logs.
type LogEntry struct {
	// Policy file (c2sp.org/tlog-policy): the log's key, and the witnesses whose cosignatures are
	// counted. Keep it where the log's operator can't change it.
	Policy string `yaml:"policy"`
	// Or the log's verifier key alone, origin+hash+key: no witnesses are counted then.
	VKey string `yaml:"vkey"`
	// Where the log is (c2sp.org/tlog-tiles). Empty: as the policy's log line says.
	URL string `yaml:"url"`
	// Allow plain http to another machine. Nothing can be forged; who is on the way can withhold.
	AllowHTTP bool `yaml:"allow_http"`
	// How long the log may be silent within an answer.
	Timeout time.Duration `yaml:"timeout"`
	// Keep all that was read and checked, and serve it at /mirror/. It takes as much room as the
	// log's tiles.
	Mirror bool `yaml:"mirror"`
	// Whether the witness, if there is one, cosigns this log.
	Cosign bool `yaml:"cosign"`
	// What is normal for this log. Outside of it an alarm rings; a time below zero, such as -1s,
	// turns that alarm off.
	Expect ExpectSection `yaml:"expect"`
}

// ExpectSection is the expect section of a log.
type ExpectSection struct {
	// For how long it may give no answer.
	Reachable time.Duration `yaml:"reachable"`
	// For how long it may serve a head that is smaller than one seen elsewhere, and for how long
	// entries of a head may stay unread.
	Fresh time.Duration `yaml:"fresh"`
	// For how long a signed head may be one of which nobody can say whether it is of this history.
	Explained time.Duration `yaml:"explained"`
	// How old the newest cosignature may be, if the policy has witnesses.
	Cosigned time.Duration `yaml:"cosigned"`
	// For how long the served head may lack the policy's quorum.
	Quorum time.Duration `yaml:"quorum"`
	// For how long the log may not grow.
	Growth time.Duration `yaml:"growth"`
	// How many entries an hour may bring at most. 0: 20 times the mean of the last week, and never
	// less than 10,000. Below zero: no such alarm.
	PerHour int64 `yaml:"per_hour"`
}

// PeerEntry is one of the peers.
type PeerEntry struct {
	// What alarms and the status call it. Each has its own.
	Name string `yaml:"name"`
	// monitor: another prooftrail-monitor. distributor: a checkpoint distributor. witness: the
	// monitoring prefix of a witness (c2sp.org/tlog-witness).
	Kind string `yaml:"kind"`
	// Its prefix.
	URL string `yaml:"url"`
	// Allow plain http to another machine. Nothing can be forged; who is on the way can withhold.
	AllowHTTP bool `yaml:"allow_http"`
	// How long one call may take.
	Timeout time.Duration `yaml:"timeout"`
	// For how long it may give no answer before an alarm rings. Below zero: for ever.
	Silent time.Duration `yaml:"silent"`
	// It mirrors logs: tiles for a proof may be had from it that the log keeps back.
	Mirrors bool `yaml:"mirrors"`
}

// WitnessSection is the witness section.
type WitnessSection struct {
	// Files with the keys that `init` made, one key each, which only their owner may be able to
	// read. Each head is cosigned with every one.
	Keys []string `yaml:"keys"`
	// A key that an ssh-agent holds, so that this process can't read it.
	Agent AgentSection `yaml:"agent"`
}

// AgentSection is the agent section of the witness.
type AgentSection struct {
	// The key, Ed25519, as `ssh-add -L` prints it: "ssh-ed25519 AAAA… comment".
	PublicKey string `yaml:"public_key"`
	// The witness's name, a URL without scheme, such as witness.example.org/w1. It is in every
	// cosignature, for ever.
	Name string `yaml:"name"`
	// The agent's socket. Empty: as the environment variable SSH_AUTH_SOCK says.
	Socket string `yaml:"socket"`
}

// AlarmsSection is the alarms section.
type AlarmsSection struct {
	// After how long an alarm that is still there, and that nobody has acknowledged, is sent again.
	Repeat time.Duration `yaml:"repeat"`
	// Write alarms to this program's own log.
	Log bool `yaml:"log"`
	// Alertmanagers; of a cluster each one.
	Alertmanager []AlertmanagerEntry `yaml:"alertmanager"`
	// Whatever takes JSON by POST: docs/operate/monitor.md has the form.
	Webhook []WebhookEntry `yaml:"webhook"`
	// Programs that are run for each alarm, with the JSON on their standard input.
	Command []CommandEntry `yaml:"command"`
}

// AlertmanagerEntry is one of the Alertmanagers.
type AlertmanagerEntry struct {
	// What the status calls it. Each receiver has its own.
	Name string `yaml:"name"`
	// Its prefix, before /api/v2/alerts.
	URL string `yaml:"url"`
	// Allow plain http to another machine: who is on the way can read the token, and withhold alarms.
	AllowHTTP bool `yaml:"allow_http"`
	// File with a bearer token, which only its owner may be able to read. Empty: none.
	TokenFile string `yaml:"token_file"`
	// Labels that each alert gets.
	Labels map[string]string `yaml:"labels"`
	// Where people find this monitor's status page: each alert links to it. Empty: no link.
	Page string `yaml:"page"`
	// How often an alert that is there is sent.
	Resend time.Duration `yaml:"resend"`
	// How long one call may take.
	Timeout time.Duration `yaml:"timeout"`
}

// WebhookEntry is one of the webhooks.
type WebhookEntry struct {
	// What the status calls it. Each receiver has its own.
	Name string `yaml:"name"`
	// Where to post to.
	URL string `yaml:"url"`
	// Or a file with that URL, which only its owner may be able to read: of many services the URL is
	// the credential.
	URLFile string `yaml:"url_file"`
	// Allow plain http to another machine: who is on the way can read alarms and token, and withhold.
	AllowHTTP bool `yaml:"allow_http"`
	// File with a secret of at least 16 bytes, one line, which only its owner may be able to read.
	// It signs each body. Empty: none is signed.
	SecretFile string `yaml:"secret_file"`
	// File with a bearer token, likewise. Empty: none.
	TokenFile string `yaml:"token_file"`
	// How long one call may take.
	Timeout time.Duration `yaml:"timeout"`
}

// CommandEntry is one of the programs.
type CommandEntry struct {
	// What the status calls it. Each receiver has its own.
	Name string `yaml:"name"`
	// The program and its arguments. No shell reads them.
	Argv []string `yaml:"argv"`
	// Its environment beside the alarm's, NAME=value each. It gets nothing of this process's.
	Env []string `yaml:"env"`
	// After how long it, and what it has started, is killed.
	Timeout time.Duration `yaml:"timeout"`
}

// TLSSection is the tls section.
type TLSSection struct {
	// PEM file with the certificate chain. Empty, as key then is: plain http.
	Cert string `yaml:"cert"`
	// PEM file with the private key; only its owner may be able to read it.
	Key string `yaml:"key"`
}

// LimitsSection is the limits section.
type LimitsSection struct {
	// How many requests a second one address may send, in the long run; four times as many at
	// once. Past it the answer is 429. A log asks its witness up to once a second.
	Rate float64 `yaml:"rate"`
	// Open connections. Past it each new one takes the place of the one that has waited longest
	// without a request under way; while all have one, it waits.
	MaxConnections int `yaml:"max_connections"`
	// Time for a request to arrive.
	BodyTimeout time.Duration `yaml:"body_timeout"`
	// How long ago the last look at a log may be over before /readyz says no.
	ReadyLag time.Duration `yaml:"ready_lag"`
}

// LogSection is the log section: this program's own messages, on standard error. They never hold
// secrets.
type LogSection struct {
	// One of debug, info, warn, error.
	Level string `yaml:"level"`
	// text or json.
	Format string `yaml:"format"`
}

// manual is the annotated configuration file with all members and their defaults; each list has one
// element.
//
//go:embed manual.yaml
var manual string

// defaultConfig is what an empty file means.
func defaultConfig() Config {
	return Config{
		Witness:  WitnessSection{Keys: []string{}},
		Alarms:   AlarmsSection{Repeat: time.Hour, Log: true},
		Interval: 30 * time.Second,
		Listen:   []string{"127.0.0.1:8090"}, TrustedProxies: []netip.Prefix{}, Page: true, Admin: "127.0.0.1:8091",
		Limits:          LimitsSection{Rate: 10, MaxConnections: 1024, BodyTimeout: 30 * time.Second, ReadyLag: 5 * time.Minute},
		Log:             LogSection{Level: "info", Format: "text"},
		ShutdownTimeout: 30 * time.Second,
	}
}

// What an element of each list is before the file says more.
func (l *LogEntry) defaults() {
	*l = LogEntry{Timeout: 15 * time.Second, Cosign: true, Expect: ExpectSection{
		Reachable: 5 * time.Minute, Fresh: 5 * time.Minute, Explained: 2 * time.Minute, Cosigned: 2 * time.Hour,
		Quorum: 5 * time.Minute, Growth: 24 * time.Hour,
	}}
}

func (p *PeerEntry) defaults() {
	*p = PeerEntry{Kind: "monitor", Timeout: 15 * time.Second, Silent: 10 * time.Minute}
}

func (a *AlertmanagerEntry) defaults() {
	*a = AlertmanagerEntry{Name: "alertmanager", Labels: map[string]string{}, Resend: time.Minute, Timeout: 10 * time.Second}
}

func (w *WebhookEntry) defaults() { *w = WebhookEntry{Name: "webhook", Timeout: 10 * time.Second} }

func (c *CommandEntry) defaults() {
	*c = CommandEntry{Name: "command", Argv: []string{}, Env: []string{}, Timeout: 30 * time.Second}
}
