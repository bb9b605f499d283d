package deployment_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/personality/witnesses/witnesstest"
)

// rules is a file of alarms.
type rules struct {
	Groups []struct {
		Rules []alarm `yaml:"rules"`
	} `yaml:"groups"`
}

type alarm struct {
	Alert       string            `yaml:"alert"`
	Expr        string            `yaml:"expr"`
	Labels      map[string]string `yaml:"labels"`
	Annotations map[string]string `yaml:"annotations"`
}

// ruleFile is a file of alarms, with where they are tested and documented.
type ruleFile struct {
	rules, tests, page, heading string
}

var (
	serverRules  = ruleFile{"prometheus/alerts.yml", "prometheus/alerts_test.yml", "docs/operate/alarms.md", "##"}
	monitorRules = ruleFile{"prometheus/alerts.monitor.yml", "prometheus/alerts.monitor_test.yml", "docs/operate/monitor-metrics.md", "###"}
	ruleFiles    = []ruleFile{serverRules, monitorRules}
)

func (f ruleFile) alarms(t *testing.T) (all []alarm) {
	t.Helper()
	var r rules
	readYAML(t, f.rules, &r)
	for _, g := range r.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 9 {
		t.Fatalf("%s has %d alarms", f.rules, len(all))
	}
	return all
}

func TestAlarmRules(t *testing.T) {
	promtool := tool(t, "promtool", "prometheus")
	for _, f := range ruleFiles {
		command(t, promtool, "check", "rules", f.rules)
		command(t, promtool, "test", "rules", f.tests)
	}
	for _, c := range []string{"prometheus/prometheus.yml", "prometheus/prometheus.trillian.yml", "prometheus/prometheus.monitor.yml"} {
		command(t, promtool, "check", "config", c)
	}
}

// TestAlarmsAreTested: the tests have a case in which each alarm fires, and one in
// which something like it doesn't.
func TestAlarmsAreTested(t *testing.T) {
	for _, f := range ruleFiles {
		f.areTested(t)
	}
}

func (f ruleFile) areTested(t *testing.T) {
	t.Helper()
	var cases struct {
		Tests []struct {
			Expr []struct {
				Samples []struct {
					Labels string `yaml:"labels"`
				} `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		} `yaml:"tests"`
	}
	readYAML(t, f.tests, &cases)
	fires := map[string]bool{}
	for _, c := range cases.Tests {
		quiet, names := false, []string{}
		for _, e := range c.Expr {
			quiet = quiet || len(e.Samples) == 0
			for _, s := range e.Samples {
				names = append(names, regexp.MustCompile(`alertname="(\w+)"`).FindStringSubmatch(s.Labels)[1])
			}
		}
		for _, n := range names {
			fires[n] = fires[n] || quiet
		}
	}
	for _, a := range f.alarms(t) {
		if !fires[a.Alert] {
			t.Errorf("%s isn't tested: %s must let it fire, and be quiet at another time of the same case", a.Alert, f.tests)
		}
		delete(fires, a.Alert)
	}
	for n := range fires {
		t.Errorf("%s tests %s, which isn't in %s", f.tests, n, f.rules)
	}
}

// TestAlarmsAreDocumented: each alarm says what it means, and has its section in
// its page; each section is about an alarm.
func TestAlarmsAreDocumented(t *testing.T) {
	for _, f := range ruleFiles {
		f.areDocumented(t)
	}
}

func (f ruleFile) areDocumented(t *testing.T) {
	t.Helper()
	page := readFile(t, "../"+f.page)
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^`+f.heading+` (\w+)$`).FindAllStringSubmatch(page, -1) {
		sections[m[1]] = true
	}
	for _, a := range f.alarms(t) {
		for _, name := range []string{"summary", "description"} {
			if len(a.Annotations[name]) < 15 {
				t.Errorf("%s: no %s", a.Alert, name)
			}
		}
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q; there are critical and warning", a.Alert, s)
		}
		at, fragment, _ := strings.Cut(a.Annotations["runbook_url"], "#")
		if !strings.HasSuffix(at, "/"+f.page) || fragment != strings.ToLower(a.Alert) {
			t.Errorf("%s: runbook_url %s doesn't lead to its section", a.Alert, a.Annotations["runbook_url"])
		}
		if !sections[a.Alert] {
			t.Errorf("%s has no section %s %s", f.page, f.heading, a.Alert)
		}
		delete(sections, a.Alert)
	}
	for s := range sections {
		t.Errorf("%s has a section %s, and there is no such alarm", f.page, s)
	}
}

// query is one of the dashboard's or of an alarm's.
type query struct{ of, expr string }

// dashboard is what of Grafana's JSON the tests look at.
type dashboard struct {
	UID    string `json:"uid"`
	Panels []struct {
		ID          int    `json:"id"`
		Type        string `json:"type"`
		Title       string `json:"title"`
		Description string `json:"description"`
		GridPos     struct{ H, W, X, Y int }
		Targets     []struct {
			RefID string `json:"refId"`
			Expr  string `json:"expr"`
		} `json:"targets"`
	} `json:"panels"`
}

// queries are the dashboard's, with its variables filled in.
func queries(t *testing.T, d dashboard) (all []query) {
	t.Helper()
	fill := strings.NewReplacer("$instance", ".*", "$__rate_interval", "30s")
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			all = append(all, query{"panel " + p.Title + ", " + target.RefID, fill.Replace(target.Expr)})
		}
	}
	return all
}

// The dashboards, with the fewest panels that they may have.
const (
	serverDashboard  = "grafana/dashboards/prooftrail.json"
	monitorDashboard = "grafana/dashboards/prooftrail-monitor.json"
)

func TestDashboard(t *testing.T) {
	for file, least := range map[string]int{serverDashboard: 15, monitorDashboard: 10} {
		t.Run(filepath.Base(file), func(t *testing.T) { checkPanels(t, file, least) })
	}
}

func checkPanels(t *testing.T, file string, least int) {
	var d dashboard
	readJSON(t, file, &d)
	ids, cells := map[int]bool{}, map[[2]int]string{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" {
			t.Errorf("panel %d %q: its id is taken, or it has no title", p.ID, p.Title)
		}
		ids[p.ID] = true
		if p.Type != "row" && (len(p.Targets) == 0 || p.Description == "") {
			t.Errorf("panel %s has no query or no description", p.Title)
		}
		for x := p.GridPos.X; x < p.GridPos.X+p.GridPos.W; x++ {
			for y := p.GridPos.Y; y < p.GridPos.Y+p.GridPos.H; y++ {
				if other := cells[[2]int{x, y}]; other != "" || x > 23 {
					t.Fatalf("panel %s lies over %s, or beyond the edge", p.Title, other)
				}
				cells[[2]int{x, y}] = p.Title
			}
		}
	}
	if d.UID == "" || len(ids) < least {
		t.Errorf("a dashboard with uid %q and %d panels", d.UID, len(ids))
	}
}

// A monitored server has had events, good and bad, and Prometheus scrapes it.
type monitored struct {
	server, prometheus string
	rules              ruleFile
	dashboard, page    string
}

func monitor(t *testing.T) monitored {
	t.Helper()
	dir := t.TempDir()
	data := filepath.Join(dir, "log")
	command(t, program(t), "init", "--data", data, "--origin", "deployment.example/audit")
	policy := filepath.Join(dir, "policy.txt")
	log := strings.Fields(readFile(t, filepath.Join(data, "policy.txt")))[1]
	w := witnesstest.New(t, log, "w")
	writeFile(t, policy, "log "+log+"\n"+w.Line()+"quorum w\n")
	_, server := serve(t, "--data", data, "--policy", policy, "--listen", "127.0.0.1:0")
	m := monitored{server, "http://" + freeAddress(t), serverRules, serverDashboard, "docs/operate/metrics.md"}

	u, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	config := strings.NewReplacer(`"prooftrail-1:8080", "prooftrail-2:8080"`, `"`+u.Host+`"`, ": 15s", ": 500ms", ": 10s", ": 500ms",
		"- alerts.yml", "- "+absolute(t, "prometheus/alerts.yml")).Replace(readFile(t, "prometheus/prometheus.yml"))
	file := filepath.Join(dir, "prometheus.yml")
	writeFile(t, file, config)
	p := start(t, tool(t, "prometheus", "prometheus"), "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "tsdb"),
		"--web.listen-address="+strings.TrimPrefix(m.prometheus, "http://"), "--log.level=warn")

	// Something for each series: events, duplicates, refusals, reads of nothing.
	token := filepath.Join(data, "tokens", "submit.token")
	bad := filepath.Join(dir, "bad.token")
	writeFile(t, bad, "none")
	n := 0
	eventually(t, "Prometheus has scraped the server several times", func() error {
		if n < 20 {
			n++
		}
		for _, id := range []string{fmt.Sprintf("event-%d", n), "event-1"} {
			if status, body, err := submit(t, web, server, token, id); err != nil || status/100 != 2 {
				t.Fatalf("submit: %d %s %v", status, body, err)
			}
		}
		if status, _, err := submit(t, web, server, token, ""); err != nil || status != 422 {
			t.Fatalf("submit without an id: %d %v", status, err)
		}
		if status, _, err := submit(t, web, server, bad, "refused"); err != nil || (status != 401 && status != 429) {
			t.Fatalf("submit with a wrong token: %d %v", status, err)
		}
		r, err := m.query(t, `min(count_over_time(up{job="prooftrail"}[1m]))`)
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

type sample struct {
	Metric map[string]string `json:"metric"`
	Value  [2]any            `json:"value"`
}

func (s sample) value() (v float64) {
	_, _ = fmt.Sscan(fmt.Sprint(s.Value[1]), &v)
	return v
}

// get asks Prometheus's API.
func (m monitored) get(t *testing.T, path string, data any) error {
	t.Helper()
	status, body, err := fetch(t, web, m.prometheus+path)
	if err != nil {
		return err
	}
	answer := struct {
		Error string `json:"error"`
		Data  any    `json:"data"`
	}{Data: data}
	if status != http.StatusOK {
		return fmt.Errorf("%s: %d %s", path, status, body)
	}
	return json.Unmarshal([]byte(body), &answer)
}

// query asks for the series that an expression has now.
func (m monitored) query(t *testing.T, expr string) ([]sample, error) {
	t.Helper()
	var data struct {
		Result []sample `json:"result"`
	}
	err := m.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &data)
	return data.Result, err
}

// needsTrouble are queries that have no series while all is well.
var needsTrouble = regexp.MustCompile(`class="5xx"|connections_shed`)

// TestMonitored: a real Prometheus with a real server. Each alarm is evaluated without an
// error and none is critical, each of the dashboard's queries has series, each metric that
// one of them names is there, and metrics.md lists what there is and nothing else.
func TestMonitored(t *testing.T) {
	m := monitor(t)
	t.Run("alarms", func(t *testing.T) { eventually(t, "alarms are evaluated", func() error { return m.checkAlarms(t) }) })
	t.Run("dashboard", m.checkDashboard)
	t.Run("names", m.checkNames)
	t.Run("metrics.md", m.checkPage)
}

func (m monitored) checkAlarms(t *testing.T) error {
	var data struct {
		Groups []struct {
			Rules []struct {
				Name      string            `json:"name"`
				Health    string            `json:"health"`
				State     string            `json:"state"`
				LastError string            `json:"lastError"`
				Labels    map[string]string `json:"labels"`
			} `json:"rules"`
		} `json:"groups"`
	}
	if err := m.get(t, "/api/v1/rules", &data); err != nil {
		return err
	}
	seen := 0
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			if r.Health != "ok" {
				return fmt.Errorf("%s: %s %s", r.Name, r.Health, r.LastError)
			}
			if r.State != "inactive" && r.Labels["severity"] == "critical" {
				return fmt.Errorf("%s is %s, and all is well", r.Name, r.State)
			}
			seen++
		}
	}
	if want := len(m.rules.alarms(t)); seen != want {
		return fmt.Errorf("Prometheus has %d alarms, %s %d", seen, m.rules.rules, want)
	}
	return nil
}

func (m monitored) checkDashboard(t *testing.T) {
	var d dashboard
	readJSON(t, m.dashboard, &d)
	for _, q := range queries(t, d) {
		r, err := m.query(t, q.expr)
		if err != nil {
			t.Errorf("%s: %v", q.of, err)
		} else if len(r) == 0 && !needsTrouble.MatchString(q.expr) {
			t.Errorf("%s: no series: %s", q.of, q.expr)
		}
	}
}

// series are the names in a query that could be metrics; what a string matches is no name.
func series(expr string) (names []string) {
	expr = regexp.MustCompile(`"[^"]*"`).ReplaceAllString(expr, "")
	return regexp.MustCompile(`\b(?:(?:prooftrail|process|go)_[a-z_]+|up)\b`).FindAllString(expr, -1)
}

func (m monitored) checkNames(t *testing.T) {
	var there []string
	if err := m.get(t, "/api/v1/label/__name__/values", &there); err != nil {
		t.Fatal(err)
	}
	var d dashboard
	readJSON(t, m.dashboard, &d)
	all := queries(t, d)
	for _, a := range m.rules.alarms(t) {
		all = append(all, query{a.Alert, a.Expr})
	}
	for _, q := range all {
		names := series(q.expr)
		if len(names) == 0 {
			t.Errorf("%s names no metric: %s", q.of, q.expr)
		}
		for _, n := range names {
			if !slices.Contains(there, n) {
				t.Errorf("%s: there is no metric %s", q.of, n)
			}
		}
	}
}

// scraped is a metric as /metrics has it.
type scraped struct {
	kind   string
	labels []string
}

var (
	typeLine   = regexp.MustCompile(`(?m)^# TYPE (\S+) (\S+)$`)
	sampleLine = regexp.MustCompile(`(?m)^([a-z_]+?)(?:_bucket|_sum|_count)?(?:\{([^}]*)\})? `)
	labelName  = regexp.MustCompile(`([a-z_]+)="`)
)

// scrape reads a server's metrics.
func scrape(t *testing.T, server string) map[string]*scraped {
	t.Helper()
	status, page, err := fetch(t, web, server+"/metrics")
	if err != nil || status != 200 {
		t.Fatalf("/metrics: %d %v", status, err)
	}
	found := map[string]*scraped{}
	for _, m := range typeLine.FindAllStringSubmatch(page, -1) {
		found[m[1]] = &scraped{kind: m[2]}
	}
	for _, m := range sampleLine.FindAllStringSubmatch(page, -1) {
		s := found[m[1]]
		if s == nil {
			continue
		}
		for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" && !slices.Contains(s.labels, l[1]) {
				s.labels = append(s.labels, l[1])
			}
		}
	}
	return found
}

// row is a line of the table in metrics.md: name, labels, type, unit, meaning.
var row = regexp.MustCompile("(?m)^\\| `([a-z_]+)(?:\\{([a-z_, ]*)\\})?` \\| (\\w+) \\| ([^|]+) \\| ([^|]+) \\|")

func (m monitored) checkPage(t *testing.T) {
	there := scrape(t, m.server)
	for _, r := range row.FindAllStringSubmatch(readFile(t, "../"+m.page), -1) {
		s := there[r[1]]
		if s == nil {
			t.Errorf("%s lists %s, which the server hasn't", m.page, r[1])
			continue
		}
		var labels []string
		if r[2] != "" {
			labels = strings.Split(strings.ReplaceAll(r[2], " ", ""), ",")
		}
		slices.Sort(labels)
		slices.Sort(s.labels)
		if !slices.Equal(labels, s.labels) {
			t.Errorf("%s: %s has the labels %v, not %v", m.page, r[1], s.labels, labels)
		}
		if r[3] != s.kind {
			t.Errorf("%s: %s is a %s, not a %s", m.page, r[1], s.kind, r[3])
		}
		if (r[4] == "seconds") != strings.Contains(r[1], "_seconds") || (r[4] == "bytes") != strings.HasSuffix(strings.TrimSuffix(r[1], "_total"), "_bytes") {
			t.Errorf("%s: the unit of %s isn't %s", m.page, r[1], r[4])
		}
		delete(there, r[1])
	}
	for n := range there {
		if strings.HasPrefix(n, "prooftrail_") {
			t.Errorf("%s doesn't list %s", m.page, n)
		}
	}
}
