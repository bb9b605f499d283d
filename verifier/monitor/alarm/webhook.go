package alarm

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"time"
)

const (
	// SignatureHeader is the header with a webhook's signature.
	SignatureHeader = "X-Prooftrail-Signature"
	// minSecret is what guessing a secret takes at least.
	minSecret = 16
)

// WebhookConfig says where alarms go as plain JSON.
type WebhookConfig struct {
	HTTPConfig
	// Name is "webhook" if empty.
	Name string
	// Monitor is this monitor's name, in the member of that name.
	Monitor string
	// Secret, at least 16 bytes, signs each body; see CheckSignature. Nil: none is signed.
	Secret []byte
}

type webhook struct {
	cfg  WebhookConfig
	post *poster
}

// NewWebhook returns a sink that posts each notice as one JSON object: docs/spec/alarms.md.
func NewWebhook(cfg WebhookConfig) (Sink, error) {
	cfg.Name = cmp.Or(cfg.Name, "webhook")
	if cfg.Secret != nil && len(cfg.Secret) < minSecret {
		return nil, fmt.Errorf("webhook %q: a secret of %d bytes, expected at least %d", cfg.Name, len(cfg.Secret), minSecret)
	}
	if err := checkMonitor(cfg.Monitor); err != nil {
		return nil, fmt.Errorf("webhook %q: %w", cfg.Name, err)
	}
	p, err := newPoster(cfg.HTTPConfig, string(cfg.Secret))
	if err != nil {
		return nil, fmt.Errorf("webhook %q: %w", cfg.Name, err)
	}
	return &webhook{cfg, p}, nil
}

func (w *webhook) Name() string   { return w.cfg.Name }
func (w *webhook) Manner() Manner { return Manner{} }

func (w *webhook) Deliver(ctx context.Context, batch []Notice) error {
	for _, n := range batch {
		body, err := n.message(w.cfg.Monitor)
		if err != nil {
			return err
		}
		header := http.Header{}
		if w.cfg.Secret != nil {
			// Of this attempt, not of the notice: a receiver looks at how old it is.
			header.Set(SignatureHeader, Sign(body, w.cfg.Secret, n.At))
		}
		if err := w.post.post(ctx, body, header); err != nil {
			return err
		}
	}
	return nil
}

// Sign returns the value of SignatureHeader: "t=<Unix seconds>,v1=<hex of HMAC-SHA256>", the
// MAC being of the seconds in decimal, a full stop and the body, under the secret.
func Sign(body, secret []byte, at time.Time) string {
	t := strconv.FormatInt(at.Unix(), 10)
	return "t=" + t + ",v1=" + hex.EncodeToString(signature(t, body, secret))
}

func signature(t string, body, secret []byte) []byte {
	h := hmac.New(sha256.New, secret)
	h.Write([]byte(t + "."))
	h.Write(body)
	return h.Sum(nil)
}

// ErrSignature is what a body has whose signature isn't good.
var ErrSignature = errors.New("the signature isn't good")

var signatureForm = regexp.MustCompile(`^t=(0|[1-9][0-9]{0,11}),v1=([0-9a-f]{64})$`)

// CheckSignature is for receivers: it checks the value of SignatureHeader against a body as it
// came, and that it was made within tolerance of now.
func CheckSignature(value string, body, secret []byte, now time.Time, tolerance time.Duration) error {
	m := signatureForm.FindStringSubmatch(value)
	if m == nil {
		return fmt.Errorf("%w: expected t=…,v1=…", ErrSignature)
	}
	mac, err := hex.DecodeString(m[2])
	if err != nil || !hmac.Equal(mac, signature(m[1], body, secret)) {
		return ErrSignature
	}
	seconds, err := strconv.ParseInt(m[1], 10, 64)
	if age := now.Sub(time.Unix(seconds, 0)).Abs(); err != nil || age > tolerance {
		return fmt.Errorf("%w: it is of another time, %s away", ErrSignature, age)
	}
	return nil
}
