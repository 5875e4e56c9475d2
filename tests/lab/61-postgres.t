#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# PostgreSQL with eight busy connections moves back and forth: no error, every acknowledged
# transaction in the table; and after a crash of the whole database at the end as well.
. "$(dirname "$0")/lib.sh"
. "$LAB_DIR/migrate.sh"
MOVES=${MOVES:-20}
SECONDS_OF_LOAD=${SECONDS_OF_LOAD:-$((MOVES * 2 + 10))} # pgbench ends by itself: only then its log is whole

lab_up --hosts 3
for h in a c; do images $h postgres; done # the clients are programs of the same image
ok "postgres starts on a" on a ferry run -d --name pg -v pgdata:/var/lib/postgresql postgres:15
client_start c client postgres:15
IP=$(ip_of a pg)
sql() { on c docker exec client psql -h "$IP" -U postgres -AtX -c "$1"; }
ok "it answers" wait_until 60 sql 'SELECT 1'
ok "pgbench fills it" on c docker exec client pgbench -h "$IP" -U postgres -i -q -s 2 postgres
on c docker exec -w /tmp client pgbench -h "$IP" -U postgres -c 8 -j 2 -T "$SECONDS_OF_LOAD" -l --log-prefix=tx postgres >"$TMP/pgbench" 2>&1 &
CLIENT=$!
cleanup "kill $CLIENT 2>/dev/null; wait $CLIENT 2>/dev/null"
sleep 1
to=b from=a
for i in $(seq "$MOVES"); do
	out=$(migrate $from pg $to --verify)
	like "$out" '"Verified": ?true' "move $i from $from to $to, verified" || { sed 's/^/# /' "$TMP/pgbench"; break; }
	is "$(host_of $to pg)" $to "host $to owns it"
	t=$from from=$to to=$t
	sleep 0.2
done
wait $CLIENT
is $? 0 "the clients have worked through it"
unlike "$(cat "$TMP/pgbench")" 'ERROR|FATAL|aborted|could not|lost' "no client saw an error" || sed 's/^/# /' "$TMP/pgbench"
acked=$(on c docker exec client sh -c "cat /tmp/tx.*" | wc -l)
stored=$(sql 'SELECT count(*) FROM pgbench_history')
ok "there were transactions" test "$acked" -gt 100
is "$stored" "$acked" "what was acknowledged is in the table, no more and no less"
is "$(sql 'SELECT (SELECT sum(abalance) FROM pgbench_accounts) = (SELECT sum(delta) FROM pgbench_history)')" t "the sums agree"
ok "it is killed" on $from docker kill pg
ok "it starts again from its volume" on $from docker start pg
ok "and recovers" wait_until 60 sql 'SELECT 1'
is "$(sql 'SELECT count(*) FROM pgbench_history')" "$stored" "with everything that was there"
done_testing
