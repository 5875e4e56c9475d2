# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What whole-system tests share: TAP, waiting, and a lab that is gone when the test ends, however it ends.
#
#   . "$(dirname "$0")/lib.sh"
#   lab_up --hosts 2                       # brings up a lab of this test's own; see `lab help`
#   ok "b answers" on b docker version     # a command's success; its output becomes comments if it fails
#   is "$(on a hostname)" a "a knows its name"
#   like "$(on a ferry ps)" 'pg.*running' "pg runs"
#   ok "it comes up" wait_until 30 on a docker exec pg pg_isready
#   done_testing
#
# Deadlines are for giving up only: make them generous (10–30 s), never assert how long something took.
# A test that ends without done_testing (or plan) is a failure for prove.
set -u -o pipefail
export LC_ALL=C.UTF-8

LAB_DIR=$(dirname "$(realpath "${BASH_SOURCE[0]}")")
export FERRY_BIN=${FERRY_BIN:-$(realpath -m "$LAB_DIR/../../build")}
PATH=$FERRY_BIN:$PATH
export FERRY_LAB=t$$	# the lab's name: parallel tests do not meet
TMP=$(mktemp -d "/tmp/ferry-test-$$.XXXXXX")
export TMP
TESTS=0 FAILED=0 PLAN=
CLEANUP=()	# commands (strings), run last to first at the end

# --- TAP --------------------------------------------------------------------------------------------
plan() { PLAN=$1; echo "1..$1"; }
done_testing() { PLAN=$TESTS; echo "1..$TESTS"; }
diag() { sed 's/^/# /' <<<"$*"; }
skip_all() { PLAN=0; echo "1..0 # SKIP $*"; exit 0; }
bail() { echo "Bail out! $*"; exit 1; }

pass() { TESTS=$((TESTS + 1)); echo "ok $TESTS - $1"; }
fail() { # fail NAME [DETAILS]; returns 1
	TESTS=$((TESTS + 1)) FAILED=$((FAILED + 1))
	echo "not ok $TESTS - $1"
	[ -z "${2:-}" ] || diag "$2"
	return 1
}

# ok NAME CMD...: CMD succeeds.
ok() {
	local name=$1 out rc
	shift
	out=$("$@" 2>&1) && rc=0 || rc=$?
	[ $rc = 0 ] && { pass "$name"; return 0; }
	fail "$name" "exit $rc from: $*"$'\n'"$out"
}
# refused NAME REGEX CMD...: CMD fails and its output matches (extended regex).
refused() {
	local name=$1 re=$2 out rc
	shift 2
	out=$("$@" 2>&1) && rc=0 || rc=$?
	[ $rc != 0 ] || { fail "$name" "succeeded, though it should have been refused: $*"$'\n'"$out"; return; }
	grep -qiE -- "$re" <<<"$out" || { fail "$name" "exit $rc, but the message does not match '$re': $out"; return; }
	pass "$name"
}
is() { # is GOT WANT NAME
	[ "$1" = "$2" ] && { pass "$3"; return 0; }
	fail "$3" "got:  $1"$'\n'"want: $2"
}
isnt() {
	[ "$1" != "$2" ] && { pass "$3"; return 0; }
	fail "$3" "got $1, and that must not be"
}
like() { # like GOT REGEX NAME
	grep -qE -- "$2" <<<"$1" && { pass "$3"; return 0; }
	fail "$3" "got:  $1"$'\n'"want: /$2/"
}
unlike() {
	grep -qE -- "$2" <<<"$1" || { pass "$3"; return 0; }
	fail "$3" "got:  $1"$'\n'"must not match /$2/"
}

# wait_until SECONDS CMD...: poll until CMD succeeds; 1 (and CMD's last output) when time is up.
wait_until() {
	local end=$((SECONDS + $1)) out
	shift
	while :; do
		out=$("$@" 2>&1) && { [ -z "$out" ] || echo "$out"; return 0; }
		[ $SECONDS -lt $end ] || { echo "still not after the deadline: $*"; echo "$out"; return 1; }
		sleep 0.1
	done
}

# --- the lab ----------------------------------------------------------------------------------------
lab() { "$LAB_DIR/lab" --name "$FERRY_LAB" "$@"; }
on() { lab exec "$@"; } # on HOST CMD...
lab_home() { echo "/tmp/ferry-lab-$FERRY_LAB/hosts/$1"; }

# lab_up [lab's options]: or the whole test bails out.
lab_up() {
	local out
	out=$(lab up --owner $$ "$@" 2>&1) || { diag "$out"; FAILED=1; bail "the lab does not come up"; }
	[ -z "$out" ] || diag "$out"
}
lab_down() { lab down; }

# images HOST NAME...: make the test images if need be and load them there.
images() {
	local host=$1 dir n
	shift
	dir=$("$LAB_DIR/../images/make" "$@" 2>&1) || bail "test images: $dir"
	dir=$(tail -n 1 <<<"$dir")
	for n in "$@"; do
		on "$host" docker load -q -i "$dir/$n.docker.tar" >"$TMP/load" 2>&1 || bail "loading $n on $host: $(cat "$TMP/load")"
	done
}

# in_underlay CMD...: CMD in the namespace between the hosts, where "outside" (198.51.100.1) is.
in_underlay() { nsenter --net="/proc/$(cut -d' ' -f1 "/tmp/ferry-lab-$FERRY_LAB/underlay")/ns/net" -- "$@"; }

# --- the end ----------------------------------------------------------------------------------------
cleanup() { CLEANUP+=("$*"); } # cleanup 'COMMAND': run it at the end, whatever happens

finish() {
	local rc=$? i f
	trap - EXIT INT TERM HUP
	if [ $FAILED != 0 ] || [ "$PLAN" != "$TESTS" ]; then
		for f in "/tmp/ferry-lab-$FERRY_LAB"/hosts/*/ferryd.log; do
			[ -e "$f" ] || continue
			echo "# --- ferryd on $(basename "$(dirname "$f")"), last 40 lines"
			tail -n 40 "$f" | sed 's/^/# /'
		done
	fi
	for ((i = ${#CLEANUP[@]} - 1; i >= 0; i--)); do
		eval "${CLEANUP[$i]}"
	done
	lab down || rc=1
	rm -rf --one-file-system "$TMP"
	[ $FAILED = 0 ] || rc=1
	exit $rc
}
trap finish EXIT
trap 'exit 130' INT TERM HUP
