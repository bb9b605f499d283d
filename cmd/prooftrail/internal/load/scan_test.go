package load

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestScanResult(t *testing.T) {
	receipt := "c2sp.org/tlog-proof@v1\nextra \"\\ü\n"
	quoted, err := json.Marshal(receipt)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`{"status":"accepted","index":17,"leaf_hash":"AAAA","receipt":` + string(quoted) + `}` + "\n",
		` { "receipt" : ` + string(quoted) + ` , "nested" : {"a":["}",{"b":"\\"}]} , "status" : "accepted" , "index" : 17 } `,
	} {
		r, err := scanResult([]byte(line))
		if err != nil || string(r.status) != "accepted" || r.index != 17 || !r.indexed {
			t.Fatalf("%s: %+v, %v", line, r, err)
		}
		if text, err := r.text(); err != nil || string(text) != receipt {
			t.Errorf("receipt %q, %v", text, err)
		}
	}
	r, err := scanResult([]byte(`{"status":"rejected","problem":{"status":422,"code":"enum"}}`))
	if err != nil || r.indexed || r.receipt != nil || problemKind(r.problem, "x") != "http 422 enum" {
		t.Errorf("%+v, %v", r, err)
	}
	for _, bad := range []string{"", "{", "[]", `{"status":1}`, `{"index":-1}`, `{"index":99999999999999999999}`, `{"status":"accepted`, `{"a":"\"}`, `{"a" 1}`, `{"a":{"b":"}`, `{1:2}`, `{"a":}`} {
		if r, err := scanResult([]byte(bad)); err == nil {
			t.Errorf("%s was taken: %+v", bad, r)
		}
	}
}

// Whatever is JSON reads as encoding/json reads it, and nothing panics.
func FuzzScanResult(f *testing.F) {
	f.Add(`{"status":"accepted","index":17,"receipt":"a\nb"}`)
	f.Add(`{"problem":{"status":422,"x":[1,{"y":"}"}]},"status":"rejected"}`)
	f.Add(`{"status":"a\"b\\","index":0}`)
	f.Fuzz(func(t *testing.T, line string) {
		r, err := scanResult([]byte(line))
		var want struct {
			Status  *string
			Index   *uint64
			Receipt *string
		}
		if err != nil || !json.Valid([]byte(line)) || json.Unmarshal([]byte(line), &want) != nil {
			return
		}
		if strings.Count(line, `"status"`) > 1 || strings.Count(line, `"receipt"`) > 1 || strings.Count(line, `"index"`) > 1 {
			return // encoding/json merges; nobody answers so
		}
		if strings.Contains(line, `\`) || strings.ContainsFunc(line, func(r rune) bool { return r >= 'A' && r <= 'Z' || r > '~' }) {
			return // keys that are spelled otherwise: encoding/json takes them in any case
		}
		if want.Status != nil && *want.Status != string(r.status) {
			t.Errorf("status %q, expected %q", r.status, *want.Status)
		}
		if want.Index != nil && (!r.indexed || *want.Index != r.index) {
			t.Errorf("index %d, expected %d", r.index, *want.Index)
		}
	})
}
