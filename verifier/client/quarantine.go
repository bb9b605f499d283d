package client

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// Quarantined is an item that another system delivered in a form of its own, and that the log hasn't taken.
type Quarantined struct {
	ID        string    `json:"id"`
	Tenant    string    `json:"tenant"`
	Adapter   string    `json:"adapter"`
	Sender    string    `json:"sender"`    // how sure it is who sent it: token, hmac
	Principal string    `json:"principal"` // the token that it was delivered under, name/id
	PeerIP    string    `json:"peer_ip,omitempty"`
	Received  time.Time `json:"received_at"`
	Status    string    `json:"status"` // quarantined, rejected or conflict
	Reason    string    `json:"reason"` // what was wrong

	// What the delivery said of it.
	Source string              `json:"source,omitempty"`
	Query  map[string][]string `json:"query,omitempty"`
	Header map[string][]string `json:"header,omitempty"`

	RawBytes  int64  `json:"raw_bytes"`
	RawSHA256 string `json:"raw_sha256"`    // of what came, 64 hexadecimal digits
	Raw       string `json:"raw,omitempty"` // what came, secrets masked; not in lists
}

// ItemResult is what became of an item that was replayed.
type ItemResult struct {
	Status     string  `json:"status"` // accepted, duplicate, conflict, rejected, quarantined, skipped
	Index      *uint64 `json:"index,omitempty"`
	Quarantine string  `json:"quarantine,omitempty"` // its id, if it is in the quarantine
	Reason     string  `json:"reason,omitempty"`
}

// quarantinePage is how many items are asked for at once.
const quarantinePage = 1000

// Quarantine lists the items of the quarantine, without their content, by id. It takes a token with the
// role admin.
func (c *Client) Quarantine(ctx context.Context) ([]Quarantined, error) {
	all := []Quarantined{}
	for {
		query := url.Values{"count": {strconv.Itoa(quarantinePage)}}
		if len(all) > 0 {
			query.Set("after", all[len(all)-1].ID)
		}
		var w struct {
			Items []Quarantined `json:"items"`
		}
		if err := c.doJSON(ctx, request{method: http.MethodGet, path: "/v1/quarantine", query: query, limit: limitBatch}, &w); err != nil {
			return nil, err
		}
		for _, q := range w.Items {
			if len(all) > 0 && q.ID <= all[len(all)-1].ID {
				return nil, fmt.Errorf("quarantine: %w: the ids aren't in order", errProtocol)
			}
			all = append(all, q)
		}
		if len(w.Items) < quarantinePage {
			return all, nil
		}
	}
}

// Quarantined reads an item with its content. The server logs that. It takes a token with the role admin.
// ErrNotFound: there is none with that id.
func (c *Client) Quarantined(ctx context.Context, id string) (*Quarantined, error) {
	q := new(Quarantined)
	if err := c.doJSON(ctx, request{method: http.MethodGet, path: "/v1/quarantine/" + url.PathEscape(id), limit: limitBatch}, q); err != nil {
		return nil, err
	}
	if q.ID != id {
		return nil, fmt.Errorf("quarantine: %w", errProtocol)
	}
	return q, nil
}

// Replay has an item translated again and submitted; source, unless empty, takes the place of the one that its delivery
// named. It is gone from the quarantine then, unless a result has its id as Quarantine. Doing it again is
// always safe. It takes a token with the role admin. ErrNotFound: there is none with that id.
func (c *Client) Replay(ctx context.Context, id, source string) ([]ItemResult, error) {
	var query url.Values
	if source != "" {
		query = url.Values{"source": {source}}
	}
	var w struct {
		Results []ItemResult `json:"results"`
	}
	r := request{method: http.MethodPost, path: "/v1/quarantine/" + url.PathEscape(id) + "/replay", query: query, limit: limitEntry, once: true}
	if err := c.doJSON(ctx, r, &w); err != nil {
		return nil, err
	}
	if w.Results == nil {
		return nil, fmt.Errorf("replay: %w", errProtocol)
	}
	return w.Results, nil
}

// DropQuarantined removes an item for good. It takes a token with the role admin. ErrNotFound: there is none
// with that id.
func (c *Client) DropQuarantined(ctx context.Context, id string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: "/v1/quarantine/" + url.PathEscape(id), limit: limitProblem, once: true})
	return err
}
