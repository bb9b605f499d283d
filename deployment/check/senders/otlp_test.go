package senders

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlplog/otlploghttp"
	"go.opentelemetry.io/otel/log"
	sdklog "go.opentelemetry.io/otel/sdk/log"
	"go.opentelemetry.io/otel/sdk/resource"
	"go.opentelemetry.io/otel/trace"

	"github.com/prooftrail/prooftrail/deployment/check/servertest"
)

// provider is what a scheduler sets up to log by OTLP.
func provider(t *testing.T, s *servertest.Server, compression otlploghttp.Compression) *sdklog.LoggerProvider {
	t.Helper()
	exporter, err := otlploghttp.New(t.Context(), otlploghttp.WithEndpointURL(s.URL+"/v1/ingest/otlp"), otlploghttp.WithCompression(compression),
		otlploghttp.WithHeaders(map[string]string{"Authorization": "Bearer " + s.Token("submit")}))
	if err != nil {
		t.Fatal(err)
	}
	return sdklog.NewLoggerProvider(sdklog.WithProcessor(sdklog.NewBatchProcessor(exporter)), sdklog.WithResource(resource.NewSchemaless(
		attribute.String("service.name", "crond"), attribute.String("service.instance.id", "node1"), attribute.String("host.name", "n1"))))
}

// deleted is a record that is meant for an audit log.
func deleted(id string) log.Record {
	var r log.Record
	r.SetEventName("job.delete")
	r.SetTimestamp(time.Date(2026, 11, 27, 10, 0, 0, 5, time.UTC))
	r.SetSeverity(log.SeverityInfo)
	r.SetBody(attribute.MapValue(attribute.Float64("ratio", 0.5), attribute.Slice("nodes", attribute.StringValue("a"), attribute.Int64Value(1<<53))))
	r.AddAttributes(attribute.String("prooftrail.id", id), attribute.String("prooftrail.outcome", "success"), attribute.String("prooftrail.job.id", "j1"),
		attribute.String("user.id", "ann"), attribute.String("client.address", "192.0.2.7"), attribute.String("user_agent.original", "curl/8"), attribute.Bool("forced", true))
	return r
}

// TestOTLP: records come into the log from the exporter, with gzip and without; what it is told of those that don't.
func TestOTLP(t *testing.T) {
	s := newServer(t)
	var mu sync.Mutex
	var told []error
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		mu.Lock()
		defer mu.Unlock()
		told = append(told, err)
	}))
	span := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1, 2, 3}, SpanID: trace.SpanID{4}, TraceFlags: trace.FlagsSampled})
	ctx := trace.ContextWithSpanContext(context.Background(), span)
	for i, compression := range []otlploghttp.Compression{otlploghttp.GzipCompression, otlploghttp.NoCompression} {
		p := provider(t, s, compression)
		logger := p.Logger("crond", log.WithInstrumentationVersion("1.2"))
		logger.Emit(ctx, deleted([]string{"gzip", "plain"}[i]))
		if i == 1 { // two that the log can't take, with one that it can
			var line log.Record
			line.SetBody(attribute.StringValue("just a line"))
			logger.Emit(ctx, line)
			slip := deleted("slip")
			slip.AddAttributes(attribute.String("prooftrail.jobid", "j1"))
			logger.Emit(ctx, slip)
		}
		if err := p.ForceFlush(t.Context()); err != nil {
			told = append(told, err)
		}
		if err := p.Shutdown(t.Context()); err != nil {
			t.Errorf("shut down: %v", err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	text := ""
	if err := errors.Join(told...); err != nil {
		text = err.Error()
	}
	if !strings.Contains(text, "kept in the quarantine") || !strings.Contains(text, "2") {
		t.Errorf("the exporter was told %q, want two rejected records", text)
	}
	entries := s.Entries("otlp")
	s.Audit()
	if len(entries) != 2 {
		t.Fatalf("%d events", len(entries))
	}
	for i, e := range entries {
		e.Want(t, map[string]any{
			"/id": []string{"gzip", "plain"}[i], "/source": "otel:crond/node1", "/action": "job.delete", "/outcome": "success", "/time": "2026-11-27T10:00:00.000000005Z",
			"/actor/type": "user", "/actor/id": "ann", "/origin/ip": "192.0.2.7", "/origin/user_agent": "curl/8", "/origin/host": "n1",
			"/origin/trace_id": "01020300000000000000000000000000", "/job/id": "j1", "/details/scope": "crond 1.2", "/labels/ingest.sender": "token",
			"/details/body": map[string]any{"ratio": "0.5", "nodes": []any{"a", "9007199254740992"}}, "/details/attributes": map[string]any{"forced": true},
		})
	}
	q := quarantined(t, s)
	slices.Sort(q)
	if want := []string{
		"otlp attributes.prooftrail.action: expected an action, or an event name that says what was done: the record has neither",
		"otlp attributes.prooftrail.jobid: expected a text under one of the names that the adapter knows",
	}; !slices.Equal(q, want) {
		t.Errorf("in the quarantine: %q", q)
	}
}
