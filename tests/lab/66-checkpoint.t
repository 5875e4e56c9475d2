#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Checkpoints: a busy PostgreSQL is kept while it runs, restored beside itself on another host, and cloned; Redis
# is stopped with one and comes back on another host with all data and its client's connection; Docker's own
# commands; files; what is refused; and ferryd killed in every phase, with nothing left behind.
. "$(dirname "$0")/lib.sh"
. "$LAB_DIR/migrate.sh"
CUTS=${CUTS:-COPY FROZEN KEPT BUILD STOP VOLUMES ARMED COMMITTED}

lab_up --hosts 3
images a busybox postgres redis
images c postgres

names() { on a ferry checkpoint ls --format json | jq -r .Name | sort | tr '\n' ' '; }
status() { on "$1" docker inspect -f '{{.State.Status}}' "$2"; }
objects() { on a rados -n client.ferry -p ferry -N ferry-checkpoints ls; }
snaps() { on a rbd -n client.ferry snap ls --all --format json "ferry/$1" | jq length; }

# --- PostgreSQL ---------------------------------------------------------------------------------------
ok "postgres starts on a" on a ferry run -d --name pg -v pgdata:/var/lib/postgresql postgres:15
client_start c client postgres:15
IP=$(ip_of a pg)
sql() { on c docker exec client psql -h "$1" -U postgres -AtX -c "$2"; }
SUMS='SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)
	AND (SELECT sum(bbalance) FROM pgbench_branches) = (SELECT sum(tbalance) FROM pgbench_tellers)'
ok "it answers" wait_until 60 sql "$IP" 'SELECT 1'
ok "pgbench fills it" on c docker exec client pgbench -h "$IP" -U postgres -i -q -s 2 postgres
on c docker exec -w /tmp client pgbench -h "$IP" -U postgres -c 8 -j 2 -T 20 -l --log-prefix=tx postgres >"$TMP/pgbench" 2>&1 &
CLIENT=$!
cleanup "kill $CLIENT 2>/dev/null; wait $CLIENT 2>/dev/null"
ok "it is under load" wait_until 30 sh -c "[ \$('$LAB_DIR/lab' --name $FERRY_LAB exec c docker exec client psql -h $IP -U postgres -AtXc 'SELECT count(*) FROM pgbench_history') -gt 50 ]"
ok "b asks for a checkpoint, the database runs on" on b ferry checkpoint create --leave-running pg hot
ok "its data are objects in the pool" test "$(objects | wc -l)" -ge 2
ok "b restores it under a new name, fetching the image" on b ferry restore --name pg2 hot
IP2=$(ip_of b pg2)
isnt "$IP2" "$IP" "with an address of its own"
is "$(host_of b pg2)" b "on host b"
is "$(sql "$IP2" "$SUMS")" t "the sums agree in the restored one"
n2=$(sql "$IP2" 'SELECT count(*) FROM pgbench_history')
ok "a is cloned to c" on a ferry clone --name pg3 --host c pg
IP3=$(ip_of c pg3)
is "$(sql "$IP3" "$SUMS")" t "the sums agree in the clone"
n3=$(sql "$IP3" 'SELECT count(*) FROM pgbench_history')
ok "which is of a later time ($n2, $n3)" test "$n3" -ge "$n2" -a "$n2" -gt 50
is "$(names)" "hot " "the clone's own checkpoint is gone"
wait $CLIENT
is $? 0 "the original's clients have worked through it"
unlike "$(cat "$TMP/pgbench")" 'ERROR|FATAL|aborted|could not|lost' "and saw no error" || sed 's/^/# /' "$TMP/pgbench"
is "$(sql "$IP" 'SELECT count(*) FROM pgbench_history')" "$(on c docker exec client sh -c 'cat /tmp/tx.*' | wc -l)" "the original has what was acknowledged, no more and no less"
is "$(sql "$IP2" 'SELECT count(*) FROM pgbench_history')" "$n2" "and nothing of it has come into the restored one"
ok "which takes transactions" on c docker exec client pgbench -n -h "$IP2" -U postgres -c 2 -t 20 postgres
is "$(sql "$IP2" "$SUMS")" t "correctly"
ok "it is killed" on b docker kill pg2
ok "it starts again from its own volume" on b docker start pg2
ok "and recovers" wait_until 60 sql "$IP2" 'SELECT 1'
is "$(sql "$IP2" 'SELECT count(*) FROM pgbench_history')" $((n2 + 40)) "with everything that was there"
is "$(on a ferry checkpoint inspect hot | jq -r '[.Container, .Place, .Volumes[0].Name, .Image] | join(" ")')" "pg rados pgdata postgres:15" "inspect tells what it is"
ok "and what is in it" sh -c "'$LAB_DIR/lab' --name $FERRY_LAB exec a ferry checkpoint inspect hot | jq -e '(.Engine.processes | length) > 5 and .Engine.signature.by == \"a\" and .Bytes > 1000000'"
refused "it is kept while a volume is cloned from it" 'cloned from: pg2-pgdata' on a ferry checkpoint rm hot
ok "the restored one is removed" on b docker rm -f pg2
ok "and its volume" on b ferry volume rm pg2-pgdata
ok "then it can be removed" on b ferry checkpoint rm hot
is "$(objects | wc -l)" 0 "with all its objects"
ok "the clone is removed" on c docker rm -f pg3
refused "the volume stays while a clone needs it" 'pg3-pgdata' sh -c "'$LAB_DIR/lab' --name $FERRY_LAB exec a docker rm -f pg && '$LAB_DIR/lab' --name $FERRY_LAB exec a ferry volume rm pgdata"
ok "the clone's volume is removed" on c ferry volume rm pg3-pgdata
ok "then it goes, and no snapshot had been left on it" on a ferry volume rm pgdata

# --- Redis, stopped, under its old name, elsewhere -------------------------------------------------------
ok "redis starts on a" on a ferry run -d --name redis -v redisdata:/data redis:latest redis-server --protected-mode no --save "" --appendonly yes --appendfsync everysec
IP=$(ip_of a redis) ID=$(on a docker inspect -f '{{.Id}}' redis)
ok "it answers" wait_until 30 in_client c client redis-cli -h "$IP" ping
cp "$FERRY_BIN/tests/load" "$TMP/client" # a name of its own: other labs have the same addresses
in_client c client "$TMP/client" redis "$IP" 6379 500 >"$TMP/load" 2>"$TMP/load.err" &
CLIENT=$!
cleanup "kill $CLIENT 2>/dev/null; wait $CLIENT 2>/dev/null"
sleep 1
ok "it is stopped with a checkpoint" on a ferry checkpoint create redis night
is "$(status a redis)" exited "it is exited"
is "$(on a ferry volume inspect redisdata | jq -r .Status.mode)" detached "and has let go of its volume"
refused "the name is taken for others" 'Conflict' on b ferry restore --name redis night
refused "a host that is not there" 'unknown host x' on b ferry restore --host x night
refused "no such checkpoint" 'No such checkpoint' on b ferry restore --name other none
ok "c restores it on b" on c ferry restore --host b night
is "$(on b docker inspect -f '{{.Id}} {{.State.Status}} {{.Ferry.Host}}' redis) $(ip_of b redis)" "$ID running b $IP" "the same container with the same address runs on b"
refused "it is not restored over a running one" 'runs on host b; stop it' on a ferry restore night
ok "nothing of it is left on a" on a sh -c "! ls /var/lib/ferry/containers | grep -q $ID"
sleep 1
kill -TERM $(pgrep -x -f "$TMP/client redis $IP 6379 500")
wait $CLIENT
is $? 0 "its client kept its connection and found every acknowledged write: $(tail -n 1 "$TMP/load") $(cat "$TMP/load.err")"
like "$(on b ferry volume ls)" '^redisdata-night ' "its volume is a clone"
ok "it is stopped" on b docker stop -t 5 redis
ok "and goes back in time with its volume" on b ferry restore --rollback night
is "$(on b docker inspect -f '{{(index .Mounts 0).Name}}' redis)" redisdata "which is the first one again"
ok "it answers" wait_until 30 in_client c client redis-cli -h "$IP" ping
refused "nobody may have a volume that is rolled back" 'redisdata cannot be rolled back: container redis' on b ferry restore --rollback --name second night
ok "it is removed" on b docker rm -f redis
ok "gone: restored all the same, under its name and id" on c ferry restore night
is "$(on c docker inspect -f '{{.Id}}' redis) $(ip_of c redis)" "$ID $IP" "and its address"
ok "it is removed again" on c docker rm -f redis

# --- Docker's commands, files --------------------------------------------------------------------------------
# counter FILE: a program that counts in FILE, without ever starting another.
counter() { echo "mkfifo /tmp/f; exec 3<>/tmp/f; while :; do i=\$((i+1)); echo \$i >$1; read -t 0.05 x <&3; done"; }
ok "a counter" on a ferry run -d --name count busybox:latest sh -c "$(counter /root/n)"
n_of() { on "$1" docker exec "$2" cat /root/n; }
sleep 1
ok "docker checkpoint create" on a docker checkpoint create count first
is "$(status a count)" exited "stops it"
is "$(on a docker checkpoint ls count | tail -n 1)" first "docker checkpoint ls"
ok "docker start --checkpoint" on a docker start --checkpoint first count
is "$(status a count)" running "runs it again"
ok "where it was" wait_until 10 sh -c "[ \$('$LAB_DIR/lab' --name $FERRY_LAB exec a docker exec count cat /root/n) -gt 5 ]"
ok "docker checkpoint rm" on a docker checkpoint rm count first
refused "which is gone" 'No such checkpoint' on a docker checkpoint rm count first
ok "into a file" on a ferry checkpoint create -q --leave-running --output "$TMP/file" count out
is "$(names)" "night " "nothing of it stays in the cluster"
before=$(n_of a count)
ok "restored from the file on b" on b ferry restore -q --name fromfile "$TMP/file"
ok "on c by a stream to a, from stdin" sh -c "'$LAB_DIR/lab' --name $FERRY_LAB exec a ferry restore -q --name fromstdin --host c - <'$TMP/file'"
ok "it counts on from where it was" wait_until 10 sh -c "[ \$('$LAB_DIR/lab' --name $FERRY_LAB exec c docker exec fromstdin cat /root/n) -gt 10 ]"
ok "the first one counts as well" wait_until 10 sh -c "[ \$('$LAB_DIR/lab' --name $FERRY_LAB exec a docker exec count cat /root/n) -gt $before ]"
python3 - "$TMP" <<-'END'
	# The same file three times: a byte of the stream changed, a byte of the document changed, sealed by a stranger.
	import hashlib, json, struct, subprocess, sys
	t = sys.argv[1]
	f = open(t + '/file', 'rb').read()
	stream, doc, seal = struct.unpack('<QII', f[-24:-8])
	def out(name, s, d, z): open(f'{t}/{name}', 'wb').write(s + d + z + struct.pack('<QII', len(s), len(d), len(z)) + f[-8:])
	s, d, z = f[:stream], f[stream:stream + doc], f[stream + doc:-24]
	out('same', s, d, z)
	out('stream', s[:5000] + bytes([s[5000] ^ 1]) + s[5001:], d, z)
	out('document', s, d.replace(b'"busybox:latest"', b'"busybox:l4test"'), z)
	def openssl(*a, **k): return subprocess.run(('openssl',) + a, check=True, capture_output=True, **k).stdout
	openssl('req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=a', '-keyout', t + '/key', '-out', t + '/crt')
	h = hashlib.sha256(b'ferry checkpoint document 1\n' + struct.pack('<Q', len(s)) + s + d).digest()
	sig = openssl('dgst', '-sha256', '-sign', t + '/key', input=b'ferry checkpoint 1\n' + h)
	out('stranger', s, d, json.dumps({'certificate': openssl('x509', '-in', t + '/crt', '-outform', 'DER').hex(), 'signature': sig.hex()}).encode())
END
ok "put together again it is as good" on b ferry restore -q --name again "$TMP/same"
refused "with a changed stream it is not" 'not to be trusted' on b ferry restore -q --name bad "$TMP/stream"
refused "nor with a changed document" 'not to be trusted' on b ferry restore -q --name bad "$TMP/document"
refused "nor when another cluster has signed it" 'not to be trusted' on b ferry restore -q --name bad "$TMP/stranger"
head -c 9000 "$TMP/file" >"$TMP/short"
refused "nor without its end" 'its end is missing' on b ferry restore -q --name bad "$TMP/short"
ok "they are removed" on a docker rm -f fromfile fromstdin again count

# --- refused, and no room ------------------------------------------------------------------------------------
ok "a container with a folder of the host" on a docker run -d --name bound -v /tmp:/x busybox:latest sleep 1000
refused "is refused" 'bind mount /tmp' on a ferry checkpoint create bound no
ok "it is removed" on a docker rm -f bound
ok "one with 100 MiB in its layer" on a docker run -d --name big busybox:latest sh -c 'dd if=/dev/urandom of=/root/big bs=1M count=100 2>/dev/null; sleep 10000'
ok "which it has written" wait_until 30 sh -c "'$LAB_DIR/lab' --name $FERRY_LAB exec a docker exec big sh -c '[ \$(stat -c %s /root/big) = 104857600 ]'"
ok "and little room on the host" on a mount -t tmpfs -o size=80m tmpfs /var/lib/ferry/checkpoints
refused "the disk fills while it is copied" 'No space left' on a ferry checkpoint create big no
is "$(status a big) $(on a docker exec big stat -c %s /root/big)" "running 104857600" "it runs on"
is "$(on a find /var/lib/ferry/checkpoints -type f | wc -l)" 0 "nothing is left on the disk"
ok "there is room again" on a umount /var/lib/ferry/checkpoints
refused "one that does not run" 'only a running one' sh -c "'$LAB_DIR/lab' --name $FERRY_LAB exec a docker kill big; '$LAB_DIR/lab' --name $FERRY_LAB exec a ferry checkpoint create big no"
ok "it is removed" on a docker rm -f big
refused "a checkpoint is kept for two clones" 'redisdata-night, redisdata-night-' on a ferry checkpoint rm night
ok "the clones are removed" sh -c "'$LAB_DIR/lab' --name $FERRY_LAB exec a ferry volume rm \$('$LAB_DIR/lab' --name $FERRY_LAB exec a ferry volume ls | grep -o '^redisdata-[^ ]*')"
ok "the last checkpoint" on a ferry checkpoint rm night
ok "and its volume" on a ferry volume rm redisdata

# --- ferryd killed in every phase ---------------------------------------------------------------------------
ok "a counter with a volume" on a ferry run -d --name cut -v cutdata:/data busybox:latest sh -c "$(counter /data/n)"
counts() { # it runs and counts
	local n
	n=$(on a docker exec "$1" cat /data/n) && wait_until 10 sh -c "[ \"\$('$LAB_DIR/lab' --name $FERRY_LAB exec a docker exec $1 cat /data/n)\" != '$n' ]"
}
clean() { # nothing but what is expected: volumes, checkpoints, snapshots of cutdata, objects
	[ "$(on a ferry volume ls --format json | jq -r .Name | sort | tr '\n' ' ')" = "$1" ] && [ "$(names)" = "$2" ] &&
		[ "$(snaps cutdata)" = "$3" ] && { [ -n "$2" ] || [ "$(objects | wc -l)" = 0 ]; }
}
cut() { # cut POINT CMD...: ferryd on a dies while CMD is there
	local point=$1
	shift
	on a sh -c "rm -f /run/ferry/migrate-held; echo $point >/run/ferry/migrate-hold"
	on a "$@" >"$TMP/cut" 2>&1 &
	local job=$!
	ok "$point: it is reached" wait_until 30 on a test -e /run/ferry/migrate-held
	on a rm -f /run/ferry/migrate-hold
	lab kill a
	wait $job
	lab restart a >/dev/null
}
runs_on() { # runs_on POINT: nothing came of it
	ok "$1: the container runs on" wait_until 30 counts cut
	ok "$1: nothing is left" wait_until 30 clean "cutdata " "" 0
}
for point in $CUTS; do
	case $point in
	COPY | FROZEN)
		cut CHECKPOINT-$point ferry checkpoint create cut never
		runs_on $point
		;;
	KEPT)
		cut CHECKPOINT-$point ferry clone cut
		runs_on "$point, of a clone"
		;;
	BUILD)
		cut RESTORE-$point ferry clone cut
		refused "$point, of a clone: there is none" 'No such' on a docker inspect cut-clone
		runs_on "$point, of a clone"
		;;
	STOP) # committed
		cut CHECKPOINT-$point ferry checkpoint create cut kept
		ok "$point: it is stopped" wait_until 30 sh -c "[ \$('$LAB_DIR/lab' --name $FERRY_LAB exec a docker inspect -f '{{.State.Status}}' cut) = exited ]"
		ok "$point: the checkpoint is there" wait_until 30 clean "cutdata " "kept " 1
		;;
	VOLUMES)
		cut RESTORE-$point ferry restore --name new kept
		refused "$point: there is no new container" 'No such' on a docker inspect new
		ok "$point: nothing is left" wait_until 30 clean "cutdata " "kept " 1
		;;
	ARMED)
		cut RESTORE-$point ferry restore kept
		is "$(status a cut)" exited "$point: the container is as it was"
		ok "$point: nothing is left" wait_until 30 clean "cutdata " "kept " 1
		;;
	COMMITTED)
		cut RESTORE-$point ferry restore --name new kept
		ok "$point: the new one runs" wait_until 30 counts new
		ok "$point: with its volume" wait_until 30 clean "cutdata new-cutdata " "kept " 1
		ok "the old one, too" on a ferry restore kept
		ok "it runs" wait_until 30 counts cut
		;;
	esac
done
lab_down

# --- one host, no Ceph ---------------------------------------------------------------------------------------
lab_up --hosts 1 --no-ceph
images a busybox
ok "a counter on a host without Ceph" on a ferry run -d --name count busybox:latest sh -c "$(counter /root/n)"
ok "is stopped with a checkpoint" on a ferry checkpoint create count here
is "$(on a ferry checkpoint inspect here | jq -r .Place)" file "which is a file of the host"
ok "and goes on" on a ferry restore here
n=$(n_of a count)
ok "counting" wait_until 10 sh -c "[ \$('$LAB_DIR/lab' --name $FERRY_LAB exec a docker exec count cat /root/n) -gt $n ]"
ok "it can be put into a file as well" on a ferry checkpoint create -q --leave-running --output "$TMP/file" count out
ok "and come out of it" on a ferry restore -q --name second "$TMP/file"
ok "its checkpoint is removed" on a ferry checkpoint rm here
is "$(on a find /var/lib/ferry/checkpoints -type f | wc -l)" 0 "with its file"
done_testing
