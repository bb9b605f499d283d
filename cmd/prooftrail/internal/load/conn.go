package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds an answer, in bytes: a full batch's receipts.
const maxAnswer = 128 << 20

// conn posts events over one connection that it opens when it needs one. It
// isn't safe for concurrent use. What it writes is made once; net/http's client,
// made for every case there is, costs several times as much.
type conn struct {
	addr    string
	tls     *tls.Config // nil: plain
	head    []byte      // request up to and with "Content-Length: "
	timeout time.Duration

	c      net.Conn // nil: none open
	r      *bufio.Reader
	out    []byte // request header being written
	answer []byte // last answer's body
}

// newConn prepares posting to base's /v1/events; it doesn't connect.
func newConn(cfg *Config) (*conn, error) {
	u, err := url.Parse(cfg.Client.URL)
	if err != nil {
		return nil, fmt.Errorf("server URL: %w", err)
	}
	c := &conn{addr: u.Host, timeout: cfg.Client.Timeout}
	if c.timeout <= 0 {
		c.timeout = 30 * time.Second
	}
	port := "80"
	if u.Scheme == "https" {
		port = "443"
		c.tls = &tls.Config{ServerName: u.Hostname(), RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12}
	}
	if u.Port() == "" {
		c.addr = net.JoinHostPort(u.Hostname(), port)
	}
	kind := "application/json"
	if cfg.Batch > 1 {
		kind = "application/x-ndjson"
	}
	c.head = fmt.Appendf(nil, "POST %s/v1/events?wait=%s HTTP/1.1\r\nHost: %s\r\nUser-Agent: prooftrail-bench\r\n"+
		"Authorization: Bearer %s\r\nContent-Type: %s\r\nContent-Length: ", strings.TrimRight(u.EscapedPath(), "/"), cfg.Wait, u.Host, cfg.Client.Token, kind)
	return c, nil
}

// post sends a body and returns the answer, which is valid until the next
// call. After an error the next call connects anew.
func (c *conn) post(ctx context.Context, body []byte) (status int, answer []byte, err error) {
	if err := c.connect(ctx); err != nil {
		return 0, nil, err
	}
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if err := c.c.SetDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, nil, err
	}
	c.out = append(c.out[:0], c.head...)
	c.out = strconv.AppendInt(c.out, int64(len(body)), 10)
	c.out = append(c.out, "\r\n\r\n"...)
	bufs := net.Buffers{c.out, body}
	if _, err := bufs.WriteTo(c.c); err != nil {
		return 0, nil, fmt.Errorf("send: %w", err)
	}
	return c.read()
}

func (c *conn) read() (status int, answer []byte, err error) {
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return 0, nil, fmt.Errorf("receive: %w", err)
	}
	defer resp.Body.Close()
	c.answer = c.answer[:0]
	if n := resp.ContentLength; n > int64(cap(c.answer)) && n <= maxAnswer {
		c.answer = make([]byte, 0, n+n/8)
	}
	body := io.LimitReader(resp.Body, maxAnswer)
	for {
		if len(c.answer) == cap(c.answer) {
			c.answer = append(c.answer, 0)[:len(c.answer)]
		}
		n, err := body.Read(c.answer[len(c.answer):cap(c.answer)])
		c.answer = c.answer[:len(c.answer)+n]
		if err == io.EOF {
			break
		}
		if err != nil {
			return 0, nil, fmt.Errorf("receive: %w", err)
		}
	}
	if resp.Close || len(c.answer) == maxAnswer {
		c.close()
	}
	return resp.StatusCode, c.answer, nil
}

func (c *conn) connect(ctx context.Context) error {
	if c.c != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var d net.Dialer
	var err error
	if c.tls != nil {
		td := tls.Dialer{NetDialer: &d, Config: c.tls}
		c.c, err = td.DialContext(ctx, "tcp", c.addr)
	} else {
		c.c, err = d.DialContext(ctx, "tcp", c.addr)
	}
	if err != nil {
		c.c = nil
		return fmt.Errorf("connect: %w", err)
	}
	c.r = bufio.NewReaderSize(c.c, 64<<10)
	return nil
}

func (c *conn) close() {
	if c.c != nil {
		_ = c.c.Close() // it has failed, or is done with
		c.c = nil
	}
}
