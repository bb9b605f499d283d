package mask

import (
	"slices"
	"strings"
)

var (
	// stems in a word make it name a secret.
	stems = []string{"password", "passwd", "passphrase", "passcode", "pwd", "secret", "token", "credential", "authorization",
		"cookie", "signature", "sessid", "sessionid", "bearer", "passwort", "kennwort",
		"apikey", "accesskey", "privatekey", "secretkey", "accountkey", "sharedkey", "encryptionkey", "signingkey", "masterkey", "authkey"}
	// notStems are words that have a stem, and name none.
	notStems = set("tokenizer", "tokenizers", "tokenize", "tokenized", "tokenization", "secretary", "secretariat", "secretsmanager")
	// whole words that name a secret.
	whole = set("pass", "auth", "sig", "sas", "dsn", "otp", "totp", "cvv", "cvc", "jwt", "cred", "creds", "session", "pw")
	// notPass are words that end in "pass", and name none.
	notPass = set("bypass", "compass", "encompass", "surpass", "trespass", "underpass", "overpass")
	// keys are words before "key" that make it name a secret.
	keys = set("api", "access", "private", "secret", "account", "shared", "encryption", "signing", "master", "ssh", "client", "tls", "ssl",
		"deploy", "storage", "subscription", "auth", "service", "license", "session", "host", "app", "application", "webhook", "hmac", "server")
	// about are last words of names of what is about a secret.
	about = set("count", "counts", "total", "length", "len", "size", "limit", "limits", "max", "min", "quota", "ttl", "age",
		"expiry", "expires", "expired", "expiration", "at", "date", "time", "timestamp", "seconds", "days", "hours", "ms",
		"id", "ids", "name", "names", "type", "types", "kind", "version", "path", "file", "filename", "dir", "url", "uri", "endpoint",
		"method", "policy", "status", "state", "result", "required", "enabled", "disabled", "valid", "verified", "present",
		"used", "changed", "rotated", "rotation", "rotate", "refresh", "renew", "renewal", "algorithm", "alg", "issuer", "scope", "scopes", "audience", "owner",
		"provider", "manager", "ref", "field", "header", "index", "mode", "format", "class", "backend", "store",
		"service", "server", "svc", "job", "controller", "app", "operator", "handler", "worker", "cleanup", "check", "sync", "stdin")
	// asks are first words of names that say whether, or how many.
	asks = set("max", "min", "num", "has", "is", "no", "total", "require", "requires", "allow", "allows", "supports")
)

func set(words ...string) map[string]bool {
	m := make(map[string]bool, len(words))
	for _, w := range words {
		m[w] = true
	}
	return m
}

// maxName is how much of a name is looked at, its end.
const maxName = 128

// words splits a name into words in lower case, at what is no letter or digit and where camel case says so. Digits at
// a word's end are left out.
func words(name string) (all []string) {
	name = name[max(0, len(name)-maxName):]
	start := 0
	end := func(i int) {
		if w := strings.TrimRight(name[start:i], "0123456789"); w != "" {
			all = append(all, strings.ToLower(w))
		}
	}
	for i := 0; i < len(name); i++ {
		switch c := name[i]; {
		case !isWord(c):
			end(i)
			start = i + 1
		case isUpper(c) && i > start && (!isUpper(name[i-1]) || i+1 < len(name) && isLower(name[i+1])):
			end(i)
			start = i
		}
	}
	end(len(name))
	return all
}

func isUpper(c byte) bool { return 'A' <= c && c <= 'Z' }
func isLower(c byte) bool { return 'a' <= c && c <= 'z' }
func isDigit(c byte) bool { return '0' <= c && c <= '9' }
func isWord(c byte) bool  { return isUpper(c) || isLower(c) || isDigit(c) || c >= 0x80 }
func isName(c byte) bool  { return isWord(c) || c == '_' || c == '-' || c == '.' }
func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// secret reports whether a name is one of a secret.
func (m *Masker) secret(name string) bool {
	if len(name) >= 3 && m.hints.in(name)&hintName == 0 && !hasPW(name) {
		return false
	}
	all := words(name)
	if len(all) == 0 {
		return false
	}
	if len(m.moreNames) > 0 {
		joined := strings.Join(all, "")
		if slices.ContainsFunc(m.moreNames, func(n string) bool { return strings.Contains(joined, n) }) {
			return true
		}
	}
	last := all[len(all)-1]
	switch {
	case slices.ContainsFunc(all, func(w string) bool { return w == "session" || w == "secret" }) && (last == "id" || last == "key"):
		return true // session ids often are all that a session needs; Vault's secret_id
	case len(all) > 1 && (about[last] || asks[all[0]]):
		return false
	}
	for i, w := range all {
		if word(w) || (w == "key" || w == "keys") && i > 0 && keys[all[i-1]] {
			return true
		}
	}
	return false
}

// hasPW reports whether there is a pw in a name, for which there is no hint but in front of a value.
func hasPW(name string) bool {
	for i := 1; i < len(name); i++ {
		if name[i]|0x20 == 'w' && name[i-1]|0x20 == 'p' {
			return true
		}
	}
	return false
}

// word reports whether a word in lower case names a secret.
func word(w string) bool {
	switch {
	case whole[w]:
		return true
	case notStems[w]:
		return false
	case strings.HasSuffix(w, "pass"):
		return !notPass[w]
	}
	return slices.ContainsFunc(stems, func(stem string) bool { return strings.Contains(w, stem) })
}

// counts reports whether a name counts tokens, if its value is a number.
func counts(name string) bool { return slices.Contains(words(name), "tokens") }
