package main

import (
	"fmt"
	"os"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/monitor"
	"github.com/prooftrail/prooftrail/verifier/monitor/agentkey"
	"github.com/prooftrail/prooftrail/verifier/monitor/alarm"
	"github.com/prooftrail/prooftrail/verifier/monitor/gossip"
	"github.com/prooftrail/prooftrail/verifier/monitor/witness"
)

// log checks a log and reads its policy.
func (f *file) log(s *settings, i int) {
	l, at := &s.Logs[i], fmt.Sprintf("logs[%d]", i)
	p := f.policy(l, at)
	if l.Timeout <= 0 {
		f.wrongf(at+".timeout", "expected more than 0s")
	}
	f.checkExpect(&l.Expect, at+".expect")
	if p == nil {
		return
	}
	url := l.URL
	if url == "" {
		url = p.LogURL()
	}
	if _, err := verifier.NewHTTPLog(verifier.HTTPConfig{URL: url, AllowHTTP: l.AllowHTTP}); err != nil {
		f.wrongf(at+".url", "%w", err)
	}
	for _, other := range s.logs {
		if other.Policy.Origin() == p.Origin() {
			f.wrongf(at, "the log %s is there twice", p.Origin())
		}
	}
	e := l.Expect
	cfg := monitor.LogConfig{Policy: p, URL: url, AllowHTTP: l.AllowHTTP, Timeout: l.Timeout, Expect: monitor.Expect{
		Reachable: e.Reachable, Fresh: e.Fresh, Explained: e.Explained, Cosigned: e.Cosigned, Quorum: e.Quorum, Growth: e.Growth, PerHour: e.PerHour,
	}}
	if l.Mirror {
		cfg.Mirror = s.in(mirrorDir + "/" + gossip.LogID(p.Origin()))
	}
	s.logs = append(s.logs, cfg)
	if l.Cosign {
		s.cosigned = append(s.cosigned, p.Log())
	}
}

// policy is the log's, nil if something is wrong with it.
func (f *file) policy(l *LogEntry, at string) *verifier.Policy {
	text := []byte("log " + l.VKey + "\nquorum none\n")
	switch {
	case (l.Policy == "") == (l.VKey == ""):
		f.wrongf(at, "expected either policy or vkey")
		return nil
	case l.Policy != "":
		var err error
		if text, err = os.ReadFile(f.resolve(l.Policy)); err != nil {
			f.wrongf(at+".policy", "%w", err)
			return nil
		}
	default:
		at += ".vkey"
		if _, err := verifier.ParseLogKey(l.VKey); err != nil {
			f.wrongf(at, "%w", err)
			return nil
		}
	}
	p, err := verifier.ParsePolicy(text)
	if err != nil {
		f.wrongf(at+".policy", "%w", err)
		return nil
	}
	return p
}

func (f *file) checkExpect(e *ExpectSection, at string) {
	for _, d := range []struct {
		name string
		time time.Duration
	}{
		{"reachable", e.Reachable}, {"fresh", e.Fresh}, {"explained", e.Explained}, {"cosigned", e.Cosigned}, {"quorum", e.Quorum}, {"growth", e.Growth},
	} {
		if d.time == 0 {
			f.wrongf(at+"."+d.name, "expected more than 0s, or less for no alarm")
		}
	}
}

func (f *file) peer(s *settings, i int) {
	p, at := s.Peers[i], fmt.Sprintf("peers[%d]", i)
	if p.Name == "" {
		f.wrongf(at+".name", "expected a name")
	}
	for _, other := range s.Peers[:i] {
		if other.Name == p.Name {
			f.wrongf(at+".name", "another peer has it")
		}
	}
	switch monitor.Kind(p.Kind) {
	case monitor.Gossip, monitor.Distributor, monitor.WitnessKind:
	default:
		f.wrongf(at+".kind", "%q: expected %s, %s or %s", p.Kind, monitor.Gossip, monitor.Distributor, monitor.WitnessKind)
	}
	if p.Timeout <= 0 {
		f.wrongf(at+".timeout", "expected more than 0s")
	}
	if p.Silent == 0 {
		f.wrongf(at+".silent", "expected more than 0s, or less for no alarm")
	}
	if _, err := gossip.New(gossip.Config{URL: p.URL, AllowHTTP: p.AllowHTTP}); err != nil {
		f.wrongf(at+".url", "%w", err)
	}
	s.peers = append(s.peers, monitor.PeerConfig{
		Name: p.Name, Kind: monitor.Kind(p.Kind), URL: p.URL, AllowHTTP: p.AllowHTTP, Timeout: p.Timeout, Silent: p.Silent, Mirrors: p.Mirrors,
	})
}

// witness loads the keys.
func (f *file) witness(s *settings) {
	for i, name := range s.Witness.Keys {
		c, err := witness.LoadKeyFile(f.resolve(name))
		if err != nil {
			f.wrongf("witness.keys", "element %d: %w", i, err)
			continue
		}
		s.cosigners = append(s.cosigners, c)
	}
	if a := s.Witness.Agent; a.PublicKey != "" {
		socket := a.Socket
		if socket == "" {
			socket = os.Getenv("SSH_AUTH_SOCK")
		}
		if c, err := openAgent(socket, a); err != nil {
			f.wrongf("witness.agent", "%w", err)
		} else {
			s.cosigners = append(s.cosigners, c)
		}
	} else if a.Name != "" || a.Socket != "" {
		f.wrongf("witness.agent.public_key", "expected the key that the agent is to sign with")
	}
	if (len(s.Witness.Keys) > 0 || s.Witness.Agent.PublicKey != "") && s.Data != "" && missing(s.in(storeFile)) {
		f.wrongf("witness", "%s isn't there: `prooftrail-monitor init --witness-name` makes it, together with new keys. Of keys that have cosigned it must not be made anew", s.in(storeFile))
	}
}

func openAgent(socket string, a AgentSection) (*witness.Cosigner, error) {
	if socket == "" {
		return nil, fmt.Errorf("no socket, and SSH_AUTH_SOCK isn't set")
	}
	key, err := agentkey.Open(socket, a.PublicKey)
	if err != nil {
		return nil, err
	}
	return witness.NewCosigner(a.Name, key)
}

// alarms makes what takes alarms to people.
func (f *file) alarms(s *settings) {
	if s.Alarms.Log {
		s.sinks = append(s.sinks, alarm.NewLogSink(s.logger))
	}
	take := func(at string, sink alarm.Sink, err error) {
		if err != nil {
			f.wrongf(at, "%w", err)
			return
		}
		for _, other := range s.sinks {
			if other.Name() == sink.Name() {
				f.wrongf(at+".name", "%q: another receiver has it", sink.Name())
			}
		}
		s.sinks = append(s.sinks, sink)
	}
	for i, a := range s.Alarms.Alertmanager {
		at := fmt.Sprintf("alarms.alertmanager[%d]", i)
		sink, err := alarm.NewAlertmanager(alarm.AlertmanagerConfig{
			HTTPConfig: f.receiver(s, at, a.URL, a.AllowHTTP, a.TokenFile, a.Timeout),
			Name:       a.Name, Monitor: s.Name, Labels: a.Labels, GeneratorURL: a.Page, Resend: a.Resend,
		})
		take(at, sink, err)
	}
	for i, w := range s.Alarms.Webhook {
		at := fmt.Sprintf("alarms.webhook[%d]", i)
		if (w.URL == "") == (w.URLFile == "") {
			f.wrongf(at, "expected either url or url_file")
			continue
		}
		url := w.URL + f.secret(at+".url_file", w.URLFile)
		secret := []byte(f.secret(at+".secret_file", w.SecretFile))
		if w.SecretFile == "" {
			secret = nil
		}
		sink, err := alarm.NewWebhook(alarm.WebhookConfig{
			HTTPConfig: f.receiver(s, at, url, w.AllowHTTP, w.TokenFile, w.Timeout), Name: w.Name, Monitor: s.Name, Secret: secret,
		})
		take(at, sink, err)
	}
	for i, c := range s.Alarms.Command {
		at := fmt.Sprintf("alarms.command[%d]", i)
		if c.Timeout <= 0 {
			f.wrongf(at+".timeout", "expected more than 0s")
		}
		sink, err := alarm.NewCommand(alarm.CommandConfig{Argv: c.Argv, Name: c.Name, Monitor: s.Name, Env: c.Env, Timeout: c.Timeout, Log: s.logger})
		take(at, sink, err)
	}
	if len(s.sinks) == 0 {
		f.wrongf("alarms", "expected log: true, or somebody else who gets them")
	}
}

func (f *file) receiver(s *settings, at, url string, allowHTTP bool, tokenFile string, timeout time.Duration) alarm.HTTPConfig {
	if timeout <= 0 {
		f.wrongf(at+".timeout", "expected more than 0s")
	}
	return alarm.HTTPConfig{
		URL: url, AllowHTTP: allowHTTP, Token: f.secret(at+".token_file", tokenFile), Timeout: timeout, Transport: s.transport, UserAgent: "prooftrail-monitor",
	}
}

// grace is how long after a start an alarm of the state file may wait until it is raised again: longer
// than any patience, for what lasts is waited for anew.
func (s *settings) grace() time.Duration {
	longest := 10 * time.Minute
	for _, l := range s.logs {
		longest = max(longest, l.Expect.Reachable, l.Expect.Fresh, l.Expect.Explained, l.Expect.Quorum)
	}
	for _, p := range s.peers {
		longest = max(longest, p.Silent)
	}
	return longest + 4*s.Interval
}
