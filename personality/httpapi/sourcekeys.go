package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/prooftrail/prooftrail/personality"
)

// listSourceKeys serves GET /v1/source-keys.
func (a *API) listSourceKeys(x *exchange) error {
	if err := x.noQuery(); err != nil {
		return err
	}
	keys, err := a.cfg.Log.SourceKeys(x.r.Context(), x.caller())
	if err != nil {
		return err
	}
	if keys == nil {
		keys = []*personality.SourceKey{}
	}
	return x.sendJSON(http.StatusOK, struct {
		Keys []*personality.SourceKey `json:"source_keys"`
	}{keys})
}

// addSourceKey serves POST /v1/source-keys.
func (a *API) addSourceKey(x *exchange) error {
	if err := x.noQuery(); err != nil {
		return err
	}
	members, err := a.readMembers(x)
	if err != nil {
		return err
	}
	req, err := parseSourceKeyRequest(members)
	if err != nil {
		return err
	}
	key, err := a.cfg.Log.AddSourceKey(x.r.Context(), x.caller(), req)
	var invalid *personality.InvalidError
	if errors.As(err, &invalid) {
		return badMember("/"+invalid.Field, invalid.Expected)
	}
	if err != nil {
		return err
	}
	return x.sendJSON(http.StatusCreated, key)
}

func parseSourceKeyRequest(members map[string]json.RawMessage) (personality.SourceKeyRequest, error) {
	r := personality.SourceKeyRequest{Required: true}
	for name, value := range members {
		var err error
		expected := "a string"
		switch name {
		case "tenant":
			err = json.Unmarshal(value, &r.Tenant)
		case "source":
			err = json.Unmarshal(value, &r.Source)
		case "vkey":
			err = json.Unmarshal(value, &r.VKey)
		case "required":
			err, expected = json.Unmarshal(value, &r.Required), "true or false"
		case "from":
			r.From, err = parseFrom(value)
			expected = "a time of RFC 3339"
		default:
			err, expected = io.EOF, "only the members tenant, source, vkey, required, from"
		}
		if err != nil {
			return r, badMember("/"+cut(name, 64), expected)
		}
	}
	return r, nil
}

func parseFrom(value []byte) (time.Time, error) {
	var text string
	if err := json.Unmarshal(value, &text); err != nil {
		return time.Time{}, err
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err == nil && (t.UTC().Year() < 1970 || t.UTC().Year() > 9999) {
		err = errors.New("a year before 1970 or after 9999")
	}
	return t, err
}

// revokeSourceKey serves DELETE /v1/source-keys/{id}?release=.
func (a *API) revokeSourceKey(x *exchange) error {
	values, err := parseQuery(x.r.URL.RawQuery, "release")
	if err != nil {
		return err
	}
	release, given := values["release"]
	if given && release != "true" && release != "false" {
		return badParameter("release", "true or false")
	}
	if err := a.cfg.Log.RevokeSourceKey(x.r.Context(), x.caller(), x.args[0], release == "true"); err != nil {
		return err
	}
	x.sendNothing(http.StatusNoContent)
	return nil
}
