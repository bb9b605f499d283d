// Command prooftrail runs and uses an audit log for cron and job-scheduling
// services that nobody, not even its operator, can rewrite without being caught.
//
// `prooftrail demo` shows all of it in ten seconds; `prooftrail help` lists the
// commands, and each one's --help says what it does, with an example and its
// exit codes.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(Run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
