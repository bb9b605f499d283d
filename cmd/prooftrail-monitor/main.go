// Command prooftrail-monitor follows any number of logs from outside: it re-hashes what they publish,
// compares notes with other monitors, cosigns heads as a witness, warns people, and holds the proof
// when a log has signed two histories.
//
// `prooftrail-monitor help` lists the commands, and each one's --help says what it does, with an
// example and its exit codes.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
