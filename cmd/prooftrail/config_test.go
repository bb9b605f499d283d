package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prooftrail/prooftrail/cmd/internal/manualtest"
	"github.com/prooftrail/prooftrail/personality"
)

var update = flag.Bool("update", false, "write manual.yaml from config.go")

// manual.yaml is made of the comments of Config and the defaults.
// `go test ./cmd/prooftrail -run Manual -update` writes it anew.
func TestManualIsTheStruct(t *testing.T) {
	text := manualtest.Text(t, defaultConfig())
	if *update {
		if err := os.WriteFile("manual.yaml", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if text != manual {
		t.Errorf("manual.yaml isn't what config.go says; run with -update. Expected:\n%s", text)
	}
}

func TestManualParses(t *testing.T) {
	var cfg Config
	if err := cfg.parse([]byte(manual)); err != nil {
		t.Fatal(err)
	}
	if want := defaultConfig(); !reflect.DeepEqual(cfg, want) {
		t.Errorf("the manual says %+v, the defaults are %+v", cfg, want)
	}
}

func TestConfigFiles(t *testing.T) {
	load := func(text string) (Config, error) {
		file := filepath.Join(t.TempDir(), "prooftrail.yaml")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return loadConfig(file)
	}
	if cfg, err := load(""); err != nil || !reflect.DeepEqual(cfg, defaultConfig()) {
		t.Errorf("empty file: %+v, %v", cfg, err)
	}
	cfg, err := load("data: /d\nlimits:\n  max_batch: 7\n  body_timeout: 90s\n  trusted_proxies: [10.0.0.0/8]\n")
	if err != nil || cfg.Data != "/d" || cfg.Limits.MaxBatch != 7 || cfg.Limits.BodyTimeout != 90*time.Second ||
		cfg.Limits.TrustedProxies[0].String() != "10.0.0.0/8" || cfg.Limits.QueueEvents != 4096 {
		t.Errorf("%+v, %v", cfg, err)
	}
	for _, bad := range []string{
		"dta: /d\n", "limits:\n  max_batsh: 7\n", "limits: 7\n", "data: [a]\n", "data: a\n---\ndata: b\n", "data: a\ndata: b\n",
		"limits:\n  body_timeout: soon\n", "limits:\n  trusted_proxies: [ten]\n", "\t",
	} {
		if cfg, err := load(bad); err == nil {
			t.Errorf("%q was taken: %+v", bad, cfg)
		}
	}
}

func TestConfigCheck(t *testing.T) {
	good := func() Config {
		c := defaultConfig()
		c.Data = "d"
		return c
	}
	key := filepath.Join(t.TempDir(), "key.pem")
	if err := os.WriteFile(key, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if c := good(); c.check() != nil {
		t.Errorf("defaults: %v", c.check())
	}
	for name, spoil := range map[string]func(*Config){
		"no data":          func(c *Config) { c.Data = "" },
		"no address":       func(c *Config) { c.Listen = "" },
		"half of TLS":      func(c *Config) { c.TLS.Cert = "c" },
		"no such key":      func(c *Config) { c.TLS = TLSConfig{"c", key + ".none"} },
		"a key for all":    func(c *Config) { c.TLS = TLSConfig{"c", key} },
		"format":           func(c *Config) { c.Log.Format = "xml" },
		"shutdown_timeout": func(c *Config) { c.ShutdownTimeout = 0 },

		"limits.queue_events":             func(c *Config) { c.Limits.QueueEvents = 0 },
		"limits.queue_bytes":              func(c *Config) { c.Limits.QueueBytes = -1 },
		"limits.max_unpublished":          func(c *Config) { c.Limits.MaxUnpublished = 0 },
		"limits.ready_lag":                func(c *Config) { c.Limits.ReadyLag = -time.Second },
		"limits.max_batch":                func(c *Config) { c.Limits.MaxBatch = 1001 },
		"limits.cache_bytes":              func(c *Config) { c.Limits.CacheBytes = -1 },
		"limits.events_per_second":        func(c *Config) { c.Limits.EventsPerSecond = 0 },
		"limits.burst_events":             func(c *Config) { c.Limits.BurstEvents = 499 },
		"limits.auth_failures_per_minute": func(c *Config) { c.Limits.AuthFailuresPerMinute = 0 },
		"limits.body_timeout":             func(c *Config) { c.Limits.BodyTimeout = -time.Second },
		"limits.answer_timeout":           func(c *Config) { c.Limits.AnswerTimeout = 0 },
		"limits.body_memory":              func(c *Config) { c.Limits.BodyMemory = 16<<20 - 1 },
		"limits.quarantine_items":         func(c *Config) { c.Limits.QuarantineItems = 0 },
		"limits.quarantine_bytes":         func(c *Config) { c.Limits.QuarantineBytes = -1 },
		"limits.max_connections":          func(c *Config) { c.Limits.MaxConnections = -1 },
	} {
		c := good()
		spoil(&c)
		err := c.check()
		if err == nil || strings.HasPrefix(name, "limits.") && !strings.Contains(err.Error(), name+": ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A limit that the log itself refuses is named as it is in the file.
func TestLimitError(t *testing.T) {
	for field, key := range map[string]string{"MaxLag": "limits.ready_lag: ", "QueueBytes": "limits.queue_bytes: ", "Origin": "Origin: "} {
		if err := limitError(fmt.Errorf("open: %w", &personality.InvalidError{Field: field, Expected: "x"})); !strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", field, err)
		}
	}
}
