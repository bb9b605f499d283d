#!/usr/bin/env bash
# Fuzzes every parser for a time each. It finds the targets by itself, so that
# none is forgotten: each func Fuzz… of a _test.go file.
#
# usage: deployment/fuzz.sh [TIME [JOBS [DIRECTORY:TARGET...]]]
#
# TIME is for each target (10m), JOBS how many run at once, on one core each
# (all cores). Logs are in .test/fuzz. It exits 0 only if nothing was found; what
# was found is in the package's testdata/fuzz, and belongs into the repository
# together with its correction.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

time=${1:-10m}
jobs=${2:-$(nproc)}
shift $(($# < 2 ? $# : 2))
logs=$PWD/.test/fuzz

# targets prints DIRECTORY:TARGET a line.
targets() {
	find . -path './.[!.]*' -prune -o -name '*_test.go' -print0 |
		xargs -0 grep -HoE '^func Fuzz[A-Za-z0-9_]*\(f \*testing\.F\)' |
		sed -E 's|^\./(.*)/[^/]*_test\.go:func (Fuzz[A-Za-z0-9_]*)\(.*|\1:\2|' | sort
}

# fuzz DIRECTORY:TARGET runs one target and says what came of it. On a machine that
# is too busy the fuzzer takes a pause for a hang: what isn't found again, in the
# target's seeds and that input, isn't a finding, and the target is run anew. By
# default the time goes, a minute each, into making interesting inputs shorter.
fuzz() {
	local dir=${1%:*} target=${1#*:} log input
	log=$logs/${dir//\//_}_$target.log
	for _ in 1 2 3; do
		if nice -n 19 go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1s -parallel 1 "./$dir" >"$log" 2>&1; then
			echo "ok      $1  $(grep -oE 'elapsed: [^,]*, execs: [0-9]+' "$log" | tail -n 1)"
			return 0
		fi
		input=$(sed -n 's|^ *Failing input written to \(testdata/fuzz/.*\)|\1|p' "$log")
		if [ -z "$input" ] || ! go test -run "^$target\$" "./$dir" >>"$log" 2>&1; then
			break
		fi
		rm -- "$dir/$input"
		echo "again   $1: not found again"
	done
	echo "FAILED  $1: see $log"
	return 1
}

mkdir -p "$logs"
all=("$@")
[ $# -gt 0 ] || mapfile -t all < <(targets)
running=0 failed=0
for each in "${all[@]}"; do
	if [ "$running" -ge "$jobs" ]; then
		wait -n || failed=1
		running=$((running - 1))
	fi
	fuzz "$each" &
	running=$((running + 1))
done
for ((; running > 0; running--)); do
	wait -n || failed=1
done
exit "$failed"
