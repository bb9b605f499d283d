package otlp

import (
	"mime"
	"net/http"
	"strconv"

	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
)

// Content types of OTLP/HTTP.
const (
	typeProtobuf = "application/x-protobuf"
	typeJSON     = "application/json"
)

// isJSON tells the two encodings apart.
func isJSON(h http.Header) (bool, error) {
	media, _, _ := mime.ParseMediaType(h.Get("Content-Type"))
	switch media {
	case typeJSON:
		return true, nil
	case typeProtobuf:
		return false, nil
	}
	return false, foreign.Errorf("Content-Type", "%s or %s", typeProtobuf, typeJSON)
}

// decode reads an ExportLogsServiceRequest. What it would become in memory is counted before pdata, which has no limits of its
// own, makes it: two bytes of protobuf are a log record of 200.
func decode(body []byte, inJSON bool) (plog.Logs, error) {
	request := plogotlp.NewExportRequest()
	budget := foreign.NewBudget(len(body))
	if inJSON {
		tree, err := foreign.ParseJSON(body, budget)
		if err == nil {
			err = named(tree)
		}
		if err != nil {
			return plog.Logs{}, err
		}
		if err := request.UnmarshalJSON(body); err != nil {
			return plog.Logs{}, foreign.Errorf("", "an ExportLogsServiceRequest in JSON, such as {\"resourceLogs\":[…]}")
		}
		return request.Logs(), nil
	}
	if err := measure(body, ofRequest, 1, budget); err != nil {
		return plog.Logs{}, err
	}
	if err := request.UnmarshalProto(body); err != nil {
		return plog.Logs{}, errProtobuf
	}
	return request.Logs(), nil
}

// named refuses a member without a name: pdata's reader stops there as if there were no more. Where it is is written once it is
// found: a path for each member would be many times the body.
func named(v any) error {
	switch v := v.(type) {
	case map[string]any:
		for name, e := range v {
			if name == "" {
				return foreign.Errorf("/", "a member's name that isn't empty")
			}
			if err := named(e); err != nil {
				return foreign.Under(err, name)
			}
		}
	case []any:
		for i, e := range v {
			if err := named(e); err != nil {
				return foreign.Under(err, strconv.Itoa(i))
			}
		}
	}
	return nil
}

var errProtobuf = foreign.Errorf("", "an ExportLogsServiceRequest in protobuf")

// A message is a kind of message of OTLP's: which of its fields are messages, and of which kind.
type message struct{ fields map[protowire.Number]*message }

// The messages of an ExportLogsServiceRequest (opentelemetry/proto/logs/v1/logs.proto, common/v1/common.proto).
var ofRequest = func() *message {
	value, entity := &message{}, &message{}
	pair := &message{map[protowire.Number]*message{2: value}}
	list, pairs := &message{map[protowire.Number]*message{1: value}}, &message{map[protowire.Number]*message{1: pair}}
	value.fields = map[protowire.Number]*message{5: list, 6: pairs}
	// An EntityRef has lists of strings: each counts.
	text := &message{}
	entity.fields = map[protowire.Number]*message{3: text, 4: text}
	resource := &message{map[protowire.Number]*message{1: pair, 3: entity}}
	scope := &message{map[protowire.Number]*message{3: pair}}
	record := &message{map[protowire.Number]*message{5: value, 6: pair}}
	scopeLogs := &message{map[protowire.Number]*message{1: scope, 2: record}}
	resourceLogs := &message{map[protowire.Number]*message{1: resource, 2: scopeLogs}}
	return &message{map[protowire.Number]*message{1: resourceLogs}}
}()

// measure walks over a message and counts those in it.
func measure(b []byte, kind *message, depth int, budget *foreign.Budget) error {
	if depth > foreign.MaxDepth {
		return foreign.Errorf("", "messages nested at most %d deep", foreign.MaxDepth)
	}
	for len(b) > 0 {
		number, wire, n := protowire.ConsumeTag(b)
		if n < 0 {
			return errProtobuf
		}
		b = b[n:]
		n = protowire.ConsumeFieldValue(number, wire, b)
		if n < 0 {
			return errProtobuf
		}
		if part, ok := kind.fields[number]; ok && wire == protowire.BytesType {
			if !budget.Take(1) {
				return foreign.Errorf("", "fewer attributes and records in one request")
			}
			inner, _ := protowire.ConsumeBytes(b)
			if len(part.fields) > 0 {
				if err := measure(inner, part, depth+1, budget); err != nil {
					return err
				}
			}
		}
		b = b[n:]
	}
	return nil
}
