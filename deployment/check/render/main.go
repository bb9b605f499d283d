// Render prints what kustomize makes of a directory, as a JSON array of objects, or what
// compose makes of files, as a JSON object.
//
// usage: render kustomize DIR | render compose FILE... (variables come from the environment)
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/prooftrail/prooftrail/deployment/check"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "render:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: render kustomize DIR | render compose FILE")
	}
	switch args[0] {
	case "kustomize":
		objects, err := check.Kustomize(args[1])
		if err != nil {
			return err
		}
		var all []json.RawMessage
		for _, o := range objects {
			all = append(all, o)
		}
		return json.NewEncoder(os.Stdout).Encode(all)
	case "compose":
		p, err := check.Compose(context.Background(), os.Environ(), args[1:]...)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(p)
	default:
		return fmt.Errorf("%q: expected kustomize or compose", args[0])
	}
}
