// Package client submits events to a prooftrail server and reads from it, and
// believes none of its answers.
//
// # What is checked
//
// With a policy ([Config].Policy), each receipt is checked before Submit
// returns: the checkpoint's signatures against the policy, the inclusion proof
// against the checkpoint's root, the leaf recomputed from the opening, and the
// opening's fields against those of the event that was sent. A receipt of
// another event, however genuine, is refused, and so is one that doesn't show
// each field that was sent: it could be of another event. Only of a duplicate
// may fields have been erased since, and [Result].Uncompared names them. Without a
// policy nothing of this is done, and every [Result] says so: its Verdict is nil.
//
// A receipt at a fresh head is provisional where the policy wants witnesses. It
// counts as verified all the same, unless [Config].Wait is [Witnessed]:
// [Result.Provisional] tells.
//
// # Heads
//
// The client also remembers the heads that the log has shown it, and demands that all
// of them are of one history:
//
//   - Two of the same size with different roots, both signed, prove a fork at once.
//   - Heads of different sizes take proofs, which are made from the log's tiles. Submit doesn't
//     wait for them: heads are checked in the background, from the first second on and then
//     every [Config].CheckEvery, as long as there are new ones, with at most 64 requests each
//     time. Heads that are close together share these. [Client.CheckHeads] checks all of them
//     now.
//   - With [Config].HeadsFile they are remembered over restarts: the newest that was proven and
//     up to 32 that weren't yet, as they were signed, so that they are evidence. The first new
//     head has to be consistent with what was remembered, like every other one.
//   - [Client.Gossip] hands the newest head to monitors ([Config].Monitors) and compares it with
//     theirs, so that a log that shows two histories to two readers is found out. Nothing that
//     a monitor says is believed, and a monitor that is down breaks nothing.
//
// What is found is an [*EvidenceError]. If it proves a fork ([EvidenceError.Evidence]), the log is
// convicted: every later result of Submit has it as its Err, and so have CheckHeads and
// Gossip. Config.Alarm is told too, and of everything that kept a check from being made. The
// client doesn't keep the evidence in a file: do that. After a restart it is found again, as
// long as the log is the same and the HeadsFile is there.
//
// # Errors
//
// What the server answers in application/problem+json is a [*Problem], which
// matches one of ErrRefused, ErrConflict, ErrUnauthorized, ErrForbidden,
// ErrNotFound, ErrBusy, ErrUnavailable and ErrServer. A receipt that doesn't
// hold is a [*ReceiptError]; heads that contradict each other are an
// [*EvidenceError]. Both carry the bytes that show it: keep them.
//
// # Without waiting
//
// A [Queue] ([Client.OpenQueue]) keeps events on disk, in a directory of its own, until they are in the log with
// receipts that hold, and sends them in the background, in order:
//
//   - [Queue.Enqueue] in [BestEffort] returns when the event is on stable storage, whatever the log does; in
//     [Required] when it is in the log, or with an error on which the action must not happen.
//   - Secrets are masked before an event is written: package mask says which, [QueueConfig].Mask by what. Submit and
//     SubmitBatch send the bytes that they are given: an event that is sent again has to be the same.
//   - An event has its id and its seq before it is written. It is sent under these until the log has it, over
//     restarts, so that it is in the log once.
//   - It leaves the spool when its receipt has been checked as Submit does it. A log that is down, lies, or
//     doesn't take the token keeps everything where it is. What it refuses for good is set aside in a file.
//   - What doesn't fit or can't be read any more is counted, is a gap in seq, and is reported by an audit.dropped event
//     when there is room. audit.heartbeat events say at intervals up to where all is said.
//
// Package spool has the files and what becomes of them in a crash.
//
// # Retries
//
// An event's (tenant, source, id) names it for ever, so sending the same bytes
// again is always safe: the log answers with the first one's index. Submit
// repeats what failed in the network or with 408, 429, 500, 502, 503 or 504, with
// growing jittered pauses, until [Config].Attempts or the context is used up; of a
// batch, only the events whose own problem has such a status. Making and revoking
// tokens is never repeated.
package client
