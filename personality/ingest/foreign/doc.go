// Package foreign reads what other systems write, for the adapters beside it, and makes of it what an event
// can hold.
//
// Their JSON has what an event must not: null, fractions, names with spaces, sixty levels. It is taken as far
// as it means one thing only. What is read in two ways by two readers is refused: a name twice in an
// object, bytes that aren't UTF-8, half a surrogate pair, something behind the value. What
// would take more memory than an event is worth is refused too, before the memory is taken: a
// [Budget] counts the values of a whole request.
package foreign

import "fmt"

// Limits of what is read.
const (
	MaxDepth     = 64      // of arrays and objects, the outermost being 1
	MaxItemBytes = 1 << 20 // of one item: four times what an event may be
)

// A Budget is how many values the reader of one request may still make. A value is an
// element or a member, at any depth, and takes some 100 bytes of memory.
type Budget struct{ left int }

// maxValues is how many values a request has at most: about 40 MB.
const maxValues = 400_000

// NewBudget returns the budget of a request of so many bytes: a value for each four of them, which is more than what
// people write, and a thousand; 400,000 at most.
func NewBudget(size int) *Budget { return &Budget{left: min(1000+size/4, maxValues)} }

// Take counts n values, and reports whether there were as many left.
func (b *Budget) Take(n int) bool {
	if n > b.left {
		b.left = 0
		return false
	}
	b.left -= n
	return true
}

// An Error says what is wrong with a foreign text: where, and what would have been accepted. It never
// contains the refused value.
type Error struct {
	Member   string // a JSON Pointer, the name of a header, or an attribute; "" is the whole
	Expected string
}

// Error says both in one line.
func (e *Error) Error() string {
	where := e.Member
	if where == "" {
		where = "(whole)"
	}
	return where + ": expected " + e.Expected
}

// Errorf is an Error.
func Errorf(member, format string, args ...any) error {
	return &Error{Member: member, Expected: fmt.Sprintf(format, args...)}
}
