package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-co-op/gocron/v2"
	"github.com/robfig/cron/v3"

	"github.com/prooftrail/prooftrail/verifier/client"
	"github.com/prooftrail/prooftrail/verifier/client/gocronaudit"
	"github.com/prooftrail/prooftrail/verifier/client/httpaudit"
	"github.com/prooftrail/prooftrail/verifier/client/robfigaudit"
	"github.com/prooftrail/prooftrail/verifier/client/slogaudit"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// TestAdapters has real schedulers, a web server and a logger log to a real server through one queue. What they did is in the log,
// by whom and from where, verified, without a gap and without a secret.
func TestAdapters(t *testing.T) {
	r := newSpoolRun(t)
	s := r.start()
	q := r.queue(t, nil)

	g := gocronaudit.New(q, gocronaudit.Config{})
	sched, err := gocron.NewScheduler(g.Options()...)
	if err != nil {
		t.Fatal(err)
	}
	c := cron.New()
	robfig := robfigaudit.New(c, q, robfigaudit.Config{Mode: client.Required})
	logs := slogaudit.New(q, slog.DiscardHandler, slogaudit.Config{})
	ran := make(chan struct{}, 10)

	web := adaptersWeb(t, q, func(ctx context.Context) {
		by := g.By(ctx, sched)
		job, err := by.NewJob(gocron.DurationJob(time.Hour), gocron.NewTask(func() error { ran <- struct{}{}; return errors.New("password=hunter2") }), gocron.WithName("nightly"))
		if err == nil {
			_, err = by.Update(job.ID(), gocron.CronJob("0 2 * * *", false), gocron.NewTask(func() error { ran <- struct{}{}; return errors.New("password=hunter2") }), gocron.WithName("nightly"))
		}
		if err == nil {
			sched.Start()
			err = by.RunNow(job)
		}
		if err != nil {
			t.Error(err)
		}
		if _, err := robfig.AddFunc(ctx, event.Job{ID: "robfig"}, "@every 1s", func() { ran <- struct{}{} }); err != nil {
			t.Error(err)
		}
		slog.New(logs).InfoContext(ctx, "rotated", "action", "credential.rotate", "target", "c-7", "api_key", "hunter2")
	})
	for user, want := range map[string]int{"ada": 200, "mallory": 403} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, web.URL+"/jobs?token=hunter2", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-User", user)
		req.Header.Set("X-Forwarded-For", "198.51.100.1, 203.0.113.9")
		req.Header.Set("User-Agent", "cli --token=hunter2")
		resp, err := web.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Fatalf("%s got %d", user, resp.StatusCode)
		}
	}
	<-ran
	c.Start()
	<-ran
	<-c.Stop().Done()
	if err := sched.Shutdown(); err != nil {
		t.Fatal(err)
	}
	g.Close()
	logs.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := q.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	r.check(s, true) // the whole log holds, and no seq has a gap
	expectAdapters(t, r.events(s))
}

// adaptersWeb is a web server whose users X-User names; only ada may do it.
func adaptersWeb(t *testing.T, q client.Enqueuer, do func(context.Context)) *httptest.Server {
	t.Helper()
	m := httpaudit.New(q, httpaudit.Config{Trusted: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
	mux := http.NewServeMux()
	mux.Handle("POST /jobs", m.Handler(httpaudit.Route{Mode: client.Required}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx := httpaudit.SetActor(r.Context(), event.Actor{Type: "user", ID: r.Header.Get("X-User")})
		if r.Header.Get("X-User") != "ada" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		do(ctx)
	})))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s
}

// events are those of the log, as an auditor reads them.
func (r *spoolRun) events(s *server) (all []event.Fields) {
	r.t.Helper()
	c, err := client.New(client.Config{URL: s.url, Token: r.tokens["read"]})
	if err != nil {
		r.t.Fatal(err)
	}
	defer c.Close()
	err = c.Openings(r.t.Context(), 0, len(r.log.leaves), func(line client.OpeningLine) error {
		o, err := seal.ParseOpening(line.Opening)
		if err == nil {
			all = append(all, o.Event())
		}
		return err
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return all
}

func expectAdapters(t *testing.T, events []event.Fields) {
	t.Helper()
	found := map[string]int{}
	for _, e := range events {
		if strings.Contains(string(e.JSON()), "hunter2") {
			t.Errorf("a secret is in the log: %s", e.JSON())
		}
		if e.Text("/source") == spoolSource {
			found[strings.TrimSpace(fmt.Sprintf("%s %s %s %s", e.Text("/action"), e.Text("/outcome"), e.Text("/actor/id"), e.Text("/origin/ip")))]++
		}
	}
	for want, n := range map[string]int{
		"http.request attempt anonymous 203.0.113.9": 2,
		"http.request success ada 203.0.113.9":       1,
		"http.request denied mallory 203.0.113.9":    1,
		"job.create success ada 203.0.113.9":         2, // gocron's and robfig's
		"job.update success ada 203.0.113.9":         1,
		"run.request success ada 203.0.113.9":        1,
		"credential.rotate success ada 203.0.113.9":  1,
		"run.start success robfig":                   1,
		"run.finish success robfig":                  1,
		"scheduler.start success gocron":             1,
		"scheduler.stop success gocron":              1,
		"scheduler.shutdown success gocron":          1,
	} {
		if found[want] < n || found[want] > n && !strings.HasSuffix(want, "robfig") {
			t.Errorf("%d of %q, expected %d", found[want], want, n)
		}
	}
	if t.Failed() {
		t.Logf("%v", found)
	}
}
