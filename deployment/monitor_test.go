package deployment_test

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// runMonitor starts prooftrail-monitor run and waits until it listens.
func runMonitor(t *testing.T, args ...string) (p *process, url string) {
	t.Helper()
	p = start(t, monitorProgram(t), args...)
	eventually(t, "the monitor listens", func() error {
		p.mustRun(t)
		lines := bufio.NewScanner(strings.NewReader(p.output()))
		for lines.Scan() {
			if _, after, ok := strings.Cut(lines.Text(), " on http"); ok && strings.HasPrefix(lines.Text(), "monitoring ") {
				url = "http" + after
				return nil
			}
		}
		return fmt.Errorf("it said:\n%s", p.output())
	})
	return p, url
}

// logServer is a log with some entries, served.
func logServer(t *testing.T) (data, url string) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "log")
	command(t, program(t), "init", "--data", data, "--origin", "deployment.example/audit")
	_, url = serve(t, "--data", data, "--listen", "127.0.0.1:0")
	return data, url
}

// checksAll waits until the monitor whose metrics are at a URL has read a log's entries.
func checksAll(t *testing.T, c *http.Client, metrics string) {
	t.Helper()
	eventually(t, "the monitor has read the log", func() error {
		status, page, err := fetch(t, c, metrics)
		if err == nil && (status != http.StatusOK || !regexp.MustCompile(`\nprooftrail_monitor_checked_size\{log="deployment.example/audit"\} [1-9]`).MatchString(page)) {
			err = fmt.Errorf("%d %s", status, page)
		}
		return err
	})
}

// TestComposeMonitorRuns starts compose's monitor as a process, with what prepare.sh makes and the
// configuration that compose mounts: init once, TLS, a restart after it was killed.
func TestComposeMonitorRuns(t *testing.T) {
	p, dir := compose(t, "compose.monitor.yaml"), prepared(t)
	data, url := logServer(t)
	state, secrets := filepath.Join(dir, "state", "monitor"), filepath.Join(dir, "secrets")
	writeFile(t, filepath.Join(state, "policy.txt"), readFile(t, filepath.Join(data, "policy.txt")))
	public, admin, metrics := freeAddress(t), freeAddress(t), freeAddress(t)
	fill := strings.NewReplacer("/var/lib/prooftrail-monitor", state, "/run/secrets/monitor_crt", secrets+"/monitor.crt", "/run/secrets/monitor_key", secrets+"/monitor.key",
		"/run/secrets", secrets, "https://log.example.com", url, "0.0.0.0:8443", public, "127.0.0.1:8091", admin, "0.0.0.0:9091", metrics)
	var args []string
	for _, a := range p.Services["init"].Entrypoint[1:] {
		args = append(args, fill.Replace(a))
	}
	if s := command(t, monitorProgram(t), append(args, "--witness-name=witness.example.org/w1")...); !strings.Contains(s, "\nwitness witness.example.org/w1 ") && !strings.HasPrefix(s, "witness ") {
		t.Errorf("init: %s", s)
	}
	if out, err := exec.Command(monitorProgram(t), args...).CombinedOutput(); err == nil {
		t.Errorf("a second init: %s", out)
	}
	if c := p.Services["monitor"].Command; !slices.Equal(c, []string{"run", "--config=/etc/prooftrail-monitor/monitor.yaml"}) {
		t.Fatalf("the monitor is started with %v", c)
	}
	config := filepath.Join(t.TempDir(), "monitor.yaml")
	writeFile(t, config, fill.Replace(readFile(t, filepath.Join(dir, "monitor.yaml"))))
	command(t, monitorProgram(t), "check", "--config="+config)

	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(readFile(t, filepath.Join(secrets, "monitor.crt")))) {
		t.Fatal("prepare.sh made no certificate for the monitor")
	}
	client := &http.Client{Timeout: web.Timeout, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}}}
	for range 2 {
		m, at := runMonitor(t, "run", "--config="+config)
		if !strings.HasPrefix(at, "https://") {
			t.Errorf("it listens on %s", at)
		}
		_, port, err := net.SplitHostPort(public)
		if err != nil {
			t.Fatal(err)
		}
		checksAll(t, web, "http://"+metrics+"/metrics")
		for path, want := range map[string]int{"/readyz": 200, "/": 200, "/metrics": 404, "/gossip/v1/evidence": 200} {
			if status, body, err := fetch(t, client, "https://localhost:"+port+path); err != nil || status != want {
				t.Errorf("%s: %d %s %v", path, status, body, err)
			}
		}
		command(t, monitorProgram(t), "status", "--admin", admin)
		m.kill()
	}
}

// follow runs a monitor of a log, with a peer and a witness, and a Prometheus that scrapes it.
func follow(t *testing.T) monitored {
	t.Helper()
	dir := t.TempDir()
	data, url := logServer(t)
	metrics, first := freeAddress(t), freeAddress(t)
	for i, listen := range []string{freeAddress(t), first} { // the second is the peer
		command(t, monitorProgram(t), "init", "--data", filepath.Join(dir, fmt.Sprint(i)), "--witness-name", "w.example/1")
		text := fmt.Sprintf("name: m%d\ndata: %d\nlogs:\n  - policy: %s/policy.txt\n    url: %s/logs/audit\nwitness:\n  keys: [%d/witness.key]\ninterval: 200ms\n"+
			"limits:\n  rate: 1000\nlisten: [%s]\nadmin: \"\"\n", i, i, data, url, i, listen)
		if i == 0 {
			// One that is never there is an alarm, so that there are series of alarms.
			text += "metrics: " + metrics + "\npeers:\n  - name: m1\n    url: http://" + first + "\n  - name: gone\n    url: http://" + freeAddress(t) + "\n    silent: 1ms\n"
		}
		writeFile(t, filepath.Join(dir, fmt.Sprintf("%d.yaml", i)), text)
		runMonitor(t, "run", "--config", filepath.Join(dir, fmt.Sprintf("%d.yaml", i)))
	}
	checksAll(t, web, "http://"+metrics+"/metrics")
	m := monitored{"http://" + metrics, "http://" + freeAddress(t), monitorRules, monitorDashboard, "docs/operate/monitor-metrics.md"}
	config := strings.NewReplacer(`"monitor:9091"`, `"`+metrics+`"`, ": 15s", ": 500ms", ": 10s", ": 500ms",
		"- alerts.monitor.yml", "- "+absolute(t, "prometheus/alerts.monitor.yml")).Replace(readFile(t, "prometheus/prometheus.monitor.yml"))
	file := filepath.Join(dir, "prometheus.yml")
	writeFile(t, file, config)
	p := start(t, tool(t, "prometheus", "prometheus"), "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
		"--web.listen-address="+strings.TrimPrefix(m.prometheus, "http://"), "--log.level=warn")
	postHead(t, url, first)
	eventually(t, "Prometheus has scraped the monitor several times", func() error {
		r, err := m.query(t, `min(count_over_time(up{job="prooftrail-monitor"}[1m])) and on() prooftrail_monitor_peer_agrees == 1 and on() prooftrail_monitor_alarm == 1`)
		if err != nil {
			return fmt.Errorf("%w; it said: %s", err, p.output())
		}
		if len(r) != 1 || r[0].value() < 5 {
			return fmt.Errorf("scrapes: %v", r)
		}
		return nil
	})
	return m
}

// postHead posts the log's head to a monitor, as a submitter would.
func postHead(t *testing.T, url, monitor string) {
	t.Helper()
	status, note, err := fetch(t, web, url+"/logs/audit/checkpoint")
	if err != nil || status != http.StatusOK {
		t.Fatalf("%d %v", status, err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+monitor+"/gossip/v1/heads", strings.NewReader(note))
	if err != nil {
		t.Fatal(err)
	}
	if status, body, err := do(web, r); err != nil || status != http.StatusOK || !strings.Contains(body, `"agrees"`) {
		t.Errorf("%d %s %v", status, body, err)
	}
}

// TestMonitorMonitored: a real Prometheus with a real monitor, likewise.
func TestMonitorMonitored(t *testing.T) {
	m := follow(t)
	t.Run("alarms", func(t *testing.T) { eventually(t, "alarms are evaluated", func() error { return m.checkAlarms(t) }) })
	t.Run("dashboard", m.checkDashboard)
	t.Run("names", m.checkNames)
	t.Run("monitor-metrics.md", m.checkPage)
}

// TestKubernetesMonitorRuns starts what the job and the StatefulSet of kubernetes/monitor start, with
// their arguments, configuration and secret. A second directory is refused, and the monitor goes on
// after it was killed.
func TestKubernetesMonitorRuns(t *testing.T) {
	n := &namespace{dir: t.TempDir()}
	for _, d := range []string{"monitor", "monitor-init"} {
		var some []object
		render(t, &some, "kustomize", "kubernetes/"+d)
		n.objects = append(n.objects, some...)
	}
	data, url := logServer(t)
	volume, run, etc, secrets := filepath.Join(n.dir, "volume"), filepath.Join(n.dir, "run"), filepath.Join(n.dir, "etc"), filepath.Join(n.dir, "secrets")
	for _, d := range []string{volume, etc, secrets} {
		command(t, "mkdir", "-p", d)
	}
	metrics, public := freeAddress(t), freeAddress(t)
	fill := strings.NewReplacer("/var/lib/prooftrail-monitor", volume, "/run/prooftrail-monitor", run, "/etc/prooftrail-monitor", etc, "/secrets/webhook", secrets,
		"https://log.example.com", url, "0.0.0.0:8090", public, "127.0.0.1:8091", freeAddress(t), "0.0.0.0:9091", metrics)
	filled := func(args []string) (all []string) {
		for _, a := range args {
			all = append(all, fill.Replace(a))
		}
		return all
	}
	config := n.find(t, "ConfigMap", "prooftrail-monitor-config").Data
	writeFile(t, filepath.Join(etc, "monitor.yaml"), fill.Replace(config["monitor.yaml"]))
	writeFile(t, filepath.Join(etc, "policy.txt"), config["policy.txt"])
	writeFile(t, filepath.Join(secrets, "webhook.secret"), "a secret of 16 bytes or more\n")
	command(t, "chmod", "0440", filepath.Join(secrets, "webhook.secret")) // as a Secret's file, which the group may read

	job := filled(n.find(t, "Job", "prooftrail-monitor-init").Spec.Template.Spec.Containers[0].Args)
	if s := command(t, monitorProgram(t), job...); !strings.Contains(s, "witness witness.example.org/w1 ") || !strings.Contains(s, " https://monitor.example.org") {
		t.Errorf("init: %s", s)
	}
	if out, err := exec.Command(monitorProgram(t), job...).CombinedOutput(); err == nil {
		t.Errorf("a second init: %s", out)
	}
	pod := n.find(t, "StatefulSet", "prooftrail-monitor").Spec.Template.Spec
	args := filled(pod.Containers[0].Args)
	for i := range 2 {
		command(t, "rm", "-rf", run) // a pod's memory doesn't outlive it
		command(t, "mkdir", run)
		init := filled(pod.InitContainers[0].Command)
		command(t, init[0], init[1:]...)
		if i == 0 { // the policy that nobody has put there yet
			out, err := exec.Command(monitorProgram(t), args...).CombinedOutput()
			if err == nil || !strings.Contains(string(out), "logs[0].policy: ") {
				t.Fatalf("without a policy: %v %s", err, out)
			}
			writeFile(t, filepath.Join(etc, "policy.txt"), readFile(t, filepath.Join(data, "policy.txt")))
		}
		m, _ := runMonitor(t, args...)
		checksAll(t, web, "http://"+metrics+"/metrics")
		if status, body, err := fetch(t, web, "http://"+public+"/readyz"); err != nil || status != http.StatusOK {
			t.Errorf("%d %s %v", status, body, err)
		}
		m.kill()
	}
}
