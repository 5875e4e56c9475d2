#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The longest silence of a client while its server moves: medians of MOVES migrations (default 10) of Redis
# with 1 GiB of data under 5,000 writes a second, PostgreSQL with 8 clients, nginx under keep-alive requests.
# No peer runs here: CRIU of Debian 12 does not work on this kernel; the bars are the issue's. Where the time
# goes is printed on stderr, from the migrations' own summaries.
set -eu -o pipefail
HERE=$(dirname "$(realpath "$0")")
LAB_DIR=$HERE/../lab
export FERRY_BIN=${FERRY_BIN:-$(realpath -m "$HERE/../../build")} FERRY_LAB=bench$$
PATH=$FERRY_BIN:$PATH
MOVES=${MOVES:-10}
SETS=${SETS:-redis postgres nginx}
TMP=$(mktemp -d /tmp/ferry-bench.XXXXXX)
lab() { "$LAB_DIR/lab" --name "$FERRY_LAB" "$@"; }
on() { lab exec "$@"; }
. "$LAB_DIR/migrate.sh"
trap 'trap - EXIT INT TERM; jobs -p | xargs -r kill 2>/dev/null || true; lab down >/dev/null 2>&1; rm -rf "$TMP"' EXIT INT TERM
median() { sort -n | awk '{ a[NR] = $1 } END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }
row() { # row NAME FILE-OF-MS BAR
	local m
	m=$(median <"$2")
	printf '%s\tms\t%s\t-\tnone runs here\t-\t<= %s\t%s\n' "$1" "$m" "$3" "$(awk "BEGIN { print $m <= $3 ? \"ok\" : \"short\" }")"
}
where() { # where NAME: medians of the parts of the blackout
	local k
	printf '%s:' "$1" >&2
	for k in FreezeNs StorageNs MemoryNs RestoreNs NetworkNs CommitNs OtherNs; do
		printf ' %s %.1f ms' "${k%Ns}" "$(jq -r ".summary.Split.$k" "$TMP/$1.json" | median | awk '{ print $1 / 1e6 }')" >&2
	done
	printf ' | blackout %.1f ms, bytes/memory %.2f\n' "$(jq -r .summary.BlackoutNs "$TMP/$1.json" | median | awk '{ print $1 / 1e6 }')" \
		"$(jq -r '.summary | .Bytes / .MemoryBytes' "$TMP/$1.json" | median)" >&2
	for k in dump storage restore; do # medians of the engines' own laps, in ms
		printf '  %s:' $k >&2
		jq -rs --arg k $k '[.[].summary.Engine[$k] | (.parts // {}) + del(.parts)] | (map(keys) | add | unique)[] as $f |
			"\($f) \([.[][$f] | numbers] | sort | .[length / 2 | floor] // 0 | . / 1e5 | round / 10)"' "$TMP/$1.json" | paste -sd' ' >&2
	done
}
# moves CONTAINER GAP-COMMAND: back and forth; the client's gap of each goes to $TMP/CONTAINER.ms
moves() {
	local c=$1 from=a to=b t i
	shift
	: >"$TMP/$c.json"
	: >"$TMP/$c.ms"
	for i in $(seq "$MOVES"); do
		"$@" >/dev/null
		migrate $from "$c" $to >>"$TMP/$c.json"
		sleep 1.5
		"$@" >>"$TMP/$c.ms"
		t=$from from=$to to=$t
	done
}
load_gap() { # load_gap FILE PATTERN: asks the loading client, in ms
	local n
	n=$(wc -l <"$1")
	kill -USR1 "$(pgrep -f "$2" | head -n 1)"
	while [ "$(wc -l <"$1")" = "$n" ]; do sleep 0.05; done
	tail -n 1 "$1" | awk '{ print $2 / 1000 }'
}
pg_gap() { # transactions since the last call, longest in ms
	on c docker exec pgclient sh -c 'cat /tmp/tx.*' | awk -v from="$(cat "$TMP/pg.from" 2>/dev/null || echo 0)" '{ t = $5 + $6 / 1e6 } t > from && $3 > max { max = $3 } END { print max / 1000 }'
	date +%s.%N >"$TMP/pg.from"
}

lab up --hosts 3 --owner $$ >&2
images=$("$LAB_DIR/../images/make" | tail -n 1)
for h in a c; do on $h ferry image load "$images/busybox.docker.tar" >&2; done
for i in redis postgres nginx; do on a ferry image load "$images/$i.docker.tar" >&2; done
client_start c client

for set in $SETS; do
	case $set in
	redis)
		on a ferry run -d --name redis -v redisdata:/data redis:latest redis-server --protected-mode no --enable-debug-command yes --save "" --appendonly no >&2
		ip=$(ip_of a redis)
		until in_client c client redis-cli -h "$ip" ping >/dev/null 2>&1; do sleep 0.2; done
		in_client c client redis-cli -h "$ip" debug populate 1000000 key 1000 >&2
		ratio=$(for to in b a b a; do migrate "$([ $to = b ] && echo a || echo b)" redis $to; done | jq -r '.summary | .Bytes / .MemoryBytes' | median)
		printf 'redis 1 GiB, idle: bytes sent / memory in use\tx\t%.3f\t-\tnone runs here\t-\t<= 1.3\t%s\n' "$ratio" "$(awk "BEGIN { print $ratio <= 1.3 ? \"ok\" : \"short\" }")"
		in_client c client "$FERRY_BIN/tests/load" redis "$ip" 6379 5000 >"$TMP/redis.load" &
		sleep 2
		moves redis load_gap "$TMP/redis.load" "tests/load redis $ip"
		where redis
		row "redis 1 GiB, 5,000 writes/s: longest silence" "$TMP/redis.ms" 50
		;;
	postgres)
		on a ferry run -d --name pg -v pgdata:/var/lib/postgresql postgres:15 >&2
		ip=$(ip_of a pg)
		client_start c pgclient postgres:15
		until on c docker exec pgclient pg_isready -q -h "$ip"; do sleep 0.2; done
		on c docker exec pgclient pgbench -h "$ip" -U postgres -i -q -s 5 postgres >&2
		on c docker exec -w /tmp pgclient pgbench -h "$ip" -U postgres -c 8 -j 2 -T 100000 -l --log-prefix=tx postgres >/dev/null 2>&1 &
		sleep 3
		moves pg pg_gap
		where pg
		row "postgres, 8 clients: longest silence" "$TMP/pg.ms" 80
		;;
	nginx)
		on a ferry run -d --name web nginx:latest >&2
		ip=$(ip_of a web)
		until in_client c client curl -fsS "http://$ip/" >/dev/null 2>&1; do sleep 0.2; done
		in_client c client "$FERRY_BIN/tests/load" http "$ip" 80 1000 >"$TMP/web.load" &
		sleep 1
		moves web load_gap "$TMP/web.load" "tests/load http $ip"
		where web
		row "nginx, keep-alive: longest silence" "$TMP/web.ms" 60
		;;
	esac
	for h in a b; do on $h docker rm -f redis pg web >/dev/null 2>&1 || true; done
	jobs -p | xargs -r kill 2>/dev/null || true
	wait
done
