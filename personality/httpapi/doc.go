// Package httpapi is the service's HTTP side: the calls of design §8 (but
// search) and the public tlog-tiles tree of §6, over a [Log].
//
// # The life of a request
//
//  1. Accept. [Server] bounds connections, header size and the time that a
//     client may take over its headers and its body. At the bound the connection
//     that has waited longest without a request gives way to the next one.
//  2. Route. One table ([routes]) names every call; what isn't in it is a 404,
//     and a known path with another method a 405 with Allow.
//  3. Authenticate. The bearer token's owner is asked of the log. Failures are
//     limited per address. Public routes skip this.
//  4. Limit. Each token has a rate: a submitted event costs one, any other
//     request one.
//  5. Serve. The handler writes its answer once, or returns an error, which the
//     one table of problem.go turns into an RFC 9457 problem. The text of an
//     internal error goes to the log under the request's id, never to a client.
//  6. Account. Counters, and one line of access log without query strings.
//
// # What a submitter may rely on
//
//   - A result "accepted" or "duplicate" means that the event is on stable
//     storage (invariant I1).
//   - Nothing of a JSON request is admitted before its whole body was read and
//     split. Of an NDJSON request each complete line is admitted as it arrives;
//     a line cut short by a lost connection never is.
//   - One bad event never costs the others of its request.
//   - A result "rejected" whose problem has the status 429, 500 or 503 may succeed
//     later; any other rejection is final. Sending an event again is always
//     safe (I5).
//   - When nothing of a batch was stored, for one and the same passing reason,
//     that reason is the answer to the whole request.
package httpapi
