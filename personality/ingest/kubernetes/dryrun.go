package kubernetes

import (
	"net/url"
	"strings"
)

// A dryRun says whether a request changed anything.
type dryRun int

const (
	forReal  dryRun = iota
	perhaps         // its URL asks for a dry run, and what counts isn't in the audit event
	onlyTold        // the API server changed nothing
)

// dryRun reads it of the request. The URL's parameter counts, but of a deletion only without a body: the API server reads the options of a
// deletion from its body if there is one, so that DELETE …?dryRun=All with a body deletes. Where the body can't be seen the deletion counts as one.
func (a *audit) dryRun() dryRun {
	_, query, _ := strings.Cut(a.RequestURI, "?")
	params, _ := url.ParseQuery(query) // the API server, too, ignores what it can't read of it
	asked := len(params["dryRun"]) > 0
	switch a.Verb {
	case "create", "update", "patch":
		if asked {
			return onlyTold
		}
	case "delete", "deletecollection":
		options, seen := a.requested().(map[string]any)
		list, _ := options["dryRun"].([]any)
		switch {
		case len(list) > 0, asked && !seen && a.wholeRequest():
			return onlyTold
		case asked && !seen:
			return perhaps
		}
	}
	return forReal
}

// wholeRequest reports whether an object in the request would be in the audit event.
func (a *audit) wholeRequest() bool {
	return (a.Level == "Request" || a.Level == "RequestResponse") && a.left == 0 && len(a.Request) == 0 && a.Annotations.Truncated == ""
}
