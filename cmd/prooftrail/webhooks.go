//go:build !client

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"go.yaml.in/yaml/v3"

	"github.com/prooftrail/prooftrail/personality/ingest/mapping"
	"github.com/prooftrail/prooftrail/personality/ingest/webhook"
)

// webhooksFile is the file of --webhooks: docs/operate/webhooks.md is its manual.
type webhooksFile struct {
	Doors []doorConfig `yaml:"doors"`
}

type doorConfig struct {
	Name      string `yaml:"name"`
	Tenant    string `yaml:"tenant"`
	Source    string `yaml:"source"`
	Signature struct {
		Style  string `yaml:"style"`
		Header string `yaml:"header"`
	} `yaml:"signature"`
	SecretFiles []string `yaml:"secret_files"`
	Mapping     string   `yaml:"mapping"`
}

// Limits of the file of --webhooks.
const (
	maxDoors        = 1000
	maxWebhooksFile = 1 << 20
	maxSecretFile   = 4 << 10
)

// openDoors opens the doors of a file, "" for none. Files that it names are looked for beside it.
func openDoors(file string) ([]*webhook.Door, error) {
	if file == "" {
		return nil, nil
	}
	doors, err := readDoors(file)
	if err != nil {
		return nil, fmt.Errorf("webhooks %s: %w", file, err)
	}
	return doors, nil
}

func readDoors(file string) ([]*webhook.Door, error) {
	text, err := readSmall(file, maxWebhooksFile)
	if err != nil {
		return nil, err
	}
	configs, err := parseWebhooks(text)
	if err != nil {
		return nil, err
	}
	var doors []*webhook.Door
	for i := range configs {
		d, err := configs[i].open(filepath.Dir(file))
		if err != nil {
			return nil, fmt.Errorf("doors.%d.%w", i, err)
		}
		// What is signed doesn't name the door.
		if j := slices.IndexFunc(doors, d.SharesSecret); j >= 0 {
			return nil, fmt.Errorf("doors.%d.secret_files: expected another secret than that of doors.%d: what one takes could be posted to the other", i, j)
		}
		doors = append(doors, d)
	}
	return doors, nil
}

// parseWebhooks reads the text of a file.
func parseWebhooks(text []byte) ([]doorConfig, error) {
	var f webhooksFile
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	if len(f.Doors) == 0 || len(f.Doors) > maxDoors {
		return nil, fmt.Errorf("doors: expected 1 to %d", maxDoors)
	}
	names := map[string]int{}
	for i, c := range f.Doors {
		if first, twice := names[c.Name]; twice {
			return nil, fmt.Errorf("doors.%d.name: expected another one than that of doors.%d", i, first)
		}
		names[c.Name] = i
	}
	return f.Doors, nil
}

// open opens a door. Its errors begin with the name of a member.
func (c *doorConfig) open(dir string) (*webhook.Door, error) {
	cfg := webhook.Config{Name: c.Name, Tenant: c.Tenant, Source: c.Source, Style: webhook.Style(c.Signature.Style), Header: c.Signature.Header}
	for i, file := range c.SecretFiles {
		secret, err := readSecret(beside(dir, file))
		if err != nil {
			return nil, fmt.Errorf("secret_files.%d: %w", i, err)
		}
		cfg.Secrets = append(cfg.Secrets, secret)
	}
	if c.Mapping != "" {
		text, err := readMapping(dir, c.Mapping)
		if err == nil {
			cfg.Mapping, err = mapping.Parse(text)
		}
		if err != nil {
			return nil, fmt.Errorf("mapping: %s: %w", c.Mapping, err)
		}
	}
	return webhook.New(cfg)
}

// beside is a file as seen from a directory.
func beside(dir, file string) string {
	if filepath.IsAbs(file) {
		return file
	}
	return filepath.Join(dir, file)
}

// readSecret reads a secret: the file's content, but for the end of its last line.
func readSecret(file string) ([]byte, error) {
	if err := checkPrivate("secret", file); err != nil {
		return nil, err
	}
	secret, err := readSmall(file, maxSecretFile)
	if err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(bytes.TrimSuffix(secret, []byte("\n")), []byte("\r")), nil
}

// readMapping reads a mapping file, or one that comes with the program.
func readMapping(dir, name string) ([]byte, error) {
	if !mapping.IsReady(name) {
		return readSmall(beside(dir, name), mapping.MaxFileBytes)
	}
	text, ok := mapping.ReadyFile(name)
	if !ok {
		return nil, fmt.Errorf("there is no such mapping; there are %q", mapping.Ready())
	}
	return text, nil
}

// readSmall reads a file of at most so many bytes.
func readSmall(file string, limit int) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, int64(limit)+1))
	if err != nil {
		return nil, err
	}
	if len(text) > limit {
		return nil, fmt.Errorf("%s: expected at most %d bytes", file, limit)
	}
	return text, nil
}
