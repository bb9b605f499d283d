package ingest_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"runtime"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/cloudevents"
	"github.com/prooftrail/prooftrail/personality/ingest/mapping"
	"github.com/prooftrail/prooftrail/personality/ingest/ocsf"
	"github.com/prooftrail/prooftrail/personality/ingest/otlp"
)

// maxAlloc is what an adapter may allocate in all for the largest body that a server takes, with all that it throws away again.
const maxAlloc = 128 << 20

// maxBody is the largest body that a server takes; less under the race detector, which takes minutes over that.
func maxBody() int {
	if testing.Short() {
		return 2 << 20
	}
	return 16 << 20
}

// fill repeats a text up to the size of the largest body, between two others.
func fill(head, text, tail string) []byte {
	n := (maxBody() - len(head) - len(tail)) / len(text)
	return []byte(head + strings.Repeat(text, n) + tail)
}

// field is a field of a protobuf message, with bytes.
func field(n protowire.Number, inner []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(nil, n, protowire.BytesType), inner)
}

// attribute is an attribute of OTLP in JSON.
const attribute = `{"key":"k","value":{"stringValue":"v"}},`

// hostile are bodies that are made to become much.
func hostile() map[string][]byte {
	deep := []byte{}
	for len(deep) < maxBody()-64 { // an array in an array
		deep = field(5, field(1, deep))
		if len(deep) > 4096 {
			break
		}
	}
	record := field(2, field(5, deep))
	return map[string][]byte{
		"numbers in an object":      fill(`{"class_uid":1006,"x":[`, "0,", "0]}"),
		"empty objects":             fill("[", "{},", "{}]"),
		"nothing but brackets":      bytes.Repeat([]byte("["), maxBody()),
		"objects in objects":        bytes.Repeat([]byte(`{"a":`), maxBody()/5),
		"one string":                fill(`{"a":"`, "x", `"}`),
		"escapes":                   fill(`{"a":"`, `\u0041`, `"}`),
		"an open string":            fill(`{"a":"`, `\"`, ``),
		"lines":                     bytes.Repeat([]byte("{}\n"), maxBody()/3),
		"blank lines":               bytes.Repeat([]byte(" \n"), maxBody()/2),
		"records in JSON":           fill(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[`, "{},", "{}]}]}]}"),
		"attributes in JSON":        fill(`{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[`, attribute, strings.TrimSuffix(attribute, ",")+"]}]}]}]}"),
		"resources in JSON":         fill(`{"resourceLogs":[`, "{},", "{}]}"),
		"records in protobuf":       field(1, field(2, bytes.Repeat(field(2, nil), maxBody()/2-16))),
		"attributes in protobuf":    field(1, field(2, field(2, bytes.Repeat(field(6, nil), maxBody()/2-16)))),
		"resources in protobuf":     bytes.Repeat(field(1, nil), maxBody()/2),
		"entities in protobuf":      field(1, field(1, bytes.Repeat(field(3, nil), maxBody()/2-16))),
		"lists in protobuf":         field(1, field(2, record)),
		"members below a long path": fill(strings.Repeat(`{"`+strings.Repeat("n", 128)+`":`, 60)+"[", `{"a":0},`, "0]"+strings.Repeat("}", 60)),
		"names that become one":     namesThatBecomeOne(),
		"zeros":                     make([]byte, maxBody()),
		"a resource for each of many records": append(field(1, append(field(1, field(1, field(1, bytes.Repeat([]byte("k"), 1<<20)))),
			field(2, bytes.Repeat(field(2, field(3, []byte("INFO"))), 10_000))...)), 0),
	}
}

// namesThatBecomeOne is a CloudEvent whose data has as many names as fit into it, of which none can be in an event and all
// would become the same.
func namesThatBecomeOne() []byte {
	b := []byte(`{"specversion":"1.0","type":"a.b","source":"urn:a","id":"1","data":{"a":0`)
	for r := rune(0x4e00); r < 0x4e00+60_000; r++ {
		if r < 0xd800 || r > 0xdfff {
			b = append(b, `,"`+string(r)+`":0`...)
		}
	}
	return append(b, "}}"...)
}

// TestHostileBodies: whatever the largest body has in it, what an adapter allocates for it is bounded, and so is the time.
func TestHostileBodies(t *testing.T) {
	text, ok := mapping.ReadyFile("ready:rundeck")
	if !ok {
		t.Fatal("there is no ready:rundeck")
	}
	rundeck, err := mapping.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	translate := map[string]func(*ingest.Request) ([]ingest.Item, error){
		"application/cloudevents-batch+json": cloudevents.Adapter{}.Translate,
		"application/cloudevents+json":       cloudevents.Adapter{}.Translate,
		"application/json; of OTLP":          otlp.Adapter{}.Translate,
		"application/x-protobuf":             otlp.Adapter{}.Translate,
		"application/json":                   ocsf.Adapter{}.Translate,
		"application/x-ndjson":               ocsf.Adapter{}.Translate,
		"application/json; of a webhook":     rundeck.Translate,
	}
	for name, body := range hostile() {
		for kind, f := range translate {
			media, _, _ := strings.Cut(kind, ";")
			r := &ingest.Request{Header: http.Header{"Content-Type": {media}}, Query: url.Values{}, Body: body, Source: "urn:hostile", Received: time.Now(),
				ID: func(...string) string { return "id" }}
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			begun := time.Now()
			items, err := f(r)
			took := time.Since(begun)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > maxAlloc {
				t.Errorf("%s as %s: %d MiB allocated", name, kind, got>>20)
			}
			if took > time.Minute {
				t.Errorf("%s as %s: took %v", name, kind, took)
			}
			if err == nil && len(items) > 10_000 {
				t.Errorf("%s as %s: %d items", name, kind, len(items))
			}
			if err != nil && len(err.Error()) > 2000 {
				t.Errorf("%s as %s: an error of %d bytes", name, kind, len(err.Error()))
			}
			total := 0
			for _, it := range items {
				if total += len(it.Raw); it.Err != nil && len(it.Err.Error()) > 2000 {
					t.Errorf("%s as %s: an error of %d bytes", name, kind, len(it.Err.Error()))
				}
			}
			if total > 48<<20 {
				t.Errorf("%s as %s: items of %d MiB", name, kind, total>>20)
			}
		}
	}
}

// TestLargestSound: what is as large as may be and sound comes through.
func TestLargestSound(t *testing.T) {
	one := map[string]any{"specversion": "1.0", "type": "a.b", "source": "urn:a", "id": "1", "data": strings.Repeat("x", 1500)}
	text, err := json.Marshal(one)
	if err != nil {
		t.Fatal(err)
	}
	body := []byte("[" + strings.Repeat(string(text)+",", 9_999) + string(text) + "]")
	r := &ingest.Request{Header: http.Header{"Content-Type": {"application/cloudevents-batch+json"}}, Body: body, Received: time.Now()}
	items, err := cloudevents.Adapter{}.Translate(r)
	if err != nil || len(items) != 10_000 || items[9_999].Err != nil {
		t.Errorf("%d items, %v", len(items), err)
	}
}
