//go:build !client

package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/personality"
)

// adminFlags say where an administrator acts: at a running server, or in the data directory of one that doesn't run.
type adminFlags struct {
	server serverFlags
	data   string
	anchor string
	at     storageFlags
}

func (a *adminFlags) add(fs *cli.Flags) {
	a.server.add(fs)
	fs.StringVar(&a.data, "data", "", "data `directory` of a server that doesn't run, instead of --server")
	fs.StringVar(&a.anchor, "anchor", "", "the anchor `file`, with --data (default DIR.anchor)")
	a.at.add(fs)
}

// check refuses flags that don't go together before anything is opened.
func (a *adminFlags) check() error {
	switch {
	case a.data != "" && a.server.server != "":
		return errors.New("--data and --server exclude each other")
	case a.data == "" && (a.server.server == "" || a.server.tokenFile == ""):
		return errors.New("--server and --token-file are needed, or --data if the server is stopped; see --help")
	}
	return nil
}

// admin is what an administrator acts on: a client of a server, or a data directory.
type admin interface {
	tokenStore
	sourceKeyStore
}

func (a *adminFlags) open(ctx context.Context, e *cli.Env) (admin, func() error, error) {
	if a.data == "" {
		c, err := a.server.client(e)
		return c, func() error { return nil }, err
	}
	cfg := personality.Config{Dir: a.data, Anchor: a.anchor}
	if err := a.at.open(&cfg); err != nil {
		return nil, nil, err
	}
	svc, err := personality.Open(ctx, cfg)
	if errors.Is(err, syscall.EAGAIN) {
		err = fmt.Errorf("%w (another process has %s open: with --data the server must be stopped)", err, a.data)
	}
	if err != nil {
		return nil, nil, err
	}
	return offlineAdmin{svc}, func() error { return svc.Close(ctx) }, nil
}

// offlineRefusal is refusal for what an open data directory answers besides.
func offlineRefusal(err error) error {
	var invalid *personality.InvalidError
	if errors.Is(err, personality.ErrForbidden) || errors.Is(err, personality.ErrNotFound) || errors.As(err, &invalid) {
		return cli.Refused(err)
	}
	return refusal(err)
}
