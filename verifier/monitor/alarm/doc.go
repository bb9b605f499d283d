// Package alarm holds what a monitor warns of and takes it to people.
//
// # The life of an alarm
//
//  1. Raise: whoever watches says that something is wrong, again each time that it still is. The
//     board holds one alarm for each name, log and peer.
//  2. Tell: each sink has a goroutine of its own, which compares what its sink was last told
//     with what is so now, and tells it the difference: a new alarm, a worse one, one that is
//     still there after Config.Repeat, one that is gone. Nothing is queued. So a sink that was
//     away for a day is told once how things are, and a slow one delays nobody.
//  3. Fail: try again, after a second and then later and later up to a minute. A sink that
//     fails five times in a row is an alarm, which the other sinks tell.
//  4. Acknowledge: it isn't repeated. Once its severity rises it is as if nobody had.
//  5. Clear: every sink is told, once; then the alarm is forgotten.
//
// What a sink is told it is told at least once. Twice is possible: when an answer got lost, and
// after a crash.
//
// # The state file
//
// Alarms, acknowledgements, and what each sink was told are in one file, replaced as a whole, at
// most a second after something changed. What a crash means:
//
//	after Raise, before the file     forgotten; whoever raised it raises it again
//	after a sink was told, before    it is told again
//	while the file is written        the old state, whole; what the new one has on top is as above
//	after Clear, before the file     it comes back, and is gone after Config.Grace
//	after Acknowledge has returned   acknowledged
//
// A damaged file is kept under another name, and that it is damaged is a critical alarm, until
// somebody acknowledges it. To refuse to start would be worse: there would be no alarms at all.
package alarm
