package main

import (
	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/kubernetes"
)

// adapters are the forms of other systems that the server takes, each at POST /v1/ingest/{its name}. A new
// one is added here, to docs/ingest.md, and to nothing else.
func adapters() []ingest.Adapter {
	return []ingest.Adapter{kubernetes.New()}
}
