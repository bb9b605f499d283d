package deployment_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// exposure is the most that systemd-analyze may find left open, of 10, as it writes it: in
// tenths of a point.
const exposure = "20"

func TestUnits(t *testing.T) {
	analyze := tool(t, "systemd-analyze", "systemd")
	units, err := filepath.Glob("systemd/*.service")
	if err != nil || len(units) < 3 {
		t.Fatalf("units: %v %v", units, err)
	}
	for _, u := range units {
		t.Run(filepath.Base(u), func(t *testing.T) {
			// verify wants the program to be there; the one of this repository stands for it.
			text := regexp.MustCompile(`(?m)^ExecStart=/usr/local/bin/[\w-]+`).ReplaceAllString(readFile(t, u), "ExecStart="+program(t))
			file := filepath.Join(t.TempDir(), filepath.Base(u))
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			files := []string{file}
			socket := strings.TrimSuffix(u, "service") + "socket" // a unit that wants its socket is verified with it
			if _, err := os.Stat(socket); err == nil {
				files = append(files, filepath.Join(filepath.Dir(file), filepath.Base(socket)))
				if err := os.WriteFile(files[1], []byte(readFile(t, socket)), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if out := command(t, analyze, append([]string{"verify", "--man=no"}, files...)...); strings.Contains(out, filepath.Dir(file)) {
				t.Errorf("systemd-analyze verify: %s", out)
			}
			command(t, analyze, "security", "--offline=true", "--threshold="+exposure, "--no-pager", file)
		})
	}
}

// TestUnitGivesTime: the service gets longer to end than it gives itself, and its limit of
// files is above its limit of connections.
func TestUnitGivesTime(t *testing.T) {
	unit := readFile(t, "systemd/prooftrail.service")
	for _, want := range []string{"\nTimeoutStopSec=45s\n", "\nStartLimitIntervalSec=0\n", "\nRestartSec=5s\n", "\nLimitNOFILE=16384\n"} {
		if !strings.Contains(unit, want) {
			t.Errorf("prooftrail.service lacks %s", strings.TrimSpace(want))
		}
	}
	var manual struct {
		Shutdown string `yaml:"shutdown_timeout"`
		Limits   struct {
			Connections int `yaml:"max_connections"`
		} `yaml:"limits"`
	}
	readYAML(t, "../cmd/prooftrail/manual.yaml", &manual)
	monitor := readFile(t, "systemd/prooftrail-monitor.service")
	for _, want := range []string{"\nTimeoutStopSec=45s\n", "\nStartLimitIntervalSec=0\n", "\nRestartSec=5s\n", "\nLimitNOFILE=16384\n"} {
		if !strings.Contains(monitor, want) {
			t.Errorf("prooftrail-monitor.service lacks %s", strings.TrimSpace(want))
		}
	}
	var monitors struct {
		Shutdown string `yaml:"shutdown_timeout"`
	}
	readYAML(t, "../cmd/prooftrail-monitor/manual.yaml", &monitors)
	if monitors.Shutdown != "30s" {
		t.Errorf("the monitor's unit was written for a shutdown_timeout of 30s; it is %s", monitors.Shutdown)
	}
	if manual.Shutdown != "30s" || manual.Limits.Connections+1000 > 16384 {
		t.Errorf("the unit was written for a shutdown_timeout of 30s and max_connections well below 16384; they are %s and %d",
			manual.Shutdown, manual.Limits.Connections)
	}
}
