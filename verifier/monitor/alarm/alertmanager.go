package alarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// endsAfter is how many intervals ahead an alert ends that isn't sent again: Prometheus has the
// same.
const endsAfter = 4

// AlertmanagerConfig says where alarms go as alerts.
type AlertmanagerConfig struct {
	// HTTPConfig.URL is the prefix before /api/v2/alerts, such as https://alertmanager.example.org.
	// Of a cluster each one is a sink of its own, as Alertmanager demands.
	HTTPConfig
	// Name is "alertmanager" if empty.
	Name string
	// Monitor is this monitor's name, the label of that name.
	Monitor string
	// Labels are added to each alert; those that an alarm has itself win.
	Labels map[string]string
	// GeneratorURL is where the monitor shows its alarms, "" if it does so nowhere.
	GeneratorURL string
	// Resend is how often an alert that is there is sent. An alert ends 4 times that later,
	// should the monitor fall silent. Default 1 min.
	Resend time.Duration
}

type alertmanager struct {
	cfg  AlertmanagerConfig
	post *poster
}

// postableAlert is Alertmanager's, of its API version 2.
type postableAlert struct {
	StartsAt     time.Time         `json:"startsAt"`
	EndsAt       time.Time         `json:"endsAt"`
	Labels       map[string]string `json:"labels"`
	Annotations  map[string]string `json:"annotations"`
	GeneratorURL string            `json:"generatorURL,omitempty"`
}

var labelName = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]{0,63}$`)

// NewAlertmanager returns a sink that posts to an Alertmanager: docs/spec/alarms.md. What is
// acknowledged goes on being sent, with an annotation that says so: it is there, and
// Alertmanager would tell people that it is gone. To be silent is what its silences are for.
func NewAlertmanager(cfg AlertmanagerConfig) (Sink, error) {
	cfg.Name = cmp.Or(cfg.Name, "alertmanager")
	if cfg.Resend <= 0 {
		cfg.Resend = time.Minute
	}
	p, err := newPoster(cfg.HTTPConfig)
	if err == nil {
		err = checkMonitor(cfg.Monitor)
	}
	if err == nil && (p.url.RawQuery != "" || p.url.ForceQuery) {
		err = errors.New("its URL has a query")
	}
	for k, v := range cfg.Labels {
		if err == nil && (!labelName.MatchString(k) || printable(v, maxIdentity) != v) {
			err = fmt.Errorf("label %q: expected a Prometheus label of at most %d bytes", k, maxIdentity)
		}
	}
	if u, perr := url.Parse(cfg.GeneratorURL); err == nil && cfg.GeneratorURL != "" && (perr != nil || u.Host == "" || u.User != nil) {
		err = errors.New("its generator URL isn't https://host[:port][/path]")
	}
	if err != nil {
		return nil, fmt.Errorf("alertmanager %q: %w", cfg.Name, err)
	}
	p.url = p.url.JoinPath("api", "v2", "alerts")
	return &alertmanager{cfg, p}, nil
}

func (s *alertmanager) Name() string { return s.cfg.Name }

func (s *alertmanager) Manner() Manner {
	return Manner{Batch: maxBatch, Repeat: s.cfg.Resend, Acknowledged: true}
}

func (s *alertmanager) Deliver(ctx context.Context, batch []Notice) error {
	alerts := make([]postableAlert, 0, len(batch))
	for _, n := range batch {
		alerts = append(alerts, s.alert(n, n.Severity))
		// The severity is one of the labels, which make an alert another one: end the old one.
		if n.Told != "" && n.Told != n.Severity {
			old := s.alert(n, n.Told)
			old.EndsAt = later(n.At, old.StartsAt)
			alerts = append(alerts, old)
		}
	}
	body, err := marshal(alerts)
	if err != nil {
		return fmt.Errorf("encode alerts: %w", err)
	}
	return s.post.post(ctx, body, nil)
}

func (s *alertmanager) alert(n Notice, severity Severity) postableAlert {
	labels := maps.Clone(s.cfg.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	for k, v := range map[string]string{"alertname": n.Name, "log": n.Log, "peer": n.Peer, "severity": string(severity), "monitor": s.cfg.Monitor} {
		if v != "" { // to Alertmanager an empty label is none
			labels[k] = v
		}
	}
	notes := map[string]string{"summary": n.Summary, "id": n.ID()}
	var lines []string
	for _, k := range slices.Sorted(maps.Keys(n.Details)) {
		lines = append(lines, k+": "+n.Details[k])
	}
	if len(lines) > 0 {
		notes["details"] = strings.Join(lines, "\n")
	}
	if n.Ack != nil {
		notes["acknowledged"] = strings.TrimSuffix("by "+n.Ack.By+" at "+n.Ack.At.Format(time.RFC3339)+": "+n.Ack.Note, ": ")
	}
	a := postableAlert{StartsAt: n.Since, EndsAt: n.At.Add(endsAfter * s.cfg.Resend), Labels: labels, Annotations: notes, GeneratorURL: s.cfg.GeneratorURL}
	if n.Status == Resolved {
		a.EndsAt = n.At
	}
	a.EndsAt = later(a.EndsAt, a.StartsAt) // a clock that was set back
	return a
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
