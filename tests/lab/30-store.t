#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The cluster's state in a real Ceph: the same conformance program that runs on the embedded store, leases and
# leaders of hosts, a second host that joins, and what happens while the cluster does not answer.
. "$(dirname "$0")/lib.sh"

lab_up --hosts 1 --no-ferryd

UNIT=$FERRY_BIN/tests/unit/fabric
CEPH=/tmp/ferry-lab-$FERRY_LAB/ceph

# `make test` has built these before; `make test-lab` alone has not.
for p in test_store test_host test_cluster; do
	[ -x "$UNIT/$p" ] || make -s -C "$LAB_DIR/../.." B="$FERRY_BIN" "$UNIT/$p" >"$TMP/make" 2>&1 ||
		bail "building $p: $(tail -n 5 "$TMP/make")"
done

# All daemons of the cluster hang, and go on again.
cat >"$TMP/outage" <<END
case \$1 in stop) sig=STOP ;; go) sig=CONT ;; esac
for f in $CEPH/*.pid; do kill -\$sig "\$(cut -d' ' -f1 "\$f")" || exit 1; done
END
cleanup "sh $TMP/outage go 2>/dev/null"

conform() { # conform PROGRAM: its tests become ours
	local out line n=0
	out=$(on a env FERRY_TEST_POOL=ferry-state FERRY_TEST_CEPH_USER=ferry FERRY_TEST_OUTAGE="sh $TMP/outage" \
		timeout -k 5 300 "$UNIT/$1" 2>"$TMP/err")
	while read -r line; do
		case $line in
		"ok "*) pass "$1: ${line#* - }" && n=$((n + 1)) ;;
		"not ok "*) fail "$1: ${line#* - }" "$out"$'\n'"$(tail -n 30 "$TMP/err")" ;;
		esac
	done <<<"$out"
	[ $n -gt 0 ] || fail "$1 ran" "$out"$'\n'"$(tail -n 30 "$TMP/err")"
	like "$out" "^1\.\.$n\$" "$1: all of them ran"
}

conform test_store
conform test_host
conform test_cluster

done_testing
