package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// FuzzWebhooks: a file that is taken has doors with names of their own, and says the same when it is written out.
func FuzzWebhooks(f *testing.F) {
	f.Add([]byte("doors:\n  - {name: a, tenant: t, source: 'a:b', signature: {style: github, header: X}, secret_files: [x, y], mapping: ready:dkron}\n"))
	f.Add([]byte("doors: [{name: a}, {name: b}]\n"))
	f.Add([]byte("doors: &d [{name: a}]\n"))
	f.Add([]byte("doors: []\n---\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		doors, err := parseWebhooks(text)
		if err != nil {
			return
		}
		names := map[string]bool{}
		for _, d := range doors {
			names[d.Name] = true
		}
		if len(doors) == 0 || len(names) != len(doors) {
			t.Errorf("%q: doors %+v", text, doors)
		}
		written, err := yaml.Marshal(webhooksFile{Doors: doors})
		if err != nil {
			t.Fatal(err)
		}
		if again, err := parseWebhooks(written); err != nil || len(again) != len(doors) || again[0].Name != doors[0].Name || !reflect.DeepEqual(again[0].Signature, doors[0].Signature) {
			t.Errorf("%q: %+v came back as %+v, %v", text, doors, again, err)
		}
	})
}

// TestWebhookFilesAreBounded: what the file names isn't read without end, and is looked for beside it.
func TestWebhookFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	door := func(secret, mapping string) string {
		return write("doors.yaml", "doors: [{name: a, tenant: t, source: 'a:b', signature: {style: bearer}, secret_files: ["+secret+"], mapping: '"+mapping+"'}]\n")
	}
	write("good.secret", "0123456789abcdef\r\n")
	write("long.secret", strings.Repeat("x", maxSecretFile+1))
	write("long.yaml", strings.Repeat("#", 64<<10+1))
	for _, c := range []struct{ secret, mapping, want string }{
		{"good.secret", "ready:dkron", ""},
		{"long.secret", "ready:dkron", "secret_files.0: " + filepath.Join(dir, "long.secret") + ": expected at most 4096 bytes"},
		{"none.secret", "ready:dkron", "secret_files.0: secret: stat "},
		{"good.secret", "long.yaml", "mapping: long.yaml: " + filepath.Join(dir, "long.yaml") + ": expected at most 65536 bytes"},
	} {
		doors, err := openDoors(door(c.secret, c.mapping))
		if c.want == "" && (err != nil || len(doors) != 1) || c.want != "" && (err == nil || !strings.Contains(err.Error(), "doors.0."+c.want)) {
			t.Errorf("%s, %s: %d doors, %v; want %s", c.secret, c.mapping, len(doors), err, c.want)
		}
	}
	secret, err := readSecret(filepath.Join(dir, "good.secret"))
	if err != nil || string(secret) != "0123456789abcdef" {
		t.Errorf("secret %q, %v", secret, err)
	}
}

// TestDoorsShareNoSecret: what is signed for one door can't be posted to another.
func TestDoorsShareNoSecret(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"1.secret": "0123456789abcdef\n", "2.secret": "fedcba9876543210\n", "3.secret": "0123456789abcdef"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := filepath.Join(dir, "doors.yaml")
	for secrets, want := range map[string]string{
		"2.secret":           "",
		"3.secret":           "doors.1.secret_files: expected another secret than that of doors.0: what one takes could be posted to the other",
		"2.secret, 3.secret": "doors.1.secret_files: expected another secret than that of doors.0: what one takes could be posted to the other",
	} {
		text := "doors:\n- {name: a, tenant: t, source: 'a:b', signature: {style: github}, secret_files: [1.secret], mapping: 'ready:dkron'}\n" +
			"- {name: b, tenant: u, source: 'a:c', signature: {style: github}, secret_files: [" + secrets + "], mapping: 'ready:dkron'}\n"
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		doors, err := openDoors(file)
		if want == "" && (err != nil || len(doors) != 2) || want != "" && (err == nil || !strings.HasSuffix(err.Error(), want)) {
			t.Errorf("%s: %d doors, %v; want %s", secrets, len(doors), err, want)
		}
	}
}
