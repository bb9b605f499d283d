package mysqldb

import (
	"crypto/tls"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
)

// Config is how a database is reached.
type Config struct {
	// DSN is a data source name of github.com/go-sql-driver/mysql, without a password:
	// user@tcp(host:port)/database or user@unix(/socket)/database. Of its parameters
	// timeout, readTimeout, writeTimeout and tls may be given.
	DSN string
	// Password is the user's.
	Password string
	// TLS is how the server is authenticated. Nil: by what the DSN says, and not at all
	// on this machine. Elsewhere the connection must have TLS.
	TLS *tls.Config
	// Insecure allows a connection to another machine without TLS.
	Insecure bool
	// Logger gets what the driver has to say. Default: nothing is logged.
	Logger *slog.Logger
}

// ErrConfig: the database can't be used as it was asked for.
var ErrConfig = errors.New("database")

// mayBeGiven are the DSN's parameters that are the operator's. The others are
// this package's, or weaken what it relies on.
var mayBeGiven = []string{"timeout", "readTimeout", "writeTimeout", "tls"}

const (
	defaultDial = 5 * time.Second
	// defaultIO bounds a read or write on a connection: the longest statement. A lock is
	// waited for in shorter pieces.
	defaultIO = 30 * time.Second
	// maxConns bounds the connections of one process.
	maxConns = 32
	sqlMode  = "'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'"
)

// Open returns the database. It doesn't connect yet.
func Open(cfg Config) (*sql.DB, error) {
	c, err := cfg.driver()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrConfig, err)
	}
	db := sql.OpenDB(batchConnector{connector})
	db.SetMaxOpenConns(maxConns)
	db.SetMaxIdleConns(maxConns)
	db.SetConnMaxIdleTime(time.Minute)
	db.SetConnMaxLifetime(10 * time.Minute) // a server behind a name may change
	return db, nil
}

// Place names the database and where its server is, for people: no user and no password.
func (cfg *Config) Place() string {
	c, err := parseDSN(cfg.DSN)
	if err != nil {
		return "a database"
	}
	return "database " + c.DBName + " at " + c.Addr
}

// driver makes the driver's configuration.
func (cfg *Config) driver() (*mysql.Config, error) {
	c, err := parseDSN(cfg.DSN)
	if err != nil {
		return nil, err
	}
	c.Passwd = cfg.Password
	if c.Timeout == 0 {
		c.Timeout = defaultDial
	}
	if c.ReadTimeout == 0 {
		c.ReadTimeout = defaultIO
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = defaultIO
	}
	c.InterpolateParams = true // else each statement with parameters is two round trips
	c.Collation = "utf8mb4_bin"
	c.RejectReadOnly = true // after a failover: connect anew
	c.Params = map[string]string{"sql_mode": sqlMode}
	c.MaxAllowedPacket = MinPacket
	if cfg.TLS != nil {
		c.TLS = cfg.TLS.Clone()
		if c.TLS.ServerName == "" {
			c.TLS.ServerName, _, _ = net.SplitHostPort(c.Addr)
		}
	}
	if !cfg.Insecure && !isSecure(c) {
		return nil, fmt.Errorf("DSN: %s is another machine: expected TLS, by a file of its certificate authorities or tls=true", c.Addr)
	}
	c.Logger = driverLog{cfg.Logger}
	return c, nil
}

// parseDSN parses a DSN and refuses what isn't the operator's to say. Its errors don't
// show the DSN, which might hold a password.
func parseDSN(dsn string) (*mysql.Config, error) {
	if len(dsn) > 1024 {
		return nil, errors.New("DSN: expected at most 1024 bytes")
	}
	c, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, errors.New("DSN: expected user@tcp(host:port)/database or user@unix(/path)/database")
	}
	switch {
	case c.Passwd != "":
		return nil, errors.New("DSN: expected no password: give it in a file, or in the environment")
	case c.User == "":
		return nil, errors.New("DSN: expected a user")
	case c.DBName == "":
		return nil, errors.New("DSN: expected a database's name")
	case c.Net != "tcp" && c.Net != "unix":
		return nil, fmt.Errorf("DSN: network %q: expected tcp or unix", c.Net)
	}
	_, afterSlash, _ := cutLast(dsn, '/') // as the driver does
	if _, text, ok := strings.Cut(afterSlash, "?"); ok {
		params, err := url.ParseQuery(text)
		if err != nil {
			return nil, errors.New("DSN: its parameters: expected name=value&name=value")
		}
		for name := range params {
			if !slices.Contains(mayBeGiven, name) {
				return nil, fmt.Errorf("DSN: parameter %q can't be given: expected %s", name, strings.Join(mayBeGiven, ", "))
			}
		}
	}
	if c.TLSConfig != "" && c.TLSConfig != "true" && c.TLSConfig != "false" {
		return nil, errors.New("DSN: parameter tls: expected true or false")
	}
	return c, nil
}

// cutLast cuts s around the last sep.
func cutLast(s string, sep byte) (before, after string, found bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// isSecure reports whether nobody between here and the server can listen or answer.
func isSecure(c *mysql.Config) bool {
	if c.Net == "unix" || c.TLS != nil || c.TLSConfig == "true" {
		return true
	}
	host, _, err := net.SplitHostPort(c.Addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// driverLog sends what the driver says to slog.
type driverLog struct{ log *slog.Logger }

func (l driverLog) Print(v ...any) {
	if l.log != nil {
		l.log.Warn("database driver", "message", fmt.Sprint(v...))
	}
}
