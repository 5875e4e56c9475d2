#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Registries: pull and push against docker-registry (Debian's), with and without TLS, login and tokens; what is cut
# goes on, what is wrong is refused and leaves nothing.
. "$(dirname "$0")/lib.sh"
command -v docker >/dev/null || skip_all "there is no docker CLI"

MAKE=$LAB_DIR/../images/make
REGISTRY=$("$MAKE" --program docker-registry /usr/bin/docker-registry 2>"$TMP/err") || bail "docker-registry: $(cat "$TMP/err")"
SKOPEO=$("$MAKE" --program skopeo /usr/bin/skopeo 2>"$TMP/err") || bail "skopeo: $(cat "$TMP/err")"
DIR=$("$MAKE" busybox redis 2>"$TMP/err" | tail -n 1) || bail "test images: $(cat "$TMP/err")"
LIBS=$(dirname "$(dirname "$(dirname "$SKOPEO")")")/usr/lib/$(dpkg-architecture -qDEB_HOST_MULTIARCH)

lab_up --hosts 2
R=10.99.0.1:5000	# plain HTTP, named as insecure in the lab's configuration
T=10.99.0.1:5001	# TLS, by a CA in certs.d; a login is wanted

# registry PORT [YAML...]: docker-registry there, its folder and log in $TMP/PORT; its pid in $TMP/PORT.pid.
registry() {
	local port=$1 d=$TMP/$1
	shift
	mkdir -p "$d"
	cat >"$d.yml" <<-END
	version: 0.1
	log: {accesslog: {disabled: false}, level: info}
	storage: {filesystem: {rootdirectory: $d}, delete: {enabled: true}}
	http: {addr: "10.99.0.1:$port"${1:-}}
	${2:-}
	END
	# The pid of the registry itself, not of what starts it there.
	in_underlay sh -c 'echo $$ >"$1.pid.new" && mv "$1.pid.new" "$1.pid" && exec "$2" serve "$1.yml"' sh "$d" "$REGISTRY" >>"$d.log" 2>&1 &
	wait_until 10 test -e "$d.pid" >/dev/null
	cleanup "stop $port"
}
stop() { # stop PORT [SIGNAL]
	local pid
	pid=$(cat "$TMP/$1.pid" 2>/dev/null) || return 0
	kill "-${2:-TERM}" "$pid" 2>/dev/null
	wait_until 10 not kill -0 "$pid" >/dev/null
	rm -f "$TMP/$1.pid"
}
not() { ! "$@" 2>/dev/null; }
answers() { in_underlay curl -sk --max-time 5 -o /dev/null "$1/v2/"; }
a() { on a docker "$@"; }
b() { on b docker "$@"; }
skopeo() { in_underlay env LD_LIBRARY_PATH="$LIBS" "$SKOPEO" --insecure-policy "$@"; }
store() { echo "$(lab_home "$1")/var"; }
layers_of() { on "$1" docker image inspect -f '{{.RootFS.Layers}}' "$2"; }
forget() { on "$1" docker images -aq | sort -u | while read -r i; do on "$1" docker rmi -f "$i" >/dev/null; done; } # all of HOST's
id_of() { on "$1" docker image inspect -f '{{.Id}}' "$2"; }

registry 5000
ok "the registry answers" wait_until 30 answers http://$R
a load -q -i "$DIR/busybox.docker.tar" >/dev/null
a load -q -i "$DIR/redis.docker.tar" >/dev/null

# --- push and pull ----------------------------------------------------------------------------------
ok "tag" a tag busybox $R/team/box:1
out=$(a push $R/team/box:1 2>&1)
like "$out" '1: digest: sha256:[0-9a-f]{64} size: [0-9]+' "push says the digest"
digest=$(grep -o 'sha256:[0-9a-f]*' <<<"$out" | tail -n 1)
is "$(a image inspect -f '{{index .RepoDigests 0}}' $R/team/box:1)" "$R/team/box@$digest" "and the image knows it"
like "$(a push $R/team/box:1 2>&1)" 'Layer already exists' "what is there is not sent again"
out=$(b pull $R/team/box:1 2>&1)
like "$out" "Status: Downloaded newer image for $R/team/box:1" "pull on another host"
like "$out" "Digest: $digest" "with the same digest"
is "$(id_of b $R/team/box:1)" "$(id_of a busybox)" "it is the same image"
is "$(b run --rm $R/team/box:1 echo works)" works "and it runs"
like "$(b pull $R/team/box:1 2>&1)" "Image is up to date" "once more: up to date"
ok "pull by digest" b pull "$R/team/box@$digest"
is "$(id_of b "$R/team/box@$digest")" "$(id_of a busybox)" "and the image is found by it"
ok "the tag goes, and the digest with it" b rmi $R/team/box:1
refused "nothing is left under either" "No such image" b image inspect "$R/team/box@$digest"
ok "run pulls what is missing" b run --rm $R/team/box:1 true
like "$(a tag busybox $R/other/box:2 && a push $R/other/box:2 2>&1)" 'Mounted from team/box|Layer already exists' "layers of another repository are mounted"
ok "an image of two layers" a tag redis $R/redis:7
ok "push it" a push -q $R/redis:7
ok "pull it" b pull -q $R/redis:7
ok "pull without a word" b pull -q $R/redis:7
like "$(on a curl -s --unix-socket /run/ferry/ferry.sock http://x/v1.43/distribution/$R/redis:7/json)" '"digest":"sha256:' "distribution inspect"
ok "ferry pull" on b ferry pull $R/other/box:2
ok "ferry push" on a ferry push $R/redis:7

# --- other programs ---------------------------------------------------------------------------------
ok "skopeo reads what ferry pushed" skopeo copy --src-tls-verify=false "docker://$R/redis:7" "oci:$TMP/oci:redis"
ok "skopeo pushes it as OCI, with zstd" skopeo copy --dest-tls-verify=false --dest-compress-format zstd "oci:$TMP/oci:redis" "docker://$R/oci/redis:7"
ok "ferry pulls that" b pull -q $R/oci/redis:7
is "$(layers_of b $R/oci/redis:7)" "$(layers_of b $R/redis:7)" "and it has the same layers"
ok "ferry pushes it on" b push -q $R/oci/redis:7
# An index of two platforms; the other one is of this host's own kind in all but name.
skopeo copy -q --dest-tls-verify=false "oci:$TMP/oci:redis" "docker://$R/multi:amd" --dest-compress >/dev/null
skopeo inspect --raw --tls-verify=false "docker://$R/multi:amd" >"$TMP/manifest.json"
manifest=$(sha256sum <"$TMP/manifest.json" | cut -d' ' -f1)
arch=$(dpkg --print-architecture)
put() { # put PATH TYPE FILE [URL]
	in_underlay curl -s -o "$TMP/put" -w '%{http_code}' -X PUT -H "Content-Type: $2" --data-binary "@$3" "http://$R/v2/$1"
}
jq -n --arg d "sha256:$manifest" --argjson size "$(stat -c %s "$TMP/manifest.json")" --arg arch "$arch" \
	'{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [
	  {mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $d, size: $size, platform: {os: "linux", architecture: "sparc"}},
	  {mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $d, size: $size, platform: {os: "linux", architecture: $arch}}]}' >"$TMP/index.json"
is "$(put multi/manifests/all application/vnd.oci.image.index.v1+json "$TMP/index.json")" 201 "an index of two platforms"
ok "the host's own is pulled" a pull -q $R/multi:all
refused "a platform that is not in it" "no matching manifest for linux/s390x.*sparc" a pull --platform linux/s390x $R/multi:all

# --- what is wrong ----------------------------------------------------------------------------------
refused "a tag that is not there" "manifest unknown|MANIFEST_UNKNOWN" a pull $R/team/box:nosuch
refused "a repository that is not there" "manifest unknown|NAME_UNKNOWN" a pull $R/nosuch:1
refused "push of what is not here" "does not exist locally" a push $R/none:1
registry 5003
ok "a registry that nobody named as insecure" wait_until 30 answers http://10.99.0.1:5003
refused "is not spoken to without TLS" "does not speak TLS.*insecure_registries" a pull 10.99.0.1:5003/x:1
stop 5003
refused "nobody listens" "docker load" a pull 10.99.0.1:5010/x:1
refused "no name at all" "image name" on a ferry pull 'a//b'
blob=$(jq -r '.layers[0].digest' "$TMP/manifest.json" | cut -d: -f2)
file=$TMP/5000/docker/registry/v2/blobs/sha256/${blob:0:2}/$blob/data
cp "$file" "$TMP/good" && printf x | dd of="$file" bs=1 seek=100 conv=notrunc status=none
forget b
lab cut a b	# host a has the layers, and would be asked first
refused "a layer whose content is not its digest" "wrong digest" b pull $R/multi:all
ok "nothing of it is left" test ! -e "$(store b)/images/downloads/$blob"
is "$(ls "$(store b)/images/tmp")" "" "nor what was unpacked"
cp "$TMP/good" "$file"
jq '.layers[0].size -= 1' "$TMP/manifest.json" >"$TMP/short.json"
is "$(put multi/manifests/short application/vnd.oci.image.manifest.v1+json "$TMP/short.json")" 201 "a manifest that gives a layer too few bytes"
refused "is not believed" "more than it may" b pull $R/multi:short
ok "mended, it is pulled" b pull -q $R/multi:all

# --- cut --------------------------------------------------------------------------------------------
head -c 60000000 /dev/urandom >"$TMP/big"
mkdir "$TMP/root" && mv "$TMP/big" "$TMP/root/big"
echo '{"Cmd": ["/big"]}' >"$TMP/config"
python3 "$LAB_DIR/../images/pack" --docker-only big:latest "$TMP/config" "$TMP/big" "$TMP/root" >/dev/null
a load -q -i "$TMP/big.docker.tar" >/dev/null
a tag big $R/big:1
slow() { in_underlay tc qdisc del dev v-$1 root 2>/dev/null; [ -z "${2:-}" ] || in_underlay tc qdisc add dev v-$1 root tbf rate "$2" burst 256k latency 100ms; }
ok "push 60 MB" a push -q $R/big:1
partly() { find "$(store b)/images/downloads" -type f -size +2M | grep -q .; }
slow b 100mbit
b pull $R/big:1 >"$TMP/pull" 2>&1 &
pull=$!
ok "a pull is on its way" wait_until 60 partly
stop 5000 KILL
kill $pull; wait $pull 2>/dev/null
slow b
registry 5000
wait_until 30 answers http://$R >/dev/null
: >"$TMP/5000.log"
ok "the next one goes on" b pull $R/big:1
like "$(grep GET "$TMP/5000.log")" 'blobs/sha256:[0-9a-f]*.* 206 ' "from where the first was cut"
b rmi $R/big:1 >/dev/null
slow b 100mbit
b pull -q $R/big:1 >"$TMP/pull" 2>&1 &
pull=$!
ok "again a pull is on its way" wait_until 60 partly
ok "ferryd is killed" lab kill b
kill $pull 2>/dev/null; wait $pull 2>/dev/null
slow b
ok "and comes again" lab restart b
ok "the pull goes on after it" b pull -q $R/big:1
b rmi $R/big:1 >/dev/null
lab heal a b
: >"$TMP/5000.log"
ok "a layer that another host has" wait_until 60 b pull -q $R/big:1
unlike "$(grep 'GET.*blobs' "$TMP/5000.log")" "blobs/sha256:$(jq -r '.layers[0].digest' <(skopeo inspect --raw --tls-verify=false docker://$R/big:1) | cut -d: -f2)" "comes from there"

# A push is cut by the registry's end; what has arrived counts when it is there again.
head -c 40000000 /dev/urandom >"$TMP/root/big"
python3 "$LAB_DIR/../images/pack" --docker-only big:latest "$TMP/config" "$TMP/big" "$TMP/root" >/dev/null
a load -q -i "$TMP/big.docker.tar" >/dev/null
a tag big $R/big:2
arrived() { find "$TMP/5000/docker/registry/v2/repositories/big/_uploads" -name data -size +2M 2>/dev/null | grep -q .; }
on a tc qdisc add dev eth0 root tbf rate 60mbit burst 256k latency 100ms
a push $R/big:2 >"$TMP/push" 2>&1 &
push=$!
ok "a push is on its way" wait_until 60 arrived
stop 5000 KILL
registry 5000
wait $push
is "$?" 0 "and ends well, though the registry ended in the middle" || diag "$(tail -n 3 "$TMP/push")"
on a tc qdisc del dev eth0 root
ok "what it brought is whole" skopeo copy -q --src-tls-verify=false docker://$R/big:2 "oci:$TMP/oci2:big"

# --- TLS, login, tokens -----------------------------------------------------------------------------
mkdir "$TMP/pki"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ca -keyout "$TMP/pki/ca.key" -out "$TMP/pki/ca.crt" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -subj /CN=10.99.0.1 -keyout "$TMP/pki/key" -out "$TMP/pki/csr" 2>/dev/null
openssl x509 -req -in "$TMP/pki/csr" -CA "$TMP/pki/ca.crt" -CAkey "$TMP/pki/ca.key" -CAcreateserial -days 2 \
	-extfile <(echo subjectAltName=IP:10.99.0.1) -out "$TMP/pki/crt" 2>/dev/null
python3 -W ignore -c 'import crypt; print("ann:" + crypt.crypt("secret", crypt.mksalt(crypt.METHOD_BLOWFISH, rounds=16)))' >"$TMP/htpasswd"
registry 5001 ", tls: {certificate: $TMP/pki/crt, key: $TMP/pki/key}" "auth: {htpasswd: {realm: basic, path: $TMP/htpasswd}}"
ok "a registry with TLS answers" wait_until 30 answers https://$T
refused "its certificate is not trusted" "not trusted.*ca.crt" a pull $T/x:1
on a mkdir -p /etc/ferry/certs.d/$T
on a cp "$TMP/pki/ca.crt" /etc/ferry/certs.d/$T/ca.crt
refused "it wants a login" "docker login" a pull $T/x:1
refused "a wrong one is refused" "unauthorized|login" on a sh -c "echo wrong | docker login -u ann --password-stdin $T"
export DOCKER_CONFIG=$TMP/docker
like "$(on a sh -c "echo secret | docker login -u ann --password-stdin $T" 2>&1)" "Login Succeeded" "the right one is not"
ok "tag" a tag busybox $T/x:1
ok "push with it" a push -q $T/x:1
ok "pull with it" a pull -q $T/x:1
ok "ferry knows it, too" on a ferry pull $T/x:1
stop 5001

# Tokens: the registry sends clients to a server of this test, which lets everybody pull and ann push.
stop 5000
in_underlay sh -c 'echo $$ >"$0"; exec "$@"' "$TMP/tokens.pid" "$LAB_DIR/token-server" 10.99.0.1 5004 "$TMP/pki/key" "$TMP/pki/crt" ann secret >"$TMP/tokens.log" 2>&1 &
cleanup "stop tokens"
registry 5000 "" "auth: {token: {realm: http://10.99.0.1:5004/token, service: lab, issuer: test, rootcertbundle: $TMP/pki/ca.crt}}"
ok "a registry with tokens answers" wait_until 30 answers http://$R
ok "so does the server of tokens" wait_until 30 in_underlay curl -s -o /dev/null "http://10.99.0.1:5004/token?service=lab"
forget b
ok "pull as nobody" b pull -q $R/other/box:2
b tag $R/other/box:2 $R/mine/box:1
refused "push as nobody" "docker login" b push -q $R/mine/box:1
refused "a wrong password" "incorrect username" on b sh -c "echo wrong | docker login -u ann --password-stdin $R"
ok "the right one" on b sh -c "echo secret | docker login -u ann --password-stdin $R"
ok "push with it, layers mounted with a token for both repositories" b push -q $R/mine/box:1
done_testing
