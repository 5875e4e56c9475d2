#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# What cannot be is refused with the remedy, the right status and exit code; nothing is changed or paused.
. "$(dirname "$0")/lib.sh"
. "$LAB_DIR/migrate.sh"

lab_up --hosts 2
images a busybox
ok "a container runs" on a ferry run -d --name box busybox:latest sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.1; done'
alive() { [ "$(on a docker inspect -f '{{.State.Status}}' box)" = running ]; }
status_of() { # status_of METHOD PATH BODY
	on a curl -s -o /dev/null -w '%{http_code}' --unix-socket /run/ferry/ferry.sock -X "$1" -H 'Content-Type: application/json' -d "$3" "http://x$2"
}

refused "an unknown host" 'unknown host nowhere.*hosts are: a, b' on a ferry migrate box nowhere
refused "the same host" 'on host a already' on a ferry migrate box a
refused "an unknown container" 'No such container: nobody' on a ferry migrate nobody b
on a ferry migrate box 2>/dev/null; is $? 2 "a missing argument is a usage error"
refused "an unknown dirty tracker" 'tracker.*softdirty.*crystal' on a ferry migrate --tracker crystal box b
refused "a bad duration" 'no such value' on a ferry migrate --downtime soon box b
is "$(status_of POST /ferry/v1/migrations '{"container":"box","host":')" 400 "malformed JSON is 400"
is "$(status_of POST /ferry/v1/migrations '{"container":"box"}')" 400 "a missing field is 400"
is "$(status_of POST /ferry/v1/migrations '{"container":7,"host":"b"}')" 400 "a field of the wrong type is 400"
is "$(status_of POST /containers/create '[]')" 400 "a body that is no object is 400"
is "$(status_of POST /containers/create '{"Image":"absent:1"}')" 404 "an absent image is 404"
refused "an absent image, by the CLI" 'No such image: absent:1' on a ferry run -d absent:1
echo "this is no archive" >"$TMP/bad.tar"
refused "a wrong archive" 'archive' on a ferry image load "$TMP/bad.tar"
head -c 100000 "$("$LAB_DIR/../images/make" busybox | tail -n 1)/busybox.docker.tar" >"$TMP/cut.tar"
refused "a truncated archive" '.' on a ferry image load "$TMP/cut.tar"
is "$(on a ferry image ls --format json | wc -l)" 1 "neither left an image behind"

ok "a bind mount of the host" on a ferry run -d --name bound -v /tmp:/tmp busybox:latest sleep 1000
refused "cannot travel: remedy named" 'bind mount /tmp.*volume of driver rbd' on a ferry migrate bound b
ok "a local volume" on a ferry volume create here --driver local --size 64m
ok "in a container" on a ferry run -d --name localvol -v here:/data busybox:latest sleep 1000
refused "cannot travel either" 'driver local.*rbd' on a ferry migrate localvol b
ok "a container that holds a volume" on a ferry run -d --name holder -v held:/data busybox:latest sleep 1000
refused "a volume that is attached elsewhere" 'host a' on b ferry run --rm -v held:/data busybox:latest true
is "$(on b docker ps -aq --filter volume=held | wc -l)" 1 "the container that could not start is not left behind"
# --check: a table or JSON, exit status 1 where something stands in the way; all of it at once.
on a docker exec -d bound sleep 1000
check_names() { on a ferry migrate --check bound b >"$TMP/check"; [ $? = 1 ] && [ "$(grep -cE 'bind mount|exec session' "$TMP/check")" -ge 2 ]; }
ok "--check names a bind mount and an exec session, exit status 1" wait_until 30 check_names
like "$(head -n 1 "$TMP/check")" '^PID +FD +OBJECT +WHY +REMEDY$' "as a table"
on a ferry migrate --check --format json bound b >"$TMP/check.json"; is $? 1 "exit status 1 with JSON too"
is "$(jq -s '[.[] | select(.summary) | .summary.Obstacles[] | select((.object | length > 0) and (.why | length > 0) and (.remedy | length > 0) and (.pid | type == "number") and (.fd | type == "number"))] | length' "$TMP/check.json")" "$(($(wc -l <"$TMP/check") - 1))" "the same obstacles as JSON, each with pid, fd, object, why, remedy"
on a ferry migrate --check box b >"$TMP/check"; is $? 0 "nothing stands in box's way: exit status 0"
like "$(cat "$TMP/check")" 'Nothing stands in the way' "and it says so"
# A destination without memory: b gives 40 MiB to containers in all, this one uses 56 MiB and some.
give() { # give MEMORY: how much host b gives to containers
	on b python3 -c 'import json, sys; p = "/etc/ferry/ferry.json"; c = json.load(open(p)); c["memory_bytes"] = sys.argv[1]; json.dump(c, open(p, "w"))' "$1" &&
		lab kill b && lab restart b
}
full() { on a docker logs big | grep -q full; }
ok "a container with 56 MiB of memory" on a ferry run -d --name big busybox:latest sh -c 'head -c 58720256 /dev/zero >/dev/shm/x && echo full; exec sleep 1000'
ok "which is in use" wait_until 60 full
ok "host b gives containers 40 MiB" give 40m
refused "no memory: the figures and the remedy" 'host b gives 40 MiB.*container uses (5[6-9]|[67][0-9]) MiB.*memory_bytes' on a ferry migrate big b
is "$(on a docker inspect -f '{{.State.Status}}' big)" running "the container it refused still runs"
is "$(on b sh -c 'ls -A /var/lib/ferry/containers | wc -l')" 0 "nothing of it is left on b"
ok "host b gives containers more" give 1g
ok "and now lets it in" on a ferry migrate --verify big b
ok "it is removed" on a docker rm -f big

ok "the refused ones still run" test "$(on a docker ps -q | wc -l)" -ge 3
ok "nothing was paused" alive
a1=$(on a docker logs --tail 1 box) && sleep 1 && a2=$(on a docker logs --tail 1 box)
ok "the container has gone on counting ($a1 → $a2)" test "$a2" -gt "$a1"
is "$(on b docker ps -aq | wc -l)" "$(on a docker ps -aq | wc -l)" "b sees the same containers, none of its own"
ok "and after all that it can be moved" on a ferry migrate --verify box b
ok "back too, without a dirty tracker" on b ferry migrate --verify --tracker none box a
done_testing
