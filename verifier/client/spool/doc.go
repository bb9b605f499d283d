// Package spool keeps events on disk until somebody says that they are delivered: a queue in files that
// survives the end of its process, a full disk, and damage in its middle.
//
// # The life of an event
//
// [Spool.Append] puts it among those that wait. One goroutine takes all that wait at once as a group, numbers
// them, writes them behind one another into the last segment, and syncs it: whatever comes meanwhile
// is the next group. There is no timer, so a lone event doesn't wait and a flood is batched. When Append
// returns, the event is on stable storage, with its number. A [Reader] gives events in that
// order. [Spool.Ack] moves the cursor behind them, and segments that lie before it are removed.
//
// # Files
//
//	lock                      held by the process that has the spool (flock)
//	cursor                    two slots, written in turn, in place: what was acked, and what was lost
//	00000000000000000001.seg  segments of records, by the place of their first one; only the last one is
//	                          written, over zeros that keep room for it
//
// Each record has a length and a CRC-32C, seq, place, and the place of its group's first record. The seq is
// the source's number; the place counts only what the spool has taken. So what was never taken and what
// was damaged can be told apart. The checksums are against accidents: who can write the files can write
// events too.
//
// # Losses
//
// The spool is bounded, in events and in bytes. When it is full it takes nothing more: the newest is lost, and not
// the oldest, for two reasons. What is in the spool was promised; and if a flood pushed out what came before,
// whoever did something could make the traces go by making noise. An event that is lost has used up its
// seq, so that there is a gap in the log even if nobody ever explains it. All losses are counted, in the cursor, which
// needs no room on a full disk, until there is room for a report (Config.Report), which goes the way of
// all events. A caller that must have its event kept gets an error instead, and uses up no seq.
//
// # Crashes
//
// What a kill -9, or a machine that stops, leaves at each step, and what Open does. Each row is a test.
//
//	the process or machine ends…               what is there                     Open, Append, Next
//	before a group is written                  nothing of it                     the seqs are given anew
//	while a group is written or synced         any part of it, none of which     from the first record that doesn't hold on
//	                                           was promised                      it is cut off (TestTornTail, TestTornGroup)
//	after the sync, before Append returns      all of it                         the events are delivered
//	while a segment is made                    a header and zeros, or less       it is removed, or used (TestTornTail)
//	between a report and the cursor            the report; the cursor has its    the report's number tells that they were
//	                                           losses still                      reported (TestReportBeforeCursor)
//	after delivery, before Ack                 the event                         it is delivered again: whoever takes
//	                                                                             it has to know it by its id
//	while the cursor is written                the other slot                    a few are delivered again (TestDamagedCursor)
//	after the cursor, before a segment goes    a segment that nobody needs       it is removed
//	a machine: after Ack, before the next sync a cursor of before                a few are delivered again
//	a machine: after Append said ErrFull       the count of the losses           they are reported, and their seqs aren't
//	                                                                             given anew (TestLossesSynced)
//
//	the disk…
//	is full, or fails, as a group is written   any part of it                    the group is cut off and not taken; seqs are given
//	                                                                             anew, or used up by events lost (TestFaults)
//	fails to cut it off                        any part of it                    nothing is taken until it is cut off
//	has damaged something in the middle        the rest                          the reader says Damaged and goes on behind it;
//	                                                                             it is counted when it is acked (TestDamage)
//	has damaged the last group                 the groups before                 can't be told from a group that was torn
//	has damaged all of the last segment        the segments before               it is kept aside, loudly, under another name
//	                                                                             (TestDamagedLast)
//	has damaged or lost the cursor             all that is in segments           all of it is delivered again; without any
//	                                                                             segment Open fails (TestDamagedCursor)
package spool
