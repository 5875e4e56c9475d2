#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# A stopped container moves with its writable layer, its log and its volume; and host facts of a live one
# that users look at: clocks go on, the log comes along, names and addresses stay, a mid-way exit is no loss.
. "$(dirname "$0")/lib.sh"
. "$LAB_DIR/migrate.sh"

lab_up --hosts 2
images a busybox
ok "a container writes to its layer and its volume, and ends" on a ferry run --name job -v jobdata:/data busybox:latest \
	sh -c 'echo kept >/root/file; ln -s file /root/link; mkdir -p /root/deep/er; rm /etc/services; echo v >/data/v; echo said'
is "$(on a ferry migrate --format json job b | jq -r '.summary.Cold // empty' | tail -n 1)" true "it is moved as the stopped container it is"
is "$(host_of b job)" b "host b owns it"
is "$(on b docker logs job)" said "its log came along"
ok "nothing is left on a" on a sh -c '! ls /var/lib/ferry/containers | grep .'
ok "it starts on b" on b docker start job
is "$(on b docker wait job)" 0 "and ends there"
is "$(on b docker logs job | sort | uniq -c | tr -s ' ' | sed 's/^ //')" "2 said" "having said it twice in all"
ok "another with what the first wrote" on b ferry run --rm -v jobdata:/data busybox:latest grep -x v /data/v
ok "back to a" on b ferry migrate job a
ok "a live one, from its files" on a ferry run -d --name live busybox:latest sh -c 'echo kept >/root/file; rm /etc/services; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done'
sleep 1
up1=$(on a docker exec live cut -d. -f1 /proc/uptime)
name1=$(on a docker exec live hostname) ip1=$(ip_of a live)
last=$(on a docker logs --tail 1 live)
ok "is moved" on a ferry migrate --verify live b
up2=$(on b docker exec live cut -d. -f1 /proc/uptime)
ok "its monotonic clock goes on ($up1 → $up2)" test "$up2" -ge "$up1" -a "$up2" -le $((up1 + 60))
is "$(on b docker exec live hostname)" "$name1" "its hostname stays"
is "$(ip_of b live)" "$ip1" "its address stays"
is "$(on b docker exec live cat /root/file)" kept "what it wrote to its layer came along"
ok "what it deleted stays deleted" on b docker exec live test ! -e /etc/services
log=$(on b docker logs live)
ok "its log has no gap" awk 'NR != $1 { exit 1 } END { exit NR < 5 }' <<<"$log"
ok "and what was said on a is in it" grep -qx "$last" <<<"$log"
ok "it stops on b" on b docker stop -t 1 live
ok "a volume of driver local" on b ferry volume create here --driver local --size 64m
ok "in a container that does not run" on b docker create --name localjob -v here:/data busybox:latest true
refused "keeps it from moving" 'driver local.*rbd' on b ferry migrate localjob a
ok "it is removed" on b docker rm localjob
ok "and its volume" on b ferry volume rm here
refused "a paused container is refused" 'unpause' sh -c "'$LAB_DIR/lab' --name $FERRY_LAB exec b docker start live >/dev/null; '$LAB_DIR/lab' --name $FERRY_LAB exec b docker pause live >/dev/null; '$LAB_DIR/lab' --name $FERRY_LAB exec b ferry migrate live a"
ok "and goes on when unpaused" on b docker unpause live
ok "both are removed" on b docker rm -f live job
# It notices that it has moved (its root is another file system) and ends at once, before anybody has noted that it runs.
for i in 1 2 3 4; do
	on b ferry run -d --name soon busybox:latest sh -c 'd=$(stat -c %d /); while [ $(stat -c %d /) = $d ]; do :; done; exit 7' >/dev/null
	ok "a container that ends as it arrives moves" on b ferry migrate soon a
	ok "and has ended there with its exit code" wait_until 20 sh -c "'$LAB_DIR/lab' --name $FERRY_LAB exec a docker inspect -f '{{.State.Status}} {{.State.ExitCode}}' soon | grep -qx 'exited 7'"
	on a docker rm -f soon >/dev/null
done
ok "and the volume" on a ferry volume rm jobdata
done_testing
