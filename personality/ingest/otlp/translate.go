package otlp

import (
	"net/http"
	"time"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/foreign"
)

// maxRaw bounds the bytes of all items of a request. Each item has a copy of its resource.
const maxRaw = 32 << 20

// Translate makes an item of each log record. Its Raw is a request with this record alone, in
// the encoding that it came in.
func (Adapter) Translate(r *ingest.Request) ([]ingest.Item, error) {
	inJSON, err := isJSON(r.Header)
	if err != nil {
		return nil, err
	}
	skip := false
	switch r.Query.Get("unmapped") {
	case "", "quarantine":
	case "skip":
		skip = true
	default:
		return nil, foreign.Errorf("unmapped", "quarantine or skip")
	}
	logs, err := decode(r.Body, inJSON)
	if err != nil {
		return nil, err
	}
	if logs.LogRecordCount() > ingest.MaxItems {
		return nil, ingest.ErrTooManyItems
	}
	t := translator{r: r, inJSON: inJSON, skip: skip, left: maxRaw}
	for _, rl := range logs.ResourceLogs().All() {
		if err := t.resourceLogs(rl); err != nil {
			return nil, err
		}
	}
	return t.items, nil
}

// A translator makes the items of one request.
type translator struct {
	r      *ingest.Request
	inJSON bool
	skip   bool // what has no action
	left   int  // bytes that the items may still have
	items  []ingest.Item

	resource attributes // of the records being read …
	fault    error      // … and what is wrong with it
}

func (t *translator) resourceLogs(rl plog.ResourceLogs) error {
	alone := plog.NewLogs()
	to := alone.ResourceLogs().AppendEmpty()
	rl.Resource().CopyTo(to.Resource())
	to.SetSchemaUrl(rl.SchemaUrl())
	t.resource, t.fault = readAttributes(rl.Resource().Attributes())
	t.fault = within("resource.attributes", t.fault)
	for _, sl := range rl.ScopeLogs().All() {
		to.ScopeLogs().RemoveIf(func(plog.ScopeLogs) bool { return true })
		scope := to.ScopeLogs().AppendEmpty()
		sl.Scope().CopyTo(scope.Scope())
		scope.SetSchemaUrl(sl.SchemaUrl())
		record := scope.LogRecords().AppendEmpty()
		for _, lr := range sl.LogRecords().All() {
			lr.CopyTo(record)
			if err := t.item(alone, sl.Scope(), lr); err != nil {
				return err
			}
		}
	}
	return nil
}

// item adds the item of a record, which is the only one of alone.
func (t *translator) item(alone plog.Logs, scope pcommon.InstrumentationScope, lr plog.LogRecord) error {
	it := ingest.Item{Header: http.Header{"Content-Type": {typeProtobuf}}}
	request := plogotlp.NewExportRequestFromLogs(alone)
	var err error
	if t.inJSON {
		it.Header = http.Header{"Content-Type": {typeJSON}}
		it.Raw, err = request.MarshalJSON()
	} else {
		it.Raw, err = request.MarshalProto()
	}
	if err != nil {
		return foreign.Errorf("", "log records that can be written again")
	}
	if t.left -= len(it.Raw); t.left < 0 {
		return foreign.Errorf("", "at most %d bytes, each record counted with its resource; send fewer in one request", maxRaw)
	}
	m := mapping{r: t.r, raw: it.Raw, resource: t.resource, scope: scope, record: lr, err: t.fault}
	it.Event, it.Skip, it.Err = m.event(t.skip)
	it.Untimed = lr.Timestamp() == 0 && lr.ObservedTimestamp() == 0
	t.items = append(t.items, it)
	return nil
}

// at is the time of a record.
func at(lr plog.LogRecord, received time.Time) time.Time {
	for _, ts := range []pcommon.Timestamp{lr.Timestamp(), lr.ObservedTimestamp()} {
		if ts != 0 {
			return ts.AsTime()
		}
	}
	return received
}
