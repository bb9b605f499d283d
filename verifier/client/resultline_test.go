package client

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"testing"
)

// storedLine is a result as prooftrail writes it.
func storedLine(tb testing.TB) []byte {
	receipt, err := os.ReadFile("../testdata/example/run-000001.tlog-proof")
	if err != nil {
		tb.Fatal(err)
	}
	text, err := json.Marshal(string(receipt))
	if err != nil {
		tb.Fatal(err)
	}
	return fmt.Appendf(nil, `{"status":"accepted","index":7,"leaf_hash":"%s","receipt":%s}`+"\n", base64.StdEncoding.EncodeToString(make([]byte, 32)), text)
}

// TestReadStored changes every byte of a result, and puts something before it: what is read is what encoding/json
// reads, or left to it.
func TestReadStored(t *testing.T) {
	line := storedLine(t)
	if r, ok := readStored(line); !ok || r.Index != 7 || r.Status != Accepted || !bytes.HasSuffix(r.Receipt, []byte("\n")) {
		t.Fatalf("%+v, %v", r, ok)
	}
	read := 0
	for i := range line {
		for _, put := range []string{"", "0", "1", `"`, `\`, `\n`, `\/`, `\"`, `\u0041`, "\n", " ", ",", "}", "é", "\xff", "A", "-", "+", "_"} {
			for _, skip := range []int{0, 1} {
				changed := append(append(bytes.Clone(line[:i]), put...), line[i+skip:]...)
				r, ok := readStored(changed)
				if !ok {
					continue
				}
				read++
				if want, err := decodeResult(changed); err != nil || !reflect.DeepEqual(r, want) {
					t.Fatalf("%q: %+v; encoding/json has %+v, %v", changed, r, want, err)
				}
			}
		}
	}
	if read < 1000 {
		t.Errorf("only %d were read", read)
	}
}

func BenchmarkParseResult(b *testing.B) {
	line := storedLine(b)
	for name, parse := range map[string]func([]byte) (Result, error){"usual": parseResult, "json": decodeResult} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := parse(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
