// Package syslog receives syslog lines: from datagram sockets of this machine, as /dev/log is one, and over UDP, TCP
// and TLS, in the forms of RFC 3164 and RFC 5424.
//
// # The life of a line
//
//  1. A [Listener] reads it. What is longer than [MaxLine] is cut, and says so. With it goes the [Sender]: what the
//     kernel or TLS says of who sent it, which the line itself can't change.
//  2. Config.Handle gets it, one call at a time for each socket or connection. While it runs, nothing else is read
//     there: the sender waits, which is what a socket of this machine and TCP do. Over UDP the kernel drops what
//     has no room, and [Counts.KernelDrops] tells how many that were.
//  3. [Parse] takes it apart.
//
// # Bounds
//
// A datagram socket takes one buffer of MaxLine. A connection takes what its unfinished line is long, MaxLine at most,
// and there are at most Config.Conns of them, Config.PeerConns from one address. A line that has begun must end within
// Config.Partial; a connection on which nothing comes is closed after Config.Idle. A [Budget] bounds what one sender
// may say.
package syslog
