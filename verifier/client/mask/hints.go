package mask

// A hint says which rules may find something in a text.
type hint uint16

const (
	hintName    hint = 1 << iota // a name of a secret, perhaps
	hintURL                      // ://
	hintProgram                  // a program that takes secrets as flags
	hintToken                    // a token with a known prefix
	hintKey                      // a private key
	hintJWT                      // a JSON web token
	hintScheme                   // Bearer, Basic
	hintHook                     // a webhook
	hintBot                      // Telegram's bots
	hintTwilio
	hintEntra
	hintDriver // the address of a driver
	hintOracle
	hintStdin // a secret for standard input
	hintKey64 // a private key in base64
	hintUser  // user:secret@host
)

// hints are by three characters in a row, in any case.
type hints []hint

// code is what a byte counts for: letters in any case, -, _, ., :, / and all others alike.
var code = func() (c [256]uint16) {
	for i := range 26 {
		c['a'+i], c['A'+i] = uint16(1+i), uint16(1+i)
	}
	for i, b := range "-_.:/" {
		c[b] = uint16(27 + i)
	}
	return c
}()

const tripleBits = 15

// add adds a word that begins with three characters. Of a shorter one nothing can be hinted at: all is.
func (h hints) add(what hint, word string) {
	if len(word) < 3 {
		for i := range h {
			h[i] |= what
		}
		return
	}
	h[code[word[0]]<<10|code[word[1]]<<5|code[word[2]]] |= what
}

// in says what is hinted at in a text. Without a table that can't be told: all is.
func (h hints) in(s string) (found hint) {
	if len(h) != 1<<tripleBits {
		return ^hint(0)
	}
	if len(s) < 3 {
		return 0
	}
	t := code[s[0]]<<5 | code[s[1]]
	for i := 2; i < len(s); i++ {
		t = (t<<5 | code[s[i]]) & (1<<tripleBits - 1)
		found |= h[t]
	}
	return found
}

// usualHints has three characters of each name and look, those that other words seldom have.
func usualHints() hints {
	h := make(hints, 1<<tripleBits)
	for what, words := range map[hint][]string{
		hintName: {"pas", "pwd", "ecr", "tok", "cre", "key", "uth", "oki", "ssi", "sig", "sas", "dsn", "otp", "cvv", "cvc", "jwt", "pw=", "pw:",
			"bea", "nnw", "tif" /* IDENTIFIED BY */},
		hintURL:    {"://"},
		hintKey:    {"---"},
		hintJWT:    {"eyj"},
		hintScheme: {"bea", "sic"},
		hintHook:   {"hoo"},
		hintBot:    {"bot"},
		hintTwilio: {"sk0", "ska", "skb", "skc", "skd", "ske", "skf"}, // a digit counts like any other
		hintEntra:  {"0q~"},
		hintDriver: {"tcp", "ix("},
		hintOracle: {"acl", "lpl" /* sqlplus */},
		hintKey64:  {"udj"},
		hintStdin:  {"tdi", "hpa", "udo", "h-t"},
		hintProgram: {"ysq", "iad", "iab", "rab", "ydu", "ylo", "rl ", "tp ", "ps ", "lft", "shp", "s-c", "y-c", "lda", "ngo", "cke", "dma", "kop",
			"elm", "az ", "dah", "ora", "lcm", "bcp", "tsq", "isq", "qls", "eel", "mbc", "pcc", "7z ", "7za", "zip", "rar", "osq", "mqa", "nmp", "pmi", "wmi", "nss", "sex", "pli", "psc", "psf", "hta"},
	} {
		for _, w := range words {
			h.add(what, w)
		}
	}
	for _, p := range prefixes {
		h.add(hintToken, p.prefix)
	}
	return h
}
