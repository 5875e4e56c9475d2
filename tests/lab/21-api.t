#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The API as any HTTP client sees it: versions, errors, limits, streams; and ferryd itself: one a run folder,
# and containers that do not notice when it stops, is killed, and starts again.
. "$(dirname "$0")/lib.sh"

lab_up --hosts 1 --no-ceph
images a busybox
d() { on a docker "$@"; }
# api METHOD PATH [curl's options]: the body, then the status on a line of its own.
api() { on a curl -sS --max-time 60 --unix-socket /run/ferry/ferry.sock -X "$1" -w '\n%{http_code}\n' "http://localhost$2" "${@:3}"; }
status() { api "$@" | tail -n 1; }
# answers STATUS REGEX NAME METHOD PATH [curl's options]
answers() {
	local want=$1 re=$2 name=$3 out
	shift 3
	out=$(api "$@" 2>&1)
	[ "$(tail -n 1 <<<"$out")" = "$want" ] && grep -qE -- "$re" <<<"$out" && { pass "$name"; return 0; }
	fail "$name" "got: $out"$'\n'"want: $want /$re/"
}
J=(-H 'Content-Type: application/json')
pid() { on a cat /run/ferry/ferryd.pid; }
threads() { find "/proc/$(pid)/task" -mindepth 1 -maxdepth 1 | wc -l; }

# --- versions -------------------------------------------------------------------------------------------------
answers 200 '^OK' "ping" GET /_ping
like "$(on a curl -sSI --max-time 60 --unix-socket /run/ferry/ferry.sock http://localhost/_ping | tr -d '\r')" '^Api-Version: 1\.47$' "HEAD ping names the version"
answers 200 '"ApiVersion":"1.47"' "version" GET /v1.24/version
answers 400 'client version 1.48 is too new. Maximum supported API version is 1.47' "too new" GET /v1.48/info
answers 400 'client version 1.23 is too old. Minimum supported API version is 1.24' "too old" GET /v1.23/info
answers 404 '"page not found"' "no such page" GET /v1.47/nosuch
answers 404 '"page not found"' "no such method" PATCH /containers/json
answers 501 'not built into ferry' "what is not built says so" POST /v1.47/build

# --- bad input --------------------------------------------------------------------------------------------------
answers 400 'invalid JSON' "malformed JSON" POST /containers/create "${J[@]}" -d '{"Image":'
answers 400 'must be an object' "a list is no object" POST /containers/create "${J[@]}" -d '[1]'
answers 400 'EOF' "no body" POST /containers/create "${J[@]}"
answers 400 "unsupported Content-Type.*text/plain" "another content type" POST /containers/create -H 'Content-Type: text/plain' -d '{}'
answers 400 'Image' "no image" POST /containers/create "${J[@]}" -d '{}'
answers 404 'No such image: nosuch' "unknown image: 404" POST /containers/create "${J[@]}" -d '{"Image":"nosuch"}'
answers 400 'nosuch' "unknown network: not 404" POST /containers/create "${J[@]}" -d '{"Image":"busybox","HostConfig":{"NetworkMode":"nosuch"}}'
head -c 17000000 /dev/zero | tr '\0' ' ' >"$TMP/large"
answers 413 'larger than 16 MiB' "a body of 17 MB" POST /containers/create "${J[@]}" --data-binary "@$TMP/large"
answers 400 "invalid filter 'colour'" "unknown filter" GET '/containers/json?filters=%7B%22colour%22:%5B%22red%22%5D%7D'
answers 400 'invalid filter' "filters that are no JSON" GET '/images/json?filters=x'
answers 200 '^\[\]' "filters in their old form" GET '/containers/json?all=1&filters=%7B%22label%22:%7B%22a=b%22:true%7D%7D'
answers 400 'number' "a limit that is no number" GET '/containers/json?limit=many'
answers 404 'No such container: nosuch' "unknown container" GET /containers/nosuch/json
answers 404 'No such container: nosuch' "waiting for an unknown container" POST /containers/nosuch/wait
answers 404 'nosuch' "unknown exec" GET /exec/nosuch/json
answers 404 'No such image' "saving an unknown image" GET '/images/get?names=nosuch'
answers 400 'archive' "loading rubbish" POST /images/load -H 'Content-Type: application/x-tar' --data-binary "@$TMP/large"
is "$(d ps -aq; d images -q | wc -l)" 1 "nothing has come of all that"

# --- streams -------------------------------------------------------------------------------------------------------
id=$(d create --name w busybox sh -c 'while [ ! -e /go ]; do sleep 0.1; done; exit 3')
on a curl -sS -N --max-time 60 -D "$TMP/head" --unix-socket /run/ferry/ferry.sock -X POST "http://localhost/containers/w/wait?condition=next-exit" >"$TMP/body" &
waiter=$!
ok "wait sends its headers before it waits" wait_until 20 grep -q '200 OK' "$TMP/head"
is "$(cat "$TMP/body")" "" "and its body later"
is "$(status POST /containers/w/start) $(status POST /containers/w/start)" "204 304" "start, start again"
d exec w touch /go >/dev/null 2>&1 # may itself be killed with the container that it ends
wait $waiter
is "$(cat "$TMP/body")" '{"StatusCode":3}' "the body has the exit code"
is "$(status POST /containers/w/stop)" 304 "stop of a stopped one"
answers 409 'not running' "kill of a stopped one" POST /containers/w/kill
answers 409 "already in use" "a name in use" POST '/containers/create?name=w' "${J[@]}" -d '{"Image":"busybox"}'
is "$(status DELETE /containers/w) $(status DELETE /containers/w)" "204 404" "remove, remove again"

ok "a container that talks" d run -d --name t busybox sh -c 'echo said; while :; do sleep 1; done'
said() { on a curl -sS --max-time 60 --unix-socket /run/ferry/ferry.sock "http://localhost/v1.47/containers/t/logs?stdout=1" | xxd -p | grep -qx 0100000000000005736169640a; }
ok "logs are Docker's frames" wait_until 20 said
answers 400 'choose at least one stream' "logs of no stream" GET /containers/t/logs
exec_id=$(api POST /containers/t/exec "${J[@]}" -d '{"Cmd":["echo","out"],"AttachStdout":true}' | head -n 1 | jq -r .Id)
is "$(api POST "/exec/$exec_id/start" "${J[@]}" -d '{}' | head -n 1 | tail -c 4)" out "a start without upgrade streams the output"
answers 200 '"ExitCode": ?0' "and the exec can be inspected" GET "/exec/$exec_id/json"

# Clients that only close: nothing of them may stay.
before=$(threads)
for i in $(seq 60); do
	on a curl -sS -N --max-time 300 --unix-socket /run/ferry/ferry.sock "http://localhost/events?mark=$FERRY_LAB" >/dev/null 2>&1 &
	on a curl -sS -N --max-time 300 --unix-socket /run/ferry/ferry.sock -X POST "http://localhost/containers/t/wait?mark=$FERRY_LAB" >/dev/null 2>&1 &
done
many() { [ "$(threads)" -ge $((before + 120)) ]; }
few() { [ "$(threads)" -le $((before + 4)) ]; }
ok "120 streams at once" wait_until 30 many
kill $(pgrep -f "mark=$FERRY_LAB")
wait
ok "and no thread is left of them" wait_until 30 few

# --- ferry's own ------------------------------------------------------------------------------------------------------
api GET /ferry/v1/openapi.json | sed '$d' >"$TMP/openapi"
is "$(cmp "$TMP/openapi" <(cat "$LAB_DIR/../../docs/api/openapi.json"; echo) && jq -r .openapi "$TMP/openapi")" 3.0.3 "openapi.json is the one of docs/api"
is "$(python3 - "$TMP/openapi" "$LAB_DIR/../../api" <<-'END'
	import json, re, sys, glob
	want = {(m.lower(), re.sub(r'\{[^}]*\}', '{}', p)) for p, o in json.load(open(sys.argv[1]))['paths'].items() for m in o}
	have = {('head', '/_ping')}
	for f in glob.glob(sys.argv[2] + '/*/*.c'):
	    for m, p in re.findall(r'\.method = "(\w+)",\s+\.pattern = "([^"]+)",\s+\.handler', open(f).read()):
	        have.add((m.lower(), p.replace('{*}', '{}')))
	print(sorted(want ^ have) or len(have) > 50)
END
)" True "it covers exactly the routes that are served"
like "$(on a ferry cluster 2>&1; api GET /ferry/v1/hosts)" '"Name":"a"' "hosts"
answers 404 'nosuch' "migrating an unknown container" POST /ferry/v1/migrations -d '{"container":"nosuch","host":"a"}'
answers 400 'host' "to no host" POST /ferry/v1/migrations -d '{"container":"t"}'
answers 400 'on_timeout' "with a wrong option" POST /ferry/v1/migrations -d '{"container":"t","host":"b","on_timeout":"pray"}'
like "$(status POST /ferry/v1/migrations -d '{"container":"t","host":"nosuch"}')" '^4' "to an unknown host"
answers 200 '^\[\]' "no migration is under way" GET /ferry/v1/migrations
answers 200 'ferry_containers\{state="running"\} 1' "metrics" GET /metrics

# --- the daemon -----------------------------------------------------------------------------------------------------------
refused "a second ferryd on the same folder" "another ferryd \(pid $(pid)\) uses /run/ferry" on a ferryd
refused "an unknown option" "unknown option --nosuch" on a ferryd --nosuch
echo '{"hots": "a"}' >"$TMP/bad.json"
refused "a misspelt field" 'unknown field "hots"' on a ferryd --config "$TMP/bad.json" --run-dir "$TMP/run"
is "$(on a stat -c %a /run/ferry/ferry.sock)" 660 "the socket is not for everybody"
born=$(d inspect -f '{{.State.Pid}} {{.State.StartedAt}}' t)
old=$(pid)
ok "SIGTERM" kill "$old"
gone() { [ ! -e "/proc/$old" ]; }
ok "ends it" wait_until 20 gone
refused "the socket is gone" "" on a test -e /run/ferry/ferry.sock
ok "the container runs on" kill -0 "${born%% *}"
ok "it starts again" lab restart a
is "$(d inspect -f '{{.State.Pid}} {{.State.StartedAt}}' t)" "$born" "and finds the container as it was"
is "$(d exec t echo there)" there "exec works in it"
ok "SIGKILL" lab kill a
ok "the container runs on" kill -0 "${born%% *}"
ok "it starts again" lab restart a
is "$(d inspect -f '{{.State.Pid}} {{.State.StartedAt}}' t) $(d logs t)" "$born said" "and finds the container as it was"
ok "rm -f" d rm -f t
done_testing
