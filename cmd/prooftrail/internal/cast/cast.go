// Package cast plays the people of `prooftrail demo`: clients of the cron
// service that do over HTTP what people do with one, and what they shouldn't.
package cast

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// The users of the play. Ada must exist when it begins; she makes Bob.
const (
	Admin         = "ada"
	AdminPassword = "correct horse battery staple"

	operator         = "bob"
	operatorPassword = "tr0ub4dor&3"
)

// Play plays until ctx ends: everything once within about two seconds, then
// over and over. An answer that isn't the one expected is an error.
func Play(ctx context.Context, url string) error {
	ada := &actor{url: url, agent: "curl/8.14.1", http: &http.Client{}}
	bob := &actor{url: url, agent: "cronctl/2.3 (linux)", http: &http.Client{}}
	mallory := &actor{url: url, agent: "python-requests/2.32.3", http: &http.Client{}}
	for round := 1; ; round++ {
		for _, act := range acts(ada, bob, mallory, round) {
			if err := act(ctx); err != nil {
				if ctx.Err() != nil {
					return nil
				}
				return err
			}
			select {
			case <-time.After(pace):
			case <-ctx.Done():
				return nil
			}
		}
	}
}

// pace is the time between two acts.
const pace = 80 * time.Millisecond

type act func(context.Context) error

func acts(ada, bob, mallory *actor, round int) []act {
	report := fmt.Sprint("daily-report-", round)
	list := []act{
		mallory.login(Admin, "password1", http.StatusUnauthorized),
		ada.login(Admin, AdminPassword, http.StatusOK),
	}
	if round == 1 {
		list = append(list,
			ada.do("POST", "/users", map[string]any{"name": operator, "password": operatorPassword, "role": "operator"}, http.StatusOK),
			ada.do("POST", "/credentials", map[string]any{"name": "warehouse", "secret": "s3cr3t"}, http.StatusOK),
			ada.do("POST", "/jobs", map[string]any{"name": "nightly-backup", "schedule": "* * * * * *", "command": "backup"}, http.StatusOK),
		)
	}
	return append(list,
		bob.login(operator, operatorPassword, http.StatusOK),
		bob.makeJob(report, "* * * * * *", "report", "warehouse"),
		bob.do("GET", "/credentials/warehouse", nil, http.StatusForbidden),
		mallory.do("DELETE", "/jobs/job-nightly", nil, http.StatusNotFound),
		ada.do("GET", "/credentials/warehouse", nil, http.StatusOK),
		wait,
		bob.changeJob("*/2 * * * * *"),
		bob.makeJob(fmt.Sprint("sync-customers-", round), "* * * * * *", "flaky", ""),
		wait,
		bob.dropJob(),
		bob.dropJob(),
		bob.do("POST", "/logout", nil, http.StatusOK),
		ada.do("POST", "/logout", nil, http.StatusOK),
	)
}

// wait lets the jobs run for a moment.
func wait(ctx context.Context) error {
	select {
	case <-time.After(400 * time.Millisecond):
	case <-ctx.Done():
	}
	return nil
}

// actor is one client.
type actor struct {
	url, agent string
	http       *http.Client
	session    string
	jobs       []string // made and not deleted yet
}

func (a *actor) login(user, password string, want int) act {
	return func(ctx context.Context) error {
		var out struct{ Session string }
		a.session = ""
		err := a.call(ctx, "POST", "/login", map[string]any{"user": user, "password": password}, want, &out)
		a.session = out.Session
		return err
	}
}

func (a *actor) do(method, path string, in any, want int) act {
	return func(ctx context.Context) error { return a.call(ctx, method, path, in, want, nil) }
}

func (a *actor) makeJob(name, schedule, command, credential string) act {
	return func(ctx context.Context) error {
		var out struct{ ID string }
		in := map[string]any{"name": name, "schedule": schedule, "command": command, "credential": credential}
		if err := a.call(ctx, "POST", "/jobs", in, http.StatusOK, &out); err != nil {
			return err
		}
		a.jobs = append(a.jobs, out.ID)
		return nil
	}
}

func (a *actor) changeJob(schedule string) act {
	return func(ctx context.Context) error {
		return a.call(ctx, "PUT", "/jobs/"+a.jobs[0], map[string]any{"schedule": schedule}, http.StatusOK, nil)
	}
}

func (a *actor) dropJob() act {
	return func(ctx context.Context) error {
		if err := a.call(ctx, "DELETE", "/jobs/"+a.jobs[0], nil, http.StatusOK, nil); err != nil {
			return err
		}
		a.jobs = a.jobs[1:]
		return nil
	}
}

func (a *actor) call(ctx context.Context, method, path string, in any, want int, out any) (err error) {
	var body bytes.Buffer
	if in != nil {
		if err := json.NewEncoder(&body).Encode(in); err != nil {
			return err
		}
	}
	// What has been begun is carried through: ctx ends the play between two acts.
	req, err := http.NewRequestWithContext(context.WithoutCancel(ctx), method, a.url+path, &body)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", a.agent)
	if a.session != "" {
		req.Header.Set("Authorization", "Bearer "+a.session)
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return err
	}
	if resp.StatusCode != want {
		return fmt.Errorf("%s %s: %s, expected %d: %s", method, path, resp.Status, want, bytes.TrimSpace(answer))
	}
	if out == nil || resp.StatusCode != http.StatusOK {
		return nil
	}
	return json.Unmarshal(answer, out)
}
