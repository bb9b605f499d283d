// Package witnesses asks a policy's witnesses to cosign a log's checkpoints
// (c2sp.org/tlog-witness, the client's side).
//
// One head at a time: all witnesses are asked for the same one, at once, each with the proof
// from the size that it cosigned last. What a witness answers is believed only as far as the
// policy's key for it verifies. A witness that fails is left alone for a while, longer each
// time; one that has cosigned a head isn't asked for it again before its cosignature is old.
//
// Nothing that a witness says without a signature stops the log. One that holds a checkpoint
// of this log, signed with the log's own key, which the log doesn't know, is another matter:
// see [Config.Check]. A witness is looked at for that before it is first asked, unless it
// cosigns, for then it has done the comparing; and whenever it says that it is ahead, or that the head doesn't extend what it has.
//
// Of what witnesses do otherwise than specified, in the field: any status but 200 and 409 is
// a failure like any other, so that 500 for an unknown origin is just that; and a request is
// small, the log's own signature line and at most 63 proof lines, so that a body limit of
// 10 KiB lets it through.
package witnesses
