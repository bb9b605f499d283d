//go:build !client

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/cmd/prooftrail/internal/recorder/rules"
)

const proxyHelp = `
Usage: prooftrail proxy --upstream URL --rules FILE|ready:NAME [flags]
       prooftrail proxy --rules FILE|ready:NAME --check | --show

Stands in front of a scheduler's REST API, passes on what comes, and records who did
what, from where, with which result, and what it changed: as its rules say. The scheduler
stays as it is; but it must not be reachable past the proxy.

Bodies, streams, websockets, headers, trailers and paths go on as they came. Only headers
that RFC 9110 has a proxy remove are removed, and with --forward X-Forwarded-For, -Host and
-Proto are set. Copies of the beginning of bodies are looked at (--max-copy).

Each rule is best-effort or required. In best effort a request goes on whatever becomes of its
record: when the answer is over, one event is put into the spool on this machine's
disk, from where it is sent. What doesn't fit is counted, and shows in the log. A required
request goes on only once an event with the outcome attempt is in the log and its
receipt holds; else it is answered 503 and the scheduler never sees it. A second event says
what came of it.

The rules ready:dkron, ready:cronicle, ready:rundeck, ready:airflow and ready:rest are part of this
program; --show prints them. docs/proxy.md says how to write others.

The spool and HEADS, SPOOL.heads, are kept over restarts, and so is SPOOL.key: what
sessions and API keys are shown by is an HMAC under it.

It prints the URL that it listens on as the first line of its standard output. SIGTERM or
SIGINT ends it in order. Each of the flags --server, --token-file, --policy, --log, --ca,
--spool and --source can be given in the environment instead: PROOFTRAIL_SERVER and so on.

Example:
  prooftrail proxy --upstream http://127.0.0.1:8081 --rules ready:dkron --mode required \
      --server https://log.example.com --token-file submit.token --policy policy.txt \
      --spool /var/lib/prooftrail-proxy/spool --source dkron://billing.example/1

Exit codes: 0 ended by a signal, in order, or the rules are right (--check); 1 the rules are
wrong (--check); 2 failed.
`

// proxyFlags are the flags of proxy.
type proxyFlags struct {
	queueFlags
	maskFlags
	upstream, upstreamCA string
	rules                string
	check, show          bool
	mode                 string
	listen, metrics      string
	tlsCert, tlsKey      string
	trusted              list
	forward              bool
	maxCopy              int
	copyMemory           int64
	connections          int
	sessions             int
	patience             time.Duration
	answerTimeout        time.Duration
	shutdownTimeout      time.Duration
	logLevel, logFormat  string
}

func (x *proxyFlags) add(fs *cli.Flags) {
	x.queueFlags.add(fs)
	fs.StringVar(&x.spool, "spool", "", "`directory` where events wait until they are in the log, this proxy's alone")
	fs.StringVar(&x.source, "source", "", "the events' source, a `URI` such as dkron://billing.example/1")
	x.maskFlags.add(fs)
	fs.StringVar(&x.upstream, "upstream", "", "the scheduler's `URL`: http or https, host and port")
	fs.StringVar(&x.upstreamCA, "upstream-ca", "", "PEM `file` of the certificate authorities that the scheduler is checked with")
	fs.StringVar(&x.rules, "rules", "", "`file` of rules, or the name of ready ones")
	fs.BoolVar(&x.check, "check", false, "only read the rules, and say whether they are right")
	fs.BoolVar(&x.show, "show", false, "only print the rules")
	fs.StringVar(&x.mode, "mode", "best-effort", "the `mode` of rules that name none: best-effort or required")
	fs.StringVar(&x.listen, "listen", "127.0.0.1:8070", "`address` and port to listen on")
	fs.StringVar(&x.metrics, "metrics", "", "`address` and port that serves /metrics, /healthz and /readyz (default none)")
	fs.StringVar(&x.tlsCert, "tls-cert", "", "PEM `file` with the certificate chain")
	fs.StringVar(&x.tlsKey, "tls-key", "", "PEM `file` with the private key")
	fs.Var(&x.trusted, "trust-proxy", "`network`, such as 10.0.0.0/8, of proxies before this one, whose X-Forwarded-For and\nheaders with user names are believed; may be repeated")
	fs.BoolVar(&x.forward, "forward", false, "add the client to X-Forwarded-For, and set X-Forwarded-Host and X-Forwarded-Proto")
	fs.IntVar(&x.maxCopy, "max-copy", 256<<10, "how many `bytes` of a body are looked at")
	fs.Int64Var(&x.copyMemory, "copy-memory", 64<<20, "`bytes` for all copies of bodies; past it they aren't looked at")
	fs.IntVar(&x.connections, "max-connections", 1024, "`number` of connections that are open at once")
	fs.IntVar(&x.sessions, "max-sessions", 10000, "of what `number` of sessions is remembered whose they are")
	fs.DurationVar(&x.patience, "body-timeout", time.Minute, "`time` that a client may take for each part of a body")
	fs.DurationVar(&x.answerTimeout, "answer-timeout", 2*time.Minute, "`time` that the scheduler may take until its answer begins")
	fs.DurationVar(&x.queue.RequiredWait, "required-wait", 10*time.Second, "`time` that a required attempt may take to get into the log")
	fs.Int64Var(&x.queue.MaxBytes, "spool-bytes", 1<<30, "how many `bytes` the spool takes; past it events are dropped, and counted")
	fs.DurationVar(&x.shutdownTimeout, "shutdown-timeout", 30*time.Second, "`time` for requests under way after a signal")
	fs.StringVar(&x.logLevel, "log-level", "info", "debug, info, warn or error: a `level`")
	fs.StringVar(&x.logFormat, "log-format", "text", "text or json: a `format`")
}

func runProxy(ctx context.Context, e *cli.Env, args []string) error {
	var x proxyFlags
	fs := cli.NewFlags(e, "proxy", proxyHelp)
	x.add(fs)
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	if _, err := fromEnv(fs); err != nil {
		return err
	}
	if err := fs.Needed("rules"); err != nil {
		return err
	}
	if x.show || x.check {
		return x.showRules(e)
	}
	if err := fs.Needed("upstream", "server", "token-file", "policy", "spool", "source"); err != nil {
		return err
	}
	logger, err := newLogger(e.Stderr, LogConfig{Level: x.logLevel, Format: x.logFormat})
	if err != nil {
		return err
	}
	// Once the first signal has come, the next one has its usual effect.
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	context.AfterFunc(ctx, stop)
	return x.run(ctx, e, logger)
}

// ruleText reads the rules' file.
func (x *proxyFlags) ruleText() ([]byte, error) {
	if strings.HasPrefix(x.rules, "ready:") {
		return rules.Text(x.rules)
	}
	return os.ReadFile(x.rules)
}

func (x *proxyFlags) readRules() (*rules.Set, error) {
	text, err := x.ruleText()
	if err != nil {
		return nil, err
	}
	set, err := rules.Parse(text)
	if err != nil {
		return nil, fmt.Errorf("rules %s: %w", x.rules, err)
	}
	return set, nil
}

func (x *proxyFlags) showRules(e *cli.Env) error {
	text, err := x.ruleText()
	if err != nil {
		return err
	}
	set, err := x.readRules()
	if err != nil {
		return cli.Refused(err)
	}
	if x.show {
		_, err = e.Stdout.Write(text)
		return err
	}
	fmt.Fprintf(e.Stdout, "%s: nothing is wrong: %d rules\n", x.rules, len(set.Rules)-2) // the defaults aren't in the file
	return nil
}

// networks reads --trust-proxy.
func networks(texts []string) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, t := range texts {
		p, err := netip.ParsePrefix(t)
		if err != nil {
			return nil, fmt.Errorf("--trust-proxy %q: expected a network such as 10.0.0.0/8", t)
		}
		out = append(out, p.Masked())
	}
	return out, nil
}

func (x *proxyFlags) limits() error {
	switch {
	case x.maxCopy < 1<<10 || x.maxCopy > 16<<20:
		return errors.New("--max-copy: expected 1 KiB to 16 MiB")
	case x.copyMemory < int64(x.maxCopy):
		return errors.New("--copy-memory: expected --max-copy at least")
	case x.connections < 1 || x.sessions < 1:
		return errors.New("--max-connections, --max-sessions: expected 1 at least")
	case x.patience <= 0 || x.answerTimeout <= 0 || x.queue.RequiredWait <= 0:
		return errors.New("--body-timeout, --answer-timeout, --required-wait: expected more than 0")
	case (x.tlsCert == "") != (x.tlsKey == ""):
		return errors.New("--tls-cert and --tls-key: expected both or neither")
	}
	return nil
}

func (x *proxyFlags) upstreamURL() (*url.URL, error) {
	u, err := url.Parse(x.upstream)
	if err != nil {
		return nil, fmt.Errorf("--upstream: %w", err)
	}
	return u, nil
}
