package cronlog

import (
	"regexp"
	"sync"
)

// lazily compiles a regular expression when it is asked for: the program that this package is in starts for many
// another purpose, such as each run of a crontab's command.
func lazily(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}
