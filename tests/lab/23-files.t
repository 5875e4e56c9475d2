#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Files of containers: docker cp both ways, export, diff, commit, import; of running and stopped containers, here and on
# another host of the cluster; and that no link leads out of a container.
. "$(dirname "$0")/lib.sh"
command -v docker >/dev/null || skip_all "there is no docker CLI"

lab_up --hosts 2
images a busybox
a() { on a docker "$@"; }
b() { on b docker "$@"; }
sh_in() { local c=$1; shift; a exec "$c" sh -c "$*"; }

a run -d --name c -v vol:/data busybox sleep 1000 >/dev/null
echo hello >"$TMP/file"
mkdir -p "$TMP/dir/sub" && echo one >"$TMP/dir/one" && echo two >"$TMP/dir/sub/two" && ln -s one "$TMP/dir/link" && ln "$TMP/dir/one" "$TMP/dir/hard"
chmod 751 "$TMP/dir/sub"; chown 12:34 "$TMP/dir/one"; mkfifo "$TMP/dir/fifo"

# --- in ---------------------------------------------------------------------------------------------
ok "cp a file in" a cp "$TMP/file" c:/root/
is "$(sh_in c cat /root/file)" hello "it is there"
ok "under another name" a cp "$TMP/file" c:/root/other
is "$(sh_in c cat /root/other)" hello "it is there, too"
ok "a folder" a cp "$TMP/dir" c:/root/
is "$(sh_in c 'cat /root/dir/sub/two; readlink /root/dir/link; stat -c "%a %u:%g %h" /root/dir/sub /root/dir/one; test -p /root/dir/fifo && echo fifo' | xargs)" \
	"two one 751 0:0 2 644 12:34 2 fifo" "with modes, owners, links, a fifo"
ok "a folder's content" a cp "$TMP/dir/." c:/data
is "$(sh_in c cat /data/sub/two)" two "into a volume of the running container"
ok "a tar from stdin" on a sh -c "tar -C $TMP -c file | docker cp - c:/tmp"
is "$(sh_in c cat /tmp/file)" hello "is unpacked"
refused "where there is nothing" "Could not find the file|no such" a cp "$TMP/file" c:/nosuch/dir/
refused "a folder over a file" "cannot (copy|overwrite)|not a directory" a cp "$TMP/dir" c:/root/file
refused "into no container" "No such (container|directory)" a cp "$TMP/file" nosuch:/

# --- out --------------------------------------------------------------------------------------------
ok "cp a file out" a cp c:/root/file "$TMP/out"
is "$(cat "$TMP/out")" hello "it is the same"
ok "a folder" a cp c:/root/dir "$TMP/outdir"
is "$(cat "$TMP/outdir/sub/two"; readlink "$TMP/outdir/link"; stat -c '%a' "$TMP/outdir/sub")" $'two\none\n751' "with all that is in it"
sh_in c 'ln -s /root/dir /root/alias; ln -s ../../../../../../etc/passwd /root/up'
ok "what a link leads to" a cp -L c:/root/alias "$TMP/followed"
is "$(cat "$TMP/followed/one")" one "is followed when asked for"
ok "a link" a cp c:/root/alias "$TMP/alias"
is "$(readlink "$TMP/alias")" /root/dir "stays one otherwise"
ok "cp to stdout" on a sh -c "docker cp c:/root/dir - | tar -t >$TMP/list"
like "$(cat "$TMP/list")" 'dir/sub/two' "is a tar"
refused "what is not there" "Could not find the file /nosuch" a cp c:/nosuch "$TMP/x"

# --- no way out -------------------------------------------------------------------------------------
echo secret >"$TMP/secret"
sh_in c "ln -s $TMP /root/host; ln -s / /root/top; ln -s /root/../../../../..$TMP /root/rel"
refused "a link does not lead to the host" "Could not find" a cp c:/root/host/secret "$TMP/stolen"
refused "nor does one with dots" "Could not find" a cp c:/root/rel/secret "$TMP/stolen"
ok "dots in a path end at the root" a cp "c:/../../../etc/passwd" "$TMP/passwd"
is "$(cat "$TMP/passwd")" "$(sh_in c cat /etc/passwd)" "the container's"
ok "through a link to /" a cp "$TMP/file" c:/root/top/tmp/through
ok "one stays in the container" sh_in c test -e /tmp/through
mkdir "$TMP/evil"
python3 - "$TMP/evil.tar" <<-'END'
	import io, sys, tarfile
	with tarfile.open(sys.argv[1], 'w') as t:
	    for name, kind, link in (('esc', tarfile.SYMTYPE, '/tmp'), ('esc/landed', tarfile.REGTYPE, ''), ('../dots', tarfile.REGTYPE, '')):
	        i = tarfile.TarInfo(name)
	        i.type, i.linkname = kind, link
	        t.addfile(i, io.BytesIO(b''))
END
refused "a tar whose path leaves" "leaves" on a sh -c "docker cp - c:/root <$TMP/evil.tar"
ok "its links stay inside" test ! -e /tmp/landed
ok "the container's /tmp has it" sh_in c test -e /tmp/landed

# --- stopped, read-only, elsewhere ------------------------------------------------------------------
a create --name s busybox cat /root/file >/dev/null
ok "cp into a container that was never started" a cp "$TMP/file" s:/root/
is "$(a start -a s)" hello "and it sees that when it is"
ok "cp out of one that has ended" a cp s:/root/file "$TMP/out2"
is "$(cat "$TMP/out2")" hello "is the same"
is "$(mount | grep -c "$(a inspect -f '{{.Id}}' s)")" 0 "nothing stays mounted"
a run -d --name ro --read-only busybox sleep 1000 >/dev/null
refused "a read-only root" "read-only|Read-only" a cp "$TMP/file" ro:/root/
ok "from another host" b cp c:/root/dir "$TMP/remote"
is "$(cat "$TMP/remote/sub/two")" two "out"
ok "from another host" b cp "$TMP/file" c:/root/from-b
is "$(sh_in c cat /root/from-b)" hello "in"
refused "an error comes through" "Could not find the file" b cp c:/nosuch "$TMP/x"

# --- diff, export, commit, import -------------------------------------------------------------------
a run --name d busybox sh -c 'rm /etc/group; echo x >>/etc/passwd; mkdir /new; echo y >/new/file' >/dev/null
is "$(a diff d | sort | xargs)" "A /new A /new/file C /etc C /etc/passwd D /etc/group" "diff"
is "$(b diff d | sort | xargs)" "A /new A /new/file C /etc C /etc/passwd D /etc/group" "from another host"
ok "export" on a sh -c "docker export d >$TMP/export.tar"
is "$(tar -xOf "$TMP/export.tar" new/file)" y "has what was made"
unlike "$(tar -tf "$TMP/export.tar")" '^etc/group$' "and not what was removed"
id=$(a commit -a me -m why --change 'CMD ["cat", "/new/file"]' --change 'ENV A=b C="d e"' d made:1)
like "$id" '^sha256:[0-9a-f]{64}$' "commit"
is "$(a run --rm made:1)" y "what was made is in the image, and runs as told"
is "$(a image inspect -f '{{index .Config.Env 1}} {{index .Config.Env 2}} {{.Author}} {{len .RootFS.Layers}}' made:1)" "A=b C=d e me 2" "config, author, a layer more"
refused "what was removed is not" "No such file" a run --rm made:1 cat /etc/group
refused "a change that is none" "not a valid change command" a commit --change 'COPY a b' d x
ok "commit of a running one" a commit c running
is "$(a inspect -f '{{.State.Status}}' c)" running "which goes on"
is "$(a run --rm running cat /root/file)" hello "and its files are in the image"
ok "import" on a sh -c "docker import -c 'CMD [\"cat\", \"/new/file\"]' - flat:1 <$TMP/export.tar"
is "$(a run --rm flat:1)" y "runs"
ok "import of a packed tar" on a sh -c "gzip <$TMP/export.tar | docker import - flat:2"
is "$(a image inspect -f '{{index .RootFS.Layers 0}}' flat:1)" "$(a image inspect -f '{{index .RootFS.Layers 0}}' flat:2)" "is the same layer"
refused "import of something else" "tar|damaged|archive" on a sh -c 'echo rubbish | docker import - x'
ok "an image made here goes out as an archive" on a sh -c "docker save made:1 | docker load"
done_testing
