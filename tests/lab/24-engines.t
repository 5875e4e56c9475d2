#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# ferry-oci under other engines: podman and dockerd (Debian's, unpacked beside) run, look at, stop and remove containers
# with it in place of runc. Each engine lives in namespaces of its own and ends with them.
. "$(dirname "$0")/lib.sh"
command -v docker >/dev/null || skip_all "there is no docker CLI"

MAKE=$LAB_DIR/../images/make
program() { PROGRAM=$("$MAKE" --program "$1" "$2" 2>"$TMP/err") || bail "$1: $(cat "$TMP/err")"; }
IMAGE=$("$MAKE" busybox 2>"$TMP/err" | tail -n 1)/busybox.docker.tar || bail "test image: $(cat "$TMP/err")"
program podman /usr/bin/podman; PODMAN=$PROGRAM
program conmon /usr/bin/conmon; CONMON=$PROGRAM
POLICY=$TMP/policy.json
echo '{"default": [{"type": "insecureAcceptAnything"}]}' >"$POLICY"
program docker.io /usr/sbin/dockerd; DOCKERD=$PROGRAM
program containerd /usr/bin/containerd; CONTAINERD=$PROGRAM
program runc /usr/sbin/runc; RUNC=$PROGRAM
UNPACKED=$(dirname "$(dirname "$(dirname "$PODMAN")")")
ARCH=$(dpkg-architecture -qDEB_HOST_MULTIARCH)

# boxed COMMANDS: in namespaces whose end is the end of all that runs there. PATH and the libraries are the unpacked ones.
boxed() {
	env PATH="$(dirname "$DOCKERD"):$(dirname "$CONTAINERD"):$(dirname "$RUNC"):$PATH" \
		LD_LIBRARY_PATH="$UNPACKED/usr/lib/$ARCH:$UNPACKED/lib/$ARCH" TMP="$TMP" IMAGE="$IMAGE" OCI="$FERRY_BIN/ferry-oci" \
		PODMAN="$PODMAN" CONMON="$CONMON" POLICY="$POLICY" LAB_DIR="$LAB_DIR" DOCKER="$(command -v docker)" \
		timeout -k 10 240 unshare --mount --net --pid --fork --kill-child --mount-proc --propagation private bash -c "$1"
}
# The words of an engine's tour; WHAT=VALUE lines, compared below. E is its command line.
cat >"$TMP/tour" <<'END'
say() { echo "$1=$(echo ${2:0:400})"; }
say run "$($E run --rm $OPT busybox echo hello 2>/dev/null)"
$E run --rm $OPT busybox sh -c 'exit 7' 2>/dev/null; say status $?
$E run --rm $OPT busybox nosuch 2>/dev/null; say missing $?
$E run -d --name box $OPT -m 64m --pids-limit 50 busybox sh -c 'trap "exit 3" TERM; echo up; while :; do sleep 0.1; done' >/dev/null 2>&1
say exec "$($E exec -u 5:6 -e A=b -w /tmp box sh -c 'id -u; echo $A; pwd' 2>/dev/null)"
$E exec box sh -c 'exit 9' 2>/dev/null; say execstatus $?
say top "$($E top box 2>/dev/null | grep -c trap)"
$E pause box >/dev/null 2>&1; say paused "$($E inspect -f '{{.State.Status}}' box 2>/dev/null)"
$E unpause box >/dev/null 2>&1; say running "$($E inspect -f '{{.State.Status}}' box 2>/dev/null)"
say logs "$($E logs box 2>/dev/null)"
$E stop -t 20 box >/dev/null 2>&1; say stopped "$($E inspect -f '{{.State.Status}} {{.State.ExitCode}}' box 2>/dev/null)"
$E start box >/dev/null 2>&1; $E kill box >/dev/null 2>&1
for i in $(seq 100); do [ "$($E inspect -f '{{.State.Status}}' box 2>/dev/null)" = exited ] && break; sleep 0.1; done
say killed "$($E inspect -f '{{.State.ExitCode}}' box 2>/dev/null)"
say tty "$(script -qec "$E run --rm -t $OPT busybox tty" /dev/null </dev/null 2>/dev/null | tr -d '\r\000' | grep -o '/dev/pts/[0-9]*')"
$E run --rm --read-only --cap-drop all $OPT busybox touch /x >/dev/null 2>&1; say readonly $?
$E create --name never $OPT busybox true >/dev/null 2>&1; $E rm never >/dev/null 2>&1; say never $?
$E rm box >/dev/null 2>&1; say left "$($E ps -aq | wc -l)"
END

# compare LOG NAME=VALUE...
compare() {
	local log=$1 w
	shift
	for w in "$@"; do
		is "$(grep -m1 "^${w%%=*}=" "$log")" "$w" "$ENGINE: ${w%%=*}" || diag "$(tail -n 5 "$log.err")"
	done
}

cleanup 'groups | xargs -r rmdir 2>/dev/null'
ENGINE=podman
boxed 'ip link set lo up
mount -t tmpfs tmpfs /run
mkdir -p "$TMP/pod" /run/containers
printf "[storage]\ndriver=\"vfs\"\nrunroot=\"/run/pod\"\ngraphroot=\"$TMP/pod/store\"\n" >"$TMP/pod/storage.conf"
printf "[containers]\nlog_driver=\"k8s-file\"\n[engine]\nevents_logger=\"file\"\n" >"$TMP/pod/containers.conf"
export CONTAINERS_CONF="$TMP/pod/containers.conf" CONTAINERS_STORAGE_CONF="$TMP/pod/storage.conf" CONTAINERS_REGISTRIES_CONF=/dev/null
E="$PODMAN --conmon $CONMON --runtime $OCI --cgroup-manager cgroupfs --storage-driver vfs --tmpdir /run/podtmp"
OPT="--network none"
$E load --signature-policy "$POLICY" -i "$IMAGE" >/dev/null && . "$TMP/tour"
say userns "$($E run --rm $OPT --uidmap 0:100000:1000 --gidmap 0:100000:1000 busybox id -u 2>/dev/null)"
' >"$TMP/podman" 2>"$TMP/podman.err"
compare "$TMP/podman" run=hello status=7 missing=127 "exec=5 b /tmp" execstatus=9 top=1 paused=paused running=running logs=up \
	"stopped=exited 3" killed=137 tty=/dev/pts/0 readonly=1 never=0 left=0 userns=0

ENGINE=dockerd
boxed 'ip link set lo up
mount -t tmpfs tmpfs /run
mkdir -p "$TMP/dock" /run/containerd
dockerd --add-runtime "ferry=$OCI" --iptables=false --bridge=none --storage-driver vfs --data-root "$TMP/dock" --exec-root /run/dock \
	-H unix:///run/dock.sock --pidfile /run/dock.pid >"$TMP/dockerd.log" 2>&1 &
unset LD_LIBRARY_PATH
export DOCKER_HOST=unix:///run/dock.sock
E=$DOCKER OPT="--runtime ferry --network none"
for i in $(seq 300); do $E version >/dev/null 2>&1 && break; sleep 0.2; done
$E load -q -i "$IMAGE" >/dev/null && . "$TMP/tour"
' >"$TMP/dockerd" 2>"$TMP/dockerd.err"
compare "$TMP/dockerd" run=hello status=7 missing=127 "exec=5 b /tmp" execstatus=9 top=1 paused=paused running=running logs=up \
	"stopped=exited 3" killed=137 tty=/dev/pts/0 readonly=1 never=0 left=0
# The engines' own groups stay, empty, as they do with other runtimes; containers' do not.
groups() { find /sys/fs/cgroup -depth -type d \( -path '*/libpod_parent*' -o -path '*/docker*' \) 2>/dev/null; }
is "$(groups | grep -E '/[0-9a-f]{64}$|/libpod-[0-9a-f]{64}$' | head -n 3)" "" "no container's control group is left"
done_testing
