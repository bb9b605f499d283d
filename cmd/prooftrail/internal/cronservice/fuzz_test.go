package cronservice

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/http/httptest"
	"testing"
)

// FuzzReadBody: a body is one object of known members, or a bad request.
func FuzzReadBody(f *testing.F) {
	for _, s := range []string{`{"Name":"a","Schedule":"* * * * * *"}`, `{"name":"a"} `, `{}{}`, `{"x":1}`, `null`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		c := &call{r: httptest.NewRequest("POST", "/jobs", bytes.NewReader(body))}
		var in struct{ Name, Schedule string }
		if err := c.read(&in); err != nil {
			var f *failure
			if !errors.As(err, &f) || f.status != 400 || f.text == "" {
				t.Errorf("%q: error %v", body, err)
			}
			return
		}
		again, err := json.Marshal(in)
		if err != nil || !json.Valid(body) {
			t.Fatalf("%q was taken: %v", body, err)
		}
		twice := in
		if json.Unmarshal(again, &twice) != nil || twice != in {
			t.Errorf("%q was read as %s", body, again)
		}
	})
}
