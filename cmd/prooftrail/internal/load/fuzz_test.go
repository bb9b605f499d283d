package load

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzAnswer: an answer that is read is the one that net/http reads, as often as a connection
// is used again.
func FuzzAnswer(f *testing.F) {
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")
	f.Add("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
	f.Add("HTTP/1.0 200 OK\r\n\r\nall the rest")
	f.Add("HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\n{}")
	f.Fuzz(func(t *testing.T, text string) {
		c := &conn{r: bufio.NewReader(strings.NewReader(text))}
		want := bufio.NewReader(strings.NewReader(text))
		for {
			status, answer, err := c.read()
			resp, wantErr := http.ReadResponse(want, nil)
			var body []byte
			if wantErr == nil {
				body, wantErr = io.ReadAll(resp.Body)
			}
			if (err == nil) != (wantErr == nil) {
				t.Fatalf("%q: %v, net/http: %v", text, err, wantErr)
			}
			if err != nil {
				return
			}
			if status != resp.StatusCode || !bytes.Equal(answer, body) {
				t.Fatalf("%q: %d %q, net/http: %d %q", text, status, answer, resp.StatusCode, body)
			}
		}
	})
}
