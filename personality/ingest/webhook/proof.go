package webhook

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/personality/ingest"
)

// Check checks the proof of a delivery whose body came without a content coding, and returns how sure the sender is,
// for the label ingest.sender. The error says what is wrong with it, and nothing that helps to make a better one.
func (d *Door) Check(h http.Header, body []byte, now time.Time) (sender string, err error) {
	switch d.cfg.Style {
	case StyleTimestamped:
		return ingest.SenderHMAC, d.timestamped(h.Values(d.cfg.Header), body, now)
	case StyleGitHub:
		return ingest.SenderHMAC, d.github(h.Values(d.cfg.Header), body)
	}
	return string(d.cfg.Style), d.shared(h.Values("Authorization"))
}

var (
	errNoSignature = errors.New("the delivery has no signature of the form that the door wants")
	errOld         = errors.New("the time of the signature is more than five minutes off")
	errSignature   = errors.New("the signature isn't one with the door's secret")
	errNoSecret    = errors.New("the delivery doesn't show the door's secret")
)

// timestamped checks "t=1492774577,v1=5257a8…". A sender that is changing its secret sends more than one v1.
func (d *Door) timestamped(values []string, body []byte, now time.Time) error {
	if len(values) != 1 || len(values[0]) > 1024 {
		return errNoSignature
	}
	var at string
	var macs [][]byte
	for part := range strings.SplitSeq(values[0], ",") {
		name, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			if at != "" {
				return errNoSignature
			}
			at = v
		case "v1":
			mac, err := hex.DecodeString(v)
			if err != nil || len(mac) != sha256.Size {
				return errNoSignature
			}
			macs = append(macs, mac)
		}
	}
	seconds, err := strconv.ParseInt(at, 10, 64)
	if err != nil || len(at) > 12 || len(macs) == 0 {
		return errNoSignature
	}
	if off := now.Sub(time.Unix(seconds, 0)); off > Tolerance || off < -Tolerance {
		return errOld
	}
	return d.signed(macs, []byte(at+"."), body)
}

// github checks "sha256=5257a8…".
func (d *Door) github(values []string, body []byte) error {
	if len(values) != 1 {
		return errNoSignature
	}
	text, ok := strings.CutPrefix(values[0], "sha256=")
	mac, err := hex.DecodeString(text)
	if !ok || err != nil || len(mac) != sha256.Size {
		return errNoSignature
	}
	return d.signed([][]byte{mac}, body)
}

// signed checks that one of the MACs is one over the parts, with one of the secrets. How long it takes depends on how many there are
// alone.
func (d *Door) signed(macs [][]byte, parts ...[]byte) error {
	ok := 0
	for _, secret := range d.cfg.Secrets {
		h := hmac.New(sha256.New, secret)
		for _, p := range parts {
			h.Write(p)
		}
		sum := h.Sum(nil)
		for _, mac := range macs {
			ok |= subtle.ConstantTimeCompare(sum, mac)
		}
	}
	if ok == 0 {
		return errSignature
	}
	return nil
}

// shared checks a secret that is sent as it is. Hashes are compared, which have one length.
func (d *Door) shared(values []string) error {
	if len(values) != 1 {
		return errNoSecret
	}
	scheme, given, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, string(d.cfg.Style)) {
		return errNoSecret
	}
	given = strings.TrimLeft(given, " ")
	if d.cfg.Style == StyleBasic {
		decoded, err := base64.StdEncoding.DecodeString(given)
		if err != nil {
			return errNoSecret
		}
		given = string(decoded)
	}
	got, ok := sha256.Sum256([]byte(given)), 0
	for _, secret := range d.cfg.Secrets {
		want := sha256.Sum256(secret)
		ok |= subtle.ConstantTimeCompare(got[:], want[:])
	}
	if ok == 0 {
		return errNoSecret
	}
	return nil
}
