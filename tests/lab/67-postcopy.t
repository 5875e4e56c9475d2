#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Containers that write to memory faster than it can be sent: slowed down, refused, forced, and by
# post-copy, in which they run at the destination while memory still comes. Redis under heavy writes sees no
# error; a program that changes all of its memory all the time looks at every word of it. A ferryd killed on
# either side in that phase loses nothing; a lost link loses the container, and that is said.
. "$(dirname "$0")/lib.sh"
. "$LAB_DIR/migrate.sh"

# The program and a shell in one image.
image() {
	local root=$TMP/image/root
	mkdir -p "$root"/{bin,lib64,lib/x86_64-linux-gnu,proc,sys,dev,tmp,etc,run}
	cp "$(command -v busybox || echo /bin/busybox)" "$root/bin/busybox"
	ln -s busybox "$root/bin/sh"
	cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
	cp -L /lib/x86_64-linux-gnu/libc.so.6 "$root/lib/x86_64-linux-gnu/"
	cp "$FERRY_BIN/tests/dirty" "$root/bin/"
	echo '{"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"}' >"$TMP/image/config"
	python3 "$LAB_DIR/../images/pack" dirty:latest "$TMP/image/config" "$TMP/image/dirty" "$root"
}
says() { on "$1" docker logs "$2" 2>&1 | grep -q -- "$3"; }
start_dirty() { # start_dirty NAME MIB NS: on a
	on a docker run -d --name "$1" dirty:latest dirty "$2" "$3" >/dev/null && wait_until 60 says a "$1" ready
}
# ends_whole HOST NAME: told to end, it has seen all of its memory as it should be.
ends_whole() {
	on "$1" docker stop -t 30 "$2" >/dev/null && says "$1" "$2" "^whole" || { on "$1" docker logs "$2"; return 1; }
}
state_of() { on "$1" docker inspect -f "{{.State.$3}}" "$2"; }
is_state() { [ "$(state_of "$1" "$2" "$3")" = "$4" ]; }
summary() { jq -r ".summary.$1" <<<"$out"; }
# shape BYTES: what reaches b, a second; shape: as fast as it can.
shape() {
	in_underlay tc qdisc del dev v-b root 2>/dev/null
	[ -z "${1:-}" ] || in_underlay tc qdisc add dev v-b root tbf rate "$1" burst 256k latency 100ms
}
# quota HOST NAME: its CPU limit as the kernel has it.
quota() {
	local pid cg
	pid=$(state_of "$1" "$2" Pid)
	cg=$(sed -n 's/^[0-9]*:\(cpu\|cpu,cpuacct\)://p' "/proc/$pid/cgroup")
	if [ -n "$cg" ]; then cat "/sys/fs/cgroup/cpu/$cg/cpu.cfs_quota_us"; else
		cat "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")/cpu.max"
	fi
}
gone_from() { ! on "$1" ls /run/ferry/netns | grep -q "$2"; }

lab_up --hosts 3
for h in a c; do images $h busybox; done
images a redis
image >"$TMP/image.log" 2>&1 || bail "the image: $(cat "$TMP/image.log")"
on a docker load -q -i "$TMP/image/dirty.docker.tar" >"$TMP/load" 2>&1 || bail "loading the image: $(cat "$TMP/load")"

# --- Redis ------------------------------------------------------------------------------------------
ok "redis starts on a" on a ferry run -d --name redis redis:latest redis-server --protected-mode no --save "" --appendonly no
client_start c client
IP=$(ip_of a redis)
ok "it answers" wait_until 30 in_client c client redis-cli -h "$IP" ping
ok "it is filled with 256 MiB" in_client c client redis-benchmark -h "$IP" -q -t set -n 400000 -r 400000 -d 600 -P 32
in_client c client "$FERRY_BIN/tests/load" redis "$IP" 6379 2000 >"$TMP/load" 2>"$TMP/load.err" &
load=$!
in_client c client redis-benchmark -h "$IP" -q -t set -n 1000000 -r 400000 -d 600 -P 8 >"$TMP/bench" 2>&1 &
bench=$!
cleanup "kill $load $bench 2>/dev/null; wait $load $bench 2>/dev/null"
sleep 1
out=$(migrate a redis b --postcopy --verify)
like "$(summary Verified)" true "redis moves by post-copy, verified"
like "$(summary PostCopy.Bytes)" '^[1-9]' "a part of its memory came while it ran: $(jq -c .summary.PostCopy <<<"$out")"
is "$(summary Rounds)" 1 "after one round"
wait $bench
is $? 0 "heavy writers saw no error: $(tail -n 1 "$TMP/bench")"
unlike "$(cat "$TMP/bench")" '[Ee]rror' "nor reported one"
kill -TERM "$(pgrep -f "tests/load redis $IP 6379" | head -n 1)"
wait $load
is $? 0 "no error, no acknowledged write missing: $(tail -n 1 "$TMP/load") $(cat "$TMP/load.err")"
ok "nothing of it is left on a" wait_until 30 gone_from a "$(on b docker inspect -f '{{.Id}}' redis)"
on b docker rm -f redis >/dev/null

# --- memory that changes faster than it can be sent -----------------------------------------------
# A program of one thread that thinks now and then: with less processor it changes less.
ok "a program that changes 64 MiB over and over" start_dirty slow 64 2000
before=$(quota a slow)
out=$(on a ferry migrate --format json --downtime 20ms --timeout 60s slow b)
like "$out" '"summary"' "it is slowed down until copying catches up" || diag "$out"
like "$out" '"THROTTLE"' "which is reported"
is "$(jq -r 'select(.summary).summary.PostCopy' <<<"$out")" null "and moves without post-copy"
is "$(quota b slow)" "$before" "its limit is its own again: $before"
ok "it is whole" ends_whole b slow

ok "a program that changes 192 MiB as fast as it can" start_dirty fast 192 0
before=$(quota a fast)
refused "it is refused when time is up" 'faster than it can be sent' on a ferry migrate --no-auto-converge --downtime 1ms --timeout 3s fast b
is "$(quota a fast)" "$before" "its limit is as before"
is "$(host_of a fast)" a "and stays where it is"
is "$(state_of a fast Status)" running "running"
ok "nothing of it is on b" wait_until 30 gone_from b "$(on a docker inspect -f '{{.Id}}' fast)"
out=$(migrate a fast b --no-auto-converge --timeout 120s --on-timeout postcopy)
like "$(summary PostCopy.Bytes)" '^[1-9]' "with --on-timeout postcopy it moves when rounds do not help: $(jq -c .summary.PostCopy <<<"$out")"
like "$(summary PostCopy.Faults)" '^[1-9]' "it waited for pages"
out=$(migrate b fast a --no-auto-converge --timeout 2s --on-timeout force)
is "$(summary PostCopy)" null "with --on-timeout force it moves in a longer pause"
is "$(host_of a fast)" a "host a owns it"

# --- cuts -------------------------------------------------------------------------------------------
# postcopy_to_b: over a slow link; returns when the phase is reached.
postcopy_to_b() {
	shape 160mbit
	: >"$TMP/progress"
	on a ferry migrate --format json --postcopy fast b >"$TMP/progress" 2>"$TMP/migrate.err" &
	mig=$!
	ok "a slow post-copy begins" wait_until 60 grep -q '"LeftBytes"' "$TMP/progress"
}
ID=$(on a docker inspect -f '{{.Id}}' fast)
for side in a b; do
	postcopy_to_b
	ok "ferryd of $side is killed in it" lab kill $side
	sleep 1
	ok "and restarted" lab restart $side
	wait $mig
	ok "the container runs on b" wait_until 30 is_state b fast Status running
	shape
	ok "nothing of it is left on a" wait_until 60 gone_from a "$ID"
	ok "all of its memory has come" wait_until 60 sh -c "! '$LAB_DIR/lab' --name $FERRY_LAB exec b ls /run/ferry/migrations | grep -q ."
	ok "it moves back" wait_until 30 on b ferry migrate --verify fast a --on-timeout force --timeout 2s
done
postcopy_to_b
lab cut a b
wait $mig
isnt $? 0 "a link that is cut in it is reported: $(grep -o '"message":.*' "$TMP/progress")"
shape
ok "the container is killed on b" wait_until 60 is_state b fast Status exited
like "$(state_of b fast Error)" 'the source was lost' "its state says why: $(state_of b fast Error)"
is "$(state_of b fast ExitCode)" 137 "and how"
# "until" is a whole second, and one that has begun would cut the last off.
ok "and so do the events" wait_until 30 on b sh -c 'timeout 5 docker events --since 5m --until $(($(date +%s) + 1)) | grep -q " lost "'
lab heal a b
ok "nothing of it is left on a" wait_until 60 gone_from a "$ID"
unlike "$(on b docker logs fast 2>&1)" damaged "it never saw a page that was not right"
done_testing
