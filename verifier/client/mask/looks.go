package mask

import (
	"regexp"
	"strings"
	"sync"
)

// A look is how secrets look that need no name.
type look struct {
	hint hint
	find func(at spans, s string) spans
}

// prefixes of tokens, with how many of [A-Za-z0-9_.-] at least follow. The first three characters are hints: such as
// words don't begin with, if that can be.
var prefixes = []struct {
	prefix string
	least  int
}{
	{"AKIA", 16}, {"ASIA", 16}, {"ABIA", 16}, {"ACCA", 16}, // AWS
	{"ghp_", 16}, {"gho_", 16}, {"ghu_", 16}, {"ghs_", 16}, {"ghr_", 16}, {"github_pat_", 16},
	{"glpat-", 16}, {"gldt-", 16}, {"glrt-", 16}, {"glcbt-", 16}, {"glptt-", 16}, {"glft-", 16}, {"glsoat-", 16}, {"glagent-", 16}, {"gloas-", 16},
	{"xoxb-", 10}, {"xoxp-", 10}, {"xoxa-", 10}, {"xoxr-", 10}, {"xoxs-", 10}, {"xoxe-", 10}, {"xoxe.", 10}, {"xoxo-", 10}, {"xapp-", 10}, // Slack
	{"sk_live_", 10}, {"sk_test_", 10}, {"rk_live_", 10}, {"rk_test_", 10}, {"whsec_", 16}, // Stripe
	{"sk-", 20},                   // OpenAI, Anthropic and others like them
	{"npm_", 30}, {"pypi-Ag", 16}, // package registries
	{"SG.", 30},                                  // SendGrid
	{"AIza", 30}, {"ya29.", 16}, {"GOCSPX-", 16}, // Google
	{"hvs.", 20}, {"hvb.", 20}, {"hvr.", 20}, // Vault
	{"dop_v1_", 32}, {"doo_v1_", 32}, {"dor_v1_", 32}, {"shpat_", 16}, {"shpca_", 16}, {"shppa_", 16}, {"shpss_", 16},
	{"hf_", 30}, {"dapi", 32}, {"lin_api_", 16}, {"glsa_", 20}, {"glc_", 20}, {"dckr_pat_", 16}, {"dckr_oat_", 16}, {"pscale_tkn_", 16}, {"pscale_pw_", 16},
	{"sq0atp-", 16}, {"sq0csp-", 16}, {"NRAK-", 16}, {"sntrys_", 16}, {"PMAK-", 16}, {"CCIPAT_", 16}, {"ATATT3", 16}, {"AGE-SECRET-KEY-1", 16},
	{"pt_", 16}, // ours
}

// inNames are prefixes that names of jobs may have, too: behind them words in lower case, and numbers by themselves, are no secret.
var inNames = set("sk-", "npm_", "SG.", "hf_", "dapi", "lin_api_", "glc_", "pt_")

// isWords reports whether that is all there is: joined by -, _ and dots.
func isWords(s string) bool {
	for i := 0; i < len(s); i++ {
		if isUpper(s[i]) || i > 0 && (isDigit(s[i]) && isLower(s[i-1]) || isLower(s[i]) && isDigit(s[i-1])) {
			return false
		}
	}
	return true
}

// byFirst are the prefixes by their first byte.
var byFirst = func() (all [256][]int) {
	for i, p := range prefixes {
		all[p.prefix[0]] = append(all[p.prefix[0]], i)
	}
	return all
}()

var looks = []look{
	{hintToken, tokens},
	{hintKey, expression(`(?s)-----BEGIN [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]*PRIVATE KEY(?: BLOCK)?-----|$)`, nil)},
	{hintJWT, expression(`\beyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]*)*`, nil)},
	{hintScheme, expression(`(?i)\b(?:bearer|basic)\s+([A-Za-z0-9._~+/-]{7,}=*)`, noWord)},
	{hintHook, expression(`(?i)hooks\.slack\.com/(?:services|workflows|triggers)/([A-Za-z0-9/_-]+)`, nil)},
	{hintHook, expression(`(?i)discord(?:app)?\.com/api/webhooks/[0-9]+/([A-Za-z0-9_-]+)`, nil)},
	{hintHook, expression(`(?i)webhook\.office\.com/(webhook[A-Za-z0-9@/_-]+)`, nil)},
	{hintBot, expression(`\bbot[0-9]{6,12}:([A-Za-z0-9_-]{30,})`, nil)},                                                                                       // Telegram
	{hintTwilio, expression(`\bSK[0-9a-f]{32}\b`, nil)},                                                                                                       // Twilio
	{hintEntra, expression(`[A-Za-z0-9_~.-]{3}[0-9]Q~[A-Za-z0-9_~.-]{31,34}`, nil)},                                                                           // Entra
	{hintDriver, expression(`(?i)\b[\w.-]+:([^\s@/]+)@(?:tcp|unix)\(`, nil)},                                                                                  // Go's MySQL driver
	{hintOracle, expression(`(?i)jdbc:oracle:\w+:[\w$#]+/([^@\s]+)@`, nil)},                                                                                   // Oracle's
	{hintOracle, expression(`(?i)\bsqlplus(?:\s+-\S+)*\s+[\w$#]+/([^@\s]+)`, nil)},                                                                            // and its client
	{hintStdin, expression(`\b(?:echo|printf)\s+(?:-\w+\s+)?([^|\n]*[^|\s])\s*\|[^|\n]*(?:--password-stdin|--stdin\b|chpasswd|sudo\s+-S|--with-token)`, nil)}, // for others to read
	{hintStdin, hereStrings},
	{hintKey64, expression(`LS0tLS1CRUdJTiB(?:QUklW|SU0EgUFJ|FQyBQUk|PUEVOU1N|FTkNSWVBU)[A-Za-z0-9+/]*={0,2}`, nil)}, // a private key in base64
	{hintUser, expression(`(?:^|[\s"'(=])[A-Za-z0-9_.+-]+:([^\s@/:"'=,\[]+)@(?:localhost|[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+)(?::[0-9]+\b|/)`, nil)},
}

// expression finds what a regular expression does. Of its matches, keep says which are secrets. It is compiled when
// a text needs it: a command that logs its run and ends would wait for all of them.
func expression(re string, keep func(string) bool) func(spans, string) spans {
	compiled := sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(re) })
	return func(at spans, s string) spans { return matches(at, s, compiled(), keep) }
}

// matches finds the first group of each match, or all of it if there is none.
func matches(at spans, s string, re *regexp.Regexp, keep func(string) bool) spans {
	for _, m := range re.FindAllStringSubmatchIndex(s, -1) {
		from, to := m[0], m[1]
		if len(m) > 2 && m[2] >= 0 {
			from, to = m[2], m[3]
		}
		if keep == nil || keep(s[from:to]) {
			at = at.add(from, to)
		}
	}
	return at
}

// noWord reports whether a text isn't a word of a sentence, as in "basic authentication".
func noWord(s string) bool {
	s = strings.TrimRight(s, "=")
	for i := 0; i < len(s); i++ {
		if c := s[i]; !isLower(c) && c != '-' && c != '_' && c != '.' {
			return true
		}
	}
	return false
}

// tokens finds those with a known prefix.
func tokens(at spans, s string) spans {
	for i := 0; i < len(s); i++ {
		if len(byFirst[s[i]]) == 0 || i > 0 && isWord(s[i-1]) {
			continue
		}
		for _, n := range byFirst[s[i]] {
			p := prefixes[n]
			if !strings.HasPrefix(s[i:], p.prefix) {
				continue
			}
			to := i + len(p.prefix)
			for to < len(s) && isName(s[to]) {
				to++
			}
			for s[to-1] == '.' { // the end of a sentence
				to--
			}
			if to-i-len(p.prefix) >= p.least && (!inNames[p.prefix] || !isWords(s[i+len(p.prefix):to])) {
				at = at.add(i, to)
				i = to - 1
				break
			}
		}
	}
	return at
}

// urls finds the passwords in scheme://user:password@host, also one with a / in it, and what stands there for a user
// and is too long for one.
func urls(at spans, s string) spans {
	for i := 0; ; {
		n := strings.Index(s[i:], "://")
		if n < 0 {
			return at
		}
		i += n + 3
		end := len(s)
		if next := strings.Index(s[i:], "://"); next >= 0 { // the next one's scheme
			end = i + next
		}
		if n := strings.IndexAny(s[i:end], " \t\r\n\"'`<>\\"); n >= 0 {
			end = i + n
		}
		path := i + strings.IndexAny(s[i:end]+"/", "/?#")
		host := strings.LastIndexByte(s[i:path], '@')
		colon := strings.IndexByte(s[i:path], ':')
		if host < 0 && colon >= 0 && !isNumber(s[i+colon+1:path]) {
			host = strings.LastIndexByte(s[i:end], '@')
		}
		switch {
		case host < 0:
		case colon >= 0 && colon < host:
			at = at.add(i+colon+1, i+host)
		case host >= 20 && strings.ContainsAny(s[i:i+host], "0123456789") && !strings.Contains(s[i:i+host], Masked):
			at = at.add(i, i+host)
		}
		i = end
	}
}
