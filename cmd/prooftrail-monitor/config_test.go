package main

import (
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

var update = flag.Bool("update", false, "write manual.yaml from config.go")

// manualConfig is the defaults, with one element in each list.
func manualConfig() Config {
	c := defaultConfig()
	c.Logs, c.Peers = make([]LogEntry, 1), make([]PeerEntry, 1)
	c.Alarms.Alertmanager, c.Alarms.Webhook, c.Alarms.Command = make([]AlertmanagerEntry, 1), make([]WebhookEntry, 1), make([]CommandEntry, 1)
	c.Logs[0].defaults()
	c.Peers[0].defaults()
	c.Alarms.Alertmanager[0].defaults()
	c.Alarms.Webhook[0].defaults()
	c.Alarms.Command[0].defaults()
	return c
}

// manual.yaml is made of the comments of Config and the defaults.
// `go test ./cmd/prooftrail-monitor -run Manual -update` writes it anew.
func TestManualIsTheStruct(t *testing.T) {
	docs := structDocs(t)
	var b strings.Builder
	writeManual(t, &b, docs, reflect.ValueOf(manualConfig()), "")
	if *update {
		if err := os.WriteFile("manual.yaml", []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if b.String() != manual {
		t.Errorf("manual.yaml isn't what config.go says; run with -update. Expected:\n%s", b.String())
	}
}

func TestManualParses(t *testing.T) {
	if *update {
		return
	}
	f, err := parseConfig("manual.yaml", []byte(manual))
	if err != nil || f.err() != nil {
		t.Fatal(err, f.err())
	}
	if want := manualConfig(); !reflect.DeepEqual(f.cfg, want) {
		t.Errorf("the manual says %+v, the defaults are %+v", f.cfg, want)
	}
}

// structDocs returns the comments of the fields by "Struct.Field".
func structDocs(t *testing.T) map[string]string {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	docs := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if st, ok := spec.Type.(*ast.StructType); ok {
			for _, field := range st.Fields.List {
				docs[spec.Name.Name+"."+field.Names[0].Name] = field.Doc.Text()
			}
		}
		return true
	})
	return docs
}

func writeManual(t *testing.T, b *strings.Builder, docs map[string]string, v reflect.Value, in string) {
	t.Helper()
	for i := range v.NumField() {
		field := v.Type().Field(i)
		key := field.Tag.Get("yaml")
		section := isSection(field.Type)
		list := field.Type.Kind() == reflect.Slice && isSection(field.Type.Elem())
		doc := docs[v.Type().Name()+"."+field.Name]
		if doc == "" && !section {
			t.Errorf("%s.%s has no comment", v.Type().Name(), field.Name)
		}
		for line := range strings.Lines(doc) {
			fmt.Fprintf(b, "%s# %s\n", in, strings.TrimSpace(line))
		}
		switch {
		case section:
			fmt.Fprintf(b, "%s%s:\n", in, key)
			writeManual(t, b, docs, v.Field(i), in+"  ")
		case list:
			fmt.Fprintf(b, "%s%s:\n%s  -\n", in, key, in)
			writeManual(t, b, docs, v.Field(i).Index(0), in+"    ")
		default:
			value, err := yaml.Marshal(v.Field(i).Interface())
			if err != nil {
				t.Fatal(err)
			}
			text := strings.TrimSpace(string(value))
			if list, ok := v.Field(i).Interface().([]string); ok {
				text = "[" + strings.Join(list, ", ") + "]"
			}
			fmt.Fprintf(b, "%s%s: %s\n", in, key, text)
		}
	}
}

// TestStrict: what isn't meant is refused, with the line and the member.
func TestStrict(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"dta: /d\n", "m.yaml:1: dta: there is no such member"},
		{"logs:\n  - url: x\n    polcy: y\n", "m.yaml:3: logs[0].polcy: there is no such member"},
		{"name: a\n\nname: b\n", "m.yaml:3: name: it is there twice"},
		{"logs: 7\n", "m.yaml:1: logs: expected a list"},
		{"logs: [7]\n", "m.yaml:1: logs[0]: expected members"},
		{"tls: yes\n", "m.yaml:1: tls: expected members"},
		{"interval: soon\n", "m.yaml:1: interval: expected a time, such as 30s"},
		{"interval: 30\n", "m.yaml:1: interval: expected a time, such as 30s"},
		{"interval:\n", "m.yaml:1: interval: expected a time"},
		{"alarms:\n  log: maybe\n", "m.yaml:2: alarms.log: expected true or false"},
		{"listen: 127.0.0.1:1\n", "m.yaml:1: listen: expected a list of texts"},
		{"trusted_proxies: [ten]\n", "m.yaml:1: trusted_proxies: expected a list of networks"},
		{"limits:\n  rate: fast\n", "m.yaml:2: limits.rate: expected a number"},
		{"name: [a]\n", "m.yaml:1: name: expected a text"},
		{"name: &a x\ndata: *a\n", "m.yaml:1: name: anchors and aliases aren't taken"},
		{"name: a\n---\nname: b\n", "more than one YAML document"},
		{"\tname: a\n", "m.yaml"},
		{"- a\n", "m.yaml:1: expected members"},
	} {
		f, err := parseConfig("m.yaml", []byte(tt.text))
		if err == nil {
			err = f.err()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v, expected %q", tt.text, err, tt.want)
		}
	}
	f, err := parseConfig("m.yaml", []byte("logs:\nalarms:\n  webhook:\n    - url: https://x\n# nothing\n"))
	if err != nil || f.err() != nil || len(f.cfg.Logs) != 0 || f.cfg.Alarms.Webhook[0].Timeout != 10*time.Second {
		t.Errorf("%+v, %v, %v", f, err, f.err())
	}
	if f, err := parseConfig("m.yaml", nil); err != nil || !reflect.DeepEqual(f.cfg, defaultConfig()) {
		t.Errorf("empty file: %+v, %v", f, err)
	}
}

const testVKey = "example.com/audit+ded72725+AUWCcjEhsiZHNVdtpcs1qZfCzVc6ouCv8GqcDZWDDk7x"

// goodConfig is a file in a directory that init made, as lines.
func goodConfig(t *testing.T) (dir string, lines []string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "m")
	var out, errs strings.Builder
	if code := Run(t.Context(), []string{"init", "--data", dir, "--witness-name", "w.example/1", "--name", "m"}, strings.NewReader(""), &out, &errs); code != 0 {
		t.Fatal(errs.String())
	}
	return dir, []string{
		"name: m", "data: " + dir, "logs:", "  - vkey: " + testVKey, "    url: https://log.example/logs/audit", "witness:", "  keys: [" + dir + "/witness.key]",
		"peers:", "  - name: p", "    url: https://p.example",
	}
}

// TestSettings: what can't work is named before anything is opened.
func TestSettings(t *testing.T) {
	dir, good := goodConfig(t)
	write := func(name, text string, mode os.FileMode) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return name
	}
	check := func(lines ...string) error {
		f, err := loadConfig(write("m.yaml", strings.Join(lines, "\n")+"\n", 0o600))
		if err != nil {
			return err
		}
		_, err = f.settings(os.Stderr)
		return err
	}
	if err := check(good...); err != nil {
		t.Fatal(err)
	}
	write("open.key", "x", 0o644)
	write("two.secret", "a\nb\n", 0o600)
	write("short.secret", "short\n", 0o600)
	with := func(more ...string) []string { return append(append([]string{}, good...), more...) }
	instead := func(old, line string) []string {
		lines := append([]string{}, good...)
		for i := range lines {
			lines[i] = strings.ReplaceAll(lines[i], old, line)
		}
		return lines
	}
	for _, tt := range []struct {
		lines []string
		want  string
	}{
		{instead("name: m", "name: \"\""), "m.yaml:1: name: expected a name"},
		{instead("data: "+dir, "data: "+dir+"/none"), "m.yaml:2: data: stat"},
		{instead("data: "+dir, "data: "+dir+"/evidence"), "m.yaml:2: data: stat " + dir + "/evidence/book"},
		{good[:2], "m.yaml:1: logs: expected one at least"},
		{instead("- vkey: "+testVKey, "- timeout: 1s"), "m.yaml:4: logs[0]: expected either policy or vkey"},
		{instead(testVKey, testVKey+"x"), "m.yaml:4: logs[0].vkey: "},
		{instead("https://log.example/logs/audit", "http://log.example/"), "m.yaml:5: logs[0].url: "},
		{instead("- name: p", "- name: p\n    kind: friend"), "m.yaml:10: peers[0].kind: \"friend\": expected monitor, distributor or witness"},
		{instead("https://p.example", "p.example"), "m.yaml:10: peers[0].url: "},
		{with("  - name: p", "    url: https://q.example"), "m.yaml:11: peers[1].name: another peer has it"},
		{instead("witness.key", "none.key"), "witness.keys: element 0: load key file"},
		{instead("witness.key", "open.key"), "has mode 0644"},
		{with("listen: [0.0.0.0:8090]"), "m.yaml:11: listen: 0.0.0.0:8090 isn't a loopback address: expected tls, trusted_proxies, or insecure: true"},
		{with("listen: [8090]"), "expected address and port"},
		{with("admin: 0.0.0.0:1"), "m.yaml:11: admin: expected a loopback address"},
		{with("tls:", "  cert: x"), "m.yaml:11: tls: expected both cert and key"},
		{with("interval: 1ms"), "m.yaml:11: interval: expected 100ms to 1h"},
		{with("limits:", "  rate: 0"), "m.yaml:12: limits.rate: expected more than 0"},
		{with("alarms:", "  log: false"), "m.yaml:11: alarms: expected log: true, or somebody else"},
		{with("alarms:", "  webhook:", "    - url: https://x", "    - url: https://y"), "alarms.webhook[1].name: \"webhook\": another receiver has it"},
		{with("alarms:", "  webhook:", "    - name: x"), "alarms.webhook[0]: expected either url or url_file"},
		{with("alarms:", "  webhook:", "    - url: http://x.example"), "alarms.webhook[0]: "},
		{with("alarms:", "  webhook:", "    - url: https://x", "      secret_file: open.key"), "m.yaml:14: alarms.webhook[0].secret_file: " + dir + "/open.key has mode 0644"},
		{with("alarms:", "  webhook:", "    - url: https://x", "      secret_file: two.secret"), "has more than one line"},
		{with("alarms:", "  webhook:", "    - url: https://x", "      secret_file: short.secret"), "16"},
		{with("alarms:", "  command:", "    - argv: [/no/such/program]"), "m.yaml:13: alarms.command[0]: "},
		{with("log:", "  level: loud"), "m.yaml:12: log.level: "},
		{with("ca: open.key"), "m.yaml:11: ca: no certificate"},
	} {
		if err := check(tt.lines...); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v, expected %q of\n%s", err, tt.want, strings.Join(tt.lines, "\n"))
		}
	}
	// Of a webhook the URL may be the credential: no error shows more than scheme and host.
	write("hook.url", "http://hooks.example/T0/very-secret\n", 0o600)
	if err := check(with("alarms:", "  webhook:", "    - url_file: hook.url")...); err == nil || strings.Contains(err.Error(), "very-secret") {
		t.Errorf("%v", err)
	}
	for _, fine := range [][]string{
		with("listen: [0.0.0.0:8090]", "insecure: true"), with("listen: [0.0.0.0:8090]", "trusted_proxies: [10.0.0.0/8]"),
		with("listen: [\"[::1]:8090\", localhost:1]", "admin: \"\""),
	} {
		if err := check(fine...); err != nil {
			t.Error(err)
		}
	}
}
