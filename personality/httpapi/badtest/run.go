package badtest

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Secret is in every value of the corpus that could be one, in some case of its
// letters. No answer may hold it.
const Secret = "sesame"

// A Server is what the corpus is run against.
type Server struct {
	Addr   string            // host:port, plain HTTP
	Tokens map[string]string // secrets by the names that cases use
	Size   func() uint64     // of the log now; nothing that was stored may be missing
	// Document, if set, holds each answer of the service against its description.
	Document func(method, path string, status int, header http.Header, body []byte) error
}

// answer is what came back; status 0 is a closed connection.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// Run sends each case, and checks its answer and that the log is as it was.
func (c *Corpus) Run(t *testing.T, s *Server) {
	client := &http.Client{
		Transport: &http.Transport{DisableCompression: true},
		Timeout:   30 * time.Second,
	}
	defer client.CloseIdleConnections()
	before := s.Size()
	for _, k := range c.Cases {
		t.Run(k.File+"/"+k.Name, func(t *testing.T) {
			a, err := c.send(t.Context(), client, s, k)
			for n := 0; n < 3 && errors.Is(err, syscall.EPIPE); n++ {
				// The server answered and closed while the client was still writing, which
				// net/http's client may see before the answer.
				a, err = c.send(t.Context(), client, s, k)
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, fault := range a.faults(k) {
				t.Error(fault)
			}
			if s.Document != nil && k.Raw == nil {
				if err := s.Document(k.Method, k.Path, a.status, a.header, a.body); err != nil {
					t.Errorf("against the document: %v", err)
				}
			}
			if after := s.Size(); after != before {
				t.Errorf("the log went from %d to %d entries", before, after)
				before = after
			}
		})
	}
}

func (c *Corpus) send(ctx context.Context, client *http.Client, s *Server, k *Case) (*answer, error) {
	if k.Raw != nil {
		return c.sendRaw(s, k)
	}
	body, err := c.BodyOf(k)
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, k.Method, "http://"+s.Addr+k.Path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body == "" {
		r.Body, r.ContentLength = nil, 0
	} else {
		r.Header.Set("Content-Type", "application/json")
	}
	if k.Token != "none" {
		secret, ok := s.Tokens[k.Token]
		if !ok {
			secret = k.Token
		}
		r.Header.Set("Authorization", "Bearer "+secret)
	}
	replaced := map[string]bool{}
	for _, line := range k.Header {
		name, value, _ := strings.Cut(line, ":")
		if !replaced[name] {
			r.Header.Del(name)
		}
		replaced[name] = true
		if value, err = c.Expand(strings.TrimPrefix(value, " "), s.vars()); err != nil {
			return nil, err
		}
		if value != "" {
			r.Header.Add(name, value)
		}
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, err
	}
	return read(resp)
}

// vars are what {{…}} in headers and raw lines may name.
func (s *Server) vars() map[string]string {
	vars := map[string]string{"host": s.Addr}
	for name, secret := range s.Tokens {
		vars["token "+name] = secret
	}
	return vars
}

// sendRaw writes lines to a connection, each but the last with a CRLF, says that
// no more comes, and reads what there is to be read.
func (c *Corpus) sendRaw(s *Server, k *Case) (*answer, error) {
	text, err := c.Expand(strings.Join(k.Raw, "\r\n"), s.vars())
	if err != nil {
		return nil, err
	}
	conn, err := net.Dial("tcp", s.Addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
		return nil, err
	}
	written := make(chan struct{})
	go func() {
		defer close(written)
		if _, err := io.WriteString(conn, text); err == nil { // else the server has had enough
			_ = conn.(*net.TCPConn).CloseWrite()
		}
	}()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return nil, fmt.Errorf("neither an answer nor an end: %w", err)
	}
	if err != nil {
		return &answer{}, nil // closed, or reset
	}
	a, err := read(resp)
	_ = conn.Close()
	<-written
	return a, err
}

func read(resp *http.Response) (*answer, error) {
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return &answer{resp.StatusCode, resp.Header, body}, nil
}

// problem is RFC 9457 with the members that prooftrail adds.
type problem struct {
	Type      string  `json:"type"`
	Title     string  `json:"title"`
	Status    int     `json:"status"`
	Pointer   *string `json:"pointer"`
	Parameter *string `json:"parameter"`
	Code      string  `json:"code"`
	Expected  string  `json:"expected"`
	RequestID string  `json:"request_id"`
}

// faults is what is wrong with an answer.
func (a *answer) faults(k *Case) (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	var all bytes.Buffer
	_ = a.header.Write(&all) // to memory
	all.Write(a.body)
	if strings.Contains(strings.ToLower(all.String()), Secret) {
		fault("it repeats a value: %.500s", all.String())
	}
	if k.Slug == "" {
		if refused := a.status == 0 || a.status >= 400 && a.status < 500 || httpOwn(a.status); !refused || k.Status != 0 && a.status != k.Status {
			fault("status %d, expected %d: %.500s", a.status, k.Status, a.body)
		}
		return faults
	}
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil || a.status != k.Status {
		fault("status %d, expected %d, %v: %.500s", a.status, k.Status, err, a.body)
		return faults
	}
	if p.Type != "/problems/"+k.Slug || p.Status != k.Status || p.Title == "" || a.header.Get("Content-Type") != "application/problem+json" {
		fault("expected %s, got %.500s", k.Slug, a.body)
	}
	if got, want := p.names(), k.names(); got != want {
		fault("names %s, expected %s: %.500s", got, want, a.body)
	}
	if k.Code != "" && p.Code != k.Code || k.Slug == "invalid-event" && (p.Code == "" || p.Expected == "") {
		fault("code %q, expected %q: %.500s", p.Code, k.Code, a.body)
	}
	if p.RequestID == "" || p.RequestID != a.header.Get("X-Request-Id") || a.header.Get("Cache-Control") != "no-store" {
		fault("request id %q of %q, or may be cached", p.RequestID, a.header.Get("X-Request-Id"))
	}
	if a.status == http.StatusUnauthorized && a.header.Get("WWW-Authenticate") == "" || a.status == http.StatusMethodNotAllowed && a.header.Get("Allow") == "" {
		fault("headers %v", a.header)
	}
	return faults
}

func (p *problem) names() string {
	switch {
	case p.Pointer != nil && p.Parameter != nil:
		return "both a pointer and a parameter"
	case p.Pointer != nil:
		return fmt.Sprintf("pointer %q", *p.Pointer)
	case p.Parameter != nil:
		return fmt.Sprintf("parameter %q", *p.Parameter)
	}
	return "nothing"
}

func (k *Case) names() string {
	if k.Named == "" {
		return "nothing"
	}
	return fmt.Sprintf("%s %q", k.Named, k.Pointer)
}
