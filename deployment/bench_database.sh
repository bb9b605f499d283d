#!/usr/bin/env bash
# Measures a log in a database on this machine, and prints a Markdown table: the part of
# docs/performance.md that is about that. MariaDB with durable settings, Trillian's programs, the
# servers and the load share the machine's cores; all of it is started by cluster.sh, talks to
# loopback only, and is removed at the end. Takes about four minutes.
#
# usage: deployment/bench_database.sh [DURATION]    (of each run; 10s)
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

export PATH=$PATH:/usr/sbin # where Debian has mariadbd
duration=${1:-10s}
work=$(mktemp -d "${TMPDIR:-/tmp}/prooftrail-bench.XXXXXX")
cluster=$work/cluster
servers=()

finish() {
	stop_servers
	bash deployment/cluster.sh down "$cluster" --purge >/dev/null 2>&1 || :
	rm -rf "$work"
}
trap finish EXIT

stop_servers() {
	[ "${#servers[@]}" -eq 0 ] || kill "${servers[@]}" 2>/dev/null || :
	for pid in "${servers[@]}"; do wait "$pid" || :; done
	servers=()
}

# serve FLAG... serves the log $log, waits until it is ready, and leaves its URL in $url.
serve() {
	local i
	"$PROOFTRAIL" serve --data "$log" --listen 127.0.0.1:0 "$@" >"$work/serve.out" 2>>"$work/serve.err" &
	servers+=($!)
	for ((i = 0; i < 300; i++)); do
		url=$(sed -n 's|.* on \(http://.*\)|\1|p' "$work/serve.out")
		if [ -n "$url" ] && curl -sf "$url/readyz" >/dev/null; then return; fi
		sleep 0.1
	done
	tail -n 5 "$work/serve.err" >&2
	return 1
}

# load URL FLAG... runs bench and leaves its report in $report.
load() {
	local at=$1
	shift
	report=$("$PROOFTRAIL" bench --server "$at" --token-file "$log/tokens/submit.token" \
		--policy "$log/policy.txt" --duration "$duration" "$@")
}

rate() { sed -n 's|^accepted .* events, \([0-9]*\)/s.*|\1|p' <<<"$report"; }
verified() { sed -n 's|^to a verified receipt *||p' <<<"$report"; }
row() { printf '| %s | %s |\n' "$1" "$2"; }

# measure WHAT URL: the three loads.
measure() {
	load "$2" --clients 8 --batch 100
	row "$1: 8 clients, 100 events a request" "$(rate)/s; $(verified)"
	batches=$(rate)
	load "$2" --clients 64 --batch 1
	row "$1: 64 clients, 1 event a request" "$(rate)/s; $(verified)"
	singles=$(rate)
	load "$2" --clients 8 --batch 1 --rate 50
	row "$1: 50 events/s asked for, to a verified receipt" "$(verified)"
}

# both FIRST SECOND CLIENTS BATCH: a load, half of its clients at each of two servers; $sum is
# what both accepted.
both() {
	(load "$2" --clients "$(($3 / 2))" --batch "$4" && rate) >"$work/second.rate" &
	local other=$!
	load "$1" --clients "$(($3 / 2))" --batch "$4"
	sum=$(rate)
	wait "$other"
	sum=$((sum + $(<"$work/second.rate")))
}

# share WHAT FIRST SECOND CLIENTS BATCH compares two servers with one. A log becomes slower as
# it grows: one, two, one, two, one.
share() {
	local one two=0 n=1
	load "$2" --clients "$4" --batch "$5"
	one=$(rate)
	for _ in 1 2; do
		both "$2" "$3" "$4" "$5"
		two=$((two + sum))
		load "$2" --clients "$4" --batch "$5"
		one=$((one + $(rate))) n=$((n + 1))
	done
	row "$1" "$((two / (n - 1)))/s, $(times "$((two * n))" "$((one * (n - 1)))") of one's $((one / n))/s"
}

times() { awk -v a="$1" -v b="$2" 'BEGIN { printf "%.2f", a / b }'; }

# new_log NAME FLAG... makes a log in a database of its own and leaves in $where how it is opened.
new_log() {
	local name=$1
	shift
	(cd "$cluster/mariadb/data" && mariadb --no-defaults --socket=socket --user="$(id -un)" --batch) <<-SQL
		CREATE DATABASE $name;
		GRANT ALL ON $name.* TO 'prooftrail'@'%';
	SQL
	log=$work/$name
	where=("--mysql-dsn=prooftrail@tcp($(<"$cluster/mariadb/addr"))/$name" "--mysql-password-file=$cluster/mariadb/prooftrail.password" "$@")
	"$PROOFTRAIL" init --data "$log" --origin "example.com/$name" "${where[@]}" >"$work/init.out" 2>&1
}

# serve_second serves $log once more, with an anchor of its own.
serve_second() {
	"$PROOFTRAIL" anchor --data "$log" --anchor "$log.second.anchor" "${where[@]}" 2>/dev/null
	serve --anchor "$log.second.anchor" "${where[@]}"
}

go build -o "$work/" ./cmd/prooftrail
go test -c -o "$work/tree.test" ./personality/tree
export PROOFTRAIL=$work/prooftrail
bash deployment/cluster.sh up "$cluster" --storage >/dev/null
echo "$(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(go version), $(mariadbd --version | sed 's/.*Ver //'), commit $(git rev-parse --short HEAD)"
echo
row what measured
row --- ---

queued=$(cd "$work" && PROOFTRAIL_LOG_SERVER=$(<"$cluster/server-1/addr") PROOFTRAIL_LOG_SERVER_CA=$cluster/tls/ca.crt \
	./tree.test -test.run '^$' -test.bench QueueLeaf -test.benchtime "$duration" | sed -n 's|.* \([0-9.]*\) leaves/s.*|\1|p')
queued=${queued%.*}
row "Trillian's QueueLeaf, 64 clients" "$queued/s"

new_log bench_mysql --storage=mysql
serve "${where[@]}"
first_url=$url
measure mysql "$first_url"
row "mysql over QueueLeaf" "$(times "$batches" "$queued") with 100 events a request, $(times "$singles" "$queued") with one"
load "$first_url" --clients 8 --batch 100
alone=$(rate)
serve_second
load "$first_url" --clients 8 --batch 100
row "mysql: a second server that gets no load" "$(times "$(rate)" "$alone") of one"
stop_servers

for batch in 100 1; do
	new_log "bench_two_$batch" --storage=mysql
	serve "${where[@]}"
	first_url=$url
	serve_second
	clients=$((batch == 1 ? 64 : 8))
	share "mysql: two servers with half of $clients clients each, $batch a request" "$first_url" "$url" "$clients" "$batch"
	stop_servers
done

new_log bench_trillian --storage=trillian "--trillian=$(<"$cluster/server-1/addr")" "--trillian-ca=$cluster/tls/ca.crt"
serve "${where[@]}"
measure trillian "$url"
