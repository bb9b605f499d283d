// Command prooftrail-verify checks what a prooftrail log says: a receipt, one entry, the
// whole log, or evidence that it forked. It needs the log's policy file and trusts nothing
// else.
//
// Exit status: 0 verified, 1 FAILED, 2 could not check. Of evidence 0 says that it convicts the
// log, and 1 that it proves nothing.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := Run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}
