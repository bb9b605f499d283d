package event

import (
	"slices"
	"strconv"
	"strings"
)

// The actions of a source about its own events: the only audit.* that a source may submit.
const (
	ActionHeartbeat = "audit.heartbeat" // up to here all is said
	ActionDropped   = "audit.dropped"   // these won't come
)

// isAccount reports whether an action is one of the two.
func isAccount(action []byte) bool {
	return string(action) == ActionHeartbeat || string(action) == ActionDropped
}

// An Account is what a source says of its own events, in details of audit.heartbeat or
// audit.dropped. All numbers are of this source alone.
type Account struct {
	Action string
	Seq    uint64 // of the account itself

	// Of a heartbeat.
	LastSeq  uint64 // the last seq used before this one
	Count    uint64 // how many of the seqs up to LastSeq are of events that were logged or are on their way
	Interval uint64 // in how many seconds the next heartbeat is due at the latest; 0 if that isn't said

	// Of audit.dropped: how many events won't come, and the first and last seq of them.
	Dropped, FirstDropped, LastDropped uint64
}

// accountDetails are the members of details, and whether they are needed. Those of dropped that say
// why, are parts of count.
var accountDetails = map[string]map[string]bool{
	ActionHeartbeat: {"/details/last_seq": true, "/details/count": true, "/details/interval_s": false},
	ActionDropped: {"/details/first_seq": true, "/details/last_seq": true, "/details/count": true,
		"/details/full": false, "/details/disk": false, "/details/damaged": false, "/details/refused": false},
}

// accountFields are all the other members that an account may have.
var accountFields = []string{"/action", "/actor/id", "/actor/name", "/actor/type", "/id", "/outcome", "/reason/code", "/schema", "/seq",
	"/source", "/target/0/id", "/target/0/type", "/time"}

// ReadAccount reads an account; ok is false if f isn't one, or has been changed since it was submitted so
// that it can't be read any more.
func ReadAccount(f Fields) (a Account, ok bool) {
	a, err := parseAccount(f)
	return a, err == nil
}

// parseAccount checks and reads the submitted fields of an account: these members and no others, so that
// nobody takes for the service's what a source says.
func parseAccount(f Fields) (a Account, _ *Error) {
	a.Action = f.Text("/action")
	details, ok := accountDetails[a.Action]
	if !ok {
		return a, &Error{Pointer: "/action", Code: CodeReserved, Expected: "audit.heartbeat or audit.dropped"}
	}
	for i := range f {
		p := f[i].Pointer
		if _, ok := details[p]; !ok && !IsServer(p) && !slices.Contains(accountFields, p) {
			return a, &Error{Pointer: p, Code: CodeReserved, Expected: "none of this in " + a.Action}
		}
	}
	numbers := map[string]uint64{}
	for _, p := range append([]string{"/seq"}, slices.Sorted(keys(details))...) {
		n, err := accountNumber(f, p, p == "/seq" || details[p])
		if err != nil {
			return a, err
		}
		numbers[strings.TrimPrefix(p, "/details")] = n
	}
	a.Seq = numbers["/seq"]
	switch {
	case f.Text("/target/0/type") != "source":
		return a, &Error{Pointer: "/target/0/type", Code: CodeEnum, Expected: `"source"`}
	case f.Text("/target/0/id") != f.Text("/source"):
		return a, &Error{Pointer: "/target/0/id", Code: CodeFormat, Expected: "the source"}
	case numbers["/last_seq"] >= a.Seq:
		return a, &Error{Pointer: "/details/last_seq", Code: CodeRange, Expected: "less than seq"}
	case a.Action == ActionHeartbeat:
		a.LastSeq, a.Count, a.Interval = numbers["/last_seq"], numbers["/count"], numbers["/interval_s"]
		return a, a.checkHeartbeat(f)
	}
	a.FirstDropped, a.LastDropped, a.Dropped = numbers["/first_seq"], numbers["/last_seq"], numbers["/count"]
	return a, a.checkDropped(f)
}

func keys(m map[string]bool) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// accountNumber reads a number, which is written like a seq.
func accountNumber(f Fields, pointer string, needed bool) (uint64, *Error) {
	v, ok := f.Get(pointer)
	if !ok && !needed {
		return 0, nil
	}
	want := schemaRules["/seq"]
	if !ok {
		return 0, &Error{Pointer: pointer, Code: CodeMissing, Expected: want.want}
	}
	if err := want.check(v); err != nil {
		err.Pointer = pointer
		return 0, err
	}
	n, err := strconv.ParseUint(f.Text(pointer), 10, 64)
	if err != nil {
		return 0, &Error{Pointer: pointer, Code: CodeRange, Expected: want.want}
	}
	return n, nil
}

func (a *Account) checkHeartbeat(f Fields) *Error {
	switch {
	case f.Text("/outcome") != "success":
		return &Error{Pointer: "/outcome", Code: CodeEnum, Expected: "success"}
	case a.Count > a.LastSeq:
		return &Error{Pointer: "/details/count", Code: CodeRange, Expected: "at most last_seq"}
	}
	return nil
}

func (a *Account) checkDropped(f Fields) *Error {
	switch {
	case f.Text("/outcome") != "failure":
		return &Error{Pointer: "/outcome", Code: CodeEnum, Expected: "failure"}
	case a.FirstDropped == 0 || a.FirstDropped > a.LastDropped:
		return &Error{Pointer: "/details/first_seq", Code: CodeRange, Expected: "1 to last_seq"}
	case a.Dropped == 0 || a.Dropped > a.LastDropped-a.FirstDropped+1:
		return &Error{Pointer: "/details/count", Code: CodeRange, Expected: "1 to as many as first_seq to last_seq are"}
	}
	return nil
}
