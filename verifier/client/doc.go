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
// The client also remembers the heads that the log has shown it. Two of the
// same size with different roots, both signed, prove a split view at once
// ([EvidenceError]). Receipts may carry heads older than the newest one seen;
// that heads of different sizes belong to one history is not assumed but
// proven, when the caller asks for it, by [Client.CheckHeads].
//
// # Errors
//
// What the server answers in application/problem+json is a [*Problem], which
// matches one of ErrRefused, ErrConflict, ErrUnauthorized, ErrForbidden,
// ErrNotFound, ErrBusy, ErrUnavailable and ErrServer. A receipt that doesn't
// hold is a [*ReceiptError]; heads that contradict each other are an
// [*EvidenceError]. Both carry the bytes that show it: keep them.
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
