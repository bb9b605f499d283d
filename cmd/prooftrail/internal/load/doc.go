// Package load is the load generator of `prooftrail bench`: realistic events of
// a cron service, sent as fast as answered or at a steady rate, with the time
// from submission to a verified receipt measured.
//
// It shares the machine with the server that it measures, so what happens for
// each event is kept cheap: events are appended from templates into a buffer
// that is used again, each worker keeps one connection and writes requests to it
// itself, and answers are scanned, not decoded. The receipts that are sampled
// for verification, on the other hand, are checked in full, by the code that any
// client uses.
//
// # Latency and coordinated omission
//
// At a given rate (open loop) request k is due at start + k/rate, whether or not
// the server has answered the ones before. If all workers are busy it is sent
// late, and its latency still counts from when it was due: a stall shows in every
// request that it kept waiting. Without a rate (closed loop) each worker sends its
// next request when the last one is answered; the latencies are then those of a
// server that is never asked faster than it answers, and say nothing about
// queues. The report names its mode.
//
// The time of an event is that to its request's answer and that of verifying its
// own receipt. How many others of the request are of the sample, or verified
// before it, is the load generator's doing and left out.
package load
