package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/prooftrail/prooftrail/verifier"
)

// maxTextSources is how many sources the text lists; JSON has all.
const maxTextSources = 20

// textSources says of each source whether something is missing.
func (e *env) textSources(r *verifier.AuditReport) {
	if len(r.Sources) == 0 {
		return
	}
	w, asked := e.stdout, 0
	for i := range r.Sources {
		if r.Sources[i].Suspicious() {
			asked++
		}
	}
	fmt.Fprintf(w, "  sources    %d with numbered events; %d to be asked what happened\n", len(r.Sources), asked)
	for i := range r.Sources[:min(len(r.Sources), maxTextSources)] {
		s := &r.Sources[i]
		mark := ""
		if s.Suspicious() {
			mark = "ASK "
		}
		fmt.Fprintf(w, "             %s%s of %s: %s\n", mark, printable(s.Source), printable(s.Tenant), strings.Join(sourceParts(s), "; "))
	}
	if n := len(r.Sources) - maxTextSources; n > 0 {
		fmt.Fprintf(w, "             and %d more\n", n)
	}
	if r.MoreSources > 0 {
		fmt.Fprintf(w, "             %d events are of sources that were too many to be followed\n", r.MoreSources)
	}
}

func sourceParts(s *verifier.SourceReport) []string {
	parts := []string{fmt.Sprintf("seq %d to %d", s.FirstSeq, s.LastSeq)}
	switch {
	case s.Missing == 0:
		parts[0] += ", none missing"
	case s.Unaccounted() == 0:
		parts[0] += fmt.Sprintf(", %d missing, which the source says it dropped (%s)", s.Missing, gaps(s))
	default:
		parts[0] += fmt.Sprintf(", %d missing, %d of them not accounted for (%s)", s.Missing, s.Unaccounted(), gaps(s))
	}
	if s.Repeated > 0 {
		parts = append(parts, fmt.Sprintf("%d with a seq that was used before", s.Repeated))
	}
	if s.Silences > 0 {
		parts = append(parts, fmt.Sprintf("silent %d times, the longest for %s", s.Silences, time.Duration(s.Longest)*time.Second))
	}
	switch h := s.Heartbeat; {
	case h == nil:
		parts = append(parts, "no heartbeat")
	case s.Silent:
		parts = append(parts, fmt.Sprintf("SILENT: the last heartbeat was logged at %s, one is due every %s", h.Logged.Format(time.RFC3339), time.Duration(h.Interval)*time.Second))
	default:
		parts = append(parts, "last heartbeat logged at "+h.Logged.Format(time.RFC3339))
	}
	return append(parts, countParts(s)...)
}

// countParts says whether the log holds what the last heartbeat counts.
func countParts(s *verifier.SourceReport) []string {
	h := s.Heartbeat
	if h == nil || h.Held == nil {
		return nil
	}
	says := fmt.Sprintf("it counts %d events up to seq %d, and the log holds %d", h.Count, h.LastSeq, *h.Held)
	switch {
	case s.Short > 0:
		return []string{fmt.Sprintf("%s: %d are MISSING", says, s.Short)}
	case s.Surplus > 0:
		return []string{fmt.Sprintf("%s: %d are not of its count", says, s.Surplus)}
	case h.Count > *h.Held && h.LostSince > 0:
		return []string{says + ", others are said to be lost since"}
	case h.Count > *h.Held:
		return []string{says + ", others come before its first one here"}
	}
	return []string{fmt.Sprintf("the log holds all %d events that it counts", h.Count)}
}

// gaps names the first ones.
func gaps(s *verifier.SourceReport) string {
	const most = 5
	var parts []string
	var listed uint64
	for _, g := range s.Gaps[:min(len(s.Gaps), most)] {
		listed += g.Last - g.First + 1
		if g.First == g.Last {
			parts = append(parts, fmt.Sprint(g.First))
		} else {
			parts = append(parts, fmt.Sprintf("%d-%d", g.First, g.Last))
		}
	}
	if listed < s.Missing {
		parts = append(parts, "…")
	}
	return strings.Join(parts, " ")
}
