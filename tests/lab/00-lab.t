#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The lab itself: hosts see each other and Ceph, links are cut and heal, and nothing is left afterwards.
. "$(dirname "$0")/lib.sh"

# What is on this machine by the name of this lab: processes, mounts (in whatever namespace), devices, cgroups.
leftovers() {
	losetup -l -n -O NAME,BACK-FILE | grep -F "$FERRY_LAB"
	grep -F "ferry-lab-$FERRY_LAB" /proc/self/mountinfo
	find /sys/fs/cgroup -type d -name "ferry-$FERRY_LAB-*"
	ls -d "/tmp/ferry-lab-$FERRY_LAB" 2>/dev/null
	grep -lsxz "FERRY_LAB_MARK=/tmp/ferry-lab-$FERRY_LAB" /proc/[0-9]*/environ
	grep -ls "/ferry-lab-$FERRY_LAB/" /proc/[0-9]*/mountinfo
	grep -s lab-test-$$.img /sys/block/loop*/loop/backing_file
	true
}

lab_up --hosts 3 --no-ferryd

for h in a b c; do
	is "$(on $h hostname)" $h "host $h knows its name"
done
ok "a reaches b" on a busybox ping -c 1 -W 10 10.99.0.12
ok "c reaches a by IPv6" on c busybox ping -c 1 -W 10 fd99::11
ok "a reaches the outside" on a busybox ping -c 1 -W 10 198.51.100.1
is "$(on a ls /sys/class/net | xargs)" "eth0 lo" "/sys shows the host's own network"
is "$(stat -fc %T /proc/self/root/sys/fs/cgroup)" "$(on a stat -fc %T /sys/fs/cgroup)" "cgroups are the machine's"
is "$(on b stat -fc %T /sys/fs/bpf)" bpf_fs "bpffs is there"
ok "a makes something in bpffs" on a mkdir /sys/fs/bpf/mine
refused "and b does not see it" "" on b ls /sys/fs/bpf/mine

days() { on "$1" awk '{print int($1 / 86400)}' /proc/uptime; }
isnt "$(days a)" "$(days b)" "clocks of a and b differ by days"
isnt "$(days b)" "$(days c)" "clocks of b and c differ by days"

ok "a writes to Ceph" on a sh -c 'echo from a >/tmp/ferry-'$$' && rados -n client.ferry -p ferry-state put k /tmp/ferry-'$$' && rm /tmp/ferry-'$$
is "$(on c rados -n client.ferry -p ferry-state get k -)" "from a" "c reads it"
ok "b makes an image" on b rbd -n client.ferry create ferry/db --size 1G
is "$(on a rbd -n client.ferry ls ferry)" db "a lists it"
ok "a host may fence another" on a ceph -n client.ferry osd blocklist add 10.99.0.12:0/1 630720000

lab cut b
refused "b is cut off" "" on a busybox ping -c 1 -W 1 10.99.0.12
lab heal b
ok "b is back" wait_until 30 on a busybox ping -c 1 -W 2 10.99.0.12
lab cut a b
refused "the link between a and b alone is cut" "" on a busybox ping -c 1 -W 1 10.99.0.12
ok "c still reaches b" on c busybox ping -c 1 -W 10 10.99.0.12
lab heal a b
ok "a reaches b again" wait_until 30 on a busybox ping -c 1 -W 2 10.99.0.12

ok "the power of c fails" lab kill c --all
refused "c does not answer" "not running" on c true
ok "c boots again" lab restart c
ok "and reaches a" wait_until 30 on c busybox ping -c 1 -W 2 10.99.0.11
is "$(on c rados -n client.ferry -p ferry-state get k -)" "from a" "and Ceph"

# The worst a test can leave: a frozen file system on a loop device in a namespace of its own, a process
# in a frozen cgroup that nobody's child is any more.
TEST=$$ on a sh -e >"$TMP/mess" 2>&1 <<-'END'
	mkdir -p /var/lib/ferry/volumes/x
	truncate -s 64M /var/lib/ferry/volumes/x/lab-test-$TEST.img
	mkfs.ext4 -q /var/lib/ferry/volumes/x/lab-test-$TEST.img
	mkdir -p /run/ferry/volumes/x
	mount -o loop /var/lib/ferry/volumes/x/lab-test-$TEST.img /run/ferry/volumes/x
	fsfreeze -f /run/ferry/volumes/x
	setsid env -i unshare --net --mount --pid --fork sleep 10000 </dev/null >/dev/null 2>&1 &
	for c in /sys/fs/cgroup/freezer /sys/fs/cgroup/unified /sys/fs/cgroup; do
		[ -e $c/cgroup.procs ] || continue
		mkdir -p $c/ferry-$FERRY_LAB-a/inner
		setsid env -i sleep 10001 </dev/null >/dev/null 2>&1 &
		echo $! >$c/ferry-$FERRY_LAB-a/inner/cgroup.procs
		for f in freezer.state:FROZEN cgroup.freeze:1; do
			[ ! -e $c/ferry-$FERRY_LAB-a/inner/${f%:*} ] || echo ${f#*:} >$c/ferry-$FERRY_LAB-a/inner/${f%:*}
		done
	done
END
is "$(cat "$TMP/mess")" "" "a mess is made"
# A process that is not the lab's, of the same age, in the machine's namespaces.
sleep 10002 &
bystander=$!
cleanup "kill $bystander"
ok "down" lab_down
is "$(leftovers)" "" "nothing is left"
ok "a bystander is not touched" kill -0 $bystander

# A test that is killed leaves its lab behind; the next sweep finds it.
bash -c "exec '$LAB_DIR/lab' --name '$FERRY_LAB' up --hosts 1 --no-ceph --no-ferryd --owner \$\$" >"$TMP/orphan" 2>&1
ok "a lab whose owner is gone is swept" "$LAB_DIR/lab" sweep "$FERRY_LAB"
is "$(leftovers)" "" "nothing is left of it"
done_testing
