package main

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
	"os"
	"reflect"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/httpapi"
)

// Config is the configuration of `prooftrail serve`. The comments here are the
// manual: manual.yaml, which `serve --help` prints, is made from them, and a test
// keeps the two the same.
type Config struct {
	// Where the log lives, made by `prooftrail init`: all of an embedded log, which one
	// server at a time may open; the key and the policy of one in a database.
	Data string `yaml:"data"`
	// embedded: the log is in data. mysql: it is in a MySQL or MariaDB database, which
	// any number of servers may share, each with the same key in its data. trillian: its
	// tree is kept by a Trillian cluster, and the rest of it is in such a database.
	Storage string `yaml:"storage"`

	MySQL    MySQLConfig    `yaml:"mysql"`
	Trillian TrillianConfig `yaml:"trillian"`

	// The file that remembers the newest signed head. It belongs on another volume
	// than data, and never into the same backup: a restored backup is noticed
	// because this file is ahead of it. Empty: data with .anchor appended.
	Anchor string `yaml:"anchor"`
	// Address and port to listen on. Without TLS keep it to this machine, or to a
	// network between here and a proxy that you trust with every token.
	Listen string `yaml:"listen"`

	Witnesses WitnessesConfig `yaml:"witnesses"`

	// File with the doors at which systems post that have no token: docs/operate/webhooks.md.
	// Empty: none.
	Webhooks string `yaml:"webhooks"`

	TLS    TLSConfig    `yaml:"tls"`
	Log    LogConfig    `yaml:"log"`
	Limits LimitsConfig `yaml:"limits"`

	// How long to wait for requests under way, and for what was admitted to be
	// signed, after SIGTERM or SIGINT. Events that were answered are safe whatever
	// happens; a second signal ends the process at once.
	ShutdownTimeout time.Duration `yaml:"shutdown_timeout"`
	// Loopback address and port, such as 127.0.0.1:6060, that serves profiles of this
	// process under /debug/pprof/ (Go's net/http/pprof). Empty: none.
	Profile string `yaml:"profile"`
}

// MySQLConfig is the mysql section, for the storages mysql and trillian.
type MySQLConfig struct {
	// user@tcp(host:port)/database or user@unix(/socket)/database, without the password.
	// As parameters it takes tls=true, timeout, readTimeout and writeTimeout.
	DSN string `yaml:"dsn"`
	// File with the password; only its owner may be able to read it. Empty: the
	// environment variable PROOFTRAIL_MYSQL_PASSWORD.
	PasswordFile string `yaml:"password_file"`
	// PEM file of the certificate authorities that the server is checked with. Empty: none
	// on this machine; elsewhere the system's, with tls=true in dsn.
	CA string `yaml:"ca"`
	// Allow a server on another machine without TLS: all that it is told can then be read
	// on the way.
	Insecure bool `yaml:"insecure"`
}

// TrillianConfig is the trillian section, for that storage.
type TrillianConfig struct {
	// Trillian's log servers, host:port each; one is called until a call fails, then the
	// next. A name stands for any of those that DNS says of it.
	Servers []string `yaml:"servers"`
	// PEM file of the certificate authorities that they are checked with. Empty: no TLS,
	// which is for servers on this machine.
	CA string `yaml:"ca"`
	// Allow servers on other machines without TLS: who is on the way can then read and
	// change what the log stores, which it notices, and refuses to go on.
	Insecure bool `yaml:"insecure"`
}

// WitnessesConfig is the witnesses section.
type WitnessesConfig struct {
	// Policy file (c2sp.org/tlog-policy) of this log, with the witnesses that are asked to
	// cosign each public head, their URLs, and their quorum. It is the file that verifiers
	// get. Empty, or with quorum none: nobody is asked.
	Policy string `yaml:"policy"`
	// How often a new head is offered to the witnesses; all of them get the same one.
	Interval time.Duration `yaml:"interval"`
	// After how long a head that stays the same is cosigned afresh, an hour at most.
	Refresh time.Duration `yaml:"refresh"`
	// How long the quorum may be missing before it counts as lost.
	Patience time.Duration `yaml:"patience"`
	// What happens then. open: the log goes on, and its public checkpoint has fewer
	// cosignatures than the policy wants. closed: no event is taken (503), /readyz says no,
	// and the public checkpoint stays where it was, until the quorum is back.
	WhenLost string `yaml:"when_lost"`
	// Allow witnesses at http URLs on other machines. They can't be forged even so.
	Insecure bool `yaml:"insecure"`
}

// check names the first key that can't be meant.
func (c *WitnessesConfig) check() error {
	for _, k := range []struct {
		key      string
		ok       bool
		expected string
	}{
		{"interval", c.Interval >= 10*time.Millisecond && c.Interval <= time.Hour, "10ms to 1h"},
		{"refresh", c.Refresh >= time.Second && c.Refresh <= time.Hour, "1s to 1h: verifiers want fresh cosignatures"},
		{"patience", c.Patience >= time.Second, "1s or more"},
		{"when_lost", c.WhenLost == "open" || c.WhenLost == "closed", "open or closed"},
	} {
		if !k.ok {
			return fmt.Errorf("witnesses.%s: expected %s", k.key, k.expected)
		}
	}
	return nil
}

// open returns what the log is to be told; nil where nobody is asked.
func (c *WitnessesConfig) open() (*personality.WitnessConfig, error) {
	if c.Policy == "" {
		return nil, nil
	}
	policy, err := readPolicy(c.Policy)
	if err != nil {
		return nil, fmt.Errorf("witnesses.policy: %w", err)
	}
	return &personality.WitnessConfig{
		Policy: policy, Every: c.Interval, Refresh: c.Refresh, Patience: c.Patience,
		Closed: c.WhenLost == "closed", AllowHTTP: c.Insecure,
	}, nil
}

// TLSConfig is the tls section.
type TLSConfig struct {
	// PEM file with the certificate chain. Empty, as key then is: plain http.
	Cert string `yaml:"cert"`
	// PEM file with the private key; only its owner may be able to read it.
	Key string `yaml:"key"`
}

// LogConfig is the log section: the server's own messages, on standard error.
// They never hold tokens or events.
type LogConfig struct {
	// One of debug, info, warn, error.
	Level string `yaml:"level"`
	// text or json.
	Format string `yaml:"format"`
	// One line for each request: path, status, time. It costs a few microseconds a
	// request.
	Access bool `yaml:"access"`
}

// LimitsConfig is the limits section.
type LimitsConfig struct {
	// Events admitted and not yet stored; past it, submitters wait.
	QueueEvents int `yaml:"queue_events"`
	// The same in bytes, about.
	QueueBytes int64 `yaml:"queue_bytes"`
	// Events stored and not yet in a signed head; past it, events are refused (503)
	// until publishing goes on.
	MaxUnpublished int `yaml:"max_unpublished"`
	// Age of the oldest unpublished event past which /readyz says no.
	ReadyLag time.Duration `yaml:"ready_lag"`
	// Free space of the disk of data, in bytes, below which events are refused (503)
	// until there is more. It is kept for signing what is stored and for putting the
	// database in order. Less than 64 MiB may not do. Negative: none.
	MinFree int64 `yaml:"min_free"`
	// Events stored with one fsync, 1 to 1000. More costs latency under load,
	// fewer costs throughput.
	MaxBatch int `yaml:"max_batch"`
	// Memory for the database's block cache, in bytes.
	CacheBytes int64 `yaml:"cache_bytes"`
	// Steady rate of one token: an event counts one, every other request too. Past
	// it the answer is 429. Negative: no limit.
	EventsPerSecond float64 `yaml:"events_per_second"`
	// How far a token may run ahead of its rate; at least 500.
	BurstEvents int `yaml:"burst_events"`
	// Requests without a valid token that one address may make; past it they are
	// answered 429. Negative: no limit.
	AuthFailuresPerMinute float64 `yaml:"auth_failures_per_minute"`
	// Networks, such as 10.0.0.0/8, whose X-Forwarded-For is believed. Naming one
	// that others can send from lets them choose the address that events show.
	TrustedProxies []netip.Prefix `yaml:"trusted_proxies"`
	// Time for a request to arrive.
	BodyTimeout time.Duration `yaml:"body_timeout"`
	// How long a submitter is kept waiting for its receipt. What is stored by then
	// and not yet signed is answered 202.
	AnswerTimeout time.Duration `yaml:"answer_timeout"`
	// Memory for the bodies of all requests under way and what is made of them, in
	// bytes, at least 16 MiB. A request of 8 MiB takes up to 32, a delivery in another
	// system's form of 16 MiB up to 128.
	BodyMemory int64 `yaml:"body_memory"`
	// Items of one tenant in the quarantine, where what comes in another system's form and
	// can't be taken into the log waits for an operator. Past it a delivery with one more is
	// refused (503).
	QuarantineItems int `yaml:"quarantine_items"`
	// The same in bytes, at least 1 MiB. A delivery has 16 MiB at most.
	QuarantineBytes int64 `yaml:"quarantine_bytes"`
	// Open connections. Past it each new one takes the place of the one that has
	// waited longest without a request under way; while all have one, it waits.
	MaxConnections int `yaml:"max_connections"`
}

// manual is the annotated configuration file with all defaults.
//
//go:embed manual.yaml
var manual string

// defaultConfig is what an empty file means.
func defaultConfig() Config {
	return Config{
		Storage:   storageEmbedded,
		Trillian:  TrillianConfig{Servers: []string{}},
		Listen:    "127.0.0.1:8080",
		Witnesses: WitnessesConfig{Interval: time.Second, Refresh: 30 * time.Minute, Patience: time.Minute, WhenLost: "open"},
		Log:       LogConfig{Level: "info", Format: "text"},
		Limits: LimitsConfig{
			QueueEvents: 4096, QueueBytes: 64 << 20, MaxUnpublished: 100_000, ReadyLag: 10 * time.Second,
			MinFree: 256 << 20, MaxBatch: 500, CacheBytes: 128 << 20,
			EventsPerSecond: 50_000, BurstEvents: 50_000, AuthFailuresPerMinute: 30,
			TrustedProxies: []netip.Prefix{},
			BodyTimeout:    30 * time.Second, AnswerTimeout: 20 * time.Second,
			BodyMemory: 256 << 20, MaxConnections: 4096,
			QuarantineItems: 10_000, QuarantineBytes: 64 << 20,
		},
		ShutdownTimeout: 30 * time.Second,
	}
}

// loadConfig reads a file over the defaults. Keys that Config doesn't have are
// refused: a limit with a slip in its name would silently not be there.
func loadConfig(file string) (Config, error) {
	cfg := defaultConfig()
	if file == "" {
		return cfg, nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return cfg, fmt.Errorf("configuration: %w", err)
	}
	if err := cfg.parse(b); err != nil {
		return cfg, fmt.Errorf("configuration %s: %w", file, err)
	}
	return cfg, nil
}

func (c *Config) parse(b []byte) error {
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	if err := dec.Decode(c); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return errors.New("more than one YAML document")
	}
	return nil
}

// check refuses what can't be meant. Limits are checked by what they limit.
func (c *Config) check() error {
	switch {
	case c.Data == "":
		return errors.New("--data is needed (or data in the configuration); `prooftrail init` makes it")
	case c.Listen == "":
		return errors.New("no address to listen on")
	case (c.TLS.Cert == "") != (c.TLS.Key == ""):
		return errors.New("TLS takes both a certificate and a key")
	case c.Log.Format != "text" && c.Log.Format != "json":
		return fmt.Errorf("log format %q: expected text or json", c.Log.Format)
	case c.ShutdownTimeout <= 0:
		return errors.New("shutdown_timeout: expected more than 0")
	}
	if err := c.Limits.check(); err != nil {
		return err
	}
	if err := c.Witnesses.check(); err != nil {
		return err
	}
	if err := checkProfile(c.Profile); err != nil {
		return err
	}
	if c.TLS.Key == "" {
		return nil
	}
	return checkPrivate("TLS key", c.TLS.Key)
}

// check names the first limit that can't be meant. A 0 is none: below, it would
// silently be the default. Upper bounds are what is limited's to know.
func (l *LimitsConfig) check() error {
	for _, limit := range []struct {
		key      string
		ok       bool
		expected string
	}{
		{"queue_events", l.QueueEvents > 0, "more than 0"},
		{"queue_bytes", l.QueueBytes > 0, "more than 0"},
		{"max_unpublished", l.MaxUnpublished > 0, "more than 0"},
		{"ready_lag", l.ReadyLag > 0 && l.ReadyLag <= 24*time.Hour, "more than 0s, up to 24h"},
		{"min_free", l.MinFree != 0, "more than 0, or less for none"},
		{"max_batch", l.MaxBatch > 0 && l.MaxBatch <= 1000, "1 to 1000"},
		{"cache_bytes", l.CacheBytes > 0, "more than 0"},
		{"events_per_second", l.EventsPerSecond != 0 && !math.IsNaN(l.EventsPerSecond), "more than 0, or less for no limit"},
		{"burst_events", l.BurstEvents >= httpapi.MaxEvents, fmt.Sprintf("%d or more", httpapi.MaxEvents)},
		{"auth_failures_per_minute", l.AuthFailuresPerMinute != 0 && !math.IsNaN(l.AuthFailuresPerMinute), "more than 0, or less for no limit"},
		{"body_timeout", l.BodyTimeout > 0, "more than 0s"},
		{"answer_timeout", l.AnswerTimeout > 0, "more than 0s"},
		{"body_memory", l.BodyMemory >= 2*httpapi.MaxBodyBytes, fmt.Sprintf("%d or more", 2*httpapi.MaxBodyBytes)},
		{"quarantine_items", l.QuarantineItems > 0, "more than 0"},
		{"quarantine_bytes", l.QuarantineBytes > 0, "more than 0"},
		{"max_connections", l.MaxConnections > 0, "more than 0"},
	} {
		if !limit.ok {
			return fmt.Errorf("limits.%s: expected %s", limit.key, limit.expected)
		}
	}
	return nil
}

// limitError names a limit that the log refused by its key in the file.
func limitError(err error) error {
	var invalid *personality.InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	name := invalid.Field
	if name == "MaxLag" {
		name = "ReadyLag"
	}
	field, ok := reflect.TypeFor[LimitsConfig]().FieldByName(name)
	if !ok {
		return err
	}
	return fmt.Errorf("limits.%s: expected %s", field.Tag.Get("yaml"), invalid.Expected)
}

// checkPrivate refuses a secret that others can read.
func checkPrivate(what, file string) error {
	info, err := os.Stat(file)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s: %s has mode %04o: others may read it; expected 0600", what, file, info.Mode().Perm())
	}
	return nil
}
