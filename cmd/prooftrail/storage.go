//go:build !client

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/prooftrail/prooftrail/cmd/internal/cli"
	"github.com/prooftrail/prooftrail/personality"
	"github.com/prooftrail/prooftrail/personality/mysqldb"
	"github.com/prooftrail/prooftrail/personality/tree"
)

// passwordEnv is the environment variable with the database's password.
const passwordEnv = "PROOFTRAIL_MYSQL_PASSWORD"

// The kinds of storage.
const (
	storageEmbedded = "embedded"
	storageMySQL    = "mysql"
	storageTrillian = "trillian"
)

// storageFlags say where a log is kept: flags of every command that opens one.
type storageFlags struct {
	storage  string
	mysql    MySQLConfig
	trillian TrillianConfig
}

func (s *storageFlags) add(fs *cli.Flags) {
	fs.StringVar(&s.storage, "storage", "", "where the log is kept: embedded, in the data directory, mysql, or trillian: a `kind` (default embedded)")
	s.addMySQL(fs)
	fs.Var((*commaList)(&s.trillian.Servers), "trillian", "Trillian's log servers, `host:port[,host:port]`, for storage trillian")
	fs.StringVar(&s.trillian.CA, "trillian-ca", "", "PEM `file` of the certificate authorities that they are checked with")
	fs.BoolVar(&s.trillian.Insecure, "trillian-insecure", false, "allow them on other machines without TLS: what the log stores can then be read and changed on the way")
}

func (s *storageFlags) addMySQL(fs *cli.Flags) {
	fs.StringVar(&s.mysql.DSN, "mysql-dsn", "", "the database, as user@tcp(host:port)/name or user@unix(/socket)/name: a `DSN` without a password")
	fs.StringVar(&s.mysql.PasswordFile, "mysql-password-file", "", "`file` with the database's password, mode 0600 (default the environment's "+passwordEnv+")")
	fs.StringVar(&s.mysql.CA, "mysql-ca", "", "PEM `file` of the certificate authorities that the database's server is checked with")
	fs.BoolVar(&s.mysql.Insecure, "mysql-insecure", false, "allow a database on another machine without TLS: all that it is told can then be read on the way")
}

// commaList is a flag's value that is a list with commas.
type commaList []string

func (l *commaList) String() string { return strings.Join(*l, ",") }

func (l *commaList) Set(s string) error {
	*l = strings.Split(s, ",")
	return nil
}

// over puts the flags that were given over a configuration.
func (s *storageFlags) over(cfg *Config) {
	for _, f := range []struct{ to, from *string }{
		{&cfg.Storage, &s.storage}, {&cfg.MySQL.DSN, &s.mysql.DSN}, {&cfg.MySQL.PasswordFile, &s.mysql.PasswordFile},
		{&cfg.MySQL.CA, &s.mysql.CA}, {&cfg.Trillian.CA, &s.trillian.CA},
	} {
		if *f.from != "" {
			*f.to = *f.from
		}
	}
	if len(s.trillian.Servers) > 0 {
		cfg.Trillian.Servers = s.trillian.Servers
	}
	cfg.MySQL.Insecure = cfg.MySQL.Insecure || s.mysql.Insecure
	cfg.Trillian.Insecure = cfg.Trillian.Insecure || s.trillian.Insecure
}

// open makes the part of a log's configuration that says where it is kept.
func (s *storageFlags) open(cfg *personality.Config) error {
	c := defaultConfig()
	s.over(&c)
	return c.openStorage(cfg)
}

// openStorage makes the part of a log's configuration that says where it is kept.
func (c *Config) openStorage(cfg *personality.Config) (err error) {
	switch c.Storage {
	case storageEmbedded:
		if c.MySQL != (MySQLConfig{}) {
			return errors.New("a database is named, but storage is neither mysql nor trillian; see --help")
		}
	case storageMySQL, storageTrillian:
		if c.MySQL.DSN == "" {
			return fmt.Errorf("storage %s needs --mysql-dsn (or dsn in the configuration); see --help", c.Storage)
		}
		if cfg.Database, err = c.MySQL.open(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("storage %q: expected %s, %s or %s", c.Storage, storageEmbedded, storageMySQL, storageTrillian)
	}
	if c.Storage == storageTrillian {
		cfg.Trillian, err = c.Trillian.open()
		return err
	}
	if len(c.Trillian.Servers) > 0 || c.Trillian.CA != "" || c.Trillian.Insecure {
		return errors.New("a Trillian cluster is named, but storage isn't trillian; see --help")
	}
	return nil
}

// open returns how the database is reached.
func (m *MySQLConfig) open() (*mysqldb.Config, error) {
	password, err := m.password()
	if err != nil {
		return nil, err
	}
	db := &mysqldb.Config{DSN: m.DSN, Password: password, Insecure: m.Insecure}
	if m.CA != "" {
		roots, err := readRoots(m.CA)
		if err != nil {
			return nil, err
		}
		db.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	return db, nil
}

// open returns how the cluster is reached.
func (t *TrillianConfig) open() (*tree.RemoteConfig, error) {
	if len(t.Servers) == 0 {
		return nil, errors.New("storage trillian needs --trillian (or servers in the configuration); see --help")
	}
	cluster := &tree.RemoteConfig{Addresses: t.Servers, Insecure: t.Insecure}
	if t.CA != "" {
		roots, err := readRoots(t.CA)
		if err != nil {
			return nil, err
		}
		cluster.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	}
	if err := cluster.Check(); err != nil {
		return nil, fmt.Errorf("storage trillian: %w", err)
	}
	return cluster, nil
}

// password reads the database's password.
func (m *MySQLConfig) password() (string, error) {
	if m.PasswordFile == "" {
		return os.Getenv(passwordEnv), nil
	}
	if err := checkPrivate("the database's password", m.PasswordFile); err != nil {
		return "", err
	}
	b, err := os.ReadFile(m.PasswordFile)
	if err != nil {
		return "", fmt.Errorf("the database's password: %w", err)
	}
	return strings.TrimRight(string(b), "\r\n"), nil
}

const anchorHelp = `
Usage: prooftrail anchor --data DIR --anchor FILE --storage mysql --mysql-dsn DSN [flags]

Makes the anchor of a further server of a log in a database. An anchor remembers the
newest signed head, so that a database that was put back from a backup is noticed; a
server doesn't start to sign without one, and never makes it by itself.

Servers that can reach one file may share it: then none signs what is behind what
another has signed. Servers with an anchor each know only what they have signed or
seen themselves.

The new anchor begins at the head that is stored now. Make one only while the log is
known to be whole: when a server is added, not when one refuses.

Example:
  prooftrail anchor --data /etc/prooftrail/log --anchor /var/lib/prooftrail/log.anchor \
      --storage mysql --mysql-dsn 'prooftrail@tcp(db.example:3306)/prooftrail?tls=true'

Exit codes: 0 made; 1 refused, because FILE exists; 2 failed.
`

func runAnchor(ctx context.Context, e *cli.Env, args []string) error {
	var cfg personality.Config
	var storage storageFlags
	fs := cli.NewFlags(e, "anchor", anchorHelp)
	fs.StringVar(&cfg.Dir, "data", "", "data `directory` with the log's key")
	fs.StringVar(&cfg.Anchor, "anchor", "", "`file` to make, outside every backup of the database")
	storage.add(fs)
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	if err := errors.Join(fs.Needed("data", "anchor"), storage.open(&cfg)); err != nil {
		return err
	}
	size, err := personality.CreateAnchor(ctx, cfg)
	if err != nil {
		return refusedIfExists(err)
	}
	e.Say("made %s at size %d", cfg.Anchor, size)
	return nil
}

const schemaHelp = `
Usage: prooftrail schema --mysql-dsn DSN [flags]

Brings the tables of a log's database to what this version of the program needs. A new
version says so when it starts and finds older ones. Stop all servers of the log and
back the database up before. 'prooftrail init' makes the tables of a new log.

Example:
  prooftrail schema --mysql-dsn 'prooftrail@tcp(db.example:3306)/prooftrail?tls=true'

Exit codes: 0 the tables are those of this version; 2 failed.
`

func runSchema(ctx context.Context, e *cli.Env, args []string) (err error) {
	var at storageFlags
	fs := cli.NewFlags(e, "schema", schemaHelp)
	at.addMySQL(fs)
	if err := fs.NoArgs(args); err != nil {
		return err
	}
	if err := fs.Needed("mysql-dsn"); err != nil {
		return err
	}
	cfg, err := at.mysql.open()
	if err != nil {
		return err
	}
	db, err := mysqldb.Open(*cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := mysqldb.Migrate(ctx, db); err != nil {
		return err
	}
	e.Say("the tables are those of this version")
	return nil
}
