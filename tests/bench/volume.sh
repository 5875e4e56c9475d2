#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Volumes on a local Ceph cluster: an attached device (fio libaio, O_DIRECT) against fio's rbd engine on an
# image like it, ROUNDS times in turn (default 3), SECONDS_EACH seconds each (default 4); then attach, hand-over
# and fencing, against the bars of DESIGN.md alone.
set -eu -o pipefail
[ -n "${VOLUME_NS:-}" ] || VOLUME_NS=1 exec unshare --mount --propagation private bash "$0" "$@"
HERE=$(dirname "$(realpath "$0")")
LAB_DIR=$HERE/../lab
FERRY_BIN=${FERRY_BIN:-$(realpath -m "$HERE/../../build")}
ROUNDS=${ROUNDS:-3} SECONDS_EACH=${SECONDS_EACH:-4} MOVES=${MOVES:-10}
SIZE=512m
command -v fio >/dev/null || { echo "installing fio" >&2; DEBIAN_FRONTEND=noninteractive apt-get install -qq -y fio >/dev/null; }
TMP=$(mktemp -d /tmp/ferry-bench-volume.XXXXXX)
CEPH=$TMP/ceph
on_host() { # on_host HOST OPERATION...
	local h=$1
	shift
	timeout 120 "$FERRY_BIN/tests/volctl" --run-dir "$TMP/$h/run" --state-dir "$TMP/$h/state" --host "$h" \
		--vold "$FERRY_BIN/ferry-vold" --conf "$CEPH/ceph.conf" --user ferry --pool ferry "$@"
}
end() {
	trap - EXIT INT TERM
	for h in a b; do on_host $h detach db then detach dev; done >/dev/null 2>&1 || true
	"$LAB_DIR/ceph" down "$CEPH" >/dev/null 2>&1
	rm -rf --one-file-system "$TMP"
}
trap end EXIT
trap 'exit 130' INT TERM
median() { sort -n | awk '{ a[NR] = $1 } END { print NR % 2 ? a[(NR + 1) / 2] : (a[NR / 2] + a[NR / 2 + 1]) / 2 }'; }

mkdir -p "$TMP/a" "$TMP/b"
"$LAB_DIR/ceph" up "$CEPH" "127.$((16 + $$ % 200)).$(($$ / 200 % 250)).78" </dev/null >&2
# The peer works without a write-back cache too: acknowledged is acknowledged by the OSDs on both sides.
sed 's/^\[client\]$/&\n\trbd_cache = false/' "$CEPH/ceph.conf" >"$CEPH/peer.conf"

on_host a create dev '{"size":"2g","fs":"none"}' then attach dev >&2
rbd --conf "$CEPH/ceph.conf" --id ferry create --size 2G --image-feature layering,exclusive-lock ferry/peer
DEV=$(on_host a device dev)
ours() { fio --name=x --ioengine=libaio --direct=1 --filename="$DEV" "$@"; }
peer() { CEPH_CONF=$CEPH/peer.conf fio --name=x --ioengine=rbd --clientname=ferry --pool=ferry --rbdname=peer "$@"; }
fill() { "$1" --rw=write --bs=4m --iodepth=4 --size=$SIZE --output-format=json >/dev/null; }
fill ours
fill peer

# measure SIDE KEY FIO-OPTIONS...: bandwidth in KiB/s or IOPS of one run
measure() {
	local side=$1 key=$2
	shift 2
	"$side" "$@" --size=$SIZE --time_based --runtime="$SECONDS_EACH" --ramp_time=1 --output-format=json 2>/dev/null |
		sed -n '/^{/,$p' | jq ".jobs[0] | .read.$key + .write.$key"
}
compare() { # compare NAME UNIT KEY DIVISOR BAR FIO-OPTIONS...
	local name=$1 unit=$2 key=$3 div=$4 bar=$5 i
	shift 5
	: >"$TMP/ours"
	: >"$TMP/peer"
	for i in $(seq "$ROUNDS"); do
		measure ours "$key" "$@" >>"$TMP/ours"
		measure peer "$key" "$@" >>"$TMP/peer"
	done
	awk -v a="$(median <"$TMP/ours")" -v b="$(median <"$TMP/peer")" -v n="$name" -v u="$unit" -v d="$div" -v bar="$bar" \
		'BEGIN { r = a / b; printf "%s\t%s\t%.0f\t%.0f\tfio rbd engine\t%.2f\t>= %s\t%s\n", n, u, a / d, b / d, r, bar, (r >= bar ? "ok" : "short") }'
}
compare "volume randread 4k depth 32" IOPS iops 1 0.9 --rw=randread --bs=4k --iodepth=32
compare "volume randwrite 4k depth 32" IOPS iops 1 0.9 --rw=randwrite --bs=4k --iodepth=32
compare "volume randread 4k depth 1" IOPS iops 1 0.85 --rw=randread --bs=4k --iodepth=1
compare "volume randwrite 4k depth 1" IOPS iops 1 0.85 --rw=randwrite --bs=4k --iodepth=1
compare "volume read 4m" MiB/s bw 1024 0.9 --rw=read --bs=4m --iodepth=4
compare "volume write 4m" MiB/s bw 1024 0.9 --rw=write --bs=4m --iodepth=4

# --- times of operations ------------------------------------------------------------------------------------------
row() { # row NAME BAR: medians of $TMP/ms
	awk -v m="$(median <"$TMP/ms")" -v n="$1" -v bar="$2" \
		'BEGIN { printf "%s\tms\t%.1f\t-\tnone runs here\t-\t<= %s\t%s\n", n, m, bar, (m <= bar ? "ok" : "short") }'
}
# Sum of the times that `volctl --times` printed for some operations.
total() { awk -v ops=" $1 " 'index(ops, " " $1 " ") { s += $2 } END { print s }'; }
on_host a detach dev then create db '{"size":"2g"}' >&2
: >"$TMP/ms"
for i in $(seq "$MOVES"); do
	on_host a --times attach db then mount db then detach db 2>&1 >/dev/null | total "attach mount" >>"$TMP/ms"
done
row "volume attach and mount" 45

: >"$TMP/ms"
: >"$TMP/settle"
on_host a attach db then mount db >/dev/null
from=a to=b
for i in $(seq "$MOVES"); do
	dd if=/dev/urandom of="$TMP/$from/run/volumes/db/file" bs=64k count=20 status=none
	on_host $to attach db standby
	on_host $from --times sync db then freeze db then demote db 2>"$TMP/from" >/dev/null
	on_host $to --times promote db tentative then mount db then settle db 2>"$TMP/to" >/dev/null
	on_host $from detach db
	cat "$TMP/from" "$TMP/to" | total "freeze demote promote mount" >>"$TMP/ms"
	total settle <"$TMP/to" >>"$TMP/settle"
	t=$from from=$to to=$t
done
row "volume hand-over" 60
mv "$TMP/settle" "$TMP/ms"
row "volume settle" 30

: >"$TMP/ms"
for i in $(seq 5); do
	pid=$(jq .pid "$TMP/$from/run/vold/db.json")
	kill -STOP "$pid"
	on_host $to --times fence $from 2>&1 >/dev/null | total fence >>"$TMP/ms"
	kill -CONT "$pid"
	on_host $to attach db
	on_host $from detach db
	t=$from from=$to to=$t
done
row "volume fence a host" 100
