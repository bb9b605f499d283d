package httpapi

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/seal"
)

func TestCompactJSON(t *testing.T) {
	for _, text := range []string{
		fakeOpening, `{}`, `[]`, `""`, `0`, `-0`, `-1.5e+10`, `true`, `[[],{},[{"a":[1,{"b":false}]},null]]`, `"\u00e9é\\\""`,
		`{"p":"x"}`, `{"p":"","s":""}`, `{"p":"x","s":"y","v":[{"p":"z","s":"","v":{}}]}`, `{"p":1,"s":2}`, `{"p":"x","s":3}`, `{"p":"x","c":"y"}`,
		strings.Repeat("[", 64) + strings.Repeat("]", 64), `{"long":"` + strings.Repeat("a", 100) + `"}`,
	} {
		if b := []byte(text); !compactJSON(b) || !json.Valid(b) {
			t.Errorf("%s: refused", text)
		}
	}
	for _, text := range []string{
		`{"p":"`, `{"p":"x`, `{"p":"x"`, `{"p":"x",`, `{"p":"x","s":"`, `{"p":"x","s":"y","v":`, `{"p":"x","s":"y","v":}`, `{"p":"x""s":"y"}`, `{"p":"x","s":"y""v":1}`,
		``, ` {}`, `{} `, "{\n}", `{}{}`, `{"a"}`, `{"a":}`, `{"a":1,}`, `{,}`, `{1:2}`, `[1,]`, `[,1]`, `[1}`, `{"a":1]`, `[`, `{"a":[`,
		`]`, `"a`, `"\`, `"\x"`, `"\u12g4"`, "\"1234567\x1f\"", "\"\n\"", `01`, `1.`, `.5`, `-`, `1e`, `+1`, `tru`, `nulll`, "\x00",
		"{}}\n{\"index\":7,\"opening\":{}", `null,"reason":"missing"`, strings.Repeat("[", 65) + strings.Repeat("]", 65),
	} {
		if compactJSON([]byte(text)) {
			t.Errorf("%q: let through", text)
		}
	}
}

// FuzzCompactJSON holds it against encoding/json: never more lenient, and no more
// strict than it says.
func FuzzCompactJSON(f *testing.F) {
	for _, text := range []string{fakeOpening, `{"p":"x","s":"y","v":{"p":"z","c":"u"}}`, `{"a":[1,-2.5e3,{"b":"\u00e9\n"},true,false,null,[],{}]}`, "{\n}", `"\"é`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, valid := compactJSON(b), json.Valid(b)
		if got && (!valid || bytes.ContainsAny(b, "\n\r")) {
			t.Fatalf("%q isn't JSON on one line", b)
		}
		var compact bytes.Buffer
		if !got && valid && json.Compact(&compact, b) == nil && bytes.Equal(compact.Bytes(), b) &&
			bytes.Count(b, []byte("["))+bytes.Count(b, []byte("{")) <= 64 {
			t.Fatalf("%q is refused", b)
		}
	})
}

func BenchmarkAppendOpening(b *testing.B) {
	opening := []byte(`{"fields":[` + strings.Repeat(`{"p":"/job/schedule","s":"AAAAAAAAAAAAAAAAAAAAAA","v":"nightly and hourly production"},`, 32) +
		`{"p":"/seq","s":"AAAAAAAAAAAAAAAAAAAAAA","v":1}],"time":"2026-01-31T23:59:59Z","v":"prooftrail.opening/1"}`)
	dst := make([]byte, 0, seal.MaxOpeningBytes)
	b.SetBytes(int64(len(opening)))
	b.ReportAllocs()
	for b.Loop() {
		dst = appendOpening(dst[:0], opening)
	}
}
