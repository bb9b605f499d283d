package cronservice

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"io"
	"sync/atomic"
)

// commands are what jobs can run: small real work in this process. The result
// is an exit code and, when that isn't 0, why.
var commands = map[string]func(ctx context.Context, secret string) (int64, string){
	"backup": backup,
	"report": report,
	"flaky":  flaky,
}

// backup packs some data, unpacks it and compares.
func backup(ctx context.Context, _ string) (int64, string) {
	data := bytes.Repeat([]byte(rand.Text()), 2000)
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	if _, err := w.Write(data); err != nil || w.Close() != nil {
		return 1, "the backup could not be packed"
	}
	r, err := gzip.NewReader(&packed)
	if err != nil {
		return 1, "the backup could not be read"
	}
	back, err := io.ReadAll(r)
	if err != nil || !bytes.Equal(back, data) || ctx.Err() != nil {
		return 1, "the backup isn't what was saved"
	}
	return 0, ""
}

// report signs a report with the credential.
func report(_ context.Context, secret string) (int64, string) {
	if secret == "" {
		return 77, "there is no credential to sign the report with"
	}
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write([]byte("all is well"))
	return int64(len(mac.Sum(nil)) - sha256.Size), ""
}

var flakyRuns atomic.Int64

// flaky fails each third time.
func flaky(context.Context, string) (int64, string) {
	if flakyRuns.Add(1)%3 == 0 {
		return 1, "the upstream closed the connection"
	}
	return 0, ""
}
