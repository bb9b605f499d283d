package httpapi

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strconv"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// maxTokenBody bounds the body of a request for a token, or to register a key, in bytes.
const maxTokenBody = 64 << 10

// listTokens serves GET /v1/tokens.
func (a *API) listTokens(x *exchange) error {
	if err := x.noQuery(); err != nil {
		return err
	}
	tokens, err := a.cfg.Log.Tokens(x.r.Context(), x.caller())
	if err != nil {
		return err
	}
	if tokens == nil {
		tokens = []*personality.Token{}
	}
	return x.sendJSON(http.StatusOK, struct {
		Tokens []*personality.Token `json:"tokens"`
	}{tokens})
}

// addToken serves POST /v1/tokens.
func (a *API) addToken(x *exchange) error {
	if err := x.noQuery(); err != nil {
		return err
	}
	members, err := a.readMembers(x)
	if err != nil {
		return err
	}
	req, err := parseTokenRequest(members)
	if err != nil {
		return err
	}
	tok, secret, err := a.cfg.Log.AddToken(x.r.Context(), x.caller(), req)
	var invalid *personality.InvalidError
	if errors.As(err, &invalid) {
		return badMember("/"+invalid.Field, invalid.Expected)
	}
	if err != nil {
		return err
	}
	return x.sendJSON(http.StatusCreated, struct {
		*personality.Token
		Secret string `json:"token"`
	}{tok, secret})
}

// readMembers reads a small request as strictly as an event: the one tokeniser goes first, and names count to the
// letter, which encoding/json alone would not see to.
func (a *API) readMembers(x *exchange) (members map[string]json.RawMessage, err error) {
	if ndjson, err := eventsType(x.r.Header); err != nil || ndjson {
		return nil, &problem{kind: kindMediaType, detail: "expected application/json"}
	}
	buf := getBuffer()
	defer a.releaseBody(buf)
	tooLarge := &problem{kind: kindRequestSize, detail: "the body is larger than " + strconv.Itoa(maxTokenBody) + " bytes"}
	if err := x.readBody(buf, maxTokenBody, tooLarge); err != nil {
		return nil, err
	}
	return parseMembers(buf.b)
}

func parseMembers(body []byte) (members map[string]json.RawMessage, err error) {
	clean, err := event.Canonical(body)
	var refused *event.Error
	if errors.As(err, &refused) {
		p := badMember(cut(refused.Pointer, maxPointer), refused.Expected)
		p.code = refused.Code
		return nil, p
	}
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(clean, &members) != nil {
		return nil, badMember("", "an object")
	}
	return members, nil
}

func parseTokenRequest(members map[string]json.RawMessage) (r personality.TokenRequest, err error) {
	for name, value := range members {
		var err error
		expected := "an array of strings"
		switch name {
		case "name":
			err, expected = json.Unmarshal(value, &r.Name), "a string"
		case "tenant":
			err, expected = json.Unmarshal(value, &r.Tenant), "a string"
		case "roles":
			err = json.Unmarshal(value, &r.Roles)
		case "sources":
			err = json.Unmarshal(value, &r.Sources)
		default:
			err, expected = io.EOF, "only the members name, tenant, roles, sources"
		}
		if err != nil {
			return r, badMember("/"+cut(name, 64), expected)
		}
	}
	return r, nil
}

// revokeToken serves DELETE /v1/tokens/{id}.
func (a *API) revokeToken(x *exchange) error {
	if err := x.noQuery(); err != nil {
		return err
	}
	if err := a.cfg.Log.RevokeToken(x.r.Context(), x.caller(), x.args[0]); err != nil {
		return err
	}
	x.sendNothing(http.StatusNoContent)
	return nil
}

// sendJSON answers what is neither long nor frequent.
func (x *exchange) sendJSON(status int, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	x.w.Header()["Cache-Control"] = valueNoStore
	x.send(status, valueJSON, b)
	return nil
}
