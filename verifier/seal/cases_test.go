package seal

import (
	"crypto/ed25519"
	"crypto/sha256"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/note"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// sample is an event of usual size: 25 fields with the server's.
const sample = `{
 "schema":"prooftrail.event/1","id":"0198f2a4-7c3e-7b1a-9f00-5d0c8a1e2b3c","source":"cron://node-7.example.com/main",
 "seq":"18234","time":"2026-01-31T23:59:58.123456789Z","action":"run.finish","outcome":"success",
 "actor":{"type":"user","id":"u-1842","name":"Zoë Müller","auth_method":"oidc"},
 "origin":{"ip":"203.0.113.9","port":50412},
 "target":[{"type":"job","id":"job-77","name":"nightly-backup"}],
 "job":{"id":"job-77","name":"nightly-backup","run_id":"r-1"},
 "labels":{"env":"prod"},
 "details":{"ticket":"OPS-1"}}`

// minimal is the least that is ever sealed, full has a field of every kind.
const (
	minimal = `{"schema":"prooftrail.event/1","id":"e-1","source":"cron://a.example","time":"2026-01-31T23:59:59Z",` +
		`"action":"auth.login","outcome":"success","actor":{"type":"user","id":"u-1"},"target":[{"type":"session","id":"s-1"}],` +
		`"tenant":"default","received_at":"2026-01-31T23:59:59.5Z"}`

	full = `{"schema":"prooftrail.event/1","id":"e-2","source":"cron://a.example","seq":"7","time":"2026-01-31T23:59:59+01:00",` +
		`"action":"job.update","outcome":"failure","reason":{"code":"io","text":"tab\tquote\"é€😀"},` +
		`"actor":{"type":"service","id":"u-1","name":"Ann"},"origin":{"ip":"2001:db8::1","port":443,"forwarded":["10.0.0.1"]},` +
		`"target":[{"type":"job","id":"j-0"},{"type":"job","id":"j-1"},{"type":"job","id":"j-2"},{"type":"job","id":"j-3"},{"type":"job","id":"j-4"},` +
		`{"type":"job","id":"j-5"},{"type":"job","id":"j-6"},{"type":"job","id":"j-7"},{"type":"job","id":"j-8"},{"type":"job","id":"j-9"},{"type":"job","id":"j-10","name":"ten"}],` +
		`"job":{"id":"j-0","command_sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","exit_code":-1},` +
		`"change":{"before_sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",` +
		`"after_sha256":"5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9","patch":[{"op":"replace","path":"/schedule","value":{"z":1,"a":[true]}}]},` +
		`"labels":{"env":"prod"},"details":{"list":[1,{"b":"x","a":[]}],"n":9007199254740991},` +
		`"tenant":"default","received_at":"2026-01-31T22:59:59.123456789Z",` +
		`"ingest":{"principal":"token-1","peer_ip":"198.51.100.7","raw_sha256":"5feceb66ffc86f38d952786c6d696c79c2dbc239dd4e91b46729d73a27fb57e9"}}`
)

// sealedAt is when the events of tests and vectors are sequenced.
var sealedAt = time.Date(2026, 2, 1, 0, 0, 1, 999_999_999, time.UTC)

// seedSalts makes salts that anybody can make again: the first 16 bytes of the
// SHA-256 of a seed, a colon and the pointer. Not for anything but vectors.
type seedSalts string

func (s seedSalts) Salts(dst []byte, f event.Fields) error {
	for i := range f {
		h := s.salt(f[i].Pointer)
		copy(dst[i*saltBytes:], h[:])
	}
	return nil
}

func (s seedSalts) salt(pointer string) (salt [16]byte) {
	h := sha256.Sum256([]byte(string(s) + ":" + pointer))
	return [16]byte(h[:16])
}

func (s seedSalts) chosen(f event.Fields) ChosenSalts {
	c := ChosenSalts{}
	for _, field := range f.Submitted() {
		c[field.Pointer] = s.salt(field.Pointer)
	}
	return c
}

func whole(t testing.TB, text string) event.Fields {
	t.Helper()
	f, err := event.ParseStamped([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func sealed(t testing.TB, text string) Sealed {
	t.Helper()
	c, err := Commit(whole(t, text), seedSalts("seed"))
	if err != nil {
		t.Fatal(err)
	}
	return c.At(sealedAt)
}

func opened(t testing.TB, b []byte) *Opening {
	t.Helper()
	o, err := ParseOpening(b)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// sampleFields are those of sample, stamped.
func sampleFields(t testing.TB) event.Fields {
	t.Helper()
	f, err := event.Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	f, err = f.Stamp(event.Stamp{Tenant: "default", ReceivedAt: sealedAt, Principal: "token-1", PeerIP: "198.51.100.7"})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// sourceKey is a source's key, made from a seed.
func sourceKey(t testing.TB, seed byte) (note.Signer, note.Verifier) {
	t.Helper()
	skey, vkey := keyTexts(t, seed)
	s, err := note.NewSigner(skey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := note.NewVerifier(vkey)
	if err != nil {
		t.Fatal(err)
	}
	return s, v
}

// keyTexts are the two halves of a source's key as package note writes them.
func keyTexts(t testing.TB, seed byte) (skey, vkey string) {
	t.Helper()
	skey, vkey, err := note.GenerateKey(strings.NewReader(strings.Repeat(string(rune(seed)), ed25519.SeedSize)), "node-7.example.com")
	if err != nil {
		t.Fatal(err)
	}
	return skey, vkey
}

// signed returns an event that its source has signed.
func signed(t testing.TB, text string, s note.Signer) event.Fields {
	t.Helper()
	f := whole(t, text)
	n, root, err := SourceRoot(f, seedSalts("seed").chosen(f))
	if err != nil {
		t.Fatal(err)
	}
	signature, err := SignSource(n, root, s)
	if err != nil {
		t.Fatal(err)
	}
	received, err := time.Parse(time.RFC3339Nano, f.Text("/received_at"))
	if err != nil {
		t.Fatal(err)
	}
	f, err = f.Submitted().Stamp(event.Stamp{Tenant: f.Text("/tenant"), ReceivedAt: received, Signature: signature})
	if err != nil {
		t.Fatal(err)
	}
	return f
}
