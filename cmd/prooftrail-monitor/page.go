package main

import (
	"bytes"
	_ "embed"
	"html/template"
	"log/slog"
	"net/http"
	"time"
)

//go:embed page.html
var pageText string

// page is the status page: plain HTML that escapes whatever logs, peers and alarms are called.
var page = template.Must(template.New("page").Funcs(template.FuncMap{"time": showTime, "age": showAge}).Parse(pageText))

func showTime(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

func showAge(now, t time.Time) string { return max(now.Sub(t), 0).Truncate(time.Second).String() }

// policyOfPage lets the page load nothing, run nothing and be framed by nobody.
const policyOfPage = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func servePage(v func(r *http.Request) view, logger *slog.Logger) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var b bytes.Buffer
		if err := page.Execute(&b, v(r)); err != nil {
			logger.ErrorContext(r.Context(), "the status page", "error", err)
			http.Error(w, "the page can't be shown", http.StatusInternalServerError)
			return
		}
		h := w.Header()
		h.Set("Content-Type", "text/html; charset=utf-8")
		h.Set("Content-Security-Policy", policyOfPage)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		_, _ = w.Write(b.Bytes()) // a client that is gone asks again
	}
}
