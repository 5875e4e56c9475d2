#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A migration is cut in every state: the source's ferryd killed, the destination's ferryd killed, the
# link between them cut. Afterwards the container runs in exactly one place, its volume is attached in exactly
# one place, no acknowledged write is missing, and a second migration succeeds.
#
# The file RUN/migrate-hold makes a daemon stay two seconds in a state (ARMED and SWAPPED are the moments just
# before and just after the commit point, at the destination), so that the cut falls into it.
. "$(dirname "$0")/lib.sh"
. "$LAB_DIR/migrate.sh"
STATES=${STATES:-PREPARE PRECOPY BLACKOUT COMMIT ARMED SWAPPED CLEANUP}
CUTS=${CUTS:-source destination link}

lab_up --hosts 3
for h in a c; do images $h busybox; done
images a redis
ok "redis starts on a" on a ferry run -d --name redis -v redisdata:/data redis:latest redis-server --protected-mode no --save "" --appendonly yes --appendfsync everysec
client_start c client
IP=$(ip_of a redis)
ok "it answers" wait_until 30 in_client c client redis-cli -h "$IP" ping
n=0

volume_is() { [ "$(on "$2" ferry volume inspect redisdata | jq -r .Status.mode)" = "$1" ]; }
other() { [ "$1" = a ] && echo b || echo a; }
owner() { on c ferry ps --format json | jq -r 'select(.Names[0] == "/redis") | .Host'; }
owner_is_settled() { # an owner that has it running, on c's view
	local o
	o=$(owner) && [ -n "$o" ] && on "$o" docker inspect -f '{{.State.Status}}' redis | grep -qx running &&
		on "$o" ferry volume inspect redisdata | jq -e '.Status.mode == "rw"' >/dev/null && echo "$o"
}

for state in $STATES; do
	for cut in $CUTS; do
		from=$(owner) to=$(other "$(owner)")
		name="$cut cut in $state"
		n=$((n + 1))
		in_client c client "$FERRY_BIN/tests/load" redis "$IP" 6379 500 >"$TMP/load.$n" 2>"$TMP/load.err.$n" &
		client=$!
		case $state in ARMED | SWAPPED) holder=$to ;; *) holder=$from ;; esac
		on "$holder" sh -c "rm -f /run/ferry/migrate-held; echo $state >/run/ferry/migrate-hold"
		on "$from" ferry migrate --format json redis "$to" >"$TMP/migrate.$n" 2>&1 &
		mig=$!
		ok "$name: the state is reached" wait_until 30 on "$holder" test -e /run/ferry/migrate-held
		on "$holder" rm -f /run/ferry/migrate-hold
		sleep 0.3
		case $cut in
		source) lab kill "$from" ;;
		destination) lab kill "$to" ;;
		link) lab cut "$from" "$to" ;;
		esac
		sleep 3
		case $cut in
		source) lab restart "$from" >/dev/null ;;
		destination) lab restart "$to" >/dev/null ;;
		link) lab heal "$from" "$to" ;;
		esac
		wait $mig
		ok "$name: the container runs in one place" wait_until 60 owner_is_settled
		now=$(owner)
		ok "$name: the volume is attached in one place" wait_until 30 volume_is detached "$(other "$now")"
		ok "$name: nothing of it is left on the other host" wait_until 30 sh -c "! '$LAB_DIR/lab' --name $FERRY_LAB exec $(other "$now") ls /run/ferry/netns | grep -q $(on "$now" docker inspect -f '{{.Id}}' redis)"
		kill -TERM "$(pgrep -f "tests/load redis $IP 6379" | head -n 1)"
		wait $client
		is $? 0 "$name: no error, no acknowledged write missing: $(tail -n 1 "$TMP/load.$n") $(cat "$TMP/load.err.$n")"
		ok "$name: a second migration succeeds" on "$now" ferry migrate --verify redis "$(other "$now")"
	done
done
done_testing
