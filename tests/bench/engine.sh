#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What a blackout costs, and for what: medians of MOVES (default 9) moves of containers that have much of one
# thing, all in one run, in turn: processes, memory areas, connections, memory. Then the pre-copy: its speed
# against a plain TLS copy between the same hosts, how much it slows the container down, and the memory that
# the engines take. No peer runs here: CRIU of Debian 12 does not work on this kernel; the bars are the issue's.
#   MIB=2048 and so on makes the large container smaller than 8 GiB (both hosts of the lab need it at once).
#   ONLY="idle vmas" measures these alone, of: processes vmas connections memory precopy slowdown (idle is always).
set -eu -o pipefail
HERE=$(dirname "$(realpath "$0")")
LAB_DIR=$HERE/../lab
export FERRY_BIN=${FERRY_BIN:-$(realpath -m "$HERE/../../build")} FERRY_LAB=bench$$
PATH=$FERRY_BIN:$PATH
MOVES=${MOVES:-9}
MIB=${MIB:-8192}
ONLY=" ${ONLY:-processes vmas connections memory precopy slowdown} "
PROCESSES=100 VMAS=10000 CONNECTIONS=2000
TMP=$(mktemp -d /tmp/ferry-bench.XXXXXX)
lab() { "$LAB_DIR/lab" --name "$FERRY_LAB" "$@"; }
on() { lab exec "$@"; }
. "$LAB_DIR/migrate.sh"
trap 'trap - EXIT INT TERM; jobs -p | xargs -r kill 2>/dev/null || true; lab down >/dev/null 2>&1; rm -rf "$TMP"' EXIT INT TERM
median() { sort -n | awk '{ a[NR] = $1 } END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }
calc() { awk "BEGIN { printf \"%.3f\", $* }"; }
row() { # row NAME UNIT VALUE '<=|>=' BAR
	printf '%s\t%s\t%s\t-\tnone runs here\t-\t%s %s\t%s\n' "$1" "$2" "$3" "$4" "$5" "$(awk "BEGIN { print ($3 $4 $5) ? \"ok\" : \"short\" }")"
}
ratio_row() { # ratio_row NAME UNIT FERRY PEER PEER-IS RATIO '<=|>=' BAR
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s %s\t%s\n' "$1" "$2" "$3" "$4" "$5" "$6" "$7" "$8" "$(awk "BEGIN { print ($6 $7 $8) ? \"ok\" : \"short\" }")"
}
blackout() { jq -r '.summary.BlackoutNs / 1e6' "$TMP/$1.json" | median; }
where() { # where NAME: medians of the parts of the blackout
	local k
	printf '%-12s' "$1" >&2
	for k in FreezeNs StorageNs MemoryNs RestoreNs NetworkNs CommitNs OtherNs; do
		printf ' %s %.1f' "${k%Ns}" "$(jq -r ".summary.Split.$k" "$TMP/$1.json" | median | awk '{ print $1 / 1e6 }')" >&2
	done
	printf ' | blackout %.1f ms\n' "$(blackout "$1")" >&2
}
image() {
	mkdir -p "$TMP/root/bin" "$TMP/root/lib64" "$TMP/root/lib/x86_64-linux-gnu" "$TMP/root"/{proc,sys,dev,tmp,etc,run}
	cp -L /lib64/ld-linux-x86-64.so.2 "$TMP/root/lib64/"
	cp -L /lib/x86_64-linux-gnu/libc.so.6 "$TMP/root/lib/x86_64-linux-gnu/"
	cp "$FERRY_BIN/tests/subject" "$TMP/root/bin/"
	echo '{"Env": ["PATH=/bin"], "Entrypoint": ["subject"], "WorkingDir": "/"}' >"$TMP/config"
	python3 "$LAB_DIR/../images/pack" subject:latest "$TMP/config" "$TMP/subject" "$TMP/root"
}
start() { # start HOST NAME ARGS...
	local host=$1 name=$2
	shift 2
	on "$host" docker run -d --name "$name" subject:latest "$@" >/dev/null
	until on "$host" docker logs "$name" 2>&1 | grep -qx ready; do sleep 0.1; done
}

measure() { # measure WHAT: is it asked for?
	case $ONLY in *" $1 "*) return 0 ;; *) return 1 ;; esac
}

lab up --hosts 3 --owner $$ >&2
image
for h in a c; do on $h docker load -q -i "$TMP/subject.docker.tar" >&2; done
start a idle idle
SUBJECTS=idle
if measure processes; then
	start a processes processes $PROCESSES
	SUBJECTS="$SUBJECTS processes"
fi
if measure vmas; then
	start a vmas vmas $VMAS
	SUBJECTS="$SUBJECTS vmas"
fi
if measure connections; then
	start c peer peer
	start a connections connections $CONNECTIONS "$(ip_of c peer)"
	SUBJECTS="$SUBJECTS connections"
fi
if measure memory; then
	start a small memory 64
	start a large memory "$MIB"
	SUBJECTS="$SUBJECTS small large"
fi
from=a to=b
for i in $(seq $((MOVES + 1))); do
	for c in $SUBJECTS; do
		migrate $from $c $to >"$TMP/last"
		[ "$i" = 1 ] || cat "$TMP/last" >>"$TMP/$c.json" # the first warms up
	done
	t=$from from=$to to=$t
done
for c in $SUBJECTS; do where $c; done
row "blackout of an idle container with one process" ms "$(calc "$(blackout idle)")" '<=' 10
! measure processes || row "blackout for each further process" ms "$(calc "($(blackout processes) - $(blackout idle)) / $PROCESSES")" '<=' 0.5
! measure vmas || row "blackout for 1,000 memory areas" ms "$(calc "($(blackout vmas) - $(blackout idle)) / ($VMAS / 1000)")" '<=' 5
! measure connections || row "blackout for 1,000 TCP connections" ms "$(calc "($(blackout connections) - $(blackout idle)) / ($CONNECTIONS / 1000)")" '<=' 60
! measure memory || ratio_row "blackout of $MIB MiB idle against 64 MiB idle" ms "$(calc "$(blackout large)")" "$(calc "$(blackout small)")" "64 MiB" \
	"$(calc "$(blackout large) / $(blackout small)")" '<=' 1.5

# The pre-copy of 1 GiB against a plain TLS copy of as much, in turn; the engines' own memory meanwhile.
for h in a b; do on $h docker rm -f $SUBJECTS >/dev/null 2>&1 || true; done

address() { case $1 in a) echo 10.99.0.11 ;; b) echo 10.99.0.12 ;; esac; }
engines() { # the largest private memory of any engine, in MiB, while file $TMP/go is there
	local max=0 p n
	while [ -e "$TMP/go" ]; do
		for p in $(pgrep -x ferry-checkpoin -P "$(cat "/tmp/ferry-lab-$FERRY_LAB"/hosts/*/ferryd.pid | awk '{ print $1 }' | paste -sd,)" || true); do
			n=$(awk '/^RssAnon/ { print int($2 / 1024) }' "/proc/$p/status" 2>/dev/null || echo 0)
			[ "${n:-0}" -le $max ] || max=$n
		done
		sleep 0.02
	done
	echo $max
}
precopy() {
	local i tls copy t
	start a large memory 1024
	PORT=17777 from=a to=b
	: >"$TMP/engine.mib"
	for i in $(seq "$MOVES"); do
		on $to "$FERRY_BIN/tests/tlscopy" receive $PORT /var/lib/ferry/pki >"$TMP/listen" &
		until grep -q listening "$TMP/listen"; do sleep 0.02; done
		on $from "$FERRY_BIN/tests/tlscopy" send "$(address $to)" $PORT 1024 /var/lib/ferry/pki >>"$TMP/tls"
		wait $!
		: >"$TMP/go"
		engines >>"$TMP/engine.mib" &
		migrate $from large $to >>"$TMP/copy.json"
		rm "$TMP/go"
		wait $!
		t=$from from=$to to=$t
	done
	tls=$(median <"$TMP/tls")
	copy=$(jq -r '.summary.PrecopyNs / 1e9' "$TMP/copy.json" | median)
	ratio_row "pre-copy of 1 GiB" MiB/s "$(calc "1024 / $copy")" "$(calc "1024 / $tls")" "plain TLS copy" "$(calc "$tls / $copy")" '>=' 0.7
	row "memory of an engine beyond the container" MiB "$(sort -n "$TMP/engine.mib" | tail -n 1)" '<=' 64
	on $from docker rm -f large >/dev/null
}
! measure precopy || precopy

# A container that writes 64 MiB all over at full speed: pages a tenth of a second, before and during the pre-copy.
slowdown() {
	local i before during t
	start a work work 64
	from=a to=b
	for i in $(seq "$MOVES"); do
		sleep 2
		on $from docker logs --tail 15 work | awk '{ print $2 }' | median >>"$TMP/work.before"
		migrate $from work $to --no-auto-converge --timeout 2s --on-timeout force >/dev/null
		t=$from from=$to to=$t
		# What was printed in the two seconds before the freeze is in the log on either host.
		on $from docker logs work | awk '{ print $2 }' | tail -n 25 | head -n 15 | median >>"$TMP/work.during"
	done
	before=$(median <"$TMP/work.before") during=$(median <"$TMP/work.during")
	ratio_row "slowdown of a container that writes at full speed" pages/0.1s "$during" "$before" "no migration" "$(calc "1 - $during / $before")" '<=' 0.15
}
! measure slowdown || slowdown
