package rules

import (
	"embed"
	"fmt"
	"strings"
)

//go:embed ready/*.yaml
var ready embed.FS

// Names are the names of the ready rules.
func Names() []string {
	entries, err := ready.ReadDir("ready")
	if err != nil {
		return nil // it is part of the program
	}
	var names []string
	for _, e := range entries {
		names = append(names, "ready:"+strings.TrimSuffix(e.Name(), ".yaml"))
	}
	return names
}

// Ready returns ready rules by their name, such as ready:dkron.
func Ready(name string) (*Set, error) {
	data, err := Text(name)
	if err != nil {
		return nil, err
	}
	f, err := read(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return f.set(nil)
}

// Text returns the file of ready rules.
func Text(name string) ([]byte, error) {
	short, ok := strings.CutPrefix(name, "ready:")
	data, err := ready.ReadFile("ready/" + short + ".yaml")
	if !ok || err != nil {
		return nil, fmt.Errorf("no ready rules %q: there are %s", name, strings.Join(Names(), " "))
	}
	return data, nil
}
