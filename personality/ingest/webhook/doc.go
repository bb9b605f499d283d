// Package webhook is about doors: paths to which systems post that have no token of the log's. What they post is proven by
// a secret that the two share, and a mapping makes events of it.
//
// A door proves what it takes in one of four ways. Two cover the body, so that nobody on the way can have changed or
// made it; the other two show only that the sender knows the secret, and whoever reads one delivery knows
// it too. The label ingest.sender of each event says which:
//
//	timestamped  hmac    a header t=…,v1=…: v1 is the HMAC-SHA256 of t, a full stop and the body; t is at most five
//	                     minutes off
//	github       hmac    a header sha256=…: the HMAC-SHA256 of the body
//	bearer       bearer  Authorization: Bearer and the secret
//	basic        basic   Authorization: Basic and the secret, which is user:password
//
// The same delivery again makes the same events, whose ids are the same, and so nothing new: a delivery that somebody
// has recorded and plays back adds nothing to the log.
package webhook

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
	"github.com/prooftrail/prooftrail/personality/ingest/mapping"
	"github.com/prooftrail/prooftrail/verifier/event"
)

// A Style is a way in which a delivery is proven.
type Style string

// The styles.
const (
	StyleTimestamped Style = "timestamped"
	StyleGitHub      Style = "github"
	StyleBearer      Style = "bearer"
	StyleBasic       Style = "basic"
)

// Tolerance is how far the time of a timestamped signature may be off.
const Tolerance = 5 * time.Minute

// MinSecret is the length of the shortest secret, in bytes.
const MinSecret = 16

// Config is a door as it is configured.
type Config struct {
	Name   string // the last part of its path: [a-z0-9][a-z0-9-]{0,47}
	Tenant string // whose events they are
	Source string // of all events
	Style  Style
	// Header is the one with the signature. Needed for timestamped; default X-Hub-Signature-256 for github.
	Header string
	// Secrets are one, or two while one takes the place of the other.
	Secrets [][]byte
	Mapping *mapping.Mapping
}

// A Door is one that is open. It is the ingest.Adapter of what comes through it.
type Door struct{ cfg Config }

// New opens a door. Its errors name the member.
func New(cfg Config) (*Door, error) {
	if cfg.Style == StyleGitHub && cfg.Header == "" {
		cfg.Header = "X-Hub-Signature-256"
	}
	for _, c := range []struct {
		member, expected string
		ok               bool
	}{
		{"name", "1 to 48 lower-case letters, digits and hyphens, no hyphen first", validName(cfg.Name)},
		{"tenant", "1 to 128 letters, digits, _, . and -", event.ValidTenant(cfg.Tenant)},
		{"source", "a URI with a scheme in lower case, not prooftrail", event.ValidSource(cfg.Source) && !strings.HasPrefix(cfg.Source, "prooftrail:")},
		{"signature.style", "timestamped, github, bearer or basic", cfg.Style == StyleTimestamped || cfg.Style == StyleGitHub || cfg.Style == StyleBearer || cfg.Style == StyleBasic},
		{"signature.header", "the name of the header with the signature, for timestamped and github only", (cfg.Header != "") == cfg.signs()},
		{"secret_files", "one or two", len(cfg.Secrets) == 1 || len(cfg.Secrets) == 2},
		{"mapping", "a file, or one of " + strings.Join(mapping.Ready(), ", "), cfg.Mapping != nil},
	} {
		if !c.ok {
			return nil, fmt.Errorf("%s: expected %s", c.member, c.expected)
		}
	}
	for i, s := range cfg.Secrets {
		if len(s) < MinSecret {
			return nil, fmt.Errorf("secret_files.%d: expected a secret of %d bytes or more", i, MinSecret)
		}
		if cfg.Style == StyleBasic && !strings.Contains(string(s), ":") {
			return nil, fmt.Errorf("secret_files.%d: expected user:password", i)
		}
	}
	return &Door{cfg}, nil
}

func (c *Config) signs() bool { return c.Style == StyleTimestamped || c.Style == StyleGitHub }

func validName(name string) bool {
	return name != "" && len(name) <= 48 && name[0] != '-' && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}

// SharesSecret reports whether a delivery at one of two doors could prove itself at the other: they have a secret in common.
func (d *Door) SharesSecret(other *Door) bool {
	return slices.ContainsFunc(d.cfg.Secrets, func(s []byte) bool {
		return slices.ContainsFunc(other.cfg.Secrets, func(o []byte) bool { return bytes.Equal(s, o) })
	})
}

// Path is the last part of the door's path.
func (d *Door) Path() string { return d.cfg.Name }

// Tenant is whose events come through the door.
func (d *Door) Tenant() string { return d.cfg.Tenant }

// Source is the source of all of them.
func (d *Door) Source() string { return d.cfg.Source }

// Name is the adapter's name: webhook: and the door's.
func (d *Door) Name() string { return "webhook:" + d.cfg.Name }

// Translate makes events of a delivery, by the door's mapping. Their source is the door's.
func (d *Door) Translate(r *ingest.Request) ([]ingest.Item, error) {
	own := *r
	own.Source = d.cfg.Source
	return d.cfg.Mapping.Translate(&own)
}
