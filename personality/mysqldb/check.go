package mysqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// MinPacket is the least max_allowed_packet of a server, in bytes: a batch's openings go
// in statements of up to 4 MiB, and one event's opening may be longer than that allows.
const MinPacket = 16 << 20

// setting is a variable of a server that what is committed depends on.
type setting struct {
	name string
	ok   func(value string) bool
	want string
	why  string
	fix  string // statement; "" where the server must be restarted
}

var settings = []setting{
	{"innodb_flush_log_at_trx_commit", is("1"), "1", "else a crash loses what it has committed", "SET GLOBAL innodb_flush_log_at_trx_commit = 1"},
	{"innodb_doublewrite", is("ON", "1"), "ON", "else a crash may leave torn pages", ""},
	{"max_allowed_packet", atLeast(MinPacket), strconv.Itoa(MinPacket) + " or more", "an event's opening goes in one packet",
		"SET GLOBAL max_allowed_packet = " + strconv.Itoa(MinPacket)},
	{"read_only", is("OFF", "0"), "OFF", "this is a replica, or closed for writing", "SET GLOBAL read_only = OFF"},
}

// binlogSetting matters only where there is a binary log.
var binlogSetting = setting{"sync_binlog", is("1"), "1", "else the binary log and its replicas lose what was committed",
	"SET GLOBAL sync_binlog = 1"}

func is(values ...string) func(string) bool {
	return func(v string) bool {
		for _, want := range values {
			if strings.EqualFold(v, want) {
				return true
			}
		}
		return false
	}
}

func atLeast(n uint64) func(string) bool {
	return func(v string) bool {
		got, err := strconv.ParseUint(v, 10, 64)
		return err == nil && got >= n
	}
}

// CheckServer refuses a server that wouldn't keep what it has committed, with the words
// to mend it. warnings are what an operator should know and may want so.
func CheckServer(ctx context.Context, db *sql.DB) (warnings []string, err error) {
	vars, err := variables(ctx, db)
	if err != nil {
		return nil, fmt.Errorf("%w: read the server's settings: %w", ErrConfig, err)
	}
	check := settings
	if is("ON", "1")(vars["log_bin"]) {
		check = append(check[:len(check):len(check)], binlogSetting)
	}
	var errs []error
	for _, s := range check {
		if value, ok := vars[s.name]; !ok {
			errs = append(errs, fmt.Errorf("%w: the server has no variable %s", ErrConfig, s.name))
		} else if !s.ok(value) {
			errs = append(errs, s.refusal(value))
		}
	}
	if is("ON", "1")(vars["wsrep_on"]) {
		warnings = append(warnings, "this server is one of a Galera cluster: its named locks hold on one node only. "+
			"Let all processes of the log use the same node")
	}
	return warnings, errors.Join(errs...)
}

func (s *setting) refusal(value string) error {
	how := "set it in the server's configuration ([mysqld] " + s.name + ") and restart the server"
	if s.fix != "" {
		how = s.fix + ", and in the server's configuration for its next start"
	}
	return fmt.Errorf("%w: the server's %s is %s, expected %s: %s. To mend it: %s", ErrConfig, s.name, value, s.want, s.why, how)
}

// variables reads the server's variables.
func variables(ctx context.Context, db *sql.DB) (_ map[string]string, err error) {
	rows, err := db.QueryContext(ctx, "SHOW GLOBAL VARIABLES")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	vars := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		vars[strings.ToLower(name)] = value
	}
	return vars, rows.Err()
}
