// Package mariadbtest starts a real MariaDB server for tests: one of its own, in a
// temporary directory, with durable settings, reached over loopback, and gone with the
// test process.
package mariadbtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

// User and Password are what the server takes from clients. The user has all rights on
// databases whose name begins with pt_, and none on others or on the server.
const (
	User     = "prooftrail"
	Password = "not a secret: tests only"
)

// startTimeout bounds a start, recovery after a crash included.
const startTimeout = 60 * time.Second

// Server is a MariaDB server.
type Server struct {
	dir  string
	port int
	args []string

	mu   sync.Mutex
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended
}

var databases atomic.Int64

// Run starts a server for the tests of a package and ends it after them: for TestMain.
func Run(m *testing.M) (code int) {
	defer func() {
		if shared != nil {
			shared.end()
		}
	}()
	return m.Run()
}

var (
	shared     *Server
	sharedErr  error
	sharedOnce sync.Once
)

// Shared returns the server of the package's tests, started when it is first asked for.
// The package's TestMain must call Run. Tests that end the server start their own.
func Shared(tb testing.TB) *Server {
	tb.Helper()
	sharedOnce.Do(func() { shared, sharedErr = start() })
	if sharedErr != nil {
		tb.Fatal(sharedErr)
	}
	return shared
}

// Start starts a server that ends with the test. Further arguments are mariadbd's.
func Start(tb testing.TB, args ...string) *Server {
	tb.Helper()
	s, err := start(args...)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(s.end)
	return s
}

// Path returns where a program of MariaDB's is: it may be in /usr/sbin, which isn't in
// everybody's PATH.
func path(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	if p := filepath.Join("/usr/sbin", name); executable(p) {
		return p, nil
	}
	return "", fmt.Errorf("%s is missing: install it with apt-get install mariadb-server-core", name)
}

func executable(p string) bool {
	info, err := os.Stat(p)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

func start(args ...string) (_ *Server, err error) {
	install, err := path("mariadb-install-db")
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "mariadb")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, args: args}
	defer func() {
		if err != nil {
			s.end()
		}
	}()
	making := exec.Command(install, append(s.common(), "--auth-root-authentication-method=normal", "--skip-test-db")...)
	making.Env = s.env(making)
	if out, err := making.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("mariadb-install-db: %w\n%s", err, out)
	}
	if s.port, err = freePort(); err != nil {
		return nil, err
	}
	if err := s.start(); err != nil {
		return nil, err
	}
	return s, s.exec("CREATE USER '"+User+"'@'%' IDENTIFIED BY '"+Password+"'", "GRANT ALL ON `pt\\_%`.* TO '"+User+"'@'%'")
}

// common are the arguments of all of MariaDB's programs.
func (s *Server) common() []string {
	args := []string{"--no-defaults", "--datadir=" + filepath.Join(s.dir, "data")}
	if os.Getuid() == 0 {
		args = append(args, "--user=root")
	}
	return args
}

// env is the environment of a program of MariaDB's. A server that starts removes what others have
// left in the directory for temporary files, and what they are using: so each has its own.
func (s *Server) env(cmd *exec.Cmd) []string { return append(cmd.Environ(), "TMPDIR="+s.dir) }

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return l.Addr().(*net.TCPAddr).Port, l.Close()
}

// start starts the process and waits until it answers.
func (s *Server) start() error {
	program, err := path("mariadbd")
	if err != nil {
		return err
	}
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := append(s.common(), "--socket="+s.socket(), "--port="+strconv.Itoa(s.port), "--bind-address=127.0.0.1",
		"--pid-file="+filepath.Join(s.dir, "pid"), "--skip-name-resolve", "--innodb-flush-log-at-trx-commit=1",
		"--innodb-buffer-pool-size=256M", "--innodb-log-file-size=64M", "--max-connections=300")
	cmd := exec.Command(program, append(args, s.args...)...)
	cmd.Env = s.env(cmd)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // not for the terminal's interrupt
	dieWithParent(cmd.SysProcAttr)
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { _ = cmd.Wait(); close(done) }()
	s.mu.Lock()
	s.cmd, s.done = cmd, done
	s.mu.Unlock()
	for began := time.Now(); ; <-time.After(20 * time.Millisecond) {
		if err = s.exec("SELECT 1"); err == nil {
			return nil
		}
		select {
		case <-done:
			return fmt.Errorf("mariadbd ended: %s", s.tail())
		default:
		}
		if time.Since(began) > startTimeout {
			return fmt.Errorf("mariadbd doesn't answer: %w: %s", err, s.tail())
		}
	}
}

func (s *Server) log() string    { return filepath.Join(s.dir, "log") }
func (s *Server) socket() string { return filepath.Join(s.dir, "socket") }

// tail returns the end of the server's log.
func (s *Server) tail() string {
	b, err := os.ReadFile(s.log())
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}

// root opens a connection as the server's administrator, over its socket.
func (s *Server) root(database string) (*sql.DB, error) {
	cfg := mysql.NewConfig()
	cfg.User, cfg.Net, cfg.Addr, cfg.DBName = "root", "unix", s.socket(), database
	cfg.Timeout, cfg.MultiStatements, cfg.InterpolateParams = 5*time.Second, true, true
	cfg.Logger = &mysql.NopLogger{}
	c, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(c), nil
}

func (s *Server) exec(statements ...string) (err error) {
	db, err := s.root("")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	for _, st := range statements {
		if _, err := db.ExecContext(ctx, st); err != nil {
			return fmt.Errorf("%s: %w", st, err)
		}
	}
	return nil
}

// Exec runs statements as the server's administrator.
func (s *Server) Exec(tb testing.TB, statements ...string) {
	tb.Helper()
	if err := s.exec(statements...); err != nil {
		tb.Fatal(err)
	}
}

// Root opens a database as the server's administrator, who may change anything in it.
func (s *Server) Root(tb testing.TB, database string) *sql.DB {
	tb.Helper()
	db, err := s.root(database)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	return db
}

// Addr is the server's address and port, on loopback.
func (s *Server) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Database makes an empty database and returns its name.
func (s *Server) Database(tb testing.TB) string {
	tb.Helper()
	name := fmt.Sprintf("pt_%d_%d", os.Getpid(), databases.Add(1))
	s.Exec(tb, "CREATE DATABASE "+name)
	tb.Cleanup(func() { _ = s.exec("DROP DATABASE " + name) })
	return name
}

// DSN is the data source name of a database, without a password.
func (s *Server) DSN(database string) string { return User + "@tcp(" + s.Addr() + ")/" + database }

// signal sends a signal to the process.
func (s *Server) signal(sig os.Signal) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.cmd == nil {
		return errors.New("mariadbd isn't running")
	}
	return s.cmd.Process.Signal(sig)
}

// Kill ends the process at once, as a crash would, and waits until it is gone.
func (s *Server) Kill(tb testing.TB) {
	tb.Helper()
	if err := s.signal(os.Kill); err != nil {
		tb.Fatal(err)
	}
	<-s.done
}

// Restart starts the process again, after Kill.
func (s *Server) Restart(tb testing.TB) {
	tb.Helper()
	if err := s.start(); err != nil {
		tb.Fatal(err)
	}
}

// Ended reports whether the process has ended by itself, or was killed.
func (s *Server) Ended() bool {
	select {
	case <-s.done:
		return true
	default:
		return false
	}
}

// Pause stops the process where it is, until Resume.
func (s *Server) Pause(tb testing.TB) {
	tb.Helper()
	if err := s.signal(syscall.SIGSTOP); err != nil {
		tb.Fatal(err)
	}
}

// Resume lets a paused process go on.
func (s *Server) Resume(tb testing.TB) {
	tb.Helper()
	if err := s.signal(syscall.SIGCONT); err != nil {
		tb.Fatal(err)
	}
}

// end ends the process and removes what it wrote.
func (s *Server) end() {
	if s.cmd != nil {
		_ = s.signal(os.Kill)
		<-s.done
	}
	_ = os.RemoveAll(s.dir)
}

// Copy makes one database what another one is: what a dump of the one, loaded into the
// other, does.
func (s *Server) Copy(tb testing.TB, from, to string) {
	tb.Helper()
	rows, err := s.Root(tb, "").QueryContext(context.Background(), "SELECT table_name FROM information_schema.tables WHERE table_schema = ?", from)
	if err != nil {
		tb.Fatal(err)
	}
	statements := "SET foreign_key_checks = 0; DROP DATABASE " + to + "; CREATE DATABASE " + to + ";"
	for rows.Next() {
		var table string
		if err := rows.Scan(&table); err != nil {
			tb.Fatal(err)
		}
		statements += fmt.Sprintf("CREATE TABLE %s.%s LIKE %s.%s; INSERT INTO %s.%s SELECT * FROM %s.%s;", to, table, from, table, to, table, from, table)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		tb.Fatal(err)
	}
	s.Exec(tb, statements)
}
