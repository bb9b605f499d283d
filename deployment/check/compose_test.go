package check

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/compose-spec/compose-go/v2/types"
)

const (
	composeFile  = "../compose/compose.yaml"
	trillianFile = "../compose/compose.trillian.yaml"
	monitorFile  = "../compose/compose.monitor.yaml"
)

var composeEnv = []string{"PROOFTRAIL_UID=65532", "PROOFTRAIL_GID=65532"}

func eachProject(t *testing.T, check func(t *testing.T, p *types.Project)) {
	t.Helper()
	for name, files := range map[string][]string{"mysql": {composeFile}, "trillian": {composeFile, trillianFile}, "monitor": {monitorFile}} {
		t.Run(name, func(t *testing.T) {
			p, err := Compose(t.Context(), composeEnv, files...)
			if err != nil {
				t.Fatal(err)
			}
			check(t, p)
		})
	}
}

// TestComposeNeedsPreparation: without prepare.sh's .env nothing starts as root by mistake.
func TestComposeNeedsPreparation(t *testing.T) {
	_, err := Compose(t.Context(), []string{"PROOFTRAIL_UID=", "PROOFTRAIL_GID="}, composeFile)
	if err == nil || !strings.Contains(err.Error(), "run prepare.sh first") {
		t.Errorf("without a user to run as: %v", err)
	}
}

// TestComposeServices: what the issue of such a file is to have is there, twice where it is to
// survive a loss.
func TestComposeServices(t *testing.T) {
	eachProject(t, func(t *testing.T, p *types.Project) {
		want := []string{"grafana", "init", "mariadb", "prometheus", "prooftrail-1", "prooftrail-2", "proxy"}
		if strings.HasSuffix(t.Name(), "/trillian") {
			want = append(want, "etcd", "trillian-database", "trillian-log-server-1", "trillian-log-server-2",
				"trillian-log-signer-1", "trillian-log-signer-2", "trillian-schema")
		}
		if strings.HasSuffix(t.Name(), "/monitor") {
			want = []string{"init", "monitor", "prometheus"}
		}
		slices.Sort(want)
		if got := p.ServiceNames(); !slices.Equal(got, want) {
			t.Errorf("services %v, expected %v", got, want)
		}
	})
}

// TestComposeHardening: no service has rights or ways in that it doesn't need.
func TestComposeHardening(t *testing.T) {
	eachProject(t, func(t *testing.T, p *types.Project) {
		for name, s := range p.Services {
			if !s.ReadOnly && name != "mariadb" {
				t.Errorf("%s can write to its root file system", name)
			}
			if !slices.Equal(s.CapDrop, []string{"ALL"}) || len(s.CapAdd) > 0 && name != "mariadb" {
				t.Errorf("%s keeps capabilities: drops %v, adds %v", name, s.CapDrop, s.CapAdd)
			}
			if !slices.Contains(s.SecurityOpt, "no-new-privileges:true") || s.Privileged {
				t.Errorf("%s may gain privileges", name)
			}
			if s.MemLimit == 0 {
				t.Errorf("%s has no limit of memory", name)
			}
			// The images of these begin as another user, or become one by themselves.
			if own := []string{"mariadb", "etcd", "prometheus"}; s.User != "65532:65532" && !slices.Contains(own, name) {
				t.Errorf("%s runs as %q", name, s.User)
			}
			if tag := s.Image[strings.LastIndex(s.Image, "/")+1:]; !strings.Contains(tag, ":") || strings.HasSuffix(tag, ":latest") {
				t.Errorf("%s: the image %s has no version", name, s.Image)
			}
			for _, port := range s.Ports {
				if port.HostIP != "127.0.0.1" {
					t.Errorf("%s listens on %q:%s", name, port.HostIP, port.Published)
				}
			}
			for k, v := range s.Environment {
				if v != nil && strings.Contains(k, "PASSWORD") && !strings.HasSuffix(k, "_FILE") {
					t.Errorf("%s has a password in its environment, %s", name, k)
				}
			}
		}
		if strings.HasSuffix(t.Name(), "/monitor") {
			return // its network has a way out: to logs, peers, and whom it wakes
		}
		if !p.Networks["back"].Internal {
			t.Error("the database's network has a way out")
		}
		if _, ok := p.Services["mariadb"].Networks["front"]; ok {
			t.Error("the database is on the proxy's network")
		}
	})
}

// TestComposeMounts: what is mounted from this repository is in it, and can't be written to; the rest is
// what prepare.sh and init make.
func TestComposeMounts(t *testing.T) {
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	eachProject(t, func(t *testing.T, p *types.Project) {
		for name, s := range p.Services {
			for _, v := range s.Volumes {
				if v.Type != types.VolumeTypeBind {
					continue
				}
				at, err := filepath.Rel(root, v.Source)
				if err != nil {
					t.Fatal(err)
				}
				made := strings.HasPrefix(at, "deployment/compose/state")
				if _, err := filepath.EvalSymlinks(v.Source); err != nil && !made {
					t.Errorf("%s mounts %s, which isn't there", name, at)
				}
				if !v.ReadOnly && !made {
					t.Errorf("%s may write to %s", name, at)
				}
				if !v.ReadOnly && at != "deployment/compose/state/anchor" && at != "deployment/compose/state/monitor" && name != "init" {
					t.Errorf("%s may write to %s", name, at)
				}
			}
			for _, secret := range s.Secrets {
				if _, ok := p.Secrets[secret.Source]; !ok {
					t.Errorf("%s: no secret %s", name, secret.Source)
				}
			}
		}
		if strings.HasSuffix(t.Name(), "/monitor") {
			return
		}
		a, b := p.Services["prooftrail-1"], p.Services["prooftrail-2"]
		if len(a.Volumes) < 3 || !slices.EqualFunc(a.Volumes, b.Volumes, func(x, y types.ServiceVolumeConfig) bool { return x.Source == y.Source && x.Target == y.Target }) {
			t.Error("the two servers don't have the same key and anchor")
		}
	})
}
