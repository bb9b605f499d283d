package cronlog

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// maxTab is the longest crontab that is read. To mask one of this length takes a tenth of a second.
const maxTab = 256 << 10

// maxTabs bounds how many crontabs are looked at.
const maxTabs = 10_000

// Tabs are the crontabs of this machine, and the last version of each that was seen, in a directory of its own.
type Tabs struct {
	Spool, System, SystemDir string // /var/spool/cron/crontabs, /etc/crontab, /etc/cron.d
	State                    string // directory for what was seen, mode 0700; it must be there

	mu        sync.Mutex
	schedules map[string]map[string]string // by crontab, by job id
	same      map[string]fileMark          // of crontabs whose version is the last one seen
	learned   map[string][sha256.Size]byte // the digest of the text that schedules are of
}

// fileMark tells whether a file may have changed.
type fileMark struct {
	size              int64
	modified, changed time.Time // changed is the kernel's, and can't be set back
	inode             uint64
}

// systemTab is cron's name for /etc/crontab; those in cron.d have their file's name behind it.
const systemTab = "*system*"

var (
	userName   = lazily(`^[A-Za-z0-9_][A-Za-z0-9_.@+$-]{0,63}$`)
	systemName = lazily(`^[A-Za-z0-9_-]{1,128}$`)
)

// path is where the crontab of a name is; "" if there can be none.
func (t *Tabs) path(name string) string {
	base, system := strings.CutPrefix(name, systemTab)
	switch {
	case name == systemTab:
		return t.System
	case system && systemName().MatchString(base) && t.SystemDir != "":
		return filepath.Join(t.SystemDir, base)
	case !system && userName().MatchString(name) && !strings.HasPrefix(name, "tmp.") && t.Spool != "":
		return filepath.Join(t.Spool, name)
	}
	return ""
}

// owner is the user of all lines of a crontab; "" if each line has its own.
func owner(name string) string {
	if strings.HasPrefix(name, systemTab) {
		return ""
	}
	return name
}

// read reads a crontab; ok is false if there is none.
func (t *Tabs) read(name string) (text string, mark fileMark, ok bool, err error) {
	path := t.path(name)
	if path == "" {
		return "", mark, false, nil
	}
	flags := os.O_RDONLY | noBlock // no waiting for the other end of a pipe
	if owner(name) != "" {
		flags |= noFollow // cron doesn't follow either
	}
	f, err := os.OpenFile(path, flags, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return "", mark, false, nil
	}
	if err != nil {
		return "", mark, false, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return "", mark, false, err
	case !info.Mode().IsRegular():
		return "", mark, false, errors.New("not a regular file")
	case info.Size() > maxTab:
		return "", mark, false, errTooLong
	}
	b, err := io.ReadAll(io.LimitReader(f, maxTab+1)) // it may have grown
	if err == nil && len(b) > maxTab {
		err = errTooLong
	}
	return string(b), markOf(info), err == nil, err
}

var errTooLong = errors.New("longer than 256 KiB")

// names are the crontabs that there are, and those that were seen.
func (t *Tabs) names() (all []string, err error) {
	seen, err := os.ReadDir(t.State)
	if err != nil {
		return nil, err
	}
	for _, e := range seen {
		if name, err := url.PathUnescape(strings.TrimSuffix(e.Name(), ".tab")); err == nil && strings.HasSuffix(e.Name(), ".tab") {
			all = append(all, name)
		}
	}
	if t.System != "" {
		all = append(all, systemTab)
	}
	for _, dir := range []struct{ path, prefix string }{{t.SystemDir, systemTab}, {t.Spool, ""}} {
		if dir.path == "" {
			continue
		}
		entries, readErr := os.ReadDir(dir.path)
		if readErr != nil && !errors.Is(readErr, fs.ErrNotExist) {
			err = errors.Join(err, readErr)
		}
		for _, e := range entries {
			if name := dir.prefix + e.Name(); t.path(name) != "" {
				all = append(all, name)
			}
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	if n := len(all) - maxTabs; n > 0 {
		all, err = all[:maxTabs], errors.Join(err, fmt.Errorf("%d crontabs are not looked at: there are more than %d", n, maxTabs))
	}
	return all, err
}

func (t *Tabs) stateFile(name string) string {
	return filepath.Join(t.State, url.PathEscape(name)+".tab")
}

// last returns the version that was seen last; ok is false if there was none.
func (t *Tabs) last(name string) (text string, ok bool, err error) {
	b, err := os.ReadFile(t.stateFile(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "", false, nil
	}
	return string(b), err == nil, err
}

// begun says whether crontabs have been looked at before.
func (t *Tabs) begun() bool {
	_, err := os.Stat(filepath.Join(t.State, "begun"))
	return err == nil
}

func (t *Tabs) begin() error { return t.write(filepath.Join(t.State, "begun"), "") }

// clean removes what a crash has left half written.
func (t *Tabs) clean() error {
	left, err := filepath.Glob(filepath.Join(t.State, ".new-*"))
	for _, f := range left {
		err = errors.Join(err, os.Remove(f))
	}
	return err
}

// keep makes a version the last one that was seen. A crash in between leaves the one before: then the difference is
// told twice, and not never.
func (t *Tabs) keep(name, text string, ok bool) error {
	if !ok {
		err := os.Remove(t.stateFile(name))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return err
	}
	return t.write(t.stateFile(name), text)
}

func (t *Tabs) write(file, text string) error {
	f, err := os.CreateTemp(t.State, ".new-*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		_ = os.Remove(f.Name()) // it is of no use
	}
	return err
}

// unchanged says quickly that a crontab is the one that was seen last.
func (t *Tabs) unchanged(name string) bool {
	info, err := os.Stat(t.path(name))
	t.mu.Lock()
	defer t.mu.Unlock()
	mark, ok := t.same[name]
	return ok && err == nil && mark == markOf(info)
}

// mark remembers the file's mark, if it is what was seen last, and says whether the schedules are of that text.
func (t *Tabs) mark(name string, mark fileMark, text string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.same == nil {
		t.same, t.schedules, t.learned = map[string]fileMark{}, map[string]map[string]string{}, map[string][sha256.Size]byte{}
	}
	delete(t.same, name)
	if mark != (fileMark{}) {
		t.same[name] = mark
	}
	of, ok := t.learned[name]
	return ok && of == sha256.Sum256([]byte(text))
}

// forget has the crontab looked at again.
func (t *Tabs) forget(name string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.same, name)
}

// learn remembers the schedules of a crontab's jobs.
func (t *Tabs) learn(name, text string, jobs map[string]string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.schedules, name)
	delete(t.learned, name)
	if len(jobs) > 0 {
		t.schedules[name], t.learned[name] = jobs, sha256.Sum256([]byte(text))
	}
}

// schedule returns the schedule of a job, "" if it isn't known.
func (t *Tabs) schedule(job string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, jobs := range t.schedules {
		if s, ok := jobs[job]; ok {
			return s
		}
	}
	return ""
}
