//go:build !client

package main

import (
	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/cloudevents"
	"github.com/prooftrail/prooftrail/personality/ingest/kubernetes"
	"github.com/prooftrail/prooftrail/personality/ingest/ocsf"
	"github.com/prooftrail/prooftrail/personality/ingest/otlp"
	"github.com/prooftrail/prooftrail/personality/ingest/webhook"
)

// adapters are the forms of other systems that the server takes, each at POST /v1/ingest/{its name}. A new
// one is added here, to docs/ingest.md, and to nothing else. Each door is one too.
func adapters(doors []*webhook.Door) []ingest.Adapter {
	all := []ingest.Adapter{kubernetes.New(), cloudevents.Adapter{}, otlp.Adapter{}, ocsf.Adapter{}}
	for _, d := range doors {
		all = append(all, d)
	}
	return all
}
