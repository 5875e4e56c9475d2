#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Every kernel object of tests/lab/objects/ travels: to another host, verified, and through a checkpoint
# file to a third; or preflight refuses it by name. OBJECTS="a b" picks, JOBS is how many run at a time.
. "$(dirname "$0")/lib.sh"
. "$LAB_DIR/migrate.sh"
SOURCES=$LAB_DIR/objects
JOBS=${JOBS:-4}

mark() { sed -n "s,^/\* $2: \(.*\) \*/\$,\1,p" "$SOURCES/$1.c"; }
marked() { grep -qx "/\* $2 \*/" "$SOURCES/$1.c"; }

# image: the programs and a shell, in one image.
image() {
	local root=$TMP/image/root name
	mkdir -p "$root"/{bin,lib64,lib/x86_64-linux-gnu,proc,sys,dev,tmp,etc,run}
	chmod 1777 "$root/tmp"
	cp "$(command -v busybox || echo /bin/busybox)" "$root/bin/busybox"
	for name in sh sleep cat stty; do ln -s busybox "$root/bin/$name"; done
	cp -L /lib64/ld-linux-x86-64.so.2 "$root/lib64/"
	cp -L /lib/x86_64-linux-gnu/libc.so.6 "$root/lib/x86_64-linux-gnu/"
	cp "$FERRY_BIN"/tests/objects/* "$root/bin/"
	rm -f "$root"/bin/*.[od]
	echo '{"Env": ["PATH=/bin"], "Cmd": ["sh"], "WorkingDir": "/"}' >"$TMP/image/config"
	python3 "$LAB_DIR/../images/pack" objects:latest "$TMP/image/config" "$TMP/image/objects" "$root"
}

has_said_ready() { on "$1" docker logs "$2" 2>&1 | tr -d '\r' | grep -qx ready; }

# wait_ready HOST CONTAINER: 30 s, or as soon as it has ended.
wait_ready() {
	local end=$((SECONDS + 30))
	until has_said_ready "$1" "$2"; do
		[ "$(on "$1" docker inspect -f '{{.State.Running}}' "$2")" = true ] || { echo "it ended before it was ready"; return 1; }
		[ $SECONDS -lt $end ] || { echo "it is not ready"; return 1; }
		sleep 0.1
	done
}

# The whole course of one object; what it prints explains a failure.
course() {
	local name=$1 at=a peer=() rc=0 out want refused
	if marked "$name" peer; then
		on c docker run -d --name "$name-peer" $(mark "$name" docker) objects:latest "$name" peer >/dev/null || return 1
		wait_ready c "$name-peer" || { echo "the peer:"; on c docker logs "$name-peer"; return 1; }
		peer=(-e "OBJECT_PEER=$(ip_of c "$name-peer")")
	fi
	# shellcheck disable=SC2046 # the mark is a list of words
	on a docker run -d --name "$name" "${peer[@]}" $(mark "$name" docker) objects:latest "$name" >/dev/null || return 1
	wait_ready a "$name" || { on a docker logs "$name"; return 1; }
	refused=$(mark "$name" refused)
	if [ -n "$refused" ]; then
		if out=$(on a ferry migrate --check "$name" b 2>&1); then
			echo "it should have been refused: $out"; return 1
		fi
		grep -qE -- "$refused" <<<"$out" || { echo "refused, but not for /$refused/: $out"; return 1; }
	else
		out=$(on a ferry migrate --format json --verify "$name" b 2>&1) || { echo "$out" | tail -n 3; return 1; }
		grep -qE '"Verified": ?true' <<<"$out" || { echo "not verified: $out"; return 1; }
		at=b
		if [ "$(mark "$name" moves)" != live ]; then
			out=$(on b ferry checkpoint create -q "$name" "$name" 2>&1) || { echo "checkpoint: $out"; return 1; }
			out=$(on c ferry restore -q "$name" 2>&1) || { echo "restore: $out"; return 1; }
			on c ferry checkpoint rm "$name" >/dev/null || return 1
			at=c
		fi
	fi
	on $at docker kill -s USR2 "$name" >/dev/null || { on $at docker logs "$name"; return 1; }
	want=$(timeout 60 "$LAB_DIR/lab" --name "$FERRY_LAB" exec $at docker wait "$name") || { echo "it does not end"; on $at docker logs "$name"; return 1; }
	[ "$want" = 0 ] || { echo "exit status $want"; on $at docker logs "$name"; rc=1; }
	if [ ${#peer[@]} != 0 ]; then
		want=$(timeout 60 "$LAB_DIR/lab" --name "$FERRY_LAB" exec c docker wait "$name-peer")
		[ "$want" = 0 ] || { echo "the peer's exit status: $want"; on c docker logs "$name-peer"; rc=1; }
		on c docker rm -f "$name-peer" >/dev/null
	fi
	on $at docker rm -f "$name" >/dev/null
	return $rc
}

# huge_pool: as many free huge pages as the programs want on two hosts; the hosts share this machine's. What
# there was before is put back at the end. Programs that cannot have them leave $names, and are skipped.
huge_pool() {
	local pool=/sys/kernel/mm/hugepages/hugepages-2048kB name sum=0 before want lacking=
	for name in $names; do sum=$((sum + $(mark "$name" hugepages | grep . || echo 0))); done
	[ $sum != 0 ] || return 0
	exec 7>/tmp/ferry-hugepages.lock
	flock 7
	before=$(cat $pool/nr_hugepages 2>/dev/null || echo 0)
	want=$((before + 2 * sum))
	CLEANUP+=("echo $before >$pool/nr_hugepages")
	for _ in $(seq 20); do
		echo $want >$pool/nr_hugepages
		[ "$(cat $pool/nr_hugepages)" -lt $want ] || return 0
		sleep 0.2
	done 2>/dev/null
	for name in $names; do
		if marked "$name" 'hugepages: [0-9]*'; then pass "$name # SKIP this kernel gives no huge pages"; else lacking+=" $name"; fi
	done
	names=$lacking
}

if [ -n "${OBJECT_COURSE:-}" ]; then # one of the parallel runs, see below
	trap - EXIT INT TERM HUP
	rm -rf "$TMP"
	FERRY_LAB=$OBJECT_LAB
	course "$OBJECT_COURSE" >"$OBJECT_OUT/$OBJECT_COURSE.out" 2>&1
	echo $? >"$OBJECT_OUT/$OBJECT_COURSE.rc"
	exit 0
fi

names=${OBJECTS:-$(cd "$SOURCES" && ls ./*.c | sed 's,^\./,,; s,\.c$,,')}
lab_up --hosts 3
image
for h in a b c; do
	on $h docker load -q -i "$TMP/image/objects.docker.tar" >/dev/null || bail "loading the image on $h"
done
for name in $names; do [ -e "$SOURCES/$name.c" ] || bail "there is no $SOURCES/$name.c"; done
huge_pool
# shellcheck disable=SC2086
printf '%s\n' $names | OBJECT_LAB=$FERRY_LAB OBJECT_OUT=$TMP xargs -P "$JOBS" -I NAME env OBJECT_COURSE=NAME "$BASH" "$0"
for name in $names; do
	if [ "$(cat "$TMP/$name.rc" 2>/dev/null)" = 0 ]; then
		pass "$name"
	else
		fail "$name" "$(cat "$TMP/$name.out")"
	fi
done
done_testing
