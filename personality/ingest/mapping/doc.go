// Package mapping makes events of JSON that has no adapter of its own, by a file that says in expressions what of it goes
// where. The expressions are CEL, the Common Expression Language: they can't loop without end, reach
// nothing outside, and what they cost is counted.
//
//	mapping: prooftrail.mapping/1
//	headers: [X-Scheduler-Event]     # headers of the request that expressions may read
//	each: body.runs                  # an array whose elements are an event each
//	when: item.kind != "ping"        # what is no matter for the log is skipped
//	event:
//	  id: item.id
//	  time: millis(item.started)
//	  action: '"run.start"'
//	  outcome: 'item.ok ? "success" : "failure"'
//	  reason: {code: 'item.?error.code'}
//	  actor: {type: '"schedule"', id: item.job}
//	  target: [{type: '"job"', id: item.job}]
//	  job: {id: item.job, run_id: item.id}
//	  details: {node: 'item.?node'}
//
// Expressions read body, the JSON of the request; item, the element that each has come to, or the body; headers and query,
// maps of texts, the names of headers in lower case; received, the time of the request. With each, the body has in that
// place only the one element. A member of theirs that is null isn't there. A member of the event whose expression yields null, nothing (item.?node where there is no node) or
// "" isn't in the event. Beside those of CEL, but for its matches,
// there are the functions
//
//	lower(text)          the text in lower case
//	clip(text, n)        at most n bytes of it
//	action(prefix, text)
//	             what an action can be, made of it, with the prefix if it has no dot
//	match(text, pattern)
//	             whether the regular expression (RE2) matches; at most 4,096 bytes of text and 256 of pattern
//	token(text)          what the code of a reason or the type of a target can be, made of it
//	split(text, by)      the parts of it, at most 1,000
//	sha256(text)         its SHA-256 in hexadecimal digits
//	json(value)          the value as JSON
//	millis(number)       the time so many milliseconds after 1970
//
// id and time may be left out: the id is then an HMAC of the item, the time that of the request. Source and tenant aren't
// the file's to say.
package mapping

import (
	"embed"
	"io/fs"
	"slices"
	"strings"
)

// Version is what a mapping file begins with.
const Version = "prooftrail.mapping/1"

// Limits of a mapping file, and of what it may do with a request.
const (
	MaxFileBytes      = 64 << 10
	maxExpression     = 4096    // characters
	maxNesting        = 2       // of comprehensions
	maxCost           = 500_000 // of one expression on one item: see costs
	maxItems          = 500     // elements of each
	maxRaw            = 32 << 20
	maxValues         = 20_000 // that an item's expressions yield
	maxHeaders        = 16
	interruptionSteps = 16 // of a comprehension, between two looks at the clock
)

// readyFiles are the mappings that come with the program.
//
//go:embed ready/*.yaml
var readyFiles embed.FS

// readyPrefix is how they are named where another file could be.
const readyPrefix = "ready:"

// Ready returns the names of the mappings that come with the program.
func Ready() (names []string) {
	files, err := fs.Glob(readyFiles, "ready/*.yaml")
	if err != nil {
		return nil // the pattern is right
	}
	for _, f := range files {
		names = append(names, readyPrefix+strings.TrimSuffix(strings.TrimPrefix(f, "ready/"), ".yaml"))
	}
	slices.Sort(names)
	return names
}

// IsReady reports whether a name is that of a mapping that comes with the program, if there is such a one.
func IsReady(name string) bool { return strings.HasPrefix(name, readyPrefix) }

// ReadyFile returns a mapping that comes with the program, as a file; false if there is none of this name.
func ReadyFile(name string) ([]byte, bool) {
	b, err := readyFiles.ReadFile("ready/" + strings.TrimPrefix(name, readyPrefix) + ".yaml")
	return b, err == nil && IsReady(name)
}
