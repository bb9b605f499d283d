package mask_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client/mask"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// everywhere has a secret in each text that a source chooses.
func everywhere() event.Event {
	const url = "https://u:hunter2@h.example/x?token=hunter2&a=1"
	e := valid()
	e.Reason = &event.Reason{Code: "x", Text: "refused: password=hunter2"}
	e.Outcome = "failure"
	e.Actor = event.Actor{Type: "user", ID: url, Name: url, SessionID: url, CredentialID: url, AuthMethod: "token=hunter2", OnBehalfOf: url}
	e.Origin = &event.Origin{IP: "192.0.2.7", Forwarded: []string{url, "192.0.2.8"}, UserAgent: "cli --token hunter2", Host: "u:hunter2@tcp(h)", RequestID: url, TraceID: "token=hunter2"}
	e.Target = []event.Target{{Type: "job", ID: url, Name: url}}
	e.Job = &event.Job{ID: url, Name: url, Schedule: "@every 1h; PASSWORD=hunter2", TZ: "token=hunter2", RunID: url, Node: url}
	e.Change = &event.Change{Patch: []event.Operation{
		{Op: "replace", Path: "/env/DB_PASSWORD", Value: "hunter2"}, {Op: "add", Path: "/secrets/0", Value: map[string]any{"a": []any{"hunter2", 42}}},
		{Op: "replace", Path: "/command", Value: "mysql -phunter2"}, {Op: "remove", Path: "/api_key"}}}
	e.Labels = map[string]string{"api_key": "hunter2", "url": url, "team": "ops"}
	e.Details = map[string]any{"command": []string{"curl", "-u", "ci:hunter2", "--token", "hunter2"}, "env": map[string]string{"API_KEY": "hunter2", "HOST": "db1"},
		"nested": []any{map[string]any{"a": map[string]any{"clientSecret": "hunter2", "ok": true}}}, "raw": json.RawMessage(`{"password":"hunter2"}`),
		"struct": struct{ Password, User string }{"hunter2", "app"}, "pin_token": 1234, "tokens": 17, "text": url}
	return e
}

// TestEverywhere: no text of an event is left out, and what is no secret stays.
func TestEverywhere(t *testing.T) {
	e := everywhere()
	masked := mask.Default().Event(e)
	raw, err := json.Marshal(masked)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(raw), "hunter2") || strings.Contains(string(raw), "1234") || strings.Contains(string(raw), "42") {
		t.Errorf("%s", raw)
	}
	if !reflect.DeepEqual(e, everywhere()) {
		t.Error("the given event was changed")
	}
	if masked.ID != e.ID || masked.Source != e.Source || !masked.Time.Equal(e.Time) || masked.Action != e.Action || masked.Outcome != e.Outcome {
		t.Errorf("%+v", masked)
	}
	for _, stay := range []string{`"ip":"192.0.2.7"`, "192.0.2.8", `"team":"ops"`, `"tokens":17`, `"HOST":"db1"`, `"ok":true`, `"User":"app"`, "https://u:[masked]@h.example/x?token=[masked]"} {
		if !strings.Contains(string(raw), stay) {
			t.Errorf("%s is gone: %s", stay, raw)
		}
	}
	if _, err := masked.Fields(); err != nil {
		t.Error(err)
	}
	if got := mask.Off().Event(e); !reflect.DeepEqual(got, e) {
		t.Error("switched off, and it masks")
	}
}

// TestNames: what names something isn't masked by what may be a sentence.
func TestNames(t *testing.T) {
	e := valid()
	e.Job.ID, e.Job.Name = "rotate token: db", "sync --token nightly"
	if got := mask.Default().Event(e); got.Job.ID != e.Job.ID || got.Job.Name != e.Job.Name {
		t.Errorf("%+v", got.Job)
	}
}

// TestTooLong: what grows by masking still fits.
func TestTooLong(t *testing.T) {
	e := valid()
	e.Actor.ID = strings.Repeat("pw=a&", 102)
	e.Actor.AuthMethod = strings.Repeat("pw=a&", 25)
	e.Labels = map[string]string{"a": strings.Repeat("pw=ä&", 42)}
	e.Reason = &event.Reason{Code: "x", Text: strings.Repeat("pw=a&", 1600)}
	if _, err := e.Fields(); err != nil {
		t.Fatal(err)
	}
	if _, err := mask.Default().Event(e).Fields(); err != nil {
		t.Error(err)
	}
}

// TestRaw: JSON in, JSON out, of what event.Parse takes.
func TestRaw(t *testing.T) {
	e := valid()
	e.Details = map[string]any{"password": "hunter2", "big": event.MaxInteger, "neg": -event.MaxInteger}
	raw, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	got, err := mask.Default().Raw(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Replace(string(raw), "hunter2", mask.Masked, 1)
	if string(got) != want {
		t.Errorf("%s, expected %s", got, want)
	}
	if _, err := mask.Default().Raw([]byte(`{"password":"hunter2"}`)); err == nil {
		t.Error("took what is no event")
	}
}

// TestSecretNames is what is decided on names.
func TestSecretNames(t *testing.T) {
	for names, secret := range map[string]bool{
		"password db_password db_pw dbPw --pw DB_PASS dbPass userpass PGPASSWORD MYSQL_PWD pw passphrase secret client_secret clientSecret token accessToken access_token API_KEY apiKey x-api-key " +
			"aws_secret_access_key private_key privateKey AccountKey SharedAccessKey authorization Authorization auth _auth cookie Set-Cookie session session_id JSESSIONID sig " +
			"signature X-Amz-Signature dsn otp jwt credential credentials creds secret_id client-key-data tls.key password1 PASSWORD2 token_2 bearer password_hash pass": true,
		"author authorized authority authentication passenger passive passed bypass compass token_count tokenCount max_tokens num_tokens has_password is_secret no_password tokenizer secretary " +
			"credential_id secret_name secretName token_type password_changed_at passwordExpires session_timeout_seconds password_policy token_file password-file auth_method authUrl " +
			"token_refresh token-rotate access_key_id private_key_id public_key key keys monkey keyboard turkey hotkey cookiecutter_path broken spoken assignee design signal signed": false,
	} {
		for _, name := range strings.Fields(names) {
			got := mask.Default().Value(name, "hunter2") == any(mask.Masked)
			if got != secret {
				t.Errorf("%s names a secret: %v", name, got)
			}
		}
	}
}

// TestValue: other types, and what is deeper than an event may be.
func TestValue(t *testing.T) {
	m := mask.Default()
	var deep any = "hunter2"
	for range 40 {
		deep = map[string]any{"password": deep}
	}
	loop := map[string]any{}
	loop["a"] = loop
	for _, v := range []any{deep, loop, nil, make(chan int), func() {}, []any{nil, loop}} {
		m.Value("a", v) // ends, and doesn't panic
	}
	for want, v := range map[string]any{
		"[masked]": 5, "true": true, "<nil>": nil, "[[masked] [masked]]": []string{"a", "b"}, "map[a:[masked]]": map[string]string{"a": "b"}, "": "",
	} {
		if got := fmt.Sprint(m.Value("secret", v)); got != want {
			t.Errorf("%v became %s, expected %s", v, got, want)
		}
	}
	args := []string{"mysql", "-ps", "x"}
	if got := mask.Off().Args(args); !slices.Equal(got, args) || mask.Off().Value("token", "x") != "x" || mask.Off().Text("token=x") != "token=x" {
		t.Error("switched off, and it masks")
	}
}
