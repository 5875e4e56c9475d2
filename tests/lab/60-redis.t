#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Redis under writes moves back and forth: no error, no acknowledged write missing.
. "$(dirname "$0")/lib.sh"
. "$LAB_DIR/migrate.sh"
MOVES=${MOVES:-20}

lab_up --hosts 3
for h in a c; do images $h busybox; done
images a redis
ok "redis starts on a" on a ferry run -d --name redis -v redisdata:/data redis:latest redis-server --protected-mode no --save "" --appendonly yes --appendfsync everysec
client_start c client
IP=$(ip_of a redis)
ok "it answers" wait_until 30 in_client c client redis-cli -h "$IP" ping
ok "it is filled" in_client c client redis-benchmark -h "$IP" -q -t set -n 50000 -r 50000 -d 400 -P 16
in_client c client "$FERRY_BIN/tests/load" redis "$IP" 6379 2000 >"$TMP/load" 2>"$TMP/load.err" &
CLIENT=$!
cleanup "kill $CLIENT 2>/dev/null; wait $CLIENT 2>/dev/null"
sleep 1
to=b from=a
for i in $(seq "$MOVES"); do
	out=$(migrate $from redis $to --verify)
	like "$out" '"Verified": ?true' "move $i from $from to $to, verified" || { on $from docker ps -a | sed 's/^/# /'; break; }
	is "$(host_of $to redis)" $to "host $to owns it"
	t=$from from=$to to=$t
	sleep 0.2
done
is "$(jq '.summary | .BlackoutNs - (.Split | .FreezeNs + ([.MemoryNs, .StorageNs] | max) + .RestoreNs + .NetworkNs + .CommitNs + .OtherNs)' <<<"$out")" 0 "the split tells where all of the blackout went"
pid=$(pgrep -f "tests/load redis $IP 6379" | head -n 1)
kill -TERM "$pid"
wait $CLIENT
is $? 0 "the client saw no error and every acknowledged write is there: $(tail -n 1 "$TMP/load") $(cat "$TMP/load.err")"
ok "it stops" on $from docker stop -t 5 redis
done_testing
