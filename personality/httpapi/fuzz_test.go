package httpapi

import (
	"bytes"
	"encoding/json"
	"net/url"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/prooftrail/prooftrail/verifier/event"
)

// FuzzSplitBatch holds the splitter against encoding/json: of a valid batch it
// gives the same elements, and when all elements that it gives are valid JSON, so
// is the whole.
func FuzzSplitBatch(f *testing.F) {
	f.Add([]byte(`{"events":[{"a":"\"]}"},[1,"x"],-1, "s" ,null]}` + "\n"))
	corpus := loadCorpus(f)
	for _, k := range corpus.Cases {
		if body, err := corpus.BodyOf(k); err != nil {
			f.Fatal(err)
		} else if k.File == "batch" {
			f.Add([]byte(body[:min(len(body), 2000)]))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		elements, err := splitBatch(body)
		if err != nil {
			if want := referenceSplit(body); want != nil {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		if !isBatch(body) || len(elements) < 1 || len(elements) > MaxEvents {
			t.Fatalf("%d elements", len(elements))
		}
		valid := utf8.Valid(body)
		for _, e := range elements {
			if len(e) == 0 {
				t.Fatal("an empty element")
			}
			valid = valid && json.Valid(e)
		}
		if valid && !json.Valid(body) {
			t.Fatal("a broken envelope passed")
		}
		if want := referenceSplit(body); want != nil && !slices.EqualFunc(elements, want, bytes.Equal) {
			t.Fatalf("%q, want %q", elements, want)
		}
	})
}

// referenceSplit is what encoding/json makes of a batch; nil if it is none.
func referenceSplit(body []byte) (elements [][]byte) {
	d := json.NewDecoder(bytes.NewReader(body))
	next := func(want any) bool {
		tok, err := d.Token()
		return err == nil && tok == want
	}
	if !json.Valid(body) || !isBatch(body) || !next(json.Delim('{')) || !next("events") || !next(json.Delim('[')) {
		return nil
	}
	for d.More() {
		var raw json.RawMessage
		if d.Decode(&raw) != nil {
			return nil
		}
		elements = append(elements, raw)
	}
	if !next(json.Delim(']')) || !next(json.Delim('}')) || len(elements) > MaxEvents {
		return nil
	}
	return elements
}

// FuzzLines: however the bytes arrive, the lines are the same.
func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\r\n\n \nc"), uint8(1))
	f.Add([]byte("\n\n"), uint8(3))
	f.Fuzz(func(t *testing.T, body []byte, size uint8) {
		body = bytes.ReplaceAll(body, []byte("L"), bytes.Repeat([]byte("long"), event.MaxBytes/8)) // so that some are too long
		if len(body) > 4<<20 {
			return
		}
		var got []string
		ls := lineSplitter{each: func(l line) error {
			if l.tooLong != (l.text == nil) || len(l.text) > event.MaxBytes {
				t.Fatalf("line of %d bytes", len(l.text))
			}
			got = append(got, string(l.text))
			return nil
		}}
		step := max(1+int(size)*len(body)/256, len(body)/1024) // what is left over is copied with each
		var rest []byte
		for i := 0; ; i += step {
			end := min(i+step, len(body))
			all := append(slices.Clone(rest), body[i:end]...)
			left, err := ls.feed(all, len(rest), end == len(body))
			if err != nil {
				t.Fatal(err)
			}
			if rest = left; end == len(body) {
				break
			}
		}
		var want []string
		for _, l := range bytes.Split(body, []byte("\n")) {
			switch l = bytes.TrimSuffix(l, []byte("\r")); {
			case len(l) > event.MaxBytes:
				want = append(want, "")
			case !isBlank(l):
				want = append(want, string(l))
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%d lines, want %d", len(got), len(want))
		}
	})
}

// FuzzParseQuery: what is taken means the same to net/url, and has no more.
func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{"", "wait=durable", "source=a%2Fb+c&wait=", "wait", "&", "x=1", "wait=%", "wait=1&wait=2", "%77ait=x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		values, err := parseQuery(raw, "wait", "source")
		if err != nil {
			p := problemOf(err)
			if p.kind != kindInvalidRequest || !json.Valid(p.append(nil, "id")) {
				t.Fatalf("%v", err)
			}
			return
		}
		want, err := url.ParseQuery(raw)
		if err != nil {
			if bytes.ContainsRune([]byte(raw), ';') {
				return // net/url refuses a bare semicolon; here it is part of a value
			}
			t.Fatalf("net/url refuses it: %v", err)
		}
		if len(want) != len(values) {
			t.Fatalf("%v, net/url: %v", values, want)
		}
		for name, v := range values {
			if len(want[name]) != 1 || want[name][0] != v || !utf8.ValidString(v) {
				t.Fatalf("%v, net/url: %v", values, want)
			}
		}
	})
}

// Eight bytes are plain when each one is, whatever stands around it.
func TestPlain8(t *testing.T) {
	for _, around := range []byte{' ', '~', 'a', '!', '#', '[', ']'} {
		for i := range 8 {
			for c := range 256 {
				text := bytes.Repeat([]byte{around}, 8)
				text[i] = byte(c)
				if got, want := plain8(load8(text)), escapeFree[c]; got != want {
					t.Errorf("%q: plain %v, want %v", text, got, want)
				}
			}
		}
	}
}

// FuzzAppendText: what is written is JSON and means the text.
func FuzzAppendText(f *testing.F) {
	f.Add("eight bytes and more, quoted: \"12345678\"\n and a last line that is ascii")
	f.Add("a\n\"\\\x00\x7f\xff\u2028ü\xe2\x82")
	f.Fuzz(func(t *testing.T, text string) {
		var got string
		if err := json.Unmarshal(appendText(nil, text), &got); err != nil {
			t.Fatal(err)
		}
		if want := string([]rune(text)); got != want {
			t.Fatalf("%q, want %q", got, want)
		}
		if !bytes.Equal(appendText(nil, text), appendText(nil, []byte(text))) {
			t.Fatal("string and bytes differ")
		}
	})
}
