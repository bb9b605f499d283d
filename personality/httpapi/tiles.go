package httpapi

import (
	"compress/gzip"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/prooftrail/prooftrail/verifier"
)

// checkpoint serves the signed checkpoint of c2sp.org/tlog-tiles: "This endpoint
// is mutable, so its headers SHOULD prevent caching beyond a few seconds."
func (a *API) checkpoint(x *exchange) error {
	if err := x.checkLog(); err != nil {
		return err
	}
	note, err := a.cfg.Log.Checkpoint(x.r.Context())
	if err != nil {
		return err
	}
	x.w.Header()["Cache-Control"] = valueNoCache
	x.send(http.StatusOK, valueText, note)
	return nil
}

// tile serves `tile/<L>/<N>[.p/<W>]`.
func (a *API) tile(x *exchange) error {
	t, err := x.tileArgs("tile/" + x.args[1] + "/" + x.args[2])
	if err != nil {
		return err
	}
	b, err := a.cfg.Log.Tile(x.r.Context(), t.Level, t.N, t.Width)
	if err != nil {
		return err
	}
	x.w.Header()["Cache-Control"] = valueImmutable // "its caching headers SHOULD be long-lived"
	x.send(http.StatusOK, valueOctets, b)
	return nil
}

// entryBundle serves `tile/entries/<N>[.p/<W>]`.
func (a *API) entryBundle(x *exchange) error {
	t, err := x.tileArgs("tile/entries/" + x.args[1])
	if err != nil {
		return err
	}
	b, err := a.cfg.Log.EntryBundle(x.r.Context(), t.N, t.Width)
	if err != nil {
		return err
	}
	x.w.Header()["Cache-Control"] = valueImmutable
	x.sendCompressed(b)
	return nil
}

// tileArgs reads a tile's path. Another spelling than the canonical one is a
// tile that doesn't exist. A query string is ignored here, as by any static
// file server.
func (x *exchange) tileArgs(path string) (verifier.Tile, error) {
	if err := x.checkLog(); err != nil {
		return verifier.Tile{}, err
	}
	t, err := verifier.ParseTilePath(path)
	if err != nil {
		return t, &problem{kind: kindNotFound, detail: "there is no tile of this name"}
	}
	return t, nil
}

// sendCompressed: "Entry bundles SHOULD be compressed at the HTTP layer."
func (x *exchange) sendCompressed(b []byte) {
	h := x.w.Header()
	h["Vary"] = []string{"Accept-Encoding"}
	if len(b) < 1<<10 || !acceptsGzip(x.r.Header) {
		x.send(http.StatusOK, valueOctets, b)
		return
	}
	buf := getBuffer()
	defer putBuffer(buf)
	z := gzips.Get().(*gzip.Writer)
	defer gzips.Put(z)
	z.Reset((*bytesWriter)(buf))
	_, _ = z.Write(b) // to memory
	_ = z.Close()
	h["Content-Encoding"] = []string{"gzip"}
	x.send(http.StatusOK, valueOctets, buf.b)
}

var gzips = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(io.Discard, gzip.BestSpeed) // fails for wrong levels only
	return z
}}

// bytesWriter appends to a buffer.
type bytesWriter buffer

func (w *bytesWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// acceptsGzip reads Accept-Encoding as far as it matters: gzip named, and not
// with a quality of zero.
func acceptsGzip(h http.Header) bool {
	for _, v := range h["Accept-Encoding"] {
		for part := range strings.SplitSeq(v, ",") {
			name, quality, _ := strings.Cut(part, ";")
			if strings.EqualFold(strings.TrimSpace(name), "gzip") {
				q, ok := strings.CutPrefix(strings.TrimSpace(quality), "q=")
				return !ok || strings.Trim(q, "0.") != ""
			}
		}
	}
	return false
}
