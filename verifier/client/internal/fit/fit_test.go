package fit_test

import (
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/verifier/client/internal/fit"
)

func TestText(t *testing.T) {
	for _, c := range []struct {
		text string
		most int
		want string
	}{
		{"", 4, ""},
		{"abcd", 4, "abcd"},
		{"abcde", 4, "abcd"},
		{"abc\u00e9", 4, "abc"},
		{"\xffab\xff", 4, "ab"},
		{strings.Repeat("\xff", 9), 9, ""},
	} {
		if got := fit.Text(c.text, c.most); got != c.want {
			t.Errorf("%q became %q, expected %q", c.text, got, c.want)
		}
	}
}
