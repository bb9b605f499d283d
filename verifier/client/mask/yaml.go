package mask

import "strings"

// endsLine reports whether nothing but what begins a block of YAML is left of the line: |, >, with - or + or a digit.
func (p *pair) endsLine(at int) bool {
	if at < len(p.s) && (p.s[at] == '|' || p.s[at] == '>') {
		at++
		for n := 0; n < 2 && at < len(p.s) && strings.IndexByte("-+123456789", p.s[at]) >= 0; n++ {
			at++
		}
	}
	at = p.skip(at)
	return at == len(p.s) && p.s[at-1] != '\n' || at < len(p.s) && (p.s[at] == '\n' || p.s[at] == '\r')
}

// block returns the place of the lines that belong to a name of YAML: those that are further in, and the elements of a list.
func (p *pair) block(at int) (from, to int) {
	s := p.s
	start := strings.LastIndexByte(s[:p.from], '\n') + 1
	if strings.Trim(s[start:p.from], " -\"'") != "" {
		return 0, 0 // no name of YAML
	}
	indent, items := p.from-start, s[start:p.from]
	for {
		n := strings.IndexByte(s[at:], '\n')
		if n < 0 {
			break
		}
		at += n + 1
		text := at
		for text < len(s) && s[text] == ' ' {
			text++
		}
		if text == len(s) || s[text] == '\n' || s[text] == '\r' {
			continue // an empty line
		}
		isItem := text-at == indent && strings.HasPrefix(s[text:], "- ") && !strings.Contains(items, "-")
		if text-at <= indent && !isItem {
			break
		}
		if from == 0 {
			from = text
		}
		to = len(s)
		if n := strings.IndexAny(s[text:], "\r\n"); n >= 0 {
			to = text + n
		}
	}
	return from, to
}
