#!/usr/bin/env bash
# Starts what compose/compose.trillian.yaml describes as plain processes on loopback, for
# trying it out and for tests: MariaDB, etcd, two of Trillian's log servers, two of its
# signers, two prooftrail servers, and HAProxy before them. It is no way to run a log.
#
# usage: deployment/cluster.sh up [DIR [NAME]]       start what isn't running, or NAME alone
#        deployment/cluster.sh up [DIR] --storage    only what a log is kept in: no log, no servers
#        deployment/cluster.sh down [DIR] [--purge]  end all; --purge removes DIR as well
#        deployment/cluster.sh status [DIR] [--json]
#
# DIR is .cluster in the repository unless it is given. NAME is one of mariadb, etcd, server-1,
# server-2, signer-1, signer-2, serve-1, serve-2, proxy; for each there are
#   DIR/NAME/pid   its process; end it in whatever way: up starts it again
#   DIR/NAME/log   what it printed
#   DIR/NAME/addr  host:port where others reach it (of a signer: its metrics)
# and besides
#   DIR/log/       signing key, policy.txt and tokens/ of the log
#   DIR/tls/ca.crt the authority that has signed the proxy's and the log servers' certificates
#
# The first up makes the databases, the log and its tokens. status exits with 0 when all run
# and are ready, with 1 otherwise.
#
# environment: PROOFTRAIL  the program to start, now and from now on (default: the first up
#                          builds it into DIR/bin)
#              PORT_BASE   the first of 14 ports that the first up takes (default: free ones)
set -euo pipefail
umask 077
root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
export PATH=$PATH:/usr/sbin # where Debian has mariadbd and haproxy

readonly names=(mariadb etcd server-1 server-2 signer-1 signer-2 serve-1 serve-2 proxy)

# One of each: where a name is reached, and what besides needs a port.
readonly ports=(mariadb etcd etcd-peer server-1 server-1-http server-2 server-2-http
	signer-1 signer-1-rpc signer-2 signer-2-rpc serve-1 serve-2 proxy)

readonly patience=90 # seconds that a process has to become ready, on a busy machine

main() {
	local act=${1:-} dir='' only='' purge='' json='' storage='' arg
	[ $# -eq 0 ] || shift
	for arg in "$@"; do
		case $act:$arg in
		up:--storage) storage=1 ;;
		down:--purge) purge=1 ;;
		status:--json) json=1 ;;
		*:-*) usage ;;
		*) if [ -z "$dir" ]; then dir=$arg; elif [ "$act" = up ] && [ -z "$only" ]; then only=$arg; else usage; fi ;;
		esac
	done
	dir=${dir:-$root/.cluster}
	case $act in
	up) mkdir -p -- "$dir" ;;
	down | status) [ -e "$dir/ports" ] || fail "there is no cluster in $dir" ;;
	*) usage ;;
	esac
	dir=$(cd -- "$dir" && pwd -P)
	[ "$act" = status ] || {
		exec 9>"$dir/lock"
		flock 9
	}
	"cluster_$act"
}

usage() {
	sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p}' "${BASH_SOURCE[0]}" >&2
	exit 2
}

fail() {
	echo "cluster.sh: $*" >&2
	exit 1
}

# cluster_up starts in the order in which one needs the other.
cluster_up() {
	tools
	choose_ports
	if [ -n "$only" ]; then
		[[ " ${names[*]} " == *" $only "* ]] || fail "no process $only; there are: ${names[*]}"
		[ -e "$dir/databases" ] || fail "$dir isn't made yet: run up without a name first"
		start "$only"
		ready "$only"
		return
	fi
	certificates
	together mariadb etcd
	databases
	together server-1 server-2 signer-1 signer-2
	if [ -n "$storage" ]; then return; fi
	make_log
	together serve-1 serve-2
	together proxy
	told
}

# together starts several and waits for all.
together() {
	local name
	for name; do start "$name"; done
	for name; do ready "$name"; done
}

told() {
	cat <<-END
		running, on https://$(address proxy)
		  key of the log         $dir/log/signer.key
		  certificate authority  $dir/tls/ca.crt
		  policy for verifiers   $dir/log/policy.txt
		  tokens                 $dir/log/tokens/ (submit.token, read.token, admin.token)
		submit an event:  $(program) submit --server https://$(address proxy) --ca $dir/tls/ca.crt \\
		    --token-file $dir/log/tokens/submit.token --policy $dir/log/policy.txt FILE
	END
}

# cluster_down ends what runs, those first that need the others.
cluster_down() {
	end proxy serve-1 serve-2
	end signer-1 signer-2 server-1 server-2
	end etcd
	end mariadb
	[ -z "$purge" ] || rm -rf -- "$dir"
}

cluster_status() {
	local name code=0 list='' pid state
	for name in "${names[@]}"; do
		pid=null state=stopped
		if running "$name"; then
			pid=$(<"$dir/$name/pid") state=running
			if is_ready "$name"; then state=ready; fi
		fi
		[ "$state" = ready ] || code=1
		if [ -n "$json" ]; then
			list+=$(printf '%s{"name":"%s","state":"%s","pid":%s,"addr":"%s","log":"%s"}' "${list:+,}" "$name" "$state" "$pid" \
				"$(address "$name" 2>/dev/null)" "$(escaped "$dir/$name/log")")
		else
			printf '%-10s%-9s%-8s%s\n' "$name" "$state" "${pid#null}" "$(address "$name" 2>/dev/null)"
		fi
	done
	[ -z "$json" ] || printf '{"url":"https://%s","ca":"%s","policy":"%s","tokens":"%s","processes":[%s]}\n' "$(address proxy 2>/dev/null)" \
		"$(escaped "$dir/tls/ca.crt")" "$(escaped "$dir/log/policy.txt")" "$(escaped "$dir/log/tokens")" "$list"
	return "$code"
}

# escaped writes a path as the inside of a JSON string.
escaped() {
	local text=${1//\\/\\\\}
	printf '%s' "${text//\"/\\\"}"
}

# --- Processes. A pid file alone could name somebody else's process, after a restart of the
# --- machine or much later; so the time at which it began is kept beside it.

# began PID prints when a process began, in ticks; it fails where there is none, or only what is
# left until its parent has asked for it.
began() {
	local stat fields
	{ read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
	read -ra fields <<<"${stat##*) }" # what is before may have blanks in it
	[ "${fields[0]}" != Z ] || return 1
	echo "${fields[19]}"
}

# running NAME: what was started under this name is alive.
running() {
	local pid since
	{ read -r pid <"$dir/$1/pid" && read -r since <"$dir/$1/began"; } 2>/dev/null || return 1
	[ "$(began "$pid")" = "$since" ]
}

# spawn NAME COMMAND... starts a program that outlives this one, in a session of its own.
spawn() {
	local name=$1 pid
	shift
	setsid -- "$@" >>"$dir/$name/log" 2>&1 </dev/null 9>&- &
	pid=$!
	began "$pid" >"$dir/$name/began" || fail "$name ended at once: $(tail -n 5 "$dir/$name/log")"
	echo "$pid" >"$dir/$name/pid"
}

# start NAME starts it unless it runs.
start() {
	running "$1" && return 0
	mkdir -p "$dir/$1"
	address "$1" >"$dir/$1/addr"
	"start_${1%-[12]}" "$1"
}

# ready NAME waits until it answers.
ready() {
	local until=$((SECONDS + patience))
	until is_ready "$1"; do
		running "$1" || fail "$1 ended; the end of $dir/$1/log: $(tail -n 5 "$dir/$1/log")"
		[ "$SECONDS" -lt "$until" ] || fail "$1 isn't ready after $patience s; the end of $dir/$1/log: $(tail -n 5 "$dir/$1/log")"
		sleep 0.1
	done
}

# end NAME... asks those that run to end, all at once, and makes them.
end() {
	local name left pid until
	for name; do
		running "$name" || continue
		pid=$(<"$dir/$name/pid")
		kill -TERM "$pid" 2>/dev/null || :
		kill -CONT "$pid" 2>/dev/null || : # a stopped one hears nothing
	done
	until=$((SECONDS + $(grace "$1")))
	while
		left=()
		for name; do
			if running "$name"; then left+=("$name"); fi
		done
		[ "${#left[@]}" -gt 0 ]
	do
		if [ "$SECONDS" -ge "$until" ]; then
			for name in "${left[@]}"; do kill -KILL "$(<"$dir/$name/pid")" 2>/dev/null || :; done
		fi
		sleep 0.05
	done
	for name; do rm -f "$dir/$name/pid" "$dir/$name/began"; done
}

# grace is how many seconds one has to end in order.
grace() {
	case $1 in
	signer-* | server-*) echo 4 ;; # once they have let go of all they sleep for 5 to 10
	mariadb) echo 120 ;;
	*) echo 45 ;; # shutdown_timeout of prooftrail serve is 30
	esac
}

# --- What is needed, and where things are.

# tools says what is missing.
tools() {
	local tool
	for tool in mariadbd mariadb-install-db mariadb etcd haproxy openssl curl setsid flock; do
		command -v "$tool" >/dev/null ||
			fail "$tool is missing: apt-get install mariadb-server-core mariadb-client-core etcd-server haproxy openssl curl util-linux"
	done
}

# program is the prooftrail that is started: the same until PROOFTRAIL names another.
program() {
	if [ -n "${PROOFTRAIL:-}" ]; then
		realpath -- "$PROOFTRAIL" >"$dir/program"
	elif [ ! -e "$dir/program" ]; then
		(cd "$root" && go build -o "$dir/bin/" ./cmd/prooftrail) || return 1
		echo "$dir/bin/prooftrail" >"$dir/program"
	fi
	cat "$dir/program"
}

# trillian PROGRAM is one of Trillian's, of the version in go.mod, built where deployment/test.sh
# builds it.
trillian() {
	local version at
	version=$(cd "$root" && go list -m -f '{{.Version}}' github.com/google/trillian)
	at=$root/.tools/$1-$version
	[ -x "$at/$1" ] || {
		echo "building $1 $version, which takes minutes" >&2
		(umask 022 && GOBIN=$at go install -tags mysql,etcd "github.com/google/trillian/cmd/$1@$version") >&2 || return 1
	}
	echo "$at/$1"
}

# address NAME is where a name is reached.
address() { echo "127.0.0.1:$(port "$1")"; }

# port NAME is from the list of ports, which stays as it is.
port() { sed -n "s/^$1 //p" "$dir/ports"; }

# choose_ports takes ports in a row, or free ones, below those that the system hands out.
choose_ports() {
	local name at
	[ ! -e "$dir/ports" ] || return 0
	local -A taken=()
	for name in "${ports[@]}"; do
		if [ -n "${PORT_BASE:-}" ]; then
			at=$((PORT_BASE + ${#taken[@]}))
		else
			until at=$((20000 + RANDOM % 12000)) && [ -z "${taken[$at]:-}" ] && free "$at"; do :; done
		fi
		taken[$at]=1
		echo "$name $at"
	done >"$dir/ports.new"
	mv "$dir/ports.new" "$dir/ports"
}

# free PORT: nobody listens there.
free() { ! (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }

# get URL is a request that is answered 200.
get() { curl --silent --fail --output /dev/null --max-time 3 --cacert "$dir/tls/ca.crt" "$1"; }

is_ready() {
	case $1 in
	mariadb) sql <<<'SELECT 1' >/dev/null 2>&1 ;;
	etcd) get "http://$(address etcd)/health" ;;
	server-*) get "https://$(address "$1-http")/healthz" && ! free "$(port "$1")" ;;
	signer-*) get "http://$(address "$1")/healthz" ;;
	serve-*) get "http://$(address "$1")/readyz" ;;
	proxy) get "https://$(address proxy)/readyz" ;;
	esac
}

# --- What is made once.

# secret FILE makes a random password, unless it is there. None stands on a command line.
secret() {
	[ -e "$1" ] && return 0
	openssl rand -hex 24 >"$1.new"
	mv "$1.new" "$1"
}

# certificates makes an authority, and what it signs for this machine: once, for 30 days.
certificates() {
	local tls=$dir/tls
	[ ! -e "$tls/proxy.pem" ] || return 0
	mkdir -p "$tls"
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj '/CN=throw-away authority' \
		-keyout "$tls/ca.key" -out "$tls/ca.crt" 2>/dev/null
	openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/CN=localhost' -keyout "$tls/host.key" -out "$tls/host.csr" 2>/dev/null
	openssl x509 -req -in "$tls/host.csr" -CA "$tls/ca.crt" -CAkey "$tls/ca.key" -CAcreateserial -days 30 -out "$tls/host.crt" 2>/dev/null \
		-extfile <(echo 'subjectAltName=DNS:localhost,IP:127.0.0.1')
	rm "$tls/ca.key" "$tls/host.csr"
	cat "$tls/host.crt" "$tls/host.key" >"$tls/proxy.pem.new"
	mv "$tls/proxy.pem.new" "$tls/proxy.pem"
}

# databases makes two, each with a user that has rights on nothing else: Trillian's, with its
# tables, and the service's, whose tables init makes.
databases() {
	local name
	[ ! -e "$dir/databases" ] || return 0
	for name in trillian prooftrail; do
		secret "$dir/mariadb/$name.password"
		sql <<-SQL
			CREATE DATABASE IF NOT EXISTS $name;
			CREATE USER IF NOT EXISTS '$name'@'%' IDENTIFIED BY '$(<"$dir/mariadb/$name.password")';
			GRANT ALL ON $name.* TO '$name'@'%';
		SQL
	done
	quietly "$(program)" schema --mysql-dsn "trillian@tcp($(address mariadb))/trillian" --mysql-password-file "$dir/mariadb/trillian.password"
	: >"$dir/databases"
}

# make_log makes the log, with serve-1's anchor, and serve-2's. After that up makes no anchor:
# a server that misses its own has to say so.
make_log() {
	local where
	[ ! -e "$dir/made" ] || return 0
	[ ! -e "$dir/log" ] || fail "init didn't end the last time: begin anew, with down $dir --purge"
	mapfile -t where < <(storage)
	mkdir -p "$dir/serve-1" "$dir/serve-2"
	quietly "$(program)" init --data "$dir/log" --anchor "$dir/serve-1/anchor" --origin cluster.example/audit "${where[@]}"
	quietly "$(program)" anchor --data "$dir/log" --anchor "$dir/serve-2/anchor" "${where[@]}"
	: >"$dir/made"
}

# storage are the flags that say where the log is kept, a line each.
storage() {
	printf '%s\n' --storage=trillian "--mysql-dsn=prooftrail@tcp($(address mariadb))/prooftrail" \
		"--mysql-password-file=$dir/mariadb/prooftrail.password" \
		"--trillian=$(address server-1),$(address server-2)" "--trillian-ca=$dir/tls/ca.crt"
}

# quietly COMMAND... shows what it says only if it fails; init prints tokens.
quietly() { "$@" >"$dir/setup.log" 2>&1 || fail "$(basename "$1") $2: $(tail -n 5 "$dir/setup.log")"; }

# --- MariaDB.

# as_self are arguments of MariaDB's programs: they become nobody else where this is root.
as_self() { if [ "$(id -u)" -eq 0 ]; then echo --user=root; fi; }

# sql runs statements as the administrator, whom the server knows by the socket. Its path may be
# longer than a socket's can be, so that it is named from beside it.
sql() { (cd "$dir/mariadb/data" && mariadb --no-defaults --socket=socket --user="$(id -un)" --batch); }

start_mariadb() {
	local data=$dir/mariadb/data self
	mapfile -t self < <(as_self)
	if [ ! -e "$data" ]; then
		rm -rf "$data.new"
		# From beside it: the script can't stand a blank in a path.
		(cd "$dir/mariadb" && TMPDIR=$dir/mariadb mariadb-install-db --no-defaults --datadir=./data.new "${self[@]}" --auth-root-authentication-method=socket \
			--auth-root-socket-user="$(id -un)" --skip-test-db) >"$dir/mariadb/log" 2>&1 ||
			fail "mariadb-install-db: $(tail -n 5 "$dir/mariadb/log")"
		mv "$data.new" "$data"
	fi
	# A directory for temporary files of its own: a server that starts removes others' from it.
	TMPDIR=$dir/mariadb spawn mariadb mariadbd --no-defaults "${self[@]}" --datadir="$data" --socket=socket --bind-address=127.0.0.1 --port="$(port mariadb)" \
		--pid-file="$data/pid" --skip-name-resolve --innodb-flush-log-at-trx-commit=1 --max-allowed-packet=64M \
		--innodb-buffer-pool-size=256M --max-connections=300
}

# --- etcd.

start_etcd() {
	local client peer
	client=http://$(address etcd) peer=http://$(address etcd-peer)
	spawn etcd etcd --name=etcd --data-dir="$dir/etcd/data" --listen-client-urls="$client" --advertise-client-urls="$client" \
		--listen-peer-urls="$peer" --initial-advertise-peer-urls="$peer" --initial-cluster="etcd=$peer"
}

# --- Trillian.

# trillian_flags NAME writes the flag that has a password in it.
trillian_flags() {
	printf -- "--mysql_uri='trillian:%s@tcp(%s)/trillian'\n" "$(<"$dir/mariadb/trillian.password")" "$(address mariadb)" >"$dir/$1/flags"
}

start_server() {
	local program
	program=$(trillian trillian_log_server)
	trillian_flags "$1"
	spawn "$1" "$program" --config="$dir/$1/flags" --logtostderr --storage_system=mysql --quota_system=noop --tree_gc=false \
		--rpc_endpoint="$(address "$1")" --http_endpoint="$(address "$1-http")" --tls_cert_file="$dir/tls/host.crt" --tls_key_file="$dir/tls/host.key"
}

# start_signer: a signer that ends in order hands over at once. One that was killed keeps its place
# for the 60 seconds of its lease in etcd, which no flag changes; see forget.
start_signer() {
	local program
	program=$(trillian trillian_log_signer)
	trillian_flags "$1"
	forget
	spawn "$1" "$program" --config="$dir/$1/flags" --logtostderr --storage_system=mysql --quota_system=noop \
		--rpc_endpoint="$(address "$1-rpc")" --http_endpoint="$(address "$1")" \
		--sequencer_interval=50ms --num_sequencers=1 --election_system=etcd --etcd_servers="$(address etcd)" --lock_file_path=/prooftrail/signers \
		--pre_election_pause=100ms --master_hold_interval=30s --master_hold_jitter=30s
}

# forget revokes the leases of signers that are gone, so that up doesn't take a minute. A signer's
# entries have its host and process as their value.
forget() {
	local api value lease pid from to
	api=http://$(address etcd)/v3
	from=$(printf /prooftrail/signers/ | base64) to=$(printf /prooftrail/signers0 | base64)
	# The answer's last line has no end, and read would leave it out.
	{ curl --silent --max-time 5 --data "{\"key\":\"$from\",\"range_end\":\"$to\"}" "$api/kv/range" && echo; } |
		sed 's/{"key"/\n&/g' | sed -n 's/.*"value":"\([^"]*\)","lease":"\([0-9]*\)".*/\1 \2/p' |
		while read -r value lease; do
			value=$(base64 -d <<<"$value")
			pid=${value##*.}
			[ "$value" = "$(hostname).$pid" ] || continue # one that is resigning
			if signs "$pid"; then continue; fi
			curl --silent --fail --output /dev/null --max-time 5 --data "{\"ID\":\"$lease\"}" "$api/lease/revoke"
		done
}

# signs PID: it is one of the signers that run.
signs() {
	local name
	for name in signer-1 signer-2; do
		if running "$name" && [ "$(<"$dir/$name/pid")" = "$1" ]; then return 0; fi
	done
	return 1
}

# --- prooftrail, and the proxy.

start_serve() {
	local where program
	program=$(program)
	mapfile -t where < <(storage)
	cat >"$dir/$1/prooftrail.yaml" <<-END
		log: {format: json}
		limits: {trusted_proxies: [127.0.0.1/32]}
	END
	spawn "$1" "$program" serve --config "$dir/$1/prooftrail.yaml" --data "$dir/log" --anchor "$dir/$1/anchor" --listen "$(address "$1")" "${where[@]}"
}

# start_proxy: compose's configuration, with what is here in the place of what is there.
start_proxy() {
	local text
	text=$(<"$root/deployment/compose/haproxy.cfg")
	text=${text//"bind :8443"/"bind $(address proxy)"}
	text=${text//"/run/secrets/proxy_pem"/"'$dir/tls/proxy.pem'"}
	text=${text//"prooftrail-1:8080"/"$(address serve-1)"}
	text=${text//"prooftrail-2:8080"/"$(address serve-2)"}
	printf '%s\n' "$text" >"$dir/proxy/haproxy.cfg"
	haproxy -c -f "$dir/proxy/haproxy.cfg" >>"$dir/proxy/log" 2>&1 || fail "haproxy: $(tail -n 5 "$dir/proxy/log")"
	spawn proxy haproxy -db -f "$dir/proxy/haproxy.cfg"
}

main "$@"
