// Package otlp makes events of OpenTelemetry log records that come over OTLP/HTTP, in protobuf or JSON.
//
// Of what a record tells, each has its place:
//
//	action    the attribute prooftrail.action, else the record's event name, else the attribute event.name;
//	          a record without is no matter for an audit log: it goes to the quarantine, or nowhere
//	          if the request says unmapped=skip
//	id        prooftrail.id, else log.record.uid, else an HMAC of the whole record with its resource
//	source    prooftrail.source of the record or the resource, else the request's parameter source, else
//	          otel:{service.namespace}/{service.name}/{service.instance.id}
//	time      time_unix_nano, else observed_time_unix_nano, else when it was received
//	outcome   prooftrail.outcome; else failure if there is an error.type or the severity is ERROR or above; else
//	          unknown, with the reason code unstated
//	reason    prooftrail.reason.code, else error.type; prooftrail.reason.text, else exception.message
//	actor     prooftrail.actor.…; else the user of user.id or enduser.id; else the service
//	origin    client.address, client.port, user_agent.original, host.name of the resource, the trace id
//	target    prooftrail.target.…; else the job; else the service
//	job       prooftrail.job.…
//	change    prooftrail.change.…
//	details   body; attributes and resource: those that have no other place; scope, severity
//
// An attribute that begins with prooftrail. and isn't one of these is refused: it would be a slip.
package otlp

import (
	"net/http"

	"go.opentelemetry.io/collector/pdata/plog/plogotlp"

	"github.com/prooftrail/prooftrail/personality/ingest"
)

// Adapter is the ingest.Adapter for OTLP log records. The zero Adapter is ready.
type Adapter struct{}

// Name is otlp.
func (Adapter) Name() string { return "otlp" }

// Answer is an ExportLogsServiceResponse. What the log hasn't taken is counted in it as rejected, so that the
// sender knows, and doesn't send it again: "The server MUST […] set the value of the rejected_<signal>
// field to the number of […] records it rejected" (OTLP 1.11, partial success).
func (Adapter) Answer(r *ingest.Request, results []ingest.Result) ingest.Answer {
	response := plogotlp.NewExportResponse()
	rejected, why := 0, ""
	for _, res := range results {
		switch res.Status {
		case ingest.Conflict, ingest.Rejected, ingest.Quarantined:
			if rejected++; why == "" {
				why = string(res.Status) + ": " + res.Reason
			}
		}
	}
	if rejected > 0 {
		response.PartialSuccess().SetRejectedLogRecords(int64(rejected))
		response.PartialSuccess().SetErrorMessage("kept in the quarantine; the first of them " + why)
	}
	answer := ingest.Answer{Status: http.StatusOK, ContentType: typeProtobuf}
	var err error
	if inJSON, _ := isJSON(r.Header); inJSON {
		answer.ContentType = typeJSON
		answer.Body, err = response.MarshalJSON()
	} else {
		answer.Body, err = response.MarshalProto()
	}
	if err != nil { // neither encoding fails on what was built here
		return ingest.Answer{Status: http.StatusOK}
	}
	return answer
}
