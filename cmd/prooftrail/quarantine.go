package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/verifier/client"
)

const quarantineHelp = `
Usage: prooftrail quarantine list --server URL --token-file FILE
       prooftrail quarantine show ID --server URL --token-file FILE
       prooftrail quarantine replay ID... [--source URI] --server URL --token-file FILE
       prooftrail quarantine drop ID... --server URL --token-file FILE

Shows what other systems delivered and the log couldn't take, has it translated and
submitted again, or removes it for good. The token has the role admin. Each of these
acts but list is an entry of the log.

replay keeps the time at which the item came, and removes the item once the log has
what was made of it; it may be done again whenever it was cut off. --source takes the
place of the source that its delivery named. What fails again stays.

Example:
  prooftrail quarantine list --server https://log.example.com --token-file admin.token

Exit codes: 0 done; 1 refused, there is no such item, or an item failed again; 2 failed.
`

type quarantineFlags struct {
	server serverFlags
	source string
	json   bool
}

func runQuarantine(ctx context.Context, e *cli.Env, args []string) error {
	var q quarantineFlags
	fs := cli.NewFlags(e, "quarantine", quarantineHelp)
	q.server.add(fs)
	fs.StringVar(&q.source, "source", "", "the source of the events that replay makes, a `URI` (default what the delivery named)")
	fs.BoolVar(&q.json, "json", false, "print JSON")
	pos, err := fs.Positional(args, 1<<16)
	if err != nil {
		return err
	}
	if err := q.check(pos); err != nil {
		return err
	}
	c, err := q.server.client(e)
	if err != nil {
		return err
	}
	defer c.Close()
	switch act, ids := pos[0], pos[1:]; act {
	case "list":
		return q.list(ctx, e, c)
	case "show":
		return q.show(ctx, e, c, ids[0])
	case "replay":
		return q.replay(ctx, e, c, ids)
	default:
		return q.drop(ctx, e, c, ids)
	}
}

// check refuses what isn't an act.
func (q *quarantineFlags) check(pos []string) error {
	n := len(pos)
	switch {
	case n == 0:
	case pos[0] == "list" && n == 1, pos[0] == "show" && n == 2, pos[0] == "replay" && n > 1, pos[0] == "drop" && n > 1:
		if q.source != "" && pos[0] != "replay" {
			return errors.New("--source goes with replay")
		}
		if q.server.server == "" || q.server.tokenFile == "" {
			return errors.New("--server and --token-file are needed; see --help")
		}
		return nil
	}
	return errors.New("expected list, show ID, replay ID... or drop ID...; see --help")
}

func (q *quarantineFlags) list(ctx context.Context, e *cli.Env, c *client.Client) error {
	all, err := c.Quarantine(ctx)
	if err != nil {
		return refusal(err)
	}
	slices.SortStableFunc(all, func(a, b client.Quarantined) int { return a.Received.Compare(b.Received) })
	if q.json {
		return json.NewEncoder(e.Stdout).Encode(all)
	}
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "ID\tRECEIVED\tADAPTER\tTENANT\tBY\tBYTES\tSTATUS\tREASON")
	for _, i := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%s\n", i.ID, i.Received.Format(time.RFC3339), i.Adapter, i.Tenant, i.Principal, i.RawBytes, i.Status, printable(i.Reason))
	}
	return w.Flush()
}

// printable shows a text of somebody else's on one line of a terminal.
func printable(s string) string {
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

func (q *quarantineFlags) show(ctx context.Context, e *cli.Env, c *client.Client, id string) error {
	i, err := c.Quarantined(ctx, id)
	if err != nil {
		return refusal(err)
	}
	if q.json {
		return json.NewEncoder(e.Stdout).Encode(i)
	}
	w := tabwriter.NewWriter(e.Stdout, 0, 0, 2, ' ', 0)
	for _, line := range [][2]string{
		{"id", i.ID}, {"received", i.Received.Format(time.RFC3339Nano)}, {"adapter", i.Adapter}, {"tenant", i.Tenant}, {"by", i.Principal}, {"from", i.PeerIP},
		{"sender", i.Sender}, {"source", i.Source}, {"status", i.Status}, {"reason", i.Reason}, {"sha256", i.RawSHA256}, {"bytes", strconv.FormatInt(i.RawBytes, 10)},
		{"raw", i.Raw},
	} {
		fmt.Fprintf(w, "%s\t%s\n", line[0], printable(line[1]))
	}
	return w.Flush()
}

// replayed is what became of one item, as it is printed.
type replayed struct {
	ID      string              `json:"id"`
	Results []client.ItemResult `json:"results"`
}

func (q *quarantineFlags) replay(ctx context.Context, e *cli.Env, c *client.Client, ids []string) error {
	failed := 0
	for _, id := range ids {
		results, err := c.Replay(ctx, id, q.source)
		if err != nil {
			return refusal(fmt.Errorf("%s: %w", id, err))
		}
		again := slices.ContainsFunc(results, func(r client.ItemResult) bool { return r.Quarantine == id })
		if again {
			failed++
		}
		if q.json {
			if err := json.NewEncoder(e.Stdout).Encode(replayed{id, results}); err != nil {
				return err
			}
			continue
		}
		for _, r := range results {
			fmt.Fprintf(e.Stdout, "%s %s\n", id, resultText(r))
		}
	}
	if failed > 0 {
		return cli.Refused(fmt.Errorf("%d of %d failed again, and stay", failed, len(ids)))
	}
	return nil
}

func resultText(r client.ItemResult) string {
	text := r.Status
	if r.Index != nil {
		text += fmt.Sprintf(" entry %d", *r.Index)
	}
	if r.Reason != "" {
		text += ": " + printable(r.Reason)
	}
	return text
}

func (q *quarantineFlags) drop(ctx context.Context, e *cli.Env, c *client.Client, ids []string) error {
	for _, id := range ids {
		if err := c.DropQuarantined(ctx, id); err != nil {
			return refusal(fmt.Errorf("%s: %w", id, err))
		}
		if q.json {
			if err := json.NewEncoder(e.Stdout).Encode(struct {
				Dropped string `json:"dropped"`
			}{id}); err != nil {
				return err
			}
			continue
		}
		e.Say("dropped %s", id)
	}
	return nil
}
