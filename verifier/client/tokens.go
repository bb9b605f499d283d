package client

import (
	"context"
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
	var w struct {
		Token
		Secret string `json:"token"`
	}
	if err := c.create(ctx, "/v1/tokens", r, &w); err != nil {
		return nil, "", err
	}
	if w.ID == "" || w.Secret == "" {
		return nil, "", fmt.Errorf("add token: %w", errProtocol)
	}
	return &w.Token, w.Secret, nil
}

// Tokens lists the tokens. It takes a token with the role admin.
func (c *Client) Tokens(ctx context.Context) ([]Token, error) {
	var w struct {
		Tokens []Token `json:"tokens"`
	}
	if err := c.doJSON(ctx, request{method: http.MethodGet, path: "/v1/tokens", limit: limitSmall}, &w); err != nil {
		return nil, err
	}
	return w.Tokens, nil
}

// RevokeToken makes a token worthless from now on. It takes a token with the
// role admin. ErrNotFound: there is none with that id.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: "/v1/tokens/" + url.PathEscape(id), limit: limitProblem, once: true})
	return err
}
