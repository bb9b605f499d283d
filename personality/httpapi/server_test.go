package httpapi

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/personality"
)

// recordHandler hands each line of access log to a channel: how a test knows
// that the server is through with a request whose client is gone.
type recordHandler struct{ c chan slog.Record }

func (h recordHandler) Enabled(context.Context, slog.Level) bool { return true }
func (h recordHandler) Handle(_ context.Context, r slog.Record) error {
	h.c <- r
	return nil
}
func (h recordHandler) WithAttrs([]slog.Attr) slog.Handler { return h }
func (h recordHandler) WithGroup(string) slog.Handler      { return h }

func withRecords(t testing.TB, change func(*Config)) (*harness, chan slog.Record) {
	records := make(chan slog.Record, 1000)
	return withFake(t, func(c *Config) {
		c.AccessLog = slog.New(recordHandler{records})
		change(c)
	}), records
}

func (h *harness) dial() net.Conn {
	h.t.Helper()
	c, err := net.Dial("tcp", h.addr)
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { c.Close() })
	return c
}

func submitHeader(contentType, length string) string {
	return "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + fakeSecret + "\r\nContent-Type: " + contentType + "\r\n" + length + "\r\n\r\n"
}

func TestSlowBody(t *testing.T) {
	h, _ := withRecords(t, func(c *Config) { c.BodyTimeout = 50 * time.Millisecond })
	for _, path := range []string{"/v1/events", "/v1/tokens"} {
		for _, contentType := range []string{jsonType, ndjsonType} {
			if path == "/v1/tokens" && contentType == ndjsonType {
				continue
			}
			c := h.dial()
			fmt.Fprint(c, strings.Replace(submitHeader(contentType, "Content-Length: 1000"), "/v1/events", path, 1)+`{"events"`)
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != 408 || !resp.Close {
				t.Errorf("%v, %d: %s", err, resp.StatusCode, body)
			}
			if err := theDocument().check("POST", path, resp.StatusCode, resp.Header, body); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestSlowHeader(t *testing.T) {
	h, _ := withRecords(t, func(c *Config) { c.HeaderTimeout = 50 * time.Millisecond })
	c := h.dial()
	fmt.Fprint(c, "POST /v1/events HTTP/1.1\r\nHost:")
	if b, err := io.ReadAll(c); err != nil && !errors.Is(err, net.ErrClosed) {
		t.Logf("cut off: %v after %q", err, b) // a reset is as good as an end
	}
}

func TestHeaderTooLarge(t *testing.T) {
	h, _ := withRecords(t, func(*Config) {})
	resp, err := h.client.Do(h.request(call{method: "GET", path: "/healthz", header: map[string]string{"X-Long": strings.Repeat("x", 1<<20)}}))
	if err != nil {
		return // cut off while writing is as good as the answer
	}
	resp.Body.Close()
	if resp.StatusCode != 431 {
		t.Errorf("status %d", resp.StatusCode)
	}
}

// TestSlowReader: a client that doesn't read its answer loses its connection.
func TestSlowReader(t *testing.T) {
	h, records := withRecords(t, func(c *Config) { c.WriteTimeout = 50 * time.Millisecond })
	h.fake.opening = []byte(`"` + strings.Repeat("x", 8<<10) + `"`)
	c := h.dial()
	fmt.Fprint(c, "GET /v1/logs/audit/openings?start=0&count=10000 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+fakeSecret+"\r\n\r\n")
	<-records // it doesn't hang
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
	}
	if err == nil {
		t.Error("the answer looks complete")
	}
}

// TestClientGoneInBody: of a JSON body cut short nothing is admitted, of an
// NDJSON body the whole lines.
func TestClientGoneInBody(t *testing.T) {
	one := sample("a", "x")
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	for _, c := range []struct {
		name, text string
		admitted   int
	}{
		{"one event", submitHeader(jsonType, "Content-Length: "+fmt.Sprint(len(one)+1)) + one, 0},
		{"batch, chunked", submitHeader(jsonType, "Transfer-Encoding: chunked") + chunk(`{"events":[`+one+`]}`), 0},
		{"lines", submitHeader(ndjsonType, "Content-Length: 100000") + one + "\n" + sample("b", "x"), 1},
		{"lines, chunked", submitHeader(ndjsonType, "Transfer-Encoding: chunked") + chunk(one+"\n") + chunk(sample("b", "x")+"\n") + chunk(sample("c", "x")), 2},
		{"lines, bad chunk", submitHeader(ndjsonType, "Transfer-Encoding: chunked") + chunk(one+"\n") + "zz\r\n", 1},
	} {
		h, records := withRecords(t, func(*Config) {})
		conn := h.dial()
		fmt.Fprint(conn, c.text)
		conn.Close()
		<-records
		if n := h.fake.size(); n != c.admitted {
			t.Errorf("%s: %d admitted, want %d", c.name, n, c.admitted)
		}
	}
}

// TestClientGoneWaiting: the wait for an event ends with its client.
func TestClientGoneWaiting(t *testing.T) {
	h, records := withRecords(t, func(*Config) {})
	waiting, ended := make(chan struct{}), make(chan error, 1)
	h.fake.waiting = func(ctx context.Context) {
		close(waiting)
		<-ctx.Done()
		ended <- ctx.Err()
	}
	conn := h.dial()
	one := sample("a", "x")
	fmt.Fprint(conn, submitHeader(jsonType, fmt.Sprint("Content-Length: ", len(one)))+one)
	<-waiting
	conn.Close()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-records
}

// TestLongWait: the time for the body doesn't end the wait that follows it.
func TestLongWait(t *testing.T) {
	h, _ := withRecords(t, func(c *Config) { c.BodyTimeout, c.AnswerTimeout = 50*time.Millisecond, 200*time.Millisecond })
	var ended error
	h.fake.waiting = func(ctx context.Context) {
		<-ctx.Done()
		ended = ctx.Err()
	}
	h.fake.result = func(*fakeEvent, personality.Wait) personality.Result {
		return personality.Result{Status: personality.StatusAccepted}
	}
	h.post("fake", "/v1/events", jsonType, sample("a", "x"), 202)
	if !errors.Is(ended, context.DeadlineExceeded) {
		t.Error(ended)
	}
}

// TestLongWaitForLines: for the receipts of a request of lines, too, nobody waits longer than
// AnswerTimeout once its body is there.
func TestLongWaitForLines(t *testing.T) {
	h, _ := withRecords(t, func(c *Config) { c.BodyTimeout, c.AnswerTimeout = time.Hour, time.Minute })
	var left time.Duration
	h.fake.waiting = func(ctx context.Context) {
		until, _ := ctx.Deadline()
		left = time.Until(until)
	}
	h.fake.result = func(*fakeEvent, personality.Wait) personality.Result {
		return personality.Result{Status: personality.StatusAccepted}
	}
	h.post("fake", "/v1/events", "application/x-ndjson", sample("a", "x")+"\n", 200)
	if left <= 0 || left > time.Minute {
		t.Errorf("%v were left", left)
	}
}

// TestShutdownUnderLoad: what was answered before or during a shutdown is in
// the log when it is opened again.
func TestShutdownUnderLoad(t *testing.T) {
	r := newRealLog(t)
	h := serve(t, Of(r.svc), nil)
	h.real = r
	var answered atomic.Int64
	enough := make(chan struct{})
	var mu sync.Mutex
	hashes := map[uint64]string{}
	var clients sync.WaitGroup
	for n := range 8 {
		clients.Go(func() {
			for i := 0; ; i++ {
				a, err := h.try(call{method: "POST", path: "/v1/events", token: "submit", body: sample(fmt.Sprintf("e%d-%d", n, i), "x")})
				if err != nil {
					return // the server is gone
				}
				if a.status != 201 {
					t.Errorf("status %d: %s", a.status, a.body)
					return
				}
				res := a.result(t)
				mu.Lock()
				hashes[res.Index] = res.LeafHash
				mu.Unlock()
				if answered.Add(1) == 200 {
					close(enough)
				}
			}
		})
	}
	<-enough
	if err := h.server.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	clients.Wait()
	if err := r.svc.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	again, err := personality.Open(t.Context(), r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close(context.Background())
	for index, hash := range hashes {
		e, err := again.Entry(t.Context(), personality.OperatorCaller(), index)
		if err != nil || base64.StdEncoding.EncodeToString(e.LeafHash[:]) != hash {
			t.Fatalf("entry %d: %v", index, err)
		}
	}
}

// TestCloseCutsOff: Close waits no longer than it is told.
func TestCloseCutsOff(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := newFakeLog(t)
	s, err := NewServer(Config{Log: f})
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	waiting, ended := make(chan struct{}), make(chan struct{})
	f.waiting = func(ctx context.Context) {
		close(waiting)
		<-ctx.Done()
		close(ended)
	}
	h := &harness{t: t, addr: l.Addr().String()}
	one := sample("a", "x")
	fmt.Fprint(h.dial(), submitHeader(jsonType, fmt.Sprint("Content-Length: ", len(one)))+one)
	<-waiting
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Close(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	<-ended
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestTLS(t *testing.T) {
	cert, key := certificate(t)
	h := withFake(t, func(c *Config) { c.TLSCert, c.TLSKey = cert, key })
	pool := x509.NewCertPool()
	pem, err := os.ReadFile(cert)
	if err != nil || !pool.AppendCertsFromPEM(pem) {
		t.Fatal(err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	req := h.request(call{method: "POST", path: "/v1/events", token: "fake", body: sample("a", "x")})
	req.URL.Scheme = "https"
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != 201 || resp.ProtoMajor != 2 {
		t.Errorf("%s %s", resp.Proto, resp.Status)
	}
	if c, err := tls.Dial("tcp", h.addr, &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
		c.Close()
		t.Error("TLS 1.1 is taken")
	}
}

func certificate(t *testing.T) (certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	for file, block := range map[string]*pem.Block{certFile: {Type: "CERTIFICATE", Bytes: der}, keyFile: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(file, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile
}
