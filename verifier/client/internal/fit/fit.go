// Package fit makes texts fit into events.
package fit

import "strings"

// Text is what there is room for of a text, without bytes that aren't UTF-8: each of these takes three bytes as JSON.
func Text(s string, most int) string { return strings.ToValidUTF8(s[:min(len(s), most)], "") }
