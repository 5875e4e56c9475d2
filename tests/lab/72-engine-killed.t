#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# SIGKILL of the source's checkpoint engine while it holds the container's threads. ferryd starts another one,
# which undoes what the dead one did (sockets in repair mode, the freezer); the container runs on where it was,
# its clients' connections go on, no acknowledged write is missing, and it can be moved afterwards.
. "$(dirname "$0")/lib.sh"
. "$LAB_DIR/migrate.sh"
CUTS=${CUTS:-4}

lab_up --hosts 3
for h in a c; do images $h busybox; done
images a redis
ok "redis starts on a" on a ferry run -d --name redis redis:latest redis-server --protected-mode no --save "" --appendonly no
client_start c client
IP=$(ip_of a redis)
ok "it answers" wait_until 30 in_client c client redis-cli -h "$IP" ping

# The engine that holds process argv[1], as soon as there is one and argv[2] microseconds later, gets SIGKILL.
# A loaded machine may let it come too late: then the container has moved.
cat >"$TMP/killer" <<'END'
import os, re, signal, sys, time
try: os.nice(-20)
except OSError: pass
tracer = 0
end = time.monotonic() + 30
try:
    status = os.open("/proc/%s/status" % sys.argv[1], os.O_RDONLY)
    while not tracer and time.monotonic() < end:
        tracer = int(re.search(rb"TracerPid:\s(\d+)", os.pread(status, 4096, 0)).group(1))
    end = time.monotonic() + int(sys.argv[2]) / 1e6
    while time.monotonic() < end: pass
    os.kill(tracer, signal.SIGKILL)
except ProcessLookupError: pass
END
pid_on() { on "$1" docker inspect -f '{{.State.Status}} {{.State.Pid}}' redis; }

in_client c client "$FERRY_BIN/tests/load" redis "$IP" 6379 500 >"$TMP/load" 2>"$TMP/load.err" &
client=$!
cut=0
for i in $(seq 20); do
	[ $cut -lt "$CUTS" ] || break
	from=$(host_of c redis)
	to=$([ "$from" = a ] && echo b || echo a)
	pid=$(pid_on "$from")
	on "$from" sh -c "rm -f /run/ferry/migrate-held; echo BLACKOUT >/run/ferry/migrate-hold"
	on "$from" ferry migrate redis "$to" >"$TMP/migrate.$i" 2>&1 &
	mig=$!
	ok "try $i: before the blackout" wait_until 30 on "$from" test -e /run/ferry/migrate-held
	on "$from" rm -f /run/ferry/migrate-hold
	on "$from" python3 "$TMP/killer" "${pid#* }" $((i * 700 % 4900))
	wait $mig || cut=$((cut + 1))
	ok "try $i: it answers" wait_until 20 in_client c client timeout 5 redis-cli -h "$IP" ping
	[ "$(host_of c redis)" = "$from" ] || continue
	is "$(pid_on "$from")" "$pid" "try $i: it is the same process"
done
is $cut "$CUTS" "so many migrations were cut"
diag "$(grep -h engine "$TMP"/migrate.* | sort | uniq -c)"
sleep 1
kill -TERM "$(pgrep -f "tests/load redis $IP 6379" | head -n 1)"
wait $client
is $? 0 "no error, no acknowledged write missing: $(tail -n 1 "$TMP/load") $(cat "$TMP/load.err")"
from=$(host_of c redis)
ok "it can be moved" on "$from" ferry migrate --verify redis "$([ "$from" = a ] && echo b || echo a)"
ok "and answers" wait_until 20 in_client c client timeout 5 redis-cli -h "$IP" ping
done_testing
