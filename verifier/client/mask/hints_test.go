package mask

import "testing"

// TestHints: the hints are those of what the rules look for.
func TestHints(t *testing.T) {
	h := usualHints()
	for name := range programs {
		if h.in("a "+name+" -p x")&hintProgram == 0 {
			t.Errorf("nothing hints at %s", name)
		}
	}
	for _, stem := range stems {
		if h.in(stem)&hintName == 0 {
			t.Errorf("nothing hints at %s", stem)
		}
	}
	for w := range whole {
		if h.in(w+"=")&hintName == 0 {
			t.Errorf("nothing hints at %s", w)
		}
	}
	for _, p := range prefixes {
		if h.in(" "+p.prefix)&hintToken == 0 {
			t.Errorf("nothing hints at %s", p.prefix)
		}
	}
	for _, digit := range "0123456789abcdef" {
		if h.in(" SK"+string(digit))&hintTwilio == 0 {
			t.Errorf("nothing hints at a key of Twilio's that begins with %c", digit)
		}
	}
	if found := h.in("the report of January was sent to 42 customers at 10:15, and all is well"); found != 0 {
		t.Errorf("%b hints at nothing", found)
	}
}
