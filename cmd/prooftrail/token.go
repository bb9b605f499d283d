//go:build !client

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/verifier/client"
)

const tokenHelp = `
Usage: prooftrail token add --name NAME [--role R]... [--tenant T] [--source PREFIX]... WHERE
       prooftrail token list WHERE
       prooftrail token revoke ID WHERE

Makes, lists and revokes access tokens. WHERE is the running server and the admin
token (--server URL --token-file FILE), or the data directory of a server that
doesn't run (--data DIR). Each of these acts is an entry of the log.

A token belongs to one tenant, whose events it submits or reads; '*' reads and
administers all of them. A token that submits speaks for the sources that begin with
one of its prefixes: give each scheduler its own, such as cron://node-7/.

Example:
  prooftrail token add --name node-7 --source cron://node-7/ \
      --server https://log.example.com --token-file admin.token --out node-7.token

Exit codes: 0 done; 1 refused, also because the file of --out exists; 2 failed.
`

// tokenFlags are what all three acts take.
type tokenFlags struct {
	adminFlags
	out  string
	json bool
	req  client.TokenRequest
}

func runToken(ctx context.Context, e *cli.Env, args []string) error {
	var t tokenFlags
	fs := cli.NewFlags(e, "token", tokenHelp)
	t.adminFlags.add(fs)
	fs.StringVar(&t.out, "out", "", "save the new token to this `file`, mode 0600, instead of printing it")
	fs.BoolVar(&t.json, "json", false, "print JSON")
	fs.StringVar(&t.req.Name, "name", "", "the new token's `name`, which events show as who submitted")
	fs.StringVar(&t.req.Tenant, "tenant", "default", "the new token's `tenant`")
	fs.Var((*list)(&t.req.Roles), "role", "`role` of the new token: submit, read or admin; may be repeated (default submit)")
	fs.Var((*list)(&t.req.Sources), "source", "`prefix` of the sources that it may speak for; may be repeated (default any source)")
	pos, err := fs.Positional(args, 2)
	if err != nil {
		return err
	}
	if len(pos) == 0 {
		return errors.New("expected add, list or revoke ID; see --help")
	}
	return t.act(ctx, e, pos)
}

// checkAct refuses what isn't an act before anything is opened.
func (t *tokenFlags) checkAct(pos []string) error {
	switch {
	case pos[0] == "add" && len(pos) == 1 && t.req.Name == "":
		return errors.New("token add: --name is needed; see --help")
	case pos[0] == "add" && len(pos) == 1, pos[0] == "list" && len(pos) == 1, pos[0] == "revoke" && len(pos) == 2:
	default:
		return errors.New("expected add, list or revoke ID; see --help")
	}
	return t.adminFlags.check()
}

// act does what the positional arguments say.
func (t *tokenFlags) act(ctx context.Context, e *cli.Env, pos []string) (err error) {
	if err := t.checkAct(pos); err != nil {
		return err
	}
	tokens, closeTokens, err := t.open(ctx, e)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeTokens()) }()
	switch pos[0] {
	case "add":
		return t.addToken(ctx, e, tokens)
	case "list":
		return t.listTokens(ctx, e, tokens)
	}
	if err := tokens.RevokeToken(ctx, pos[1]); err != nil {
		return offlineRefusal(err)
	}
	e.Say("revoked %s", pos[1])
	return nil
}

// tokenStore is what manages tokens: a client of a server, or a data directory.
type tokenStore interface {
	AddToken(context.Context, client.TokenRequest) (*client.Token, string, error)
	Tokens(context.Context) ([]client.Token, error)
	RevokeToken(ctx context.Context, id string) error
}

func (t *tokenFlags) addToken(ctx context.Context, e *cli.Env, tokens tokenStore) error {
	if len(t.req.Roles) == 0 {
		t.req.Roles = []string{"submit"}
	}
	if strings.Contains(strings.Join(t.req.Roles, ","), "submit") && len(t.req.Sources) == 0 {
		t.req.Sources = []string{""}
	}
	tok, secret, err := t.newToken(ctx, tokens)
	if err != nil {
		return err
	}
	if t.json {
		return json.NewEncoder(e.Stdout).Encode(struct {
			*client.Token
			Secret string `json:"token,omitempty"`
		}{tok, secret})
	}
	e.Say("made token %s (%s)", tok.ID, tok.Name)
	if secret != "" {
		fmt.Fprintln(e.Stdout, secret)
	}
	return nil
}

// newToken makes the token. With --out its file is made first, so that no token
// is made that can't be saved; the secret is "" then.
func (t *tokenFlags) newToken(ctx context.Context, tokens tokenStore) (*client.Token, string, error) {
	if t.out == "" {
		tok, secret, err := tokens.AddToken(ctx, t.req)
		return tok, secret, offlineRefusal(err)
	}
	f, err := newSecret(t.out)
	if err != nil {
		return nil, "", refusedIfExists(fmt.Errorf("no token was made: %w", err))
	}
	tok, secret, err := tokens.AddToken(ctx, t.req)
	if err != nil {
		_ = errors.Join(f.Close(), os.Remove(t.out)) // the error is why
		return nil, "", offlineRefusal(err)
	}
	if err := fillSecret(f, secret); err != nil {
		return nil, "", fmt.Errorf("token %s was made but can't be saved; revoke it: %w", tok.ID, err)
	}
	return tok, "", nil
}

func (t *tokenFlags) listTokens(ctx context.Context, e *cli.Env, tokens tokenStore) error {
	all, err := tokens.Tokens(ctx)
	if err != nil {
		return offlineRefusal(err)
	}
	if t.json {
		return json.NewEncoder(e.Stdout).Encode(all)
	}
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tNAME\tTENANT\tROLES\tSOURCES\tMADE")
	for _, tok := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", tok.ID, tok.Name, tok.Tenant,
			strings.Join(tok.Roles, ","), sourcesText(tok.Sources), tok.Created.Format(time.RFC3339))
	}
	return w.Flush()
}

// sourcesText says what a token may speak for.
func sourcesText(prefixes []string) string {
	switch {
	case len(prefixes) == 0:
		return "none"
	case slices.Contains(prefixes, ""):
		return "any"
	}
	return strings.Join(prefixes, " ")
}

// offlineAdmin manages tokens, and keys of sources, in an open data directory, as its operator.
type offlineAdmin struct{ svc *personality.Service }

func (o offlineAdmin) AddToken(ctx context.Context, r client.TokenRequest) (*client.Token, string, error) {
	req := personality.TokenRequest{Name: r.Name, Tenant: r.Tenant, Sources: r.Sources}
	for _, role := range r.Roles {
		req.Roles = append(req.Roles, personality.Role(role))
	}
	tok, secret, err := o.svc.AddToken(ctx, personality.OperatorCaller(), req)
	if err != nil {
		return nil, "", err
	}
	shown := shownToken(tok)
	return &shown, secret, nil
}

func (o offlineAdmin) Tokens(ctx context.Context) ([]client.Token, error) {
	toks, err := o.svc.Tokens(ctx, personality.OperatorCaller())
	all := make([]client.Token, len(toks))
	for i, t := range toks {
		all[i] = shownToken(t)
	}
	return all, err
}

func (o offlineAdmin) RevokeToken(ctx context.Context, id string) error {
	return o.svc.RevokeToken(ctx, personality.OperatorCaller(), id)
}

func shownToken(t *personality.Token) client.Token {
	s := client.Token{ID: t.ID, Name: t.Name, Tenant: t.Tenant, Sources: t.Sources, Created: t.Created}
	for _, r := range t.Roles {
		s.Roles = append(s.Roles, string(r))
	}
	return s
}
