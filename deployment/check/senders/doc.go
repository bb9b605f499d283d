// Package senders holds checks of the ways in for other systems against what really sends to them: the CloudEvents
// SDK, and the exporter of OpenTelemetry's SDK for logs, send to a real server.
package senders
