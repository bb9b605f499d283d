package httpapi

import (
	"encoding/hex"
	"net/http"
	"net/url"
	"time"

	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/pubstore"
)

// quarantined is an item of the quarantine as it is shown.
type quarantined struct {
	ID        string      `json:"id"`
	Tenant    string      `json:"tenant"`
	Adapter   string      `json:"adapter"`
	Sender    string      `json:"sender"`
	Principal string      `json:"principal"`
	PeerIP    string      `json:"peer_ip,omitempty"`
	Received  time.Time   `json:"received_at"`
	Status    string      `json:"status"`
	Reason    string      `json:"reason"`
	Source    string      `json:"source,omitempty"`
	Query     url.Values  `json:"query,omitempty"`
	Header    http.Header `json:"header,omitempty"`
	RawBytes  int64       `json:"raw_bytes"`
	RawSHA256 string      `json:"raw_sha256"`
	Raw       *string     `json:"raw,omitempty"`
}

func shownQuarantined(q pubstore.Quarantined) quarantined {
	return quarantined{
		ID: q.ID, Tenant: q.Tenant, Adapter: q.Adapter, Sender: q.Sender, Principal: q.Principal, PeerIP: q.PeerIP, Received: q.Received,
		Status: q.Status, Reason: q.Reason, Source: q.Source, Query: q.Query, Header: q.Header,
		RawBytes: q.RawBytes, RawSHA256: hex.EncodeToString(q.RawSHA256),
	}
}

// listQuarantine serves GET /v1/quarantine?after=&count=.
func (a *API) listQuarantine(x *exchange) error {
	values, err := parseQuery(x.r.URL.RawQuery, "after", "count")
	if err != nil {
		return err
	}
	count := uint64(100)
	if _, given := values["count"]; given {
		if count, err = number(values, "count", 1, personality.MaxQuarantineList); err != nil {
			return err
		}
	}
	list, err := a.cfg.Log.QuarantineList(x.r.Context(), x.caller(), values["after"], int(count))
	if err != nil {
		return err
	}
	items := make([]quarantined, len(list))
	for i, q := range list {
		items[i] = shownQuarantined(q)
	}
	return x.sendJSON(http.StatusOK, struct {
		Items []quarantined `json:"items"`
	}{items})
}

// showQuarantined serves GET /v1/quarantine/{id}.
func (a *API) showQuarantined(x *exchange) error {
	if err := x.noQuery(); err != nil {
		return err
	}
	q, err := a.cfg.Log.QuarantineShow(x.r.Context(), x.caller(), x.args[0])
	if err != nil {
		return err
	}
	item, raw := shownQuarantined(q), string(q.Raw)
	item.Raw = &raw
	return x.sendJSON(http.StatusOK, item)
}

// replayQuarantined serves POST /v1/quarantine/{id}/replay?source=.
func (a *API) replayQuarantined(x *exchange) error {
	values, err := parseQuery(x.r.URL.RawQuery, "source")
	if err != nil {
		return err
	}
	results, err := a.cfg.Log.QuarantineReplay(x.r.Context(), x.caller(), x.args[0], values["source"])
	if err != nil {
		return err
	}
	return x.sendJSON(http.StatusOK, struct {
		Results []ingest.Result `json:"results"`
	}{results})
}

// dropQuarantined serves DELETE /v1/quarantine/{id}.
func (a *API) dropQuarantined(x *exchange) error {
	if err := x.noQuery(); err != nil {
		return err
	}
	if err := a.cfg.Log.QuarantineDrop(x.r.Context(), x.caller(), x.args[0]); err != nil {
		return err
	}
	x.sendNothing(http.StatusNoContent)
	return nil
}
