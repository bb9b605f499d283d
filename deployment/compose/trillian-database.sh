#!/usr/bin/env bash
# Makes Trillian's database and its user on the server mariadb, unless they are there. Its tables
# are made by prooftrail schema. Passwords come from files and go through pipes: none is on a
# command line.
set -euo pipefail

secrets=${SECRETS:-/run/secrets}
host=${DATABASE_HOST:-mariadb} port=${DATABASE_PORT:-3306}

mariadb --defaults-extra-file=<(printf '[client]\npassword=%s\n' "$(<"$secrets/mariadb_root_password")") \
	--host="$host" --port="$port" --protocol=tcp --user=root --connect-timeout=10 <<-SQL
		CREATE DATABASE IF NOT EXISTS trillian;
		CREATE USER IF NOT EXISTS 'trillian'@'%' IDENTIFIED BY '$(<"$secrets/trillian_password")';
		GRANT ALL ON trillian.* TO 'trillian'@'%';
	SQL
echo "the database trillian and its user are there"
