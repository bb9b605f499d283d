package docs_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier"
	"github.com/prooftrail/prooftrail/verifier/event"
	"github.com/prooftrail/prooftrail/verifier/seal"
)

// exampleSalts are the salts of the worked example: field i has sixteen bytes
// of value i.
type exampleSalts struct{}

func (exampleSalts) Salts(dst []byte, f event.Fields) error {
	for i := range dst {
		dst[i] = byte(i / 16)
	}
	return nil
}

// section returns the blocks under a heading of the example, joined lines.
func section(t *testing.T, heading string) []string {
	t.Helper()
	p := pages(t)["docs/spec/example.md"]
	from := slices.Index(p.lines, "## "+heading)
	if from < 0 {
		t.Fatalf("no section %q", heading)
	}
	var texts []string
	for _, b := range p.blocks {
		if b.line > from && !slices.ContainsFunc(p.lines[from+1:b.line], func(l string) bool { return strings.HasPrefix(l, "## ") }) {
			texts = append(texts, strings.Join(b.text, "\n")+"\n")
		}
	}
	return texts
}

func exampleEvent(t *testing.T) (submitted, stamped event.Fields) {
	t.Helper()
	submitted, err := event.Parse([]byte(section(t, "The event as submitted")[0]))
	if err != nil {
		t.Fatal(err)
	}
	received, err := time.Parse(time.RFC3339Nano, "2026-01-31T23:59:58.7Z")
	if err != nil {
		t.Fatal(err)
	}
	stamped, err = submitted.Stamp(event.Stamp{Tenant: "default", ReceivedAt: received, Principal: "billing/k7", PeerIP: "192.0.2.7"})
	if err != nil {
		t.Fatal(err)
	}
	return submitted, stamped
}

func TestExampleIsSealedAsShown(t *testing.T) {
	_, stamped := exampleEvent(t)
	if got, want := string(stamped.JSON()), section(t, "Stamped by the service, in canonical form")[0]; got+"\n" != want {
		t.Errorf("canonical form:\n%s\nthe page has\n%s", got, want)
	}
	c, err := seal.Commit(stamped, exampleSalts{})
	if err != nil {
		t.Fatal(err)
	}
	sealed := c.At(time.Date(2026, 1, 31, 23, 59, 59, 0, time.UTC))
	openings := section(t, "Opening")
	if string(sealed.Opening)+"\n" != openings[0] {
		t.Errorf("opening:\n%s\nthe page has\n%s", sealed.Opening, openings[0])
	}
	leaf := section(t, "Event root and leaf")[0]
	for _, want := range []string{string(sealed.Leaf), hex.EncodeToString(sealed.LeafHash[:])} {
		if !strings.Contains(leaf, want) {
			t.Errorf("the page doesn't have %s", want)
		}
	}
	o, err := seal.ParseOpening(sealed.Opening)
	if err != nil {
		t.Fatal(err)
	}
	redacted, err := o.Withhold("/actor/name", "/origin/ip")
	if err != nil {
		t.Fatal(err)
	}
	if string(redacted.Bytes())+"\n" != openings[1] {
		t.Errorf("redacted opening:\n%s\nthe page has\n%s", redacted.Bytes(), openings[1])
	}
}

func TestExampleReceiptsVerify(t *testing.T) {
	policy, err := verifier.ParsePolicy([]byte(section(t, "The log")[1]))
	if err != nil {
		t.Fatal(err)
	}
	receipts := section(t, "Receipt")
	for i, want := range []seal.Content{seal.Verified, seal.VerifiedRedacted} {
		v, err := verifier.VerifyReceipt([]byte(receipts[i]), policy)
		if err != nil || v.Content != want || v.Index != 1 || v.Size != 3 {
			t.Errorf("receipt %d: %+v, %v", i, v, err)
		}
	}
	if !strings.HasSuffix(receipts[0], section(t, "Checkpoint")[0]) {
		t.Error("the receipt doesn't end with the checkpoint")
	}
}

func TestExampleIdentityHash(t *testing.T) {
	secret := make([]byte, 32)
	for i := range secret {
		secret[i] = byte(i)
	}
	submitted, _ := exampleEvent(t)
	h := seal.IdentityHash(secret, "default", submitted.Text("/source"), submitted.Text("/id"))
	if text := section(t, "Identity hash")[0]; !strings.Contains(text, hex.EncodeToString(h[:])) {
		t.Errorf("%x isn't in\n%s", h, text)
	}
}

func TestExampleSourceSignature(t *testing.T) {
	submitted, _ := exampleEvent(t)
	_, stamped := exampleEvent(t)
	salts := seal.ChosenSalts{}
	for i, f := range stamped {
		if !event.IsServer(f.Pointer) {
			salts[f.Pointer] = [16]byte(bytes.Repeat([]byte{byte(i)}, 16))
		}
	}
	n, root, err := seal.SourceRoot(submitted, salts)
	if err != nil {
		t.Fatal(err)
	}
	seed := make([]byte, ed25519.SeedSize)
	for i := range seed {
		seed[i] = byte(32 + i)
	}
	signer := sourceSigner{ed25519.NewKeyFromSeed(seed)}
	signature, err := seal.SignSource(n, root, signer)
	if err != nil {
		t.Fatal(err)
	}
	texts := section(t, "Source signature")
	if !strings.Contains(texts[1], signature) {
		t.Errorf("%s\nisn't in\n%s", signature, texts[1])
	}
	if _, err := note.NewVerifier(strings.SplitN(texts[1], "\n", 2)[0]); err != nil {
		t.Errorf("the page's vkey: %v", err)
	}
}

// sourceSigner signs as the source of the example.
type sourceSigner struct{ key ed25519.PrivateKey }

func (s sourceSigner) Name() string { return "billing.example/primary" }

func (s sourceSigner) KeyHash() uint32 {
	sum := sha256.Sum256(append([]byte(s.Name()+"\n\x01"), s.key.Public().(ed25519.PublicKey)...))
	return uint32(sum[0])<<24 | uint32(sum[1])<<16 | uint32(sum[2])<<8 | uint32(sum[3])
}

func (s sourceSigner) Sign(msg []byte) ([]byte, error) { return ed25519.Sign(s.key, msg), nil }
