#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# nginx under keep-alive requests moves back and forth; the client keeps its one connection.
. "$(dirname "$0")/lib.sh"
. "$LAB_DIR/migrate.sh"
MOVES=${MOVES:-20}

lab_up --hosts 3
for h in a c; do images $h busybox; done
images a nginx
ok "nginx starts on a" on a ferry run -d --name web nginx:latest
client_start c client
IP=$(ip_of a web)
ok "it answers" wait_until 30 in_client c client curl -fsS "http://$IP/"
in_client c client "$FERRY_BIN/tests/load" http "$IP" 80 500 >"$TMP/load" 2>"$TMP/load.err" &
CLIENT=$!
cleanup "kill $CLIENT 2>/dev/null; wait $CLIENT 2>/dev/null"
sleep 1
to=b from=a
for i in $(seq "$MOVES"); do
	out=$(migrate $from web $to --verify)
	like "$out" '"Verified": ?true' "move $i from $from to $to, verified" || break
	is "$(host_of $to web)" $to "host $to owns it"
	t=$from from=$to to=$t
	sleep 0.2
done
pid=$(pgrep -f "tests/load http $IP 80" | head -n 1)
kill -TERM "$pid"
wait $CLIENT
is $? 0 "the client kept its connection and saw no error: $(tail -n 1 "$TMP/load") $(cat "$TMP/load.err")"
done_testing
