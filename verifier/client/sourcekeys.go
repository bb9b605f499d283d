package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"
)

// SourceKey is a key that is registered for the sources of a tenant whose names begin with Source.
type SourceKey struct {
	ID       string    `json:"id"`
	Tenant   string    `json:"tenant"`
	Source   string    `json:"source"`
	VKey     string    `json:"vkey"`
	Required bool      `json:"required"` // events that aren't signed are refused
	From     time.Time `json:"from"`
	Created  time.Time `json:"created_at"`
	Revoked  time.Time `json:"revoked_at,omitzero"` // zero: it signs
	Released bool      `json:"released,omitempty"`  // revoked, and nothing is required for it any more
}

// SourceKeyRequest asks for a key to be registered.
type SourceKeyRequest struct {
	Tenant   string    `json:"tenant"`
	Source   string    `json:"source"` // prefix
	VKey     string    `json:"vkey"`
	Required bool      `json:"required"`
	From     time.Time `json:"from,omitzero"` // zero: now
}

// AddSourceKey registers a key. It takes a token with the role admin. It is never repeated, as AddToken isn't.
func (c *Client) AddSourceKey(ctx context.Context, r SourceKeyRequest) (*SourceKey, error) {
	var k SourceKey
	if err := c.create(ctx, "/v1/source-keys", r, &k); err != nil {
		return nil, err
	}
	if k.ID == "" || k.VKey != r.VKey {
		return nil, fmt.Errorf("add source key: %w", errProtocol)
	}
	return &k, nil
}

// SourceKeys lists the keys, revoked ones too. It takes a token with the role admin.
func (c *Client) SourceKeys(ctx context.Context) ([]SourceKey, error) {
	var w struct {
		Keys []SourceKey `json:"source_keys"`
	}
	if err := c.doJSON(ctx, request{method: http.MethodGet, path: "/v1/source-keys", limit: limitSmall}, &w); err != nil {
		return nil, err
	}
	return w.Keys, nil
}

// RevokeSourceKey ends a key's signing, and with release also that events of its sources must be signed. It takes a token
// with the role admin. ErrNotFound: there is none with that id for which this would change anything.
func (c *Client) RevokeSourceKey(ctx context.Context, id string, release bool) error {
	r := request{method: http.MethodDelete, path: "/v1/source-keys/" + url.PathEscape(id), limit: limitProblem, once: true}
	if release {
		r.query = url.Values{"release": {"true"}}
	}
	_, err := c.do(ctx, r)
	return err
}
