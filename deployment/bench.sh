#!/usr/bin/env bash
# Measures prooftrail on this machine, server and load on the same cores, and
# prints a Markdown table: what docs/performance.md shows. It talks to loopback
# only, makes a log of its own and removes it. Takes about 15 minutes and 12 GB
# with 5 million entries.
#
# usage: deployment/bench.sh [ENTRIES [DURATION]]    (5000000 and 20s)
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

entries=${1:-5000000}
duration=${2:-20s}
work=$(mktemp -d "${TMPDIR:-/tmp}/prooftrail-bench.XXXXXX")
log=$work/log
server=
url=http://127.0.0.1:${PORT:-18080}

finish() {
	[ -z "$server" ] || kill "$server" 2>/dev/null || :
	wait
	rm -rf "$work"
}
trap finish EXIT

# start serves the log and waits until it is ready.
start() {
	"$work/prooftrail" serve --data "$log" --listen "${url#http://}" >>"$work/serve.out" 2>>"$work/serve.err" &
	server=$!
	local i
	for ((i = 0; i < 600; i++)); do
		curl -sf "$url/readyz" >/dev/null && return
		kill -0 "$server" || break
		sleep 0.1
	done
	cat "$work/serve.err" >&2
	return 1
}

# load runs bench with the flags given and leaves its report in $report.
load() {
	report=$("$work/prooftrail" bench --server "$url" --token-file "$log/tokens/submit.token" \
		--policy "$log/policy.txt" "$@")
}

rate() { sed -n 's|^accepted .* events, \([0-9]*\)/s.*|\1|p' <<<"$report"; }
verified() { sed -n 's|^to a verified receipt *||p' <<<"$report"; }
size() { curl -sf "$url/readyz" | sed -n 's|.*"published_size": *\([0-9]*\).*|\1|p'; }
peak() { awk '/^VmHWM/ { printf "%d MiB", $2 / 1024 }' "/proc/$1/status"; }
now() { date +%s%N; }
row() { printf '| %s | %s |\n' "$1" "$2"; }

# fill sends batches until the log has at least so many entries.
fill() {
	while [ "$(size)" -lt "$1" ]; do
		load --batch 100 --clients 8 --duration 5s
	done
}

# audit measures an audit, with the further flags given, and prints its row.
audit() {
	local what=$1 began took checker high=0 kb
	shift
	began=$(now)
	"$work/prooftrail-verify" audit --log "$url/logs/audit" --policy "$log/policy.txt" "$@" >"$work/audit.out" &
	checker=$!
	while kb=$(awk '/^VmHWM/ { print $2 }' "/proc/$checker/status" 2>/dev/null) && [ -n "$kb" ]; do
		high=$kb
		sleep 0.02
	done
	wait "$checker"
	took=$((($(now) - began) / 1000000))
	grep -q '^verified' "$work/audit.out"
	row "$what, $(size) entries" "$(($(size) * 1000 / took)) entries/s, peak memory $((high / 1024)) MiB"
}

go build -o "$work/" ./cmd/prooftrail ./cmd/prooftrail-verify
"$work/prooftrail" init --data "$log" --origin example.com/bench >"$work/init.out" 2>&1
echo "$(nproc) cores, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(go version), commit $(git rev-parse --short HEAD)"
echo
row what measured
row --- ---
start
load --clients 64 --batch 1 --duration "$duration"
row "64 clients, 1 event a request" "$(rate) events/s; $(verified)"
load --rate 100 --clients 8 --batch 1 --duration "$duration"
row "100 events/s asked for, 8 clients" "$(verified)"
fill 100000
load --batch 100 --clients 8 --duration "$duration"
small=$(rate)
row "8 clients, 100 events a request, from 100,000 entries on" "$small events/s; $(verified)"
fill "$entries"
load --batch 100 --clients 8 --duration "$duration"
row "the same from $entries entries on" "$(rate) events/s, $(($(rate) * 100 / small)) % of that"
load --clients 64 --batch 1 --duration "$duration"
row "64 clients, 1 event a request, from there on" "$(rate) events/s"
row "peak memory of serve until then" "$(peak "$server")"
audit "audit without openings"
audit "audit with openings" --token-file "$log/tokens/read.token"
total=$(size)
kill "$server"
wait "$server"
server=
row "disk for an event (850 bytes as sent)" "$(($(du -sk "$log/store" | cut -f 1) * 1024 / total)) bytes"
