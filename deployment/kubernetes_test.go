package deployment_test

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prooftrail/prooftrail/personality/mysqldb/mariadbtest"
)

// container is what of a pod's container the tests start.
type container struct {
	Name    string   `json:"name"`
	Command []string `json:"command"`
	Args    []string `json:"args"`
}

// object is what of a Kubernetes object the tests use.
type object struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Data map[string]string `json:"data"`
	Spec struct {
		Template struct {
			Spec struct {
				InitContainers []container `json:"initContainers"`
				Containers     []container `json:"containers"`
			} `json:"spec"`
		} `json:"template"`
	} `json:"spec"`
}

// namespace is what kustomize makes of an overlay and of its anchors, on what this machine has.
type namespace struct {
	objects []object
	dir     string
	db      *mariadbtest.Server
	fill    []string // from what is in the cluster to what is here
}

// find is the object of a kind whose name begins so: kustomize appends a hash to a ConfigMap's.
func (n *namespace) find(t *testing.T, kind, name string) object {
	t.Helper()
	at := slices.IndexFunc(n.objects, func(o object) bool {
		return o.Kind == kind && (o.Metadata.Name == name || strings.HasPrefix(o.Metadata.Name, name+"-"))
	})
	if at < 0 {
		t.Fatalf("there is no %s %s", kind, name)
	}
	return n.objects[at]
}

// newNamespace renders an overlay and starts a database with TLS for it. Secrets are as
// deployment/README.md makes them, the log's after init.
func newNamespace(t *testing.T, overlay string) *namespace {
	t.Helper()
	n := &namespace{dir: t.TempDir()}
	for _, d := range []string{"overlays/", "anchors/"} {
		var some []object
		render(t, &some, "kustomize", "kubernetes/"+d+overlay)
		n.objects = append(n.objects, some...)
	}
	for _, d := range []string{"mysql", "trillian", "flags", "config"} {
		if err := os.MkdirAll(filepath.Join(n.dir, "secrets", d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	tool(t, "openssl", "openssl")
	certificate := func(crt, key string) {
		command(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1", "-subj", "/CN=test",
			"-addext", "subjectAltName=IP:127.0.0.1", "-keyout", n.secret(key), "-out", n.secret(crt))
	}
	certificate("mysql/ca.pem", "mysql.key")
	certificate("trillian/tls.crt", "trillian/tls.key")
	writeFile(t, n.secret("trillian/ca.pem"), readFile(t, n.secret("trillian/tls.crt")))
	n.db = mariadbtest.Start(t, "--ssl-cert="+n.secret("mysql/ca.pem"), "--ssl-key="+n.secret("mysql.key"), "--require-secure-transport=ON",
		"--max-allowed-packet=64M")
	writeFile(t, n.secret("mysql/password"), "a password")
	for _, name := range []string{"prooftrail", "trillian"} {
		n.db.Exec(t, "CREATE DATABASE "+name, "CREATE OR REPLACE USER '"+name+"'@'%' IDENTIFIED BY 'a password'", "GRANT ALL ON "+name+".* TO '"+name+"'@'%'")
	}
	n.fill = []string{
		"$(STORAGE_DSN)", n.find(t, "ConfigMap", "prooftrail-storage").Data["STORAGE_DSN"],
		"$(STORAGE_TRILLIAN)", n.find(t, "ConfigMap", "prooftrail-storage").Data["STORAGE_TRILLIAN"],
		"mariadb.database.svc:3306", n.db.Addr(), "trillian-log-server.prooftrail.svc:8090", freeAddress(t),
		"/etc/prooftrail-mysql", n.secret("mysql"), "/etc/trillian-mysql", n.secret("mysql"), "/etc/prooftrail-trillian", n.secret("trillian"),
		"/etc/trillian-tls", n.secret("trillian"), "/etc/trillian", n.secret("flags"), "/etc/prooftrail", n.secret("config"),
		"/secrets", n.secret(""), "0.0.0.0:8080", "127.0.0.1:0",
	}
	return n
}

func (n *namespace) secret(name string) string { return filepath.Join(n.dir, "secrets", name) }

// filled puts what is here in the place of what is in the cluster: twice, for the ConfigMap's values
// have names of the cluster in them. More is what is the pod's own.
func (n *namespace) filled(args []string, more ...string) (filled []string) {
	r := strings.NewReplacer(append(more, n.fill...)...)
	for _, a := range args {
		if strings.HasPrefix(a, "--trillian=") || strings.HasPrefix(a, "--mysql-dsn=") {
			a = r.Replace(a)
		}
		filled = append(filled, r.Replace(a))
	}
	return filled
}

// pod is a container's arguments, filled, after the pod's container for secrets has run. The anchor's
// volume outlives the pod, its memory doesn't.
func (n *namespace) pod(t *testing.T, o object, volume string) []string {
	t.Helper()
	run, anchor := t.TempDir(), filepath.Join(n.dir, volume)
	if err := os.MkdirAll(anchor, 0o700); err != nil {
		t.Fatal(err)
	}
	own := []string{"/run/prooftrail", run, "/var/lib/prooftrail", anchor}
	spec := o.Spec.Template.Spec
	for _, c := range spec.InitContainers {
		filled := n.filled(c.Command, own...)
		command(t, filled[0], filled[1:]...)
	}
	config := n.find(t, "ConfigMap", "prooftrail-config").Data["prooftrail.yaml"]
	file := filepath.Join(run, "prooftrail.yaml")
	writeFile(t, file, n.filled([]string{config}, own...)[0])
	return n.filled(spec.Containers[0].Args, append(own, "/etc/prooftrail/prooftrail.yaml", file)...)
}

// startTrillian starts a log server and a signer, which must be the elected one: nothing here has
// leases.
func (n *namespace) startTrillian(t *testing.T) {
	t.Helper()
	writeFile(t, n.secret("flags/flags"), "--mysql_uri='trillian:a password@tcp("+n.db.Addr()+")/trillian'")
	if err := os.Chmod(n.secret("mysql/password"), 0o600); err != nil {
		t.Fatal(err)
	}
	command(t, program(t), "schema", "--mysql-dsn=trillian@tcp("+n.db.Addr()+")/trillian", "--mysql-password-file="+n.secret("mysql/password"),
		"--mysql-ca="+n.secret("mysql/ca.pem"))
	server := strings.TrimPrefix(n.filled([]string{"--trillian=$(STORAGE_TRILLIAN)"})[0], "--trillian=")
	for name, binary := range map[string]string{"trillian-log-server": "trillian_log_server", "trillian-log-signer": "trillian_log_signer"} {
		rpc := server
		args := n.filled(n.find(t, "Deployment", name).Spec.Template.Spec.Containers[0].Args)
		if name == "trillian-log-signer" {
			rpc = freeAddress(t)
			args = append(args, "--force_master", "--election_system=etcd")
		}
		at := freeAddress(t)
		p := start(t, trillianServer(t, binary), append(without(args, "--lock_"), "--rpc_endpoint="+rpc, "--http_endpoint="+at)...)
		t.Cleanup(p.kill) // asked to end it would sleep for 10 seconds
		eventually(t, name+" takes connections", func() error {
			p.mustRun(t)
			return dial(at)
		})
	}
}

// without leaves out the flags that begin so.
func without(args []string, prefix string) (rest []string) {
	for _, a := range args {
		if !strings.HasPrefix(a, prefix) {
			rest = append(rest, a)
		}
	}
	return rest
}

// TestKubernetesRuns starts what the StatefulSet and the anchors' jobs start, with their arguments,
// configuration and secrets, over TLS. A second anchor is refused, and a server goes on with its
// own after a restart.
func TestKubernetesRuns(t *testing.T) {
	for _, overlay := range []string{"mysql", "trillian"} {
		t.Run(overlay, func(t *testing.T) {
			n := newNamespace(t, overlay)
			if overlay == "trillian" {
				n.startTrillian(t)
			}
			// As an operator does from outside: the flags of where the log is are the StatefulSet's.
			set := n.find(t, "StatefulSet", "prooftrail")
			where := regexp.MustCompile(`^--(storage|mysql|trillian)`)
			args := []string{"init", "--data=" + filepath.Join(n.dir, "secrets", "log"), "--anchor=" + filepath.Join(n.dir, "init.anchor"), "--origin=kubernetes.example/audit"}
			if err := os.Chmod(n.secret("mysql/password"), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, a := range n.filled(set.Spec.Template.Spec.Containers[0].Args, "/run/prooftrail/mysql.password", n.secret("mysql/password")) {
				if where.MatchString(a) {
					args = append(args, a)
				}
			}
			command(t, program(t), args...)
			// A Secret's files may be read by the group.
			for _, f := range []string{"log/signer.key", "mysql/password"} {
				if err := os.Chmod(n.secret(f), 0o440); err != nil {
					t.Fatal(err)
				}
			}
			token := n.secret("log/tokens/submit.token")
			for i := range 2 {
				volume := fmt.Sprintf("anchor-prooftrail-%d", i)
				job := n.find(t, "Job", volume)
				command(t, program(t), n.pod(t, job, volume)...)
				if out, err := exec.Command(program(t), n.pod(t, job, volume)...).CombinedOutput(); err == nil {
					t.Errorf("a second anchor was made: %s", out)
				}
			}
			for round := range 2 {
				for i := range 2 {
					p, url := serve(t, n.pod(t, set, fmt.Sprintf("anchor-prooftrail-%d", i))[1:]...)
					status, body, err := submit(t, web, url, token, fmt.Sprintf("event-%d-%d", round, i))
					if err != nil || status != http.StatusCreated && status != http.StatusOK {
						t.Errorf("pod %d, start %d: %d %s %v", i, round, status, body, err)
					}
					if status, body, err := fetch(t, web, url+"/readyz"); err != nil || status != http.StatusOK {
						t.Errorf("pod %d, start %d: %d %s %v", i, round, status, body, err)
					}
					if round == 0 {
						p.end()
					}
				}
			}
		})
	}
}
