package limit

import (
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
)

// TestFull: at the bound the next connection takes the place of the one that waits longest without a request, and one with a
// request under way is never cut off.
func TestFull(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	shed := make(chan struct{}, 8)
	began, end := make(chan struct{}), make(chan struct{})
	s := &http.Server{ConnState: ConnState, Handler: http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			close(began)
			<-end
		}
	})}
	go func() { _ = s.Serve(New(l, 2, func() { shed <- struct{}{} })) }()
	defer s.Close()
	dial := func(request string) net.Conn {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
		return c
	}
	long := dial("GET /long HTTP/1.0\r\n\r\n")
	<-began
	silent := dial("")
	dial("GET / HTTP/1.0\r\n\r\n")
	<-shed
	if _, err := silent.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
		t.Errorf("the silent one sees %v", err)
	}
	close(end)
	if b, err := io.ReadAll(long); err != nil || len(b) == 0 {
		t.Errorf("the one with a request got %q %v", b, err)
	}
}
