#!/usr/bin/env bash
# Runs every check and every test of prooftrail. It needs a Debian or Ubuntu
# with Go, a way to the Go module proxy, and bash; what else the tests need it
# installs through apt, as root or with sudo. deployment/README.md says more.
#
# usage: deployment/test.sh [step...]      (no step: all of them, in order)
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

# Pinned: another version finds other things.
readonly golangci_lint=github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
readonly govulncheck=golang.org/x/vuln/cmd/govulncheck@v1.9.0

readonly all_steps=(format shell build vet tidy check test process lint vuln)

# Packages whose tests start programs, kill them and read what they print. The
# race detector sees nothing of another process, so these run without it.
readonly process_tests='/(cmd/[^/]+|docs|deployment)$'

# Packages that have so many faults to inject that the race detector, which makes
# each cost ten times as much, is given some of them (-short). All run without it. Of damaged
# files it is given none: it dies where bbolt makes a pointer of their bytes.
readonly many_faults='/(personality(/tree)?|verifier/monitor(/store)?)$'

# Tests that mostly wait, for Trillian's and MariaDB's own processes or for a time limit: the race
# detector would find nothing in them that it doesn't in others.
readonly waiting_tests='^Test(Cluster(OlderDump|LongTail|Tampering.*|StoresNothing)|RemoteProgramsSuite|SlowLogAlone|Drip)$'

# A module of its own, for what the programs don't need: deployment/check/doc.go.
readonly check=deployment/check

# What Trillian's programs are built with: their other databases and Kubernetes's election
# are used by no test.
readonly trillian_tags=mysql,etcd

# The one thing that may be missing in continuous integration too.
readonly no_vuln_data="the vulnerability data at vuln.go.dev can't be reached from here"

readonly not_run=77 # a step's return code for "could not be run"; $why says why

export PATH=$PATH:/usr/sbin # where Debian has mariadbd

tools=$PWD/.tools
work=$PWD/.test
why=
report=()
failures=0

main() {
	mkdir -p "$tools" "$work"
	rm -f "$work"/*.counts "$work"/*.skipped "$work"/*.log
	without_home
	if ! command -v go >/dev/null; then
		echo "deployment/test.sh: there is no go in PATH; https://go.dev/doc/install tells how to install it" >&2
		exit 1
	fi
	go version
	local steps=("$@") s
	[ $# -gt 0 ] || steps=("${all_steps[@]}")
	for s in "${steps[@]}"; do
		case " ${all_steps[*]} " in
		*" $s "*) run_step "$s" ;;
		*)
			echo "deployment/test.sh: no step \"$s\"; there are: ${all_steps[*]}" >&2
			exit 2
			;;
		esac
	done
	finish
}

# Go keeps its caches below HOME. Without a HOME they go below .test/.
without_home() {
	[ -z "${HOME:-}" ] || return 0
	export GOPATH=${GOPATH:-$work/gopath}
	export GOMODCACHE=${GOMODCACHE:-$GOPATH/pkg/mod}
	export GOCACHE=${GOCACHE:-$work/gocache}
	export GOLANGCI_LINT_CACHE=${GOLANGCI_LINT_CACHE:-$work/lintcache}
}

# run_step runs one step, times it and keeps its line of the report.
run_step() {
	local code=0 began=$SECONDS
	printf '\n== %s\n' "$1"
	why=
	"step_$1" || code=$?
	local took="$((SECONDS - began)) s"
	case $code in
	0)
		report+=("ok       $1 ($took)${why:+; but $why}")
		[ -z "$why" ] || not_all
		;;
	"$not_run")
		echo "not run: $why"
		report+=("NOT RUN  $1: $why")
		[ "$why" = "$no_vuln_data" ] || not_all
		;;
	*)
		failures=$((failures + 1))
		report+=("FAILED   $1 ($took)")
		;;
	esac
}

# not_all counts what could not be run as a failure where nobody reads the report.
not_all() {
	[ "${CI:-}" != true ] || failures=$((failures + 1))
}

# finish prints the report: the steps, the skipped tests, the count of tests.
finish() {
	printf '\n== report\n'
	printf '%s\n' "${report[@]}"
	if cat "$work"/*.skipped 2>/dev/null | grep .; then
		[ "${CI:-}" != true ] || echo "a skipped test counts as a failure here"
		not_all
	fi
	if compgen -G "$work/*.counts" >/dev/null; then
		awk '{ p += $1; f += $2; s += $3 } END { printf "%d passed, %d failed, %d skipped\n", p, f, s }' "$work"/*.counts
	fi
	[ "$failures" -eq 0 ]
}

# need COMMAND PACKAGE... sees to it that a command exists, through apt if it
# must. It returns 1, with $why set, where that can't be done.
need() {
	local command=$1 as=()
	shift
	command -v "$command" >/dev/null && return 0
	why="$command is missing and apt can't install it"
	command -v apt-get >/dev/null || {
		why="$command is missing and there is no apt-get; install $*"
		return 1
	}
	if [ "$(id -u)" -ne 0 ]; then
		command -v sudo >/dev/null || {
			why="$command is missing; installing $* needs root or sudo"
			return 1
		}
		as=(sudo)
		[ -t 0 ] || as=(sudo -n) # nobody there to type a password
	fi
	as+=(env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120)
	echo "installing $*"
	"${as[@]}" install -y --no-install-recommends "$@" >>"$work/apt.log" 2>&1 </dev/null ||
		{ "${as[@]}" update && "${as[@]}" install -y --no-install-recommends "$@"; } >>"$work/apt.log" 2>&1 </dev/null ||
		{
			tail -n 3 "$work/apt.log"
			return 1
		}
	why=
}

# tool MODULE@VERSION [FLAG...] builds a program below .tools/ unless it is there, and
# leaves its path in $tool.
tool() {
	local name=${1%@*} dir
	name=${name##*/}
	dir=$tools/$name-${1##*@}
	tool=$dir/$name
	[ -x "$tool" ] && return 0
	echo "building $1"
	GOBIN=$dir go install "${@:2}" "$1" >"$work/$name.log" 2>&1 && return 0
	tail -n 5 "$work/$name.log"
	why="$1 could not be built or fetched"
	return 1
}

# trillian_servers builds Trillian's log server and signer, of the version in go.mod, where
# tests look for them: building takes minutes, which a test's time doesn't have.
trillian_servers() {
	local version program
	version=$(go list -m -f '{{.Version}}' github.com/google/trillian) || return 1
	for program in trillian_log_server trillian_log_signer; do
		tool "github.com/google/trillian/cmd/$program@$version" -tags "$trillian_tags" || return 1
	done
}

# sources lists this project's files with the given ending, tools aside.
sources() {
	find . -path './.[!.]*' ! -path './.ci*' -prune -o -type f -name "$1" -print
}

step_format() {
	local list
	list=$(sources '*.go' | xargs -r gofmt -l) || return 1
	[ -z "$list" ] && return 0
	printf 'not as gofmt would have it:\n%s\n' "$list"
	return 1
}

step_shell() {
	need shellcheck shellcheck || return "$not_run"
	sources '*.sh' | xargs -r shellcheck .ci/run
}

step_build() { go build ./...; }

step_vet() { go vet ./...; }

step_tidy() {
	local code=0
	{ go mod tidy -diff && go -C "$check" mod tidy -diff; } >"$work/tidy.log" 2>&1 || code=$?
	[ "$code" -eq 0 ] && return 0
	tail -n 40 "$work/tidy.log"
	grep -q '^diff ' "$work/tidy.log" && return 1
	why="go mod tidy could not fetch what it compares with"
	return "$not_run"
}

# step_check checks the files of deployment/ with the libraries of those who read them. They are
# many: it is also where they are fetched, before a test that uses them has its time measured.
step_check() {
	go -C "$check" mod download >"$work/check.log" 2>&1 || {
		tail -n 5 "$work/check.log"
		why="the modules of $check could not be fetched"
		return "$not_run"
	}
	go -C "$check" vet ./... && (cd "$check" && go_test check ./...)
}

# step_test runs the tests under the race detector, which needs a C compiler.
step_test() {
	local race=(-race) packages missing
	need mariadbd mariadb-server-core || return "$not_run"
	trillian_servers || return "$not_run"
	need gcc gcc libc6-dev || race=()
	missing=$why why=
	mapfile -t packages < <(go list ./... | grep -vE "$process_tests")
	go_test test -short -skip "$waiting_tests" "${race[@]}" "${packages[@]}" || return 1
	[ -z "$missing" ] || why="without the race detector: $missing"
}

# step_process runs the tests that start the programs. The commands in the
# documentation use curl, openssl, Python and Node.js; those of deployment/ start what stands around a log.
step_process() {
	need openssl openssl || return "$not_run"
	need curl curl ca-certificates || return "$not_run"
	need python3 python3 || return "$not_run"
	need node nodejs || return "$not_run"
	need mariadbd mariadb-server-core || return "$not_run"
	need mariadb mariadb-client-core || return "$not_run"
	need etcd etcd-server || return "$not_run"
	need haproxy haproxy || return "$not_run"
	need prometheus prometheus || return "$not_run" # promtool is in it
	need prometheus-alertmanager prometheus-alertmanager || return "$not_run"
	need systemd-analyze systemd || return "$not_run"
	trillian_servers || return "$not_run"
	local packages
	mapfile -t packages < <(go list ./... | grep -E "$process_tests|$many_faults")
	[ "${#packages[@]}" -gt 0 ] || return 1 # the pattern no longer fits the tree
	go_test process -p 3 "${packages[@]}" # most of them wait for their programs
}

step_lint() {
	tool "$golangci_lint" || return "$not_run"
	"$tool" run ./... && (cd "$check" && "$tool" run ./...)
}

step_vuln() {
	local code=0
	tool "$govulncheck" || return "$not_run"
	"$tool" ./... >"$work/vuln.log" 2>&1 || code=$?
	cat "$work/vuln.log"
	grep -q 'vuln\.go\.dev' "$work/vuln.log" && [ "$code" -eq 1 ] || return "$code"
	why=$no_vuln_data
	return "$not_run"
}

# go_test NAME ARGUMENT... runs go test, prints a line a package and all that a
# failed test printed, and keeps the counts and the skipped tests for finish.
go_test() {
	local name=$1
	shift
	: >"$work/$name.skipped"
	go test -timeout 12m -json "$@" 2>&1 </dev/null |
		awk -v counts="$work/$name.counts" -v list="$work/$name.skipped" "$summary"
}

# summary reads go test -json. A package that fails without a failed test (it
# doesn't build, it panics, its time is up) counts as one failure.
# shellcheck disable=SC2016
readonly summary='
function field(name, i, rest) {
	i = index($0, "\"" name "\":\"")
	if (!i) return ""
	rest = substr($0, i + length(name) + 4)
	match(rest, /^([^"\\]|\\.)*/)
	rest = substr(rest, 1, RLENGTH)
	gsub(/\\\\/, "\001", rest)
	gsub(/\\n/, "\n", rest); gsub(/\\t/, "\t", rest); gsub(/\\r/, "", rest); gsub(/\\"/, "\"", rest)
	gsub(/\\u003c/, "<", rest); gsub(/\\u003e/, ">", rest); gsub(/\\u0026/, "\\&", rest)
	gsub(/\001/, "\\", rest)
	return rest
}
!/^\{/ { print; next }
{
	action = field("Action"); pkg = field("Package"); test = field("Test"); key = pkg " " test
}
action == "build-output" { printf "%s", field("Output"); next }
action == "output" {
	out = field("Output")
	if (test != "" && out ~ /^=== /) next
	if (test == "" && (out == "PASS\n" || out ~ /^coverage:/)) next
	said[key] = said[key] out
	next
}
action == "pass" && test != "" { passed++; delete said[key] }
action == "skip" && test != "" {
	skipped++
	printf "skipped  %s %s\n%s", pkg, test, said[key] >list
	delete said[key]
}
action == "fail" && test != "" { failed++; bad[pkg] = 1; printf "%s", said[key]; delete said[key] }
action ~ /^(pass|fail|skip)$/ && test == "" {
	if (action == "fail") {
		for (k in said) if (index(k, pkg " ") == 1 && k != key) { printf "%s", said[k]; delete said[k] }
		if (!bad[pkg]) failed++
	}
	if (action != "skip") printf "%s", said[key]
	delete said[key]
}
END {
	printf "%d %d %d\n", passed, failed, skipped >counts
	if (failed) exit 1
}'

main "$@"
