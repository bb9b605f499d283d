#!/usr/bin/env bash
# Makes Trillian's database, its user and its tables, once, on the server mariadb. Passwords
# come from files and go through pipes: none is on a command line.
set -euo pipefail

secrets=${SECRETS:-/run/secrets} schema=${SCHEMA:-/trillian/storage.sql}
host=${DATABASE_HOST:-mariadb} port=${DATABASE_PORT:-3306}

# as_root [DATABASE] runs the SQL on standard input.
as_root() {
	mariadb --defaults-extra-file=<(printf '[client]\npassword=%s\n' "$(<"$secrets/mariadb_root_password")") \
		--host="$host" --port="$port" --protocol=tcp --user=root --connect-timeout=10 "$@"
}

as_root <<-SQL
	CREATE DATABASE trillian;
	CREATE USER 'trillian'@'%' IDENTIFIED BY '$(<"$secrets/trillian_password")';
	GRANT ALL ON trillian.* TO 'trillian'@'%';
SQL
as_root trillian <"$schema"
echo "made the database trillian"
