// Package cloudevents makes events of CloudEvents 1.0 that come over HTTP: one in structured mode
// (application/cloudevents+json), one in binary mode (attributes in ce-… headers), or a batch
// (application/cloudevents-batch+json).
//
// A CloudEvent of type com.prooftrail.event.v1 carries an event of ours as its data, which is taken as it is; the
// CloudEvent's id and source have to be the event's. Of others:
//
//	id        the id, if the source is one of ours; else an HMAC of source and id
//	source    the source if it is a URI; a relative one needs the request's parameter source
//	time      time, else when it was received
//	action    the extension prooftrailaction, else the type in lower case, with _ for what an action can't
//	          have, and cloudevent. in front if it has no dot
//	outcome   the extension prooftrailoutcome, else unknown with the reason code unstated
//	actor     authtype and authid (the Auth Context extension), else the source as a service
//	target    subject, of the type that the extension prooftrailtargettype says, else resource;
//	          without a subject the source
//	job       for the actions job.… and run.… the subject
//	change    of an action that ends with .update: the data, as what there is now
//	origin    the trace id of traceparent (the Distributed Tracing extension)
//	details   cloudevent: the attributes. data: the data as JSON, or data_text, or data_base64
//
// The official SDK reads none of this: of a name that comes twice it takes the last, at a member with an empty
// name it stops as if there were no more, and a data_base64 that isn't a string makes it panic.
// It is what tests send with.
package cloudevents

// NativeType is the type of CloudEvents whose data is an event of ours.
const NativeType = "com.prooftrail.event.v1"
