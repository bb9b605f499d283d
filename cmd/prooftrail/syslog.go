//go:build !client

package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
)

const syslogHelp = `
Usage: prooftrail syslog --listen SOCKET... [--forward SOCKET] [flags]

Receives syslog, and logs what Debian's cron and crontab, PAM and sudo say in it: runs with
their ends, changes of crontabs with what has changed, logins, commands run as another user. cron and
crontab stay as they are; cron has to be started with -L 15 for it to tell how runs end. All
other lines are of no matter here: --forward passes every line on.

Sockets to listen on:
  unix:PATH    datagrams, as on /dev/log. The kernel tells who sent each
  relay:PATH   the same, from another syslog that passes lines on: who wrote them is its claim
  systemd:     the datagram socket that systemd passes on, as unix:
  udp:ADDRESS  tcp:ADDRESS  tls:ADDRESS   from other machines (RFC 3164, 5424, 6587, 5425)

A line is in the log only once it is in the spool. Whoever sends to syslog isn't told: lines that
were received and not yet in the spool are lost when this process is killed.

When the spool is full, or its disk fails, events are dropped and counted, and an audit.dropped
event says so later; nobody is kept waiting. With --when-full wait nothing is read
until there is room: cron, and every other program that logs there, then waits too. What the kernel drops
of UDP is counted, and told in a syslog.lost event.

Each of the flags --server, --token-file, --policy, --log, --ca, --spool and --source can be
given in the environment instead: PROOFTRAIL_SERVER, PROOFTRAIL_TOKEN_FILE and so on.

Example, on a machine without another syslog:
  prooftrail syslog --listen unix:/dev/log --server https://log.example.com \
      --token-file submit.token --policy policy.txt

Exit codes: 0 ended by a signal, in order; 2 failed.
`

// syslogFlags are the flags of syslog.
type syslogFlags struct {
	queueFlags
	maskFlags
	listen, forward           list
	cert, key, clientCA       string
	tabs, systemTab, systemD  string
	noTabs                    bool
	cronLevel                 int
	zone                      string
	whenFull                  string
	spoolEvents               uint64
	spoolBytes                int64
	rate                      float64
	burst                     int
	conns, peerConns          int
	report, scan              time.Duration
	metrics                   string
	logLevel, logFormat, base string

	location *time.Location
	tls      *tls.Config
}

func (x *syslogFlags) add(fs *cli.Flags) {
	x.queueFlags.add(fs)
	fs.Var(&x.listen, "listen", "`socket` to listen on; may be repeated")
	fs.Var(&x.forward, "forward", "`socket` that every line is passed on to, unchanged: unix:PATH or udp:ADDRESS; may be repeated")
	fs.StringVar(&x.cert, "tls-cert", "", "PEM `file` with the certificate chain of tls: sockets")
	fs.StringVar(&x.key, "tls-key", "", "PEM `file` with the private key, mode 0600")
	fs.StringVar(&x.clientCA, "tls-client-ca", "", "PEM `file` of the authorities of client certificates; with it, no client without one is heard")
	fs.StringVar(&x.base, "spool", "/var/lib/prooftrail/syslog", "`directory` for events that wait, the last versions of crontabs, and the key of job ids;\nthis command's alone")
	fs.StringVar(&x.source, "source", "", "the events' source, a `URI`; default cron://HOST/syslog")
	fs.StringVar(&x.tabs, "crontabs", "/var/spool/cron/crontabs", "`directory` of the users' crontabs")
	fs.StringVar(&x.systemTab, "system-crontab", "/etc/crontab", "the system's crontab, a `file`")
	fs.StringVar(&x.systemD, "cron-d", "/etc/cron.d", "`directory` of the system's other crontabs")
	fs.BoolVar(&x.noTabs, "no-crontabs", false, "don't read crontabs: no event says what has changed in them")
	fs.IntVar(&x.cronLevel, "cron-level", 15, "the `number` that cron has as -L: without 4 in it, END doesn't mean success")
	fs.StringVar(&x.zone, "zone", "Local", "time zone of lines that have none, a `name` such as Europe/Berlin")
	fs.StringVar(&x.whenFull, "when-full", "drop", "what happens when the spool is full: drop or wait, a `word`")
	fs.Uint64Var(&x.spoolEvents, "spool-events", 1_000_000, "`number` of events that may wait")
	fs.Int64Var(&x.spoolBytes, "spool-bytes", 1<<30, "`bytes` that they may take")
	fs.Float64Var(&x.rate, "rate", 200, "steady `number` a second of lines that may matter from one sender: a user who isn't root, an\naddress, a certificate; all of those of this machine together may send ten times that, and all others too; 0: no bound")
	fs.IntVar(&x.burst, "burst", 5000, "how `many` lines a sender may be ahead of that")
	fs.IntVar(&x.conns, "max-connections", 256, "`number` of connections to each socket")
	fs.IntVar(&x.peerConns, "max-peer-connections", 32, "`number` of them from one address")
	fs.DurationVar(&x.report, "report", time.Minute, "how often figures are said on standard error and losses are logged, a `time`")
	fs.DurationVar(&x.scan, "scan", time.Minute, "how often crontabs are looked at for changes that no line tells, a `time`")
	fs.StringVar(&x.metrics, "metrics", "", "`address` and port that serve /metrics (default none)")
	fs.StringVar(&x.logLevel, "log-level", "info", "debug, info, warn or error: a `level`")
	fs.StringVar(&x.logFormat, "log-format", "text", "text or json: a `format`")
	x.maskFlags.add(fs)
}

// parse reads the command line.
func (x *syslogFlags) parse(e *cli.Env, args []string) error {
	fs := cli.NewFlags(e, "syslog", syslogHelp)
	x.add(fs)
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	if _, err := fromEnv(fs); err != nil {
		return err
	}
	if len(x.listen) == 0 {
		return errors.New("--listen is needed; see --help")
	}
	if err := fs.Needed("server", "token-file", "policy", "spool"); err != nil {
		return err
	}
	for _, f := range []struct {
		ok       bool
		name     string
		expected string
	}{
		{x.whenFull == "drop" || x.whenFull == "wait", "when-full", "drop or wait"},
		{x.logFormat == "text" || x.logFormat == "json", "log-format", "text or json"},
		{x.cronLevel >= 0 && x.cronLevel <= 15, "cron-level", "0 to 15"},
		{x.spoolEvents >= 1000, "spool-events", "1000 or more"},
		{x.spoolBytes >= 8<<20, "spool-bytes", "8388608 or more"},
		{x.rate >= 0 && x.rate <= 1e9, "rate", "0 or more"},
		{x.burst > 0 && x.burst <= 1e9, "burst", "1 or more"},
		{x.conns > 0, "max-connections", "1 or more"},
		{x.peerConns > 0, "max-peer-connections", "1 or more"},
		{x.report > 0, "report", "a time of more than 0"},
		{x.scan > 0, "scan", "a time of more than 0"},
	} {
		if !f.ok {
			return fmt.Errorf("--%s: expected %s", f.name, f.expected)
		}
	}
	return x.read(e)
}

// read reads what flags name.
func (x *syslogFlags) read(e *cli.Env) (err error) {
	if x.location, err = time.LoadLocation(x.zone); err != nil {
		return fmt.Errorf("--zone: %w", err)
	}
	if x.metrics != "" {
		if _, _, err := net.SplitHostPort(x.metrics); err != nil {
			return fmt.Errorf("--metrics: %w", err)
		}
	}
	if x.source == "" {
		host, _ := os.Hostname()
		x.source = "cron://" + url.PathEscape(cmp.Or(host, "localhost")) + "/syslog"
	}
	x.base = filepath.Clean(x.base)
	x.spool = filepath.Join(x.base, "queue")
	return x.readTLS(e)
}

func (x *syslogFlags) readTLS(e *cli.Env) error {
	wanted := false
	for _, l := range x.listen {
		wanted = wanted || strings.HasPrefix(l, "tls:")
	}
	switch {
	case !wanted && x.cert+x.key+x.clientCA != "":
		return errors.New("--tls-cert, --tls-key, --tls-client-ca: they are for --listen tls:ADDRESS, and there is none")
	case !wanted:
		return nil
	case x.cert == "" || x.key == "":
		return errors.New("--listen tls: it takes --tls-cert and --tls-key")
	}
	if info, err := os.Stat(x.key); err == nil && info.Mode().Perm()&0o077 != 0 {
		e.Say("warning: %s can be read by others (mode %04o); chmod 600 it", x.key, info.Mode().Perm())
	}
	pair, err := tls.LoadX509KeyPair(x.cert, x.key)
	if err != nil {
		return fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	x.tls = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
	if x.clientCA != "" {
		if x.tls.ClientCAs, err = readRoots(x.clientCA); err != nil {
			return fmt.Errorf("--tls-client-ca: %w", err)
		}
		x.tls.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return nil
}

func runSyslog(ctx context.Context, e *cli.Env, args []string) error {
	var x syslogFlags
	if err := x.parse(e, args); err != nil {
		return err
	}
	logger, err := newLogger(e.Stderr, LogConfig{Level: x.logLevel, Format: x.logFormat})
	if err != nil {
		return fmt.Errorf("--log-level: %w", err)
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	r, err := openSyslog(ctx, e, &x, logger)
	if err != nil {
		return err
	}
	return r.run(ctx)
}
