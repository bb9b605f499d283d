//go:build !client

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/verifier/client"
)

const sourceKeyHelp = `
Usage: prooftrail source-key new --name NAME FILE
       prooftrail source-key add --source PREFIX --vkey KEY [--tenant T] [--from TIME] [--optional] WHERE
       prooftrail source-key list WHERE
       prooftrail source-key revoke ID [--release] WHERE

Keys with which sources sign their own events, so that a stolen token is not enough to
write for them, and so that nobody, not even the log's operator, can make an event up.
WHERE is the running server and the admin token (--server URL --token-file FILE), or the
data directory of a server that doesn't run (--data DIR). Each act but new is an entry of
the log.

new makes a key in FILE, mode 0600, which stays with the source: see --sign-key of submit
and exec. It prints the public key, which add registers and auditors get
(prooftrail-verify --source-keys). It needs no server.

From add on, or from --from on, the log refuses events of sources that begin with PREFIX
unless one of their keys has signed them. To change over without a gap: add with
--optional, have the source sign, add again without. After revoke, signatures of the key
are refused, and events that aren't signed still are; --release ends that too. A key that
is registered twice signs until both are revoked: revoke says so. Revoke a key once its
source's spool is empty of what it has signed.

Example:
  prooftrail source-key new --name node-7.example.com node-7.key
  prooftrail source-key add --source cron://node-7/ --vkey "$(cat node-7.key.pub)" \
      --server https://log.example.com --token-file admin.token

Exit codes: 0 done; 1 refused, also because FILE exists; 2 failed.
`

// sourceKeyFlags are what the acts take.
type sourceKeyFlags struct {
	adminFlags
	json     bool
	name     string
	from     string
	optional bool
	release  bool
	req      client.SourceKeyRequest
}

func runSourceKey(ctx context.Context, e *cli.Env, args []string) error {
	var k sourceKeyFlags
	fs := cli.NewFlags(e, "source-key", sourceKeyHelp)
	k.adminFlags.add(fs)
	fs.BoolVar(&k.json, "json", false, "print JSON")
	fs.StringVar(&k.name, "name", "", "new: the key's `name`, of who holds it, such as node-7.example.com")
	fs.StringVar(&k.req.Source, "source", "", "add: `prefix` of the sources that sign with the key")
	fs.StringVar(&k.req.VKey, "vkey", "", "add: the public `key`, as new prints it")
	fs.StringVar(&k.req.Tenant, "tenant", "default", "add: the sources' `tenant`")
	fs.StringVar(&k.from, "from", "", "add: `time` from when on it counts (RFC 3339; default now)")
	fs.BoolVar(&k.optional, "optional", false, "add: take events that aren't signed, too")
	fs.BoolVar(&k.release, "release", false, "revoke: also take events again that aren't signed")
	pos, err := fs.Positional(args, 2)
	if err != nil {
		return err
	}
	if err := k.checkAct(pos); err != nil {
		return err
	}
	if pos[0] == "new" {
		return k.newKey(e, pos[1])
	}
	return k.act(ctx, e, pos)
}

// checkAct refuses what isn't an act before anything is opened.
func (k *sourceKeyFlags) checkAct(pos []string) (err error) {
	act := ""
	if len(pos) > 0 {
		act = pos[0]
	}
	k.req.Required = !k.optional
	switch {
	case act == "new" && len(pos) == 2:
		if k.name == "" {
			return errors.New("source-key new: --name is needed; see --help")
		}
		return nil
	case act == "add" && len(pos) == 1:
		if k.req.Source == "" || k.req.VKey == "" {
			return errors.New("source-key add: --source and --vkey are needed; see --help")
		}
		if k.from != "" {
			if k.req.From, err = time.Parse(time.RFC3339Nano, k.from); err != nil {
				return fmt.Errorf("--from %q: expected a time as in 2026-01-31T02:00:00Z", k.from)
			}
		}
	case act == "list" && len(pos) == 1, act == "revoke" && len(pos) == 2:
	default:
		return errors.New("expected new FILE, add, list or revoke ID; see --help")
	}
	return k.adminFlags.check()
}

// newKey makes a key: its file first, so that none is printed that can't be kept.
func (k *sourceKeyFlags) newKey(e *cli.Env, file string) error {
	skey, vkey, err := client.GenerateSourceKey(k.name)
	if err != nil {
		return cli.Refused(err)
	}
	if err := writeSecret(file, skey); err != nil {
		return refusedIfExists(err)
	}
	if err := replaceFile(file+".pub", []byte(vkey+"\n")); err != nil {
		return err
	}
	e.Say("made a key in %s; its public key is in %s.pub:", file, file)
	_, err = fmt.Fprintln(e.Stdout, vkey)
	return err
}

// sourceKeyStore is what manages keys of sources.
type sourceKeyStore interface {
	AddSourceKey(context.Context, client.SourceKeyRequest) (*client.SourceKey, error)
	SourceKeys(context.Context) ([]client.SourceKey, error)
	RevokeSourceKey(ctx context.Context, id string, release bool) error
}

// act does what the positional arguments say.
func (k *sourceKeyFlags) act(ctx context.Context, e *cli.Env, pos []string) (err error) {
	keys, closeKeys, err := k.open(ctx, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeKeys()) }()
	switch pos[0] {
	case "add":
		made, err := keys.AddSourceKey(ctx, k.req)
		if err != nil {
			return offlineRefusal(err)
		}
		if k.json {
			return json.NewEncoder(e.Stdout).Encode(made)
		}
		e.Say("registered the key as %s, for %s of %s", made.ID, made.Source, made.Tenant)
		_, err = fmt.Fprintln(e.Stdout, made.ID)
		return err
	case "list":
		return k.list(ctx, e, keys)
	}
	return k.revoke(ctx, e, keys, pos[1])
}

// revoke ends a registration, and says by which others its key still signs.
func (k *sourceKeyFlags) revoke(ctx context.Context, e *cli.Env, keys sourceKeyStore, id string) error {
	all, err := keys.SourceKeys(ctx)
	if err == nil {
		err = keys.RevokeSourceKey(ctx, id, k.release)
	}
	if err != nil {
		return offlineRefusal(err)
	}
	e.Say("revoked %s", id)
	at := slices.IndexFunc(all, func(key client.SourceKey) bool { return key.ID == id })
	for _, other := range all {
		if at >= 0 && other.ID != id && other.VKey == all[at].VKey && other.Revoked.IsZero() {
			e.Say("the key still signs: it is registered as %s too, for %s of %s", other.ID, printable(other.Source), other.Tenant)
		}
	}
	return nil
}

func (k *sourceKeyFlags) list(ctx context.Context, e *cli.Env, keys sourceKeyStore) error {
	all, err := keys.SourceKeys(ctx)
	if err != nil {
		return offlineRefusal(err)
	}
	if k.json {
		return json.NewEncoder(e.Stdout).Encode(all)
	}
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tTENANT\tSOURCE\tFROM\tSTATE\tKEY")
	for _, key := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", key.ID, key.Tenant, key.Source, key.From.UTC().Format(time.RFC3339), keyState(key), key.VKey)
	}
	return w.Flush()
}

// keyState says whether a key signs, and whether it requires that.
func keyState(k client.SourceKey) string {
	state := "required"
	if !k.Required || k.Released {
		state = "optional"
	}
	if !k.Revoked.IsZero() {
		state = "revoked " + k.Revoked.UTC().Format(time.RFC3339) + ", " + state
	}
	return state
}

func (o offlineAdmin) AddSourceKey(ctx context.Context, r client.SourceKeyRequest) (*client.SourceKey, error) {
	k, err := o.svc.AddSourceKey(ctx, personality.OperatorCaller(), personality.SourceKeyRequest(r))
	if err != nil {
		return nil, err
	}
	shown := client.SourceKey(*k)
	return &shown, nil
}

func (o offlineAdmin) SourceKeys(ctx context.Context) ([]client.SourceKey, error) {
	keys, err := o.svc.SourceKeys(ctx, personality.OperatorCaller())
	all := make([]client.SourceKey, len(keys))
	for i, k := range keys {
		all[i] = client.SourceKey(*k)
	}
	return all, err
}

func (o offlineAdmin) RevokeSourceKey(ctx context.Context, id string, release bool) error {
	return o.svc.RevokeSourceKey(ctx, personality.OperatorCaller(), id, release)
}
