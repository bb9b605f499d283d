package cloudevents

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
)

// Media types of the modes in which the body has the attributes.
const (
	typeStructured = "application/cloudevents+json"
	typeBatch      = "application/cloudevents-batch+json"
)

// Adapter is the ingest.Adapter for CloudEvents. The zero Adapter is ready.
type Adapter struct{}

// Name is cloudevents.
func (Adapter) Name() string { return "cloudevents" }

// Translate makes an item of each CloudEvent. One in binary mode has as its Raw the same
// CloudEvent in structured mode, names in order, since its body is only part of it.
func (Adapter) Translate(r *ingest.Request) ([]ingest.Item, error) {
	raws, err := split(r)
	if err != nil {
		return nil, err
	}
	budget := foreign.NewBudget(len(r.Body))
	items := make([]ingest.Item, len(raws))
	for i, raw := range raws {
		it := &items[i]
		it.Raw, it.Header = raw, http.Header{"Content-Type": {typeStructured}}
		it.Event, it.Untimed, it.Err = translate(r, raw, budget)
	}
	return items, nil
}

// split returns the CloudEvents of a request in structured mode.
func split(r *ingest.Request) ([][]byte, error) {
	media, err := mediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return nil, err
	}
	body := bytes.TrimSpace(r.Body)
	switch {
	case media == typeBatch, media == "" && bytes.HasPrefix(body, []byte("[")):
		return foreign.SplitArray(body)
	case media == typeStructured, media == "" && bytes.HasPrefix(body, []byte("{")) && len(r.Header["Ce-Specversion"]) == 0:
		return [][]byte{body}, nil
	case strings.HasPrefix(media, "application/cloudevents"):
		return nil, foreign.Errorf("Content-Type", "%s or %s; other event formats aren't read", typeStructured, typeBatch)
	case len(r.Header["Ce-Specversion"]) == 0:
		return nil, foreign.Errorf("Content-Type", "%s, %s, or attributes in ce-… headers", typeStructured, typeBatch)
	}
	raw, err := structured(r.Header, r.Body)
	if err != nil {
		return nil, err
	}
	return [][]byte{raw}, nil
}

// mediaType is a content type without its parameters. Of those only the charset matters: JSON is UTF-8.
func mediaType(contentType string) (string, error) {
	if contentType == "" {
		return "", nil
	}
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return "", foreign.Errorf("Content-Type", "a media type")
	}
	if c, ok := params["charset"]; ok && strings.HasPrefix(media, "application/cloudevents") && !strings.EqualFold(c, "utf-8") {
		return "", foreign.Errorf("Content-Type", "charset utf-8")
	}
	return media, nil
}

// structured writes a CloudEvent in binary mode as one in structured mode.
func structured(header http.Header, body []byte) ([]byte, error) {
	all := map[string]any{}
	for name, values := range header {
		attribute, ok := strings.CutPrefix(strings.ToLower(name), "ce-")
		if !ok {
			continue
		}
		if len(values) != 1 {
			return nil, foreign.Errorf(name, "one value")
		}
		if attribute == "data" || attribute == "data_base64" || attribute == "datacontenttype" {
			return nil, foreign.Errorf(name, "data in the body and its type in Content-Type")
		}
		v, ok := decodeHeader(values[0])
		if !ok {
			return nil, foreign.Errorf(name, "UTF-8, percent-encoded")
		}
		all[attribute] = v
	}
	media := header.Get("Content-Type")
	if media != "" {
		all["datacontenttype"] = media
	}
	switch {
	case len(body) == 0:
	case isJSON(media):
		if err := foreign.CheckJSON(body, foreign.NewBudget(len(body))); err != nil {
			return nil, err
		}
		all["data"] = json.RawMessage(body)
	default:
		all["data_base64"] = base64.StdEncoding.EncodeToString(body)
	}
	return json.Marshal(all)
}

// decodeHeader decodes an attribute's value (HTTP Protocol Binding, section 3.1.3.2): "When decoding an HTTP header into a
// CloudEvents attribute, any HTTP header value MUST first be unescaped with respect to double-quoted strings
// [and] MUST be percent-decoded once".
func decodeHeader(v string) (string, bool) {
	if len(v) >= 2 && v[0] == '"' && v[len(v)-1] == '"' {
		v = unquote(v[1 : len(v)-1])
	}
	// What isn't an escape stands for itself: "%" alone is sent by senders that encode nothing.
	if decoded, err := url.PathUnescape(v); err == nil {
		v = decoded
	}
	return v, utf8.ValidString(v)
}

// unquote undoes the quoted-pairs of RFC 9110 section 5.6.4.
func unquote(v string) string {
	if !strings.Contains(v, `\`) {
		return v
	}
	var b strings.Builder
	for i := 0; i < len(v); i++ {
		if v[i] == '\\' && i+1 < len(v) {
			i++
		}
		b.WriteByte(v[i])
	}
	return b.String()
}

// isJSON reports whether data of a content type is JSON: "If the datacontenttype declares the data to contain
// JSON-formatted content" (JSON Event Format, section 3.1.1), and where none is declared.
func isJSON(contentType string) bool {
	media, _, _ := mime.ParseMediaType(contentType)
	_, sub, _ := strings.Cut(media, "/")
	return contentType == "" || sub == "json" || strings.HasSuffix(sub, "+json")
}
