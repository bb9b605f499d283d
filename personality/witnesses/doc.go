// Package witnesses asks a policy's witnesses to cosign a log's checkpoints
// (c2sp.org/tlog-witness, the client's side).
//
// One head at a time: all witnesses are asked for the same one, at once, each with the proof
// from the size that it cosigned last. What a witness answers is believed only as far as the
// policy's key for it verifies. A witness that fails is left alone for a while, longer each
// time.
//
// Nothing that a witness says without a signature stops the log. One that holds a checkpoint
// of this log, signed with the log's own key, which the log doesn't know, is another matter:
// see [Asker.Known].
package witnesses
