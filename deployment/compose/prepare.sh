#!/usr/bin/env bash
# Makes what compose.yaml and compose.monitor.yaml take from this directory and the repository
# doesn't have: .env with the user that containers run as, secrets/ with random passwords and
# certificates for the proxy, for Trillian's log servers and for the monitor, and state/ for the
# log's key and its anchor, and for what the monitor keeps. It touches nothing that is there: a
# certificate lasts a year; remove its files for a new one.
#
# usage: prepare.sh [NAME...]      NAME: what clients call this machine (default localhost)
set -euo pipefail
umask 077
cd -- "$(dirname -- "${BASH_SOURCE[0]}")"

# Containers run as whoever runs this, and as nobody in particular where that is root.
uid=$(id -u) gid=$(id -g)
[ "$uid" -ne 0 ] || uid=65532 gid=65532

# keep FILE COMMAND... has a command write a file that isn't there yet.
keep() {
	local file=$1
	shift
	[ -e "$file" ] && return 0
	"$@" >"$file.new"
	mv "$file.new" "$file"
}

password() { openssl rand -hex 24 | tr -d '\n'; }

trillian_flags() { printf -- '--mysql_uri=trillian:%s@tcp(mariadb:3306)/trillian\n' "$(<secrets/trillian_password)"; }

environment() {
	cat <<-END
		PROOFTRAIL_UID=$uid
		PROOFTRAIL_GID=$gid
		# Where the proxy listens: 0.0.0.0:443 for all the world.
		PROOFTRAIL_LISTEN=127.0.0.1:8443
		# Where the monitor listens, likewise.
		PROOFTRAIL_MONITOR_LISTEN=127.0.0.1:8444
	END
}

# certificate FILE NAME... makes a certificate that is its own authority, FILE.crt, which anybody
# may read, and its key on standard output.
certificate() {
	local file=$1 names
	shift
	names=$(printf ',DNS:%s' "$@")
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj "/CN=$1" \
		-addext "subjectAltName=IP:127.0.0.1$names" -keyout "$file.key.part" -out "$file.crt" 2>/dev/null
	chmod 644 "$file.crt"
	cat "$file.key.part"
	rm "$file.key.part"
}

# proxy_pem NAME... has both in one, as HAProxy wants them.
proxy_pem() {
	local key
	key=$(certificate secrets/proxy "$@")
	printf '%s\n' "$(<secrets/proxy.crt)" "$key"
}

mkdir -p secrets state/anchor state/monitor
for name in mariadb_root_password prooftrail_password trillian_password grafana_password webhook_secret; do
	keep "secrets/$name" password
done
keep secrets/trillian_flags trillian_flags
keep secrets/proxy.pem proxy_pem "${@:-localhost}"
keep secrets/trillian.key certificate secrets/trillian trillian-log-server-1 trillian-log-server-2
keep secrets/monitor.key certificate secrets/monitor "${@:-localhost}"
keep .env environment
if [ "$(id -u)" -eq 0 ]; then
	chown -R "$uid:$gid" secrets state
fi
echo "made. Next: docker compose build, docker compose run --rm init --origin=example.com/audit"
