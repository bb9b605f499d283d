#!/usr/bin/env bash
# Fuzzes every parser for a time each. It finds the targets by itself, so that
# none is forgotten: each func Fuzz… of a _test.go file.
#
# usage: deployment/fuzz.sh [TIME [JOBS [DIRECTORY:TARGET...]]]
#
# TIME is for each target (10m), JOBS how many run at once, on one core each
# (all cores). Logs are in .test/fuzz. It exits 0 only if no target failed; what
# was found is in the package's testdata/fuzz, and belongs into the repository
# together with its correction. What it ran again is listed at the end.
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
# is too busy the fuzzer takes a pause for a hang, and on its deadline for a failure:
# if it is only that, and it isn't found again in the target's seeds and that input,
# the target is run anew, and the input kept with the logs. By default the time goes, a
# minute each, into making interesting inputs shorter.
fuzz() {
	local dir=${1%:*} target=${1#*:} name log input n=0
	name=$logs/${dir//\//_}_$target
	for _ in 1 2 3; do
		while [ -e "$name.$n.log" ]; do n=$((n + 1)); done
		log=$name.$n.log
		if nice -n 19 go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1s -parallel 1 "./$dir" >"$log" 2>&1; then
			grep -q 'elapsed: ' "$log" || break # there is no such target
			echo "ok      $1  $(grep -oE 'elapsed: [^,]*, execs: [0-9]+' "$log" | tail -n 1)"
			return 0
		fi
		fuzzers_own "$target" "$log" || break
		input=$(sed -n 's|^ *Failing input written to \(testdata/fuzz/.*\)|\1|p' "$log")
		if [ -n "$input" ]; then
			go test -run "^$target\$" "./$dir" >>"$log" 2>&1 || break
			mv -- "$dir/$input" "$name.$n.input"
		fi
		echo "again   $1: a hang or the deadline, and not found again: see $log${input:+ and $name.$n.input}" | tee -a "$logs/again"
	done
	echo "FAILED  $1: see $log"
	return 1
}

# fuzzers_own TARGET LOG: what failed is the fuzzer's process, not the target. Not
# while it made a finding shorter: then there is a finding.
fuzzers_own() {
	awk -v head="--- FAIL: $1 (" '
		after { own = /^ *(fuzzing process hung or terminated unexpectedly: |context deadline exceeded$)/ }
		{ after = index($0, head) == 1 }
		after { failures++ }
		END { exit !(own && failures == 1) }' "$2"
}

mkdir -p "$logs"
: >"$logs/again"
all=("$@")
[ $# -gt 0 ] || mapfile -t all < <(targets)
if [ "${#all[@]}" -eq 0 ]; then
	echo "deployment/fuzz.sh: there is no target" >&2
	exit 1
fi
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
if [ -s "$logs/again" ]; then
	echo "run again, and not counted as findings:"
	cat "$logs/again"
fi
exit "$failed"
