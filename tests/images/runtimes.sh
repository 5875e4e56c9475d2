# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
#
# Images of servers in many languages, for tests/lab/64-runtimes.t. Sourced by `make`.
#
# Unlike the others they are made of Debian's packages even where the machine has a program of that name
# (which may be any version), so they are the same everywhere. Packages are unpacked into a folder that is
# gone afterwards, toolchains (Go's, Rust's) with it: what they have compiled is what the image holds.
# The servers' sources are in the folders beside this file, README.md says what they do.

RUNTIMES="mariadb memcached node python go java erlang rust"
is_runtime() { case " $RUNTIMES " in *" $1 "*) ;; *) return 1 ;; esac; }

runtime_packages() {
	case $1 in
	mariadb) echo mariadb-server-core mariadb-server mariadb-client-core ;;
	memcached) echo memcached ;;
	node) echo nodejs libnode108 node-cjs-module-lexer node-acorn node-undici node-busboy ;;
	python) echo python3.11-minimal libpython3.11-minimal libpython3.11-stdlib ;;
	go) echo golang-1.19-go golang-1.19-src ;;
	java) echo openjdk-17-jre-headless ;;
	erlang) echo erlang-base ;;
	rust) echo rustc libstd-rust-1.63 libstd-rust-dev ;;
	esac
}

# unpack_runtime NAME: its packages, and the libraries they need and this machine lacks. From here on that
# folder is what find_file and libraries of `make` look into.
unpack_runtime() {
	local p debs=$WORK/debs names=() more=()
	SYS=$WORK/root
	for p in $(runtime_packages "$1"); do
		names+=("$p=$(apt-cache madison "$p" | awk -F ' *\\| *' 'NR == 1 { print $2 }')")
	done
	# A JVM names libraries of sound, printing and fonts, which a server never opens.
	[ "$1" = java ] || mapfile -t more < <(libraries_of $(runtime_packages "$1") | grep -vxF "$(runtime_packages "$1" | tr ' ' '\n')")
	echo "images: downloading ${names[*]} ${more[*]} (nothing is installed)" >&2
	mkdir -p "$debs" "$SYS"
	chown -f _apt "$debs"
	(cd "$debs" && apt-get -qq download "${names[@]}" "${more[@]}") ||
		die "cannot download ${names[*]} ${more[*]}: is the network up, apt-get update done?"
	for p in "$debs"/*.deb; do dpkg -x "$p" "$SYS"; done
	rm -rf "$debs"
}

# server ROOT FILE...: from the folder of sources to /srv.
server() {
	local root=$1
	shift
	mkdir -p "$root/srv"
	install -m 644 "$@" "$root/srv"
}

make_mariadb() {
	local r=$1 s=/usr/share/mysql
	put "$r" /usr/sbin/mariadbd /usr/bin/{mariadb,mariadb-install-db,my_print_defaults,resolveip,setpriv} \
		$s/{english,charsets} $s/{fill_help_tables,maria_add_gis_sp_bootstrap,mysql_performance_tables}.sql \
		$s/{mysql_sys_schema,mysql_system_tables,mysql_system_tables_data,mysql_test_db}.sql
	add_user "$r" "$2" mysql 999 /var/lib/mysql
	mkdir -p "$r/var/lib/mysql" "$r/run/mysqld" "$r/etc/mysql"
	chown -R 999:999 "$r/var/lib/mysql" "$r/run/mysqld"
	cat >"$r/etc/mysql/my.cnf" <<-'END'
	[mysqld]
	datadir = /var/lib/mysql/data
	socket = /run/mysqld/mysqld.sock
	pid-file = /run/mysqld/mysqld.pid
	skip-name-resolve
	innodb_buffer_pool_size = 64M
	innodb_log_file_size = 16M
	[client]
	socket = /run/mysqld/mysqld.sock
	END
	entrypoint "$r" <<-'END'
	#!/bin/sh
	# Started as root: own the data folder (a fresh volume is root's), then become mysql. The first start
	# makes the system tables and a user ferry who may do everything, from everywhere.
	set -e
	[ "${1#-}" = "$1" ] || set -- mariadbd "$@"
	[ "$1" = mariadbd ] || exec "$@"
	data=/var/lib/mysql/data
	if [ "$(id -u)" = 0 ]; then
		chown mysql:mysql /var/lib/mysql /run/mysqld
		exec /usr/bin/setpriv --reuid=mysql --regid=mysql --clear-groups -- "$0" "$@"
	fi
	if [ ! -d $data ]; then
		# Beside its place first: what a kill leaves half made is begun anew.
		rm -rf $data.new
		mariadb-install-db --skip-name-resolve --skip-test-db --datadir=$data.new >/tmp/install.log 2>&1 ||
			{ cat /tmp/install.log; exit 1; }
		printf '%s;\n' "CREATE USER IF NOT EXISTS ferry@'%'" "GRANT ALL ON *.* TO ferry@'%'" \
			'CREATE DATABASE IF NOT EXISTS ferry' >$data.new/first.sql
		sync
		mv $data.new $data
	fi
	[ -e $data/ferry ] || set -- "$@" --init-file=$data/first.sql
	exec "$@"
	END
	libraries "$r" "$2"
}

make_memcached() {
	put "$1" /usr/bin/memcached
	libraries "$1" "$2"
}

make_node() {
	put "$1" /usr/bin/node /usr/share/nodejs
	server "$1" "$HERE/node/server.js"
	libraries "$1" "$2"
}

make_python() {
	put "$1" /usr/bin/python3.11 /usr/lib/python3.11
	rm -rf "$1"/usr/lib/python3.11/{lib2to3,idlelib,pydoc_data,ensurepip,EXTERNALLY-MANAGED}
	server "$1" "$HERE"/python/*.py
	libraries "$1" "$2"
}

make_go() {
	local go=$SYS/usr/lib/go-1.19
	mkdir -p "$1/srv"
	env HOME="$WORK" GOROOT="$go" GOCACHE="$WORK/go-cache" GO111MODULE=off CGO_ENABLED=0 \
		"$go/bin/go" build -ldflags '-s -w' -o "$1/srv/server" "$HERE/go/server.go" || die "go cannot compile its server"
}

make_java() {
	local jvm=/usr/lib/jvm/java-17-openjdk-amd64 l to
	# Debian keeps the settings in /etc and has links to them; these lead into the unpacked package here.
	find "$SYS$jvm" -type l -lname '/*' | while read -r l; do
		to=$SYS$(readlink "$l")
		rm "$l"
		[ ! -e "$to" ] || cp -a "$to" "$l"
	done
	mkdir -p "$1/srv" "$1$jvm"
	"$SYS$jvm/bin/java" -m jdk.compiler/com.sun.tools.javac.Main -d "$1/srv" "$HERE/java/Server.java" ||
		die "javac cannot compile its server"
	put "$1" $jvm/bin/java $jvm/conf $jvm/release $jvm/lib/{security,server,modules,jvm.cfg,tzdb.dat,jrt-fs.jar} \
		$jvm/lib/lib{java,jimage,jli,jsvml,management,management_ext,net,nio,verify,zip,extnet,instrument}.so
	libraries "$1" "$2"
}

make_erlang() {
	local e=/usr/lib/erlang erts
	erts=$(basename "$SYS$e"/erts-*)
	put "$1" $e
	mkdir -p "$1/srv" "$1/usr/local/bin"
	env ROOTDIR="$SYS$e" BINDIR="$SYS$e/$erts/bin" EMU=beam PROGNAME=erl HOME="$WORK" "$SYS$e/$erts/bin/erlexec" \
		-noinput -noshell -eval "{ok, _} = compile:file(\"$HERE/erlang/server\", [{outdir, \"$1/srv\"}, report]), halt()." ||
		die "erlc cannot compile its server"
	rm -rf "$1$e"/lib/{compiler,erl_interface}-* "$1$e"/erts-*/bin/{erlc,typer,yielding_c_fun,erl_call,escript}
	ln -s ../../lib/erlang/bin/erl "$1/usr/local/bin/erl"
	libraries "$1" "$2"
}

make_rust() {
	mkdir -p "$1/srv"
	LD_LIBRARY_PATH=$SYS/usr/lib/$ARCH "$SYS/usr/bin/rustc" --edition 2021 -C opt-level=2 -C strip=symbols \
		-o "$1/srv/server" "$HERE/rust/server.rs" || die "rustc cannot compile its server"
	libraries "$1" "$2"
}

# What the image runs, as JSON; the environment is the caller's.
runtime_config() { # runtime_config NAME PATH-VARIABLE
	local env=$2 cmd entry= port=7000
	case $1 in
	mariadb) cmd='"mariadbd"' entry='"Entrypoint": ["/usr/local/bin/entrypoint"],' port=3306 ;;
	memcached) cmd='"memcached", "-u", "nobody", "-m", "64"' port=11211 ;;
	node) cmd='"node", "/srv/server.js"' ;;
	python) cmd='"python3.11", "/srv/asyncio_server.py"' env="$env"', "PYTHONDONTWRITEBYTECODE=1"' ;;
	go | rust) cmd='"/srv/server"' ;;
	java) cmd='"java", "-Xmx96m", "-XX:+UseG1GC", "-Dsun.net.httpserver.nodelay=true", "-cp", "/srv", "Server"'
		env=${env/PATH=/PATH=/usr/lib/jvm/java-17-openjdk-amd64/bin:} ;;
	erlang) cmd='"erl", "-noinput", "-noshell", "-pa", "/srv", "-s", "server"' env="$env"', "HOME=/root"' ;;
	esac
	echo '{"Env": ['"$env"'], '"$entry"' "Cmd": ['"$cmd"'], "WorkingDir": "/", "ExposedPorts": {"'$port'/tcp": {}}}'
}

# --- trying them out, as `verify` of make does it ---------------------------------------------------
try_mariadb() {
	in_image entrypoint mariadbd >"$WORK/mariadb.log" 2>&1 &
	within in_image mariadb -h 127.0.0.1 -u ferry ferry -e 'SELECT 1' &&
		[ "$(in_image mariadb -h 127.0.0.1 -u ferry ferry -Ne 'CREATE TABLE t (i INT) ENGINE=InnoDB; INSERT INTO t VALUES (42); SELECT i FROM t')" = 42 ]
}
try_memcached() {
	in_image memcached -u nobody >"$WORK/memcached.log" 2>&1 &
	within in_image sh -c 'printf "set k 0 0 2\r\n42\r\nget k\r\nquit\r\n" | nc 127.0.0.1 11211 | grep -q ^42'
}
# One request, by hand: lines or http.
asks_lines() { within in_image sh -c 'echo "add k 42" | nc 127.0.0.1 7000 | head -n 1 | grep -qx 42'; }
asks_http() { within in_image wget -q -O - --post-data 'add k 42' http://127.0.0.1:7000/ && within in_image sh -c "wget -q -O - --post-data 'add k 0' http://127.0.0.1:7000/ | grep -qx '42\|84'"; }
try_node() { in_image node /srv/server.js >"$WORK/node.log" 2>&1 & asks_http; }
try_go() { in_image /srv/server >"$WORK/go.log" 2>&1 & asks_http; }
try_java() { in_image /usr/lib/jvm/java-17-openjdk-amd64/bin/java -Xmx96m -cp /srv Server >"$WORK/java.log" 2>&1 & asks_http; }
try_erlang() { in_image HOME=/root erl -noinput -noshell -pa /srv -s server >"$WORK/erlang.log" 2>&1 & asks_lines; }
try_rust() { in_image /srv/server >"$WORK/rust.log" 2>&1 & asks_lines; }
try_python() {
	local server
	for server in threads asyncio; do
		in_image PYTHONDONTWRITEBYTECODE=1 python3.11 /srv/${server}_server.py >"$WORK/python.log" 2>&1 &
		asks_lines || return
		in_image killall python3.11
		wait
	done
}
