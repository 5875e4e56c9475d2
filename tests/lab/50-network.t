#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# The network as a user sees it: two hosts, containers on both, the stock docker CLI.
. "$(dirname "$0")/lib.sh"

lab_up --hosts 2
for h in a b; do images $h busybox; done
in_container() { on "$1" docker exec "${@:2}"; }
fetch() { in_container "$1" "$2" timeout 10 wget -q -O - "http://$3/hostname"; }
outside_fetch() { in_underlay curl -fsS -m 10 "http://$1/hostname"; }

ok "networks are made" on a docker network create one
ok "networks are made on any host" on b docker network create two
ok "a container on a publishes a port" \
	on a docker run -d --name web -p 8080:80 --network one busybox httpd -f -p 80 -h /etc
ok "a container on a" on a docker run -d --name near --network one busybox sleep 1000
ok "a container on b" on b docker run -d --name far --network one busybox sleep 1000
ok "a container of another network" on a docker run -d --name other --network two busybox sleep 1000
ID=$(on a docker inspect -f '{{.Config.Hostname}}' web)
IP=$(on a docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' web)
like "$IP" '^10\.' "it has an address"

# --- names and reach --------------------------------------------------------------------------------
ok "a container of the same host is reached by name" wait_until 30 fetch a near web
is "$(fetch a near web)" "$ID" "and is the right one"
ok "one of another host is reached by name" wait_until 30 fetch b far web
ok "and the other way round" wait_until 30 in_container a near ping -c 1 -W 2 far
ok "an address has a name" wait_until 30 in_container b far nslookup "$IP"
refused "another network is out of reach" "100% packet loss" in_container a other ping -c 2 -W 1 "$IP"
refused "another network's names are not known" "bad address" in_container a other ping -c 1 -W 2 web
ok "the outside is reached from a" wait_until 30 in_container a near ping -c 1 -W 2 198.51.100.1
ok "the outside is reached from b" wait_until 30 in_container b far ping -c 1 -W 2 198.51.100.1
like "$(in_container a near ip link show eth0)" 'mtu 1450' "packets fit into the underlay"

# --- published ports ----------------------------------------------------------------------------------
is "$(outside_fetch 10.99.0.11:8080)" "$ID" "the published port answers the outside"
is "$(on a curl -fsS -m 10 http://localhost:8080/hostname)" "$ID" "and localhost"
is "$(on b curl -fsS -m 10 "http://$IP/hostname")" "$ID" "the other host's own sockets reach the container"
refused "a port is published once" "published|in use|allocated" \
	on a docker run -d --name twice -p 8080:80 --network one busybox sleep 1000

# --- without ferryd ------------------------------------------------------------------------------------
ok "ferryd of a is killed" lab kill a
is "$(outside_fetch 10.99.0.11:8080)" "$ID" "the published port goes on answering"
is "$(on b curl -fsS -m 10 "http://$IP/hostname")" "$ID" "and so does the overlay"
ok "ferryd comes back" lab restart a
ok "names are answered again" wait_until 30 fetch a near web
ok "new containers find the old" on a docker run --rm --network one busybox timeout 10 wget -q -O - http://web/hostname

# --- a move ---------------------------------------------------------------------------------------------
ok "the container moves to b" on a ferry migrate web b
ok "it is reached by name from a" wait_until 30 fetch a near web
ok "and from b" wait_until 30 fetch b far web
is "$(in_container b web ip -o -4 addr show eth0 | grep -o '10\.[0-9.]*' | head -n 1)" "$IP" "with its old address"
is "$(outside_fetch 10.99.0.12:8080)" "$ID" "and its published port"

# --- the end ----------------------------------------------------------------------------------------------
refused "a network in use stays" "active endpoints" on a docker network rm one
on a docker rm -f near other twice >/dev/null 2>&1
on b docker rm -f far web >/dev/null 2>&1
ok "networks are removed" on a docker network rm one two
is "$(on a sh -c 'ip -o link | grep -cE ": (fe|fh)[0-9a-f]{13}"')" 0 "no interface of a container is left on a"
is "$(on b sh -c 'ip -o link | grep -cE ": (fe|fh)[0-9a-f]{13}"')" 0 "nor on b"
done_testing
