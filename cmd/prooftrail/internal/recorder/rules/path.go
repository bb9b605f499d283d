package rules

import (
	"fmt"
	"regexp"
	"strings"
)

// Pattern matches paths, segment by segment: a text, whose case doesn't count; a text with * in it, which stands for any; {name},
// which takes one segment; {name...}, which takes any number of them, also none.
type Pattern struct {
	text  string
	parts []part
}

type part struct {
	literal string // in lower case
	glob    *regexp.Regexp
	capture string
	many    bool
}

const maxPatternParts = 32

var captureName = regexp.MustCompile(`^[a-z][a-z0-9_]*$`)

// ParsePattern reads a pattern.
func ParsePattern(text string) (Pattern, error) {
	p := Pattern{text: text}
	if !strings.HasPrefix(text, "/") {
		return p, fmt.Errorf("path %q: expected / at its beginning", text)
	}
	segments := strings.Split(strings.TrimSuffix(text[1:], "/"), "/")
	if len(segments) > maxPatternParts {
		return p, fmt.Errorf("path %q: more than %d segments", text, maxPatternParts)
	}
	many, seen := 0, map[string]bool{}
	for _, s := range segments {
		one, err := parsePart(s)
		if err != nil {
			return p, fmt.Errorf("path %q: %w", text, err)
		}
		if one.many {
			many++
		}
		if one.capture != "" && seen[one.capture] || many > 2 {
			return p, fmt.Errorf("path %q: a name twice, or more than two that take many", text)
		}
		seen[one.capture] = true
		p.parts = append(p.parts, one)
	}
	if text == "/" {
		p.parts = nil
	}
	return p, nil
}

func parsePart(s string) (part, error) {
	if inner, ok := strings.CutPrefix(s, "{"); ok {
		name, closed := strings.CutSuffix(inner, "}")
		name, many := strings.CutSuffix(name, "...")
		if !closed || !captureName.MatchString(name) {
			return part{}, fmt.Errorf("%q: expected {name} or {name...}, the name in lower case", s)
		}
		return part{capture: name, many: many}, nil
	}
	if s == "" || strings.ContainsAny(s, "{}%;?#\\") || s == "." || s == ".." {
		return part{}, fmt.Errorf("%q: expected a plain segment", s)
	}
	if strings.Contains(s, "*") {
		re := "(?is)^" + strings.ReplaceAll(regexp.QuoteMeta(s), `\*`, ".*") + "$"
		glob, err := regexp.Compile(re)
		return part{glob: glob}, err
	}
	return part{literal: strings.ToLower(s)}, nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePattern(string(text))
	return err
}

// String is the pattern as it was written.
func (p Pattern) String() string { return p.text }

// Match matches a path, and returns what its names took.
func (p Pattern) Match(segments []string) (map[string]string, bool) {
	var at [maxPatternParts][2]int
	if !match(p.parts, segments, 0, at[:]) {
		return nil, false
	}
	var captures map[string]string
	for i, one := range p.parts {
		if one.capture == "" {
			continue
		}
		if captures == nil {
			captures = map[string]string{}
		}
		captures[one.capture] = strings.Join(segments[at[i][0]:at[i][1]], "/")
	}
	return captures, true
}

// match matches segments from the nth on, and notes what each part took. With two parts that take many, its time
// grows with the square of the number of segments, which Readings bounds.
func match(parts []part, segments []string, n int, at [][2]int) bool {
	for i, one := range parts {
		if one.many {
			if i == len(parts)-1 {
				at[i] = [2]int{n, len(segments)}
				return true
			}
			for end := n; end <= len(segments); end++ {
				at[i] = [2]int{n, end}
				if match(parts[i+1:], segments, end, at[i+1:]) {
					return true
				}
			}
			return false
		}
		if n == len(segments) || !one.takes(segments[n]) {
			return false
		}
		at[i] = [2]int{n, n + 1}
		n++
	}
	return n == len(segments)
}

func (p *part) takes(segment string) bool {
	switch {
	case p.capture != "":
		return segment != ""
	case p.glob != nil:
		return p.glob.MatchString(segment)
	}
	return strings.EqualFold(p.literal, segment)
}
