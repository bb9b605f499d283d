package mask

import "strings"

// kind is how a program's flag takes a secret.
type kind int

const (
	attached kind = iota // -pSECRET
	next                 // -p SECRET or -pSECRET
	login                // -u user:SECRET
	percent              // -U user%SECRET
)

// programs with flags for secrets whose names don't tell.
var programs = map[string]map[string]kind{
	"mysql": {"-p": attached}, "mysqldump": {"-p": attached}, "mysqladmin": {"-p": attached}, "mysqlimport": {"-p": attached},
	"mysqlcheck": {"-p": attached}, "mysqlshow": {"-p": attached}, "mysqlpump": {"-p": attached}, "mysqlbinlog": {"-p": attached},
	"mariadb": {"-p": attached}, "mariadb-dump": {"-p": attached}, "mariadb-admin": {"-p": attached}, "mariabackup": {"-p": attached}, "xtrabackup": {"-p": attached},
	"mydumper": {"-p": next}, "myloader": {"-p": next},
	"curl": {"-u": login, "--user": login, "-U": login, "--proxy-user": login, "--pass": next, "--proxy-pass": next},
	"http": {"-a": login, "--auth": login}, "https": {"-a": login, "--auth": login}, "lftp": {"-u": login},
	"sshpass": {"-p": next}, "psexec": {"-p": next}, "plink": {"-pw": next}, "pscp": {"-pw": next}, "psftp": {"-pw": next}, "schtasks": {"/rp": next, "/p": next}, "redis-cli": {"-a": next}, "valkey-cli": {"-a": next}, "ldapsearch": {"-w": next}, "ldapmodify": {"-w": next}, "ldapadd": {"-w": next},
	"mongo": {"-p": next}, "mongosh": {"-p": next}, "mongodump": {"-p": next}, "mongorestore": {"-p": next}, "mongoexport": {"-p": next}, "mongoimport": {"-p": next},
	"docker": {"-p": next}, "podman": {"-p": next}, "skopeo": {"-p": next}, "helm": {"-p": next}, "az": {"-p": next}, "buildah": {"-p": next}, "oras": {"-p": next},
	"sqlcmd": {"-P": next}, "bcp": {"-P": next}, "tsql": {"-P": next}, "isql": {"-P": next}, "cqlsh": {"-p": next}, "beeline": {"-p": next},
	"smbclient": {"-U": percent}, "rpcclient": {"-U": percent},
	"7z": {"-p": attached}, "7za": {"-p": attached}, "zip": {"-P": next}, "unzip": {"-P": next}, "rar": {"-p": attached, "-hp": attached}, "unrar": {"-p": attached},
	"mosquitto_pub": {"-P": next}, "mosquitto_sub": {"-P": next}, "rabbitmqadmin": {"-p": next}, "snmpget": {"-c": next, "-A": next, "-X": next},
	"snmpwalk": {"-c": next, "-A": next, "-X": next}, "ipmitool": {"-P": next}, "wmic": {"-U": percent}, "openssl": {"-k": next, "-K": next, "-passin": next, "-passout": next, "-pass": next},
}

// onlyLogin are programs whose flag is one of a secret only behind the word login: docker run -p 80:80 isn't.
var onlyLogin = set("docker", "podman", "skopeo", "helm", "az", "buildah", "oras")

// program follows the words of a command line.
type program struct {
	flags  map[string]kind
	wait   bool // for the word login
	expect kind // of the next word
	next   bool
}

// word looks at a word, which is at a place in a text, and adds what is a secret in it.
func (p *program) word(at spans, w string, from int) spans {
	if p.next {
		p.next = false
		return secretIn(at, w, from, p.expect)
	}
	if flags, ok := programs[base(w)]; ok {
		p.flags, p.wait = flags, onlyLogin[base(w)]
		return at
	}
	if w == "login" {
		p.wait = false
	}
	if p.flags == nil || p.wait || len(w) < 2 || w[0] != '-' && w[0] != '/' {
		return at
	}
	if k, ok := p.flags[w]; ok {
		p.next, p.expect = k != attached, k
		return at
	}
	if name, value, ok := strings.Cut(w, "="); ok && strings.HasPrefix(w, "--") {
		if k, ok := p.flags[name]; ok {
			return secretIn(at, value, from+len(name)+1, k)
		}
		return at
	}
	for flag, k := range p.flags {
		if !strings.HasPrefix(flag, "--") && len(flag) <= 3 && strings.HasPrefix(w, flag) {
			return secretIn(at, w[len(flag):], from+len(flag), k)
		}
	}
	if k, ok := p.flags["-"+w[len(w)-1:]]; ok && w[1] != '-' && len(w) <= 6 && k != attached { // curl -sSu
		p.next, p.expect = true, k
	}
	return at
}

// secretIn adds what is secret in a flag's value.
func secretIn(at spans, v string, from int, k kind) spans {
	v, from = unquoted(v, from)
	if mark := map[kind]string{login: ":,", percent: "%"}[k]; mark != "" {
		n := strings.IndexAny(v, mark)
		switch {
		case n < 0:
			return at
		case !strings.ContainsAny(v[:n], `"'`):
			v, from = unquoted(v[n+1:], from+n+1)
		}
	}
	return at.add(from, from+len(v))
}

// unquoted is what is within the quotation marks.
func unquoted(v string, from int) (string, int) {
	if len(v) >= 2 && (v[0] == '"' || v[0] == '\'') && strings.IndexByte(v[1:], v[0]) == len(v)-2 {
		return v[1 : len(v)-1], from + 1
	}
	return v, from
}

// commands finds the secrets in command lines, also in those within quotation marks.
func commands(at spans, s string, offset, depth int) spans {
	var p program
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c == '\n' || c == ';' || c == '|' || c == '&':
			p = program{}
			i++
		case isSpace(c), strings.IndexByte("(`$\\", c) >= 0 && !p.next && startsProgram(s[i:]):
			i++
		default:
			to := shellWord(s, i)
			w := s[i:to]
			if n := strings.IndexAny(w, `"'`); n >= 0 && depth > 0 && !p.next && strings.ContainsAny(w, " \t\n") {
				at = commands(at, strings.TrimSuffix(w[n+1:], w[n:n+1]), offset+i+n+1, depth-1)
			}
			at = p.word(at, w, offset+i)
			i = max(to, i+1)
		}
	}
	return at
}

// startsProgram reports whether behind $( and the like there is a program of ours.
func startsProgram(s string) bool {
	n := 1
	for n < len(s) && n < 4 && strings.IndexByte("(`$\"'\\", s[n]) >= 0 {
		n++
	}
	to := n
	for to < len(s) && to < n+maxName && (isName(s[to]) || s[to] == '/') {
		to++
	}
	_, ok := programs[base(s[n:to])]
	return ok
}

// base is the name of the program at a path.
func base(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

// shellWord returns the end of the word that begins there.
func shellWord(s string, i int) int {
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case isSpace(c), c == ';', c == '|', c == '&':
			return i
		case c == '\\':
			i++
		case c == '"' || c == '\'':
			n := strings.IndexByte(s[i+1:], c)
			if n < 0 {
				return len(s)
			}
			i += n + 1
		}
	}
	return len(s)
}

// hereStrings finds secrets for standard input behind <<<.
func hereStrings(at spans, s string) spans {
	for i := 0; ; {
		n := strings.Index(s[i:], "<<<")
		if n < 0 {
			return at
		}
		i += n + 3
		line := s[max(0, i-256):i]
		line = line[strings.LastIndexByte(line, '\n')+1:]
		if !strings.Contains(line, "-stdin") && !strings.Contains(line, "chpasswd") && !strings.Contains(line, "sudo -S") {
			continue
		}
		for i < len(s) && isSpace(s[i]) {
			i++
		}
		to := shellWord(s, i)
		at = at.add(i, min(to, len(s)))
		i = max(i, min(to, len(s)))
	}
}
