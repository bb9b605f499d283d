package mask_test

import (
	"slices"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client/mask"
)

func TestText(t *testing.T) {
	m, err := mask.New([]string{"badge"}, []string{`\bEMP-([0-9]{4})\b`})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"": "",
		"/usr/local/bin/invoices --month 2026-01":                                "/usr/local/bin/invoices --month 2026-01",
		"--password=hunter2":                                                     "--password=[masked]",
		"PGPASSWORD=hunter2 psql":                                                "PGPASSWORD=[masked] psql",
		"PGPASSWORD='hun ter2' psql":                                             "PGPASSWORD='[masked]' psql",
		`{"api_key": "hunter2", "a": 1}`:                                         `{"a":1,"api_key":"[masked]"}`,
		`x={"api_key": "hunter2", "a": 1}`:                                       `x={"api_key": "[masked]", "a": 1}`,
		`{"token": "hunter2", "token": true}`:                                    `{"token": "[masked]", "token": true}`,
		"mysql --password hunter2 db":                                            "mysql --password [masked] db",
		"postgres://me:hunter2@db.example/x":                                     "postgres://me:[masked]@db.example/x",
		"curl -H 'X: Bearer hunter2hunter2'":                                     "curl -H 'X: Bearer [masked]'",
		"id AKIAABCDEFGHIJKLMNOP.":                                               "id [masked].",
		"ghp_0123456789abcdef":                                                   "[masked]",
		"eyJhbGciOi.eyJzdWIi.c2ln":                                               "[masked]",
		"-----BEGIN RSA PRIVATE KEY-----\nMII\n-----END RSA PRIVATE KEY-----\nx": "[masked]\nx",
		"-----BEGIN PRIVATE KEY-----\nMII":                                       "[masked]",
		"a?x=1&access_key=hunter2&y=2":                                           "a?x=1&access_key=[masked]&y=2",
		"rotate token nightly":                                                   "rotate token nightly",
		"My-Badge: 77":                                                           "My-Badge: [masked]",
		"sid SKa123456789abcdef0123456789abcdef":                                 "sid [masked]",
		"EMP-1234":                                                               "EMP-[masked]",
	} {
		if got := m.Text(text); got != want {
			t.Errorf("%q became %q, expected %q", text, got, want)
		}
		if got, want := new(mask.Masker).Text(text), mask.Default().Text(text); got != want {
			t.Errorf("%q became %q with a zero Masker, expected %q", text, got, want)
		}
	}
}

func TestArgs(t *testing.T) {
	m, err := mask.New(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := m.Args([]string{"job", "--token", "hunter2", "-v", "--secret-file=/etc/x", "sh", "-c", "A=1 MY_SECRET=x run"})
	want := []string{"job", "--token", "[masked]", "-v", "--secret-file=/etc/x", "sh", "-c", "A=1 MY_SECRET=[masked] run"}
	if !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}

func TestNew(t *testing.T) {
	if _, err := mask.New(nil, []string{"("}); err == nil {
		t.Error("took what is no regular expression")
	}
}
