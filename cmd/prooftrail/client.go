//go:build client

package main

import (
	"context"
	"errors"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
)

// The commands that this build doesn't have.
var (
	runDemo, runInit, runServe, runToken       = absent, absent, absent, absent
	runAnchor, runMigrate, runSchema, runBench = absent, absent, absent, absent
	runSyslog, runProxy                        = absent, absent // their metrics link what a log does
	runSourceKey, runMapping                   = absent, absent
)

func absent(context.Context, *cli.Env, []string) error {
	return errors.New("this prooftrail was built for machines that run no log (-tags client), and doesn't have the command")
}
