#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A tour with the stock docker CLI: what it is asked to do it does, with Docker's output and exit codes.
. "$(dirname "$0")/lib.sh"
command -v docker >/dev/null || skip_all "there is no docker CLI"

lab_up --hosts 1 --no-ceph
started=$(date +%s)

d() { on a docker "$@"; }
# code WANT NAME CMD...: CMD exits with WANT.
code() {
	local want=$1 name=$2 out rc
	shift 2
	out=$("$@" 2>&1) && rc=0 || rc=$?
	[ $rc = "$want" ] && { pass "$name"; return 0; }
	fail "$name" "exit $rc, not $want, from: $*"$'\n'"$out"
}
# tty WORDS: a docker command on a terminal of its own (its carriage returns removed).
tty() { on a script -qec "docker $*" /dev/null </dev/null | tr -d '\r\000'; return "${PIPESTATUS[0]}"; }
state() { d inspect -f '{{.State.Status}}' "$1"; }
is_state() { [ "$(state "$1")" = "$2" ]; }
# events_of CONTAINER [FILTER...]: their actions; "until" is a whole second, and one that has begun would cut the last off.
events_of() { d events --since "$started" --until "$(($(date +%s) + 1))" --filter container="$1" "${@:2}" --format '{{.Action}}' | xargs; }
logs_have() { d logs "$1" 2>&1 | grep -q -- "$2"; }

# --- daemon and images ----------------------------------------------------------------------------
like "$(d version)" 'API version: +1\.4[0-9]' "version: the API's version is negotiated"
like "$(d info)" 'Server Version: 0\.' "info"
refused "run without the image says where images come from" "docker load" d run --rm busybox true
code 125 "and exits with 125" d run --rm busybox true
dir=$("$LAB_DIR/../images/make" busybox redis | tail -n 1)
is "$(d load -i "$dir/busybox.docker.tar")" "Loaded image: busybox:latest" "load a docker archive"
is "$(d load -q <"$dir/redis.oci.tar")" "Loaded image: redis:latest" "load an OCI archive from stdin"
refused "load of something else is refused" "archive" on a sh -c 'echo rubbish | docker load'
is "$(d images --format '{{.Repository}}:{{.Tag}}' | sort | xargs)" "busybox:latest redis:latest" "images"
is "$(d images -q --filter reference='bus*' | wc -l)" 1 "images by reference"
ok "tag" d tag busybox 127.0.0.1:5000/a/b:1
is "$(d image inspect -f '{{.Id}}' 127.0.0.1:5000/a/b:1)" "$(d image inspect -f '{{.Id}}' busybox)" "a name with slashes is the same image"
like "$(d history busybox)" IMAGE "history"
ok "save" on a docker save -o "$TMP/saved.tar" busybox redis
is "$(d save busybox | tar -tf - manifest.json)" manifest.json "save to stdout"
refused "save of a missing image" "No such image" d save -o "$TMP/no.tar" nosuch
is "$(d rmi 127.0.0.1:5000/a/b:1)" "Untagged: 127.0.0.1:5000/a/b:1" "rmi of one of two names"
ok "rmi" d rmi redis
is "$(d load -i "$TMP/saved.tar" | sort | xargs)" "Loaded image: busybox:latest Loaded image: redis:latest" "what was saved loads again"
refused "pull where no registry can be reached" "registry.*docker load" d pull alpine:3.10

# --- run in the foreground -----------------------------------------------------------------------------
is "$(d run --rm busybox echo hello)" hello "run"
is "$(d run --rm busybox sh -c 'echo out; echo err >&2' 2>/dev/null)" out "stdout is stdout"
is "$(d run --rm busybox sh -c 'echo out; echo err >&2' 2>&1 >/dev/null)" err "stderr is stderr"
code 7 "the exit code is the program's" d run --rm busybox sh -c 'exit 7'
code 137 "killed by a signal: 128 and its number" d run --rm busybox sh -c 'sh -c "kill -KILL \$\$"; exit $?'
code 127 "program not found: 127" d run --rm busybox nosuch
code 126 "program not executable: 126" d run --rm busybox /etc/passwd
is "$(echo input | d run -i --rm busybox cat)" input "run -i"
head -c 3000000 /dev/urandom >"$TMP/blob"
is "$(d run -i --rm busybox cat <"$TMP/blob" | sha256sum)" "$(sha256sum <"$TMP/blob")" "3 MB through stdin and stdout"
like "$(tty run -it --rm busybox tty)" '(^|@)/dev/pts/' "run -it has a terminal"
code 5 "run -it gives the exit code" on a script -qec 'docker run -it --rm busybox sh -c "exit 5"' /dev/null
is "$(d ps -aq | wc -l)" 0 "--rm removed them all, failed ones too"
is "$(d run --rm -e A=b -w /tmp --hostname h -u 65534 busybox sh -c 'echo $A $PWD $(hostname) $(id -u)')" "b /tmp h 65534" "environment, folder, host name, user"
refused "an unknown network is not an unknown image" "network nosuch not found" d run --rm --network nosuch busybox true
refused "an unknown flag's value" "name" d create --name '+bad' busybox

# --- run in the background ---------------------------------------------------------------------------------
ok "run -d" d run -d --name t1 -p 18080:80 -e A=b -v vol1:/data --label x=y --memory 64m --cpus 0.5 busybox \
	sh -c 'trap "exit 4" USR1; echo begun; echo page >/data/index.html; busybox httpd -f -p 80 -h /data & while :; do echo tick; sleep 1; done'
refused "a name in use" 'Conflict.*"/t1" is already in use' d run -d --name t1 busybox true
is "$(d ps --format '{{.Names}} {{.Image}} {{.State}}')" "t1 busybox running" "ps"
is "$(d ps -q --filter label=x=y | wc -l) $(d ps -q --filter label=x=z | wc -l)" "1 0" "ps --filter"
is "$(d port t1)" "80/tcp -> 0.0.0.0:18080" "port"
ok "the published port answers from outside" wait_until 20 in_underlay curl -sf --max-time 5 http://10.99.0.11:18080/index.html
is "$(d inspect -f '{{.Config.Labels.x}} {{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{(index .Mounts 0).Name}}' t1)" "y 67108864 500000000 vol1" "inspect"
refused "inspect of nothing" "No such object: nosuch" d inspect nosuch
ok "logs come" wait_until 20 logs_have t1 tick
is "$(d logs t1 | head -n 1)" begun "logs"
like "$(d logs --tail 1 -t t1)" '^20[0-9-]+T[0-9:.]+Z tick$' "logs --tail -t"
is "$(timeout -s KILL 30 "$LAB_DIR/lab" --name "$FERRY_LAB" exec a docker logs -f t1 2>/dev/null | head -n 3 | tail -n 1)" tick "logs -f"
is "$(timeout -s KILL 30 "$LAB_DIR/lab" --name "$FERRY_LAB" exec a docker attach --no-stdin --sig-proxy=false t1 2>/dev/null | head -n 2 | tail -n 1)" tick "attach"
like "$(d top t1)" 'sleep 1|httpd' "top"
like "$(d stats --no-stream --format '{{.Name}} {{.MemUsage}} {{.PIDs}}' t1)" '^t1 .* / 64MiB [1-9]' "stats --no-stream"
is "$(timeout -s KILL 30 "$LAB_DIR/lab" --name "$FERRY_LAB" exec a docker stats --format '{{.Name}}' t1 2>/dev/null | tr -d '\r' | grep -o t1 | head -n 1)" t1 "stats as a stream"

# --- exec -----------------------------------------------------------------------------------------------------
is "$(d exec t1 sh -c 'echo $A')" b "exec"
code 6 "exec's exit code" d exec t1 sh -c 'exit 6'
code 127 "exec: program not found" d exec t1 nosuch
code 126 "exec: program not executable" d exec t1 /etc/passwd
is "$(d exec -i t1 sha256sum <"$TMP/blob")" "$(sha256sum <"$TMP/blob")" "exec -i"
like "$(tty exec -it t1 tty)" '(^|@)/dev/pts/' "exec -it has a terminal"
is "$(d exec -e B=c -w /tmp t1 sh -c 'echo $B $PWD')" "c /tmp" "exec with environment and folder"
ok "exec -d" d exec -d t1 touch /detached
ok "it ran" wait_until 20 d exec t1 test -e /detached
refused "exec in nothing" "No such container" d exec nosuch true

# --- life -----------------------------------------------------------------------------------------------------
ok "pause" d pause t1
is "$(state t1)" paused "it is paused"
refused "no exec in a paused one" "paused" d exec t1 true
ok "unpause" d unpause t1
ok "update" d update --memory 128m --memory-swap 256m t1
is "$(d inspect -f '{{.HostConfig.Memory}}' t1)" 134217728 "the limit is a new one"
ok "rename" d rename t1 t1b
is "$(d ps --format '{{.Names}}')" t1b "and it has the name"
ok "and back" d rename t1b t1
refused "rm of a running one" "stop the container|running" d rm t1
ok "restart" d restart -t 0 t1
is "$(d exec t1 cat /data/index.html)" page "it runs, and its volume is there"
ok "kill -s USR1 is delivered" d kill -s USR1 t1
ok "and ends it as its handler says" wait_until 20 is_state t1 exited
is "$(d inspect -f '{{.State.ExitCode}}' t1)" 4 "with that exit code"
ok "start" d start t1
ok "stop" d stop -t 0 t1
is "$(state t1)" exited "it is stopped"
code 0 "stop again is no error" d stop -t 0 t1
ok "a killed one has ended when kill returns" on a sh -c 'docker run -d --name k1 busybox sleep 1000 >/dev/null
	for i in 1 2 3 4 5; do
		docker kill k1 >/dev/null && [ "$(docker inspect -f "{{.State.Running}}" k1)" = false ] && docker start k1 >/dev/null || exit 1
	done; docker rm -f k1'
refused "kill of a stopped one" "not running" d kill t1
is "$(d wait t1)" 137 "wait gives the exit code"
is "$(d ps -q | wc -l) $(d ps -aq | wc -l)" "0 1" "ps and ps -a"
like "$(d ps -a --format '{{.Status}}')" '^Exited \(137\)' "its status"

ok "create" d create --name t2 busybox sh -c 'echo from t2; exit 9'
is "$(state t2)" created "it is created"
out=$(d start -a t2) && rc=0 || rc=$?
is "$out $rc" "from t2 9" "start -a gives output and exit code"
ok "start -ai" d create -i --name t3 busybox cat
is "$(echo through t3 | d start -ai t3)" "through t3" "start -ai has input"
ok "a waiter waits" d run -d --name t4 busybox sh -c 'while [ ! -e /go ]; do sleep 0.1; done; exit 3'
d wait t4 >"$TMP/wait" &
waiter=$!
d exec t4 touch /go >/dev/null 2>&1 # may itself be killed with the container that it ends
wait $waiter
is "$(cat "$TMP/wait")" 3 "and gets the exit code when it ends"
ok "restart policy" d run -d --name t5 --restart on-failure:3 busybox sh -c 'echo run >>/runs; exit 1'
restarted() { [ "$(events_of t5 --filter event=die | wc -w)" = 4 ] && is_state t5 exited; }
ok "it is restarted until the count is reached" wait_until 30 restarted
ok "rm -f -v" d rm -f -v t1
like "$(d container prune -f)" 'Deleted Containers' "container prune"
is "$(d ps -aq | wc -l)" 0 "nothing is left"

# --- many at once ----------------------------------------------------------------------------------------------
one() { # one N: its input comes back, and its exit code
	local out rc
	out=$(echo "in $1" | d run -i --rm busybox sh -c "cat; exit $1" 2>&1) && rc=0 || rc=$?
	echo "$out $rc" >"$TMP/many.$1"
}
pids=()
for i in $(seq 15); do one "$i" & pids+=($!); done
wait "${pids[@]}"
is "$(cat "$TMP"/many.* | sort -n -k 2 | xargs)" "$(for i in $(seq 15); do echo "in $i $i"; done | xargs)" "15 at once: each has its own input, output and exit code"
is "$(d ps -aq | wc -l)" 0 "and all are removed"

# --- events ---------------------------------------------------------------------------------------------------
like "$(events_of t1)" 'create .*start .*pause unpause .*die .*destroy' "events --since --until, in order"
is "$(d events --since "$started" --until "$(($(date +%s) + 1))" --filter type=image --filter event=tag --format '{{.Type}}')" image "events --filter"

# --- volumes ---------------------------------------------------------------------------------------------------
is "$(d volume create v2)" v2 "volume create"
is "$(d volume ls -q | sort | xargs)" "v2 vol1" "volume ls"
is "$(d volume inspect -f '{{.Name}} {{.Driver}}' v2)" "v2 local" "volume inspect"
is "$(d run --rm -v vol1:/data busybox cat /data/index.html)" page "a volume outlives its container"
code 1 "read-only means it" d run --rm -v vol1:/data:ro busybox touch /data/x
ok "a container that uses it" d create --name user -v v2:/v busybox true
refused "volume rm of one in use" "in use" d volume rm v2
ok "rm" d rm user
ok "volume rm" d volume rm v2
refused "volume rm again" "no such volume|not found" d volume rm v2
refused "a bad volume name" "invalid" d volume create 'a/b'
ok "an anonymous volume" d run --name anon -v /anon busybox touch /anon/x
is "$(d volume ls -q | wc -l)" 2 "is there"
ok "rm -v" d rm -v anon
is "$(d volume ls -q)" vol1 "and goes with its container"
ok "volume prune" d volume prune -f
is "$(d volume ls -q)" vol1 "volume prune leaves named ones"

# --- networks ----------------------------------------------------------------------------------------------------
ok "network create" d network create --subnet 10.77.9.0/24 n2
is "$(d network ls --format '{{.Name}}' --filter name=n2)" n2 "network ls"
is "$(d network inspect -f '{{(index .IPAM.Config 0).Subnet}}' n2)" 10.77.9.0/24 "network inspect"
ok "a container on it" d run -d --name web --network n2 --network-alias al busybox sleep 600
like "$(d inspect -f '{{.NetworkSettings.Networks.n2.IPAddress}}' web)" '^10\.77\.9\.' "has an address of its subnet"
ok "another finds it by name" d run --rm --network n2 busybox ping -c 1 -W 10 web
ok "and by alias" d run --rm --network n2 busybox ping -c 1 -W 10 al
refused "network rm of one in use" "endpoints" d network rm n2
refused "network connect says why not" "chosen when it is created" d network connect bridge web
ok "rm -f" d rm -f web
ok "network rm" d network rm n2
refused "network inspect of nothing" "not found" d network inspect n2
refused "the bridge stays" "pre-defined" d network rm bridge
ok "network prune" d network prune -f
ok "--network none" d run --rm --network none busybox true
is "$(d run --rm --network host busybox hostname -i >/dev/null 2>&1; d run --rm --network host busybox cat /sys/class/net/eth0/address)" "$(on a cat /sys/class/net/eth0/address)" "--network host"

# --- the rest ------------------------------------------------------------------------------------------------------
like "$(d system df)" '^Images +2' "system df"
ok "system df -v" d system df -v
ok "image prune" d image prune -f
ok "plugin ls" d plugin ls
refused "cp of no container" "No such container" d cp nosuch:/etc/passwd -
refused "push says why not" "registry" d push busybox
refused "search says why not" "registry" d search redis
refused "commit of no container" "No such container" d commit nosuch
refused "swarm init says why not" "ferry cluster init" d swarm init
refused "rmi of an image in use" "container.*uses" sh -c "'$LAB_DIR/lab' --name '$FERRY_LAB' exec a docker create --name user busybox true >/dev/null && '$LAB_DIR/lab' --name '$FERRY_LAB' exec a docker rmi busybox"
ok "rm" d rm user
ok "rmi" d rmi busybox redis
is "$(d images -q)" "" "no image is left"

done_testing
