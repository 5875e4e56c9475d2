# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# What the migration tests, the demo and the benchmark share. On top of lib.sh's `on`.

# client_net NAME: a network namespace path of a container that only lends it, on host c, so that
# programs of this machine can be clients from inside the overlay.
client_start() { # client_start HOST NAME [IMAGE]
	on "$1" ferry run -d --name "$2" "${3:-busybox:latest}" sleep 1000000 >/dev/null
}
in_client() { # in_client HOST NAME CMD...: CMD in that container's network
	local host=$1 id
	id=$(on "$host" docker inspect -f '{{.Id}}' "$2") || return
	shift 2
	on "$host" nsenter --net="/run/ferry/netns/$id" -- "$@"
}
ip_of() { on "$1" docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' "$2"; }
host_of() { on "$1" docker inspect -f '{{.Ferry.Host}}' "$2"; }

# migrate HOST CONTAINER TO [OPTIONS...]: by the CLI; prints the summary as JSON.
migrate() {
	local host=$1 container=$2 to=$3
	shift 3
	on "$host" ferry migrate --format json "$@" "$container" "$to" | grep '"summary"' | tail -n 1
}

# pg_silence LOG...: the longest time, in milliseconds, in which one client of pgbench got no answer:
# from the start of a transaction to its end, from files that `pgbench -l` wrote.
pg_silence() { cat "$@" | awk '$3 > max { max = $3 } END { printf "%.1f\n", max / 1000 }'; }
