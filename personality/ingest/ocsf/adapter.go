package ocsf

import (
	"bytes"
	"mime"
	"net/http"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
)

// Adapter is the ingest.Adapter for OCSF. The zero Adapter is ready.
type Adapter struct{}

// Name is ocsf.
func (Adapter) Name() string { return "ocsf" }

const typeJSON = "application/json"

// Translate makes an item of each OCSF event.
func (Adapter) Translate(r *ingest.Request) ([]ingest.Item, error) {
	raws, err := split(r)
	if err != nil {
		return nil, err
	}
	budget := foreign.NewBudget(len(r.Body))
	items := make([]ingest.Item, len(raws))
	for i, raw := range raws {
		it := &items[i]
		it.Raw, it.Header = raw, http.Header{"Content-Type": {typeJSON}}
		all, err := foreign.ParseObject(raw, budget)
		if err != nil {
			it.Err = err
			continue
		}
		m := mapping{r: r, raw: raw, all: all}
		it.Event, it.Err = m.event()
	}
	return items, nil
}

// split tells the events of a request apart.
func split(r *ingest.Request) ([][]byte, error) {
	media := ""
	if text := r.Header.Get("Content-Type"); text != "" {
		media, _, _ = mime.ParseMediaType(text)
	}
	body := bytes.TrimSpace(r.Body)
	switch media {
	case "application/x-ndjson", "application/jsonl", "application/x-jsonlines":
		return foreign.SplitLines(body)
	case "", typeJSON:
		if bytes.HasPrefix(body, []byte("[")) {
			return foreign.SplitArray(body)
		}
		return [][]byte{body}, nil
	}
	return nil, foreign.Errorf("Content-Type", "application/json or application/x-ndjson")
}
