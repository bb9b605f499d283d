package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// Token is a credential as the server lists it: never the secret.
type Token struct {
	ID      string    `json:"id"`
	Name    string    `json:"name"`
	Tenant  string    `json:"tenant"`
	Roles   []string  `json:"roles"`             // submit, read, admin
	Sources []string  `json:"sources,omitempty"` // prefixes of /source; role submit
	Created time.Time `json:"created_at"`
}

// TokenRequest is what a new token is to be.
type TokenRequest struct {
	Name    string   `json:"name"`
	Tenant  string   `json:"tenant"`
	Roles   []string `json:"roles"`
	Sources []string `json:"sources,omitempty"`
}

// AddToken makes a token and returns its text, "pt_…", which can't be had
// again. It takes a token with the role admin. It is never repeated: after a
// failure of the network, list the tokens to see whether one was made.
func (c *Client) AddToken(ctx context.Context, r TokenRequest) (*Token, string, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, "", fmt.Errorf("add token: %w", err)
	}
	a, err := c.do(ctx, request{
		method: http.MethodPost, path: "/v1/tokens", contentType: "application/json", body: body,
		limit: limitProblem, once: true,
	})
	if err != nil {
		return nil, "", err
	}
	var w struct {
		Token
		Secret string `json:"token"`
	}
	if err := json.Unmarshal(a.body, &w); err != nil || w.ID == "" || w.Secret == "" {
		return nil, "", fmt.Errorf("add token: %w", errProtocol)
	}
	return &w.Token, w.Secret, nil
}

// Tokens lists the tokens. It takes a token with the role admin.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	a, err := c.do(ctx, request{method: http.MethodGet, path: "/v1/tokens", limit: limitSmall})
	if err != nil {
		return nil, err
	}
	var w struct {
		Tokens []Token `json:"tokens"`
	}
	if err := json.Unmarshal(a.body, &w); err != nil {
		return nil, fmt.Errorf("tokens: %w: %w", errProtocol, err)
	}
	return w.Tokens, nil
}

// RevokeToken makes a token worthless from now on. It takes a token with the
// role admin. ErrNotFound: there is none with that id.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: "/v1/tokens/" + url.PathEscape(id), limit: limitProblem, once: true})
	return err
}
