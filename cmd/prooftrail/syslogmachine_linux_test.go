package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const aliceUID, bobUID = 4711, 4712

// cronMachine makes what cron, crontab, su and sudo touch private to this mount namespace: /dev with a /dev/log of its own, /etc
// with users of its own, /run, /var/spool/cron.
func cronMachine(t *testing.T) {
	t.Helper()
	dir := t.TempDir()
	mount := func(at, options string) {
		err := syscall.Mount("prooftrail-test", at, "tmpfs", 0, options)
		if denied(err) {
			t.Skip(needsMount)
		}
		if err != nil {
			t.Fatalf("mount on %s: %v", at, err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	dev, etc := filepath.Join(dir, "dev"), filepath.Join(dir, "etc")
	must(errors.Join(os.Mkdir(dev, 0o755), os.Mkdir(etc, 0o755), os.MkdirAll("/var/spool/cron", 0o755)))
	mount(dev, "mode=0755")
	for _, name := range []string{"null", "zero", "full", "random", "urandom", "tty"} {
		must(os.WriteFile(filepath.Join(dev, name), nil, 0o666))
		must(syscall.Mount("/dev/"+name, filepath.Join(dev, name), "", syscall.MS_BIND, ""))
	}
	must(os.Symlink("/proc/self/fd", filepath.Join(dev, "fd")))
	mount(etc, "mode=0755")
	if out, err := exec.Command("cp", "-a", "/etc/.", etc).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v\n%s", err, out)
	}
	must(syscall.Mount(dev, "/dev", "", syscall.MS_MOVE, ""))
	must(syscall.Mount(etc, "/etc", "", syscall.MS_MOVE, ""))
	mount("/run", "mode=0755")
	mount("/var/spool/cron", "mode=0755")
	group, err := os.ReadFile("/etc/group")
	must(err)
	m := regexp.MustCompile(`(?m)^crontab:[^:]*:(\d+):`).FindSubmatch(group)
	if m == nil {
		t.Fatal("there is no group crontab: apt-get install cron")
	}
	var gid int
	_, err = fmt.Sscan(string(m[1]), &gid)
	must(err)
	must(errors.Join(os.Mkdir("/var/spool/cron/crontabs", 0o700), os.Chown("/var/spool/cron/crontabs", 0, gid),
		syscall.Chmod("/var/spool/cron/crontabs", 0o1730)))
	must(errors.Join(os.RemoveAll("/etc/cron.d"), os.Mkdir("/etc/cron.d", 0o755), os.WriteFile("/etc/crontab", []byte("# none\n"), 0o644),
		os.RemoveAll("/etc/cron.allow"), os.WriteFile("/etc/cron.deny", []byte("bob\n"), 0o644)))
	appendTo(t, "/etc/passwd", "alice:x:4711:4711::/tmp:/bin/sh\nbob:x:4712:4712::/tmp:/bin/sh\n")
	appendTo(t, "/etc/shadow", "alice:!:1::::::\nbob:!:1::::::\n")
	appendTo(t, "/etc/sudoers", "alice ALL=(root) NOPASSWD: /bin/echo\nalice ALL=(root) /bin/true, /usr/bin/true\n")
	appendTo(t, "/etc/group", "alice:x:4711:\nbob:x:4712:\n")
}

// asRoot runs the test by sudo, where that needs no password, as deployment/test.sh does it too; else it is skipped.
func asRoot(t *testing.T) {
	t.Helper()
	if err := exec.Command("sudo", "-n", "true").Run(); err != nil {
		t.Skipf("cron runs jobs as other users: that takes root, or sudo without a password: %v", err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "sudo", "-n", "env", "PATH="+os.Getenv("PATH"), self, "-test.run=^"+t.Name()+"$", "-test.v", "-test.timeout=10m").CombinedOutput()
	if err != nil {
		t.Fatalf("as root: %v\n%s", err, out)
	}
	if bytes.Contains(out, []byte("--- SKIP: "+t.Name())) {
		t.Skipf("as root too:\n%s", out)
	}
	t.Logf("\n%s", out)
}

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// as runs a command as a user, and returns how it ended.
func as(t *testing.T, uid uint32, stdin string, command ...string) error {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), command[0], command[1:]...)
	cmd.Dir, cmd.Stdin = "/tmp", strings.NewReader(stdin)
	cmd.Env = append(os.Environ(), "EDITOR=true", "HOME=/tmp")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	t.Logf("%d %s: %v %s", uid, strings.Join(command, " "), err, bytes.TrimSpace(out))
	return err
}

// needPrograms fails where a program is missing.
func needPrograms(t *testing.T, programs map[string]string) {
	t.Helper()
	for _, p := range slices.Sorted(maps.Keys(programs)) {
		if _, err := exec.LookPath(p); errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
			if _, err := os.Stat("/usr/sbin/" + p); err != nil {
				t.Fatalf("%s is missing: apt-get install %s", p, programs[p])
			}
		}
	}
}
