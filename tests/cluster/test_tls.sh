#!/usr/bin/env bash
# Who is kept out, by the openssl command and by hand; and what changes without a restart: revoked and
# renewed certificates, under load, with no error to applications.
. "$(dirname "$0")/../lib/cluster.sh"
TLS=$CLUSTER/tls CA=$CLUSTER/ca

cluster_up --mount "$MNT"
ca() {
	local verb=$1
	shift
	cairn ca "$verb" --ca "$CA" "$@"
}
server_addr() {
	cairn local status "$CLUSTER" | sed -n "s/^$1 .*addr=\([^ ]*\).*/\1/p"
}
PORTS="$CAIRN_MASTER $(server_addr chunkserver-1)"
echo hello >"$MNT/hello"
check "files are there, over TLS" sh -c "[ \"\$(cairn cat /hello)\" = hello ]"
check "the key of a plain cluster is not even made" sh -c "[ ! -e '$CLUSTER/key' ]"

# ---- by the openssl command ----

says() { # TEXT ARGS...: what s_client shows of a connection to each port
	local text=$1 port
	shift
	for port in $PORTS; do
		# The peer ends it; a bound in case it does not.
		timeout 20 openssl s_client -connect "$port" -CAfile "$CA/ca.pem" -ign_eof "$@" \
			</dev/null >"$WORK/s_client" 2>&1
		[ $? -ne 124 ] && grep -q "$text" "$WORK/s_client" ||
			{ echo "$port:"; cat "$WORK/s_client"; return 1; }
	done
}
identity() { # DIRECTORY: the arguments for its certificate
	echo "-cert $1/identity.pem -key $1/identity.pem"
}
check "without a certificate" says "alert certificate required"
check "TLS 1.2 is refused" says "alert protocol version" -tls1_2 $(identity "$TLS/admin")

cairn ca init --ca "$WORK/other" >/dev/null
cairn ca issue --ca "$WORK/other" --role admin --name admin >/dev/null
check "of another authority" says "alert unknown ca" $(identity "$WORK/other/issued/admin-admin")
# The same names on a certificate that its holder signed.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=admin \
	-keyout "$WORK/self.key" -out "$WORK/self.pem" \
	-addext "subjectAltName=$(openssl x509 -in "$TLS/admin/identity.pem" -noout -ext subjectAltName | sed -n 's/^ *URI/URI/p')" \
	2>/dev/null
check "signed by itself" says "alert" -cert "$WORK/self.pem" -key "$WORK/self.key"

ca issue --role client --name brief --lifetime 1s --out "$WORK/brief" >/dev/null
is_over() {
	! openssl x509 -in "$WORK/brief/identity.pem" -noout -checkend 0
}
wait_for 60 is_over
check "expired" says "alert certificate expired" $(identity "$WORK/brief")

ca issue --role client --name thief >/dev/null
THIEF=$CA/issued/client-thief
thief() {
	timeout 30 cairn --credentials "$THIEF" ls /
}
check "one that is good comes in" thief
ca revoke thief >/dev/null
reloaded() { # COUNT: of each server, since it began
	local part
	for part in master-1 chunkserver-1 chunkserver-2 chunkserver-3; do
		[ "$(grep -c 'credentials reloaded' "$(part_log $part)")" -ge "$1" ] || return
	done
}
hangup() {
	local part n
	n=$(($(grep -c 'credentials reloaded' "$(part_log master-1)") + 1))
	for part in master-1 chunkserver-1 chunkserver-2 chunkserver-3; do
		kill -HUP "$(part_pid $part)"
	done
	wait_for 60 reloaded $n
}
check "SIGHUP makes them look at the list" hangup
check "revoked" says "alert certificate revoked" $(identity "$THIEF")
check "it cannot connect" sh -c "! timeout 30 cairn --credentials '$THIEF' ls / >'$WORK/out' 2>&1 && grep -q revoked '$WORK/out'"

# ---- what each role may do ----

may() { # OUTCOME ADDR CREDENTIALS WANT CLAIM OP
	local want=$1
	shift
	[ "$("$TESTS_BIN/credential" "$@" 2>"$WORK/why")" = "$want" ] || { cat "$WORK/why"; return 1; }
}
SERVER=$(server_addr chunkserver-1)
check "a client looks at names" may OK "$CAIRN_MASTER" "$TLS/mount-1" master client getattr
check "it cannot say that it is a chunkserver" \
	may AUTH "$CAIRN_MASTER" "$TLS/mount-1" master chunkserver getattr
check "nor an administrator" may AUTH "$CAIRN_MASTER" "$TLS/mount-1" master admin getattr
check "nor to a chunkserver" may AUTH "$SERVER" "$TLS/mount-1" chunkserver chunkserver none
check "nor drain a server" may PERM "$CAIRN_MASTER" "$TLS/mount-1" master client drain
check "a chunkserver cannot say that it is a client" \
	may AUTH "$CAIRN_MASTER" "$TLS/chunkserver-1" master client make
check "nor make names" may PROTOCOL "$CAIRN_MASTER" "$TLS/chunkserver-1" master chunkserver make
check "a master is not taken for a chunkserver" \
	may WRONG_CLUSTER "$CAIRN_MASTER" "$TLS/mount-1" chunkserver client none
check "nor a chunkserver for a master" may WRONG_CLUSTER "$SERVER" "$TLS/mount-1" master client none
check "nothing was made" sh -c "! cairn stat /made"
ca issue --role client --name guest --export home >/dev/null
check "one that is for an export sees nothing before there is such an export" \
	may PERM "$CAIRN_MASTER" "$CA/issued/client-guest" master client getattr
ca issue --role chunkserver --name evil --host 10.9.9.9 >/dev/null
check "a daemon does not start with a certificate of another role" sh -c \
	"! timeout 20 cairn-master --data-dir '$WORK/m' --listen 127.0.0.1:0 --credentials '$TLS/chunkserver-1' 2>'$WORK/out' &&
	 grep -q 'role chunkserver' '$WORK/out'"
(umask 077; printf '%064d\n' 7 >"$WORK/key")
check "a shared key is for loopback" sh -c \
	"! timeout 20 cairn-chunkserver --data '$WORK' --listen 0.0.0.0:0 --credentials '$WORK/key' 2>'$WORK/out' &&
	 grep -q allow_plaintext '$WORK/out'"

deaf() { # ROLE N: asks without reading the answers, N requests a write
	"$TESTS_BIN/flood" deaf "$CAIRN_MASTER" "$TLS/$1" "$2" >"$WORK/deaf"
	cat "$WORK/deaf"
	[ "$(tr '\n' ' ' <"$WORK/deaf")" = "blocked resumed " ]
}
check "a client that does not read is not read from, and again once it does" deaf mount-1 1000
check "nor is an administrator" deaf admin 1000

# ---- bytes that are no TLS, and sets-up that never end ----

closes() { # BYTES ADDR: sends them, and the peer hangs up
	local fd
	exec {fd}<>"/dev/tcp/${2%:*}/${2#*:}" || return
	printf "$1" >&$fd
	timeout 15 cat <&$fd >/dev/null
	local r=$?
	exec {fd}>&-
	[ $r -eq 0 ] # and not for the time-out
}
for port in $PORTS; do
	check "plain bytes at $port" closes 'GET / HTTP/1.0\r\n\r\n' "$port"
	check "a message of the plain protocol" closes 'CRN1\001\000\001\000aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa' "$port"
done
all_close() { # each takes as long as the limit: side by side
	local port pids=() pid
	for port in $PORTS; do
		closes '\026\003\001\002\000\001\000\001\374\003\003' "$port" &
		pids+=($!)
		closes '' "$port" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || return
	done
}
check "half a ClientHello and nothing more, and silence, are cut off" all_close
threads() {
	sed -n 's/^Threads:\t//p' "/proc/$(part_pid chunkserver-1)/status"
}
BEFORE=$(threads)
FDS=()
for i in $(seq 150); do
	exec {fd}<>"/dev/tcp/${SERVER%:*}/${SERVER#*:}" && printf '\026\003\001' >&$fd
	FDS+=("$fd")
done
# The mount's own connections come and go: what must not be is one for each of those 150.
check "150 that never end hold no thread" sh -c "[ $(threads) -lt $((BEFORE + 30)) ]"
check "and keep nobody out" sh -c "timeout 20 cairn cat /hello && echo more >'$MNT/more'"
for fd in "${FDS[@]}"; do
	exec {fd}>&-
done

# ---- renewal and revocation under load ----

load() { # until STOP is there; each file is written, read back, removed: whole and without an error
	local i=0
	while [ ! -e "$WORK/stop" ]; do
		i=$((i + 1))
		head -c 300000 /dev/urandom >"$WORK/load.$1" && cp "$WORK/load.$1" "$MNT/load.$1" &&
			cmp "$WORK/load.$1" "$MNT/load.$1" && rm "$MNT/load.$1" ||
			{ echo "load $1, round $i failed" >>"$WORK/load.failed"; return; }
		echo $i >"$WORK/rounds.$1"
	done
}
rounds() {
	cat "$WORK/rounds.1" 2>/dev/null || echo 0
}
goes_on() {
	local from
	from=$(rounds)
	wait_for 60 sh -c "[ \$(cat '$WORK/rounds.1') -ge $((from + 5)) ]" && [ ! -e "$WORK/load.failed" ]
}
load 1 &
LOAD=$!
load 2 &
LOAD2=$!
BACKGROUND+=($LOAD $LOAD2)
wait_for 60 test -e "$WORK/rounds.1"
serial() {
	openssl s_client -connect "$1" -CAfile "$CA/ca.pem" $(identity "$TLS/admin") </dev/null 2>/dev/null |
		openssl x509 -noout -serial
}
OLD=$(serial "$CAIRN_MASTER") OLD_SERVER=$(serial "$SERVER")
OLD_MOUNT=$(openssl x509 -in "$TLS/mount-1/identity.pem" -noout -serial | sed 's/serial=//' | tr A-F a-f)
check "a SIGHUP under load" hangup
check "goes unnoticed" goes_on
check "all certificates are renewed" ca renew --all --within 400d
check "the servers take them over" hangup
check "the master shows a new one" [ "$(serial "$CAIRN_MASTER")" != "$OLD" ]
check "a chunkserver too" [ "$(serial "$SERVER")" != "$OLD_SERVER" ]
check "nobody notices" goes_on
check "the mount's old certificate is revoked" ca revoke "$OLD_MOUNT"
check "and the servers know it" hangup
check "the mount goes on with its new one" goes_on
cut_for_it() {
	grep -q 'certificate revoked' "$(part_log master-1)"
}
check "the connections with the old one were cut" wait_for 60 cut_for_it
mv "$TLS/master-1/crl.pem" "$WORK/crl.away"
kill -HUP "$(part_pid master-1)"
not_reloaded() {
	grep -q 'credentials are not reloaded.*crl.pem' "$(part_log master-1)"
}
check "files that are missing are told of" wait_for 60 not_reloaded
check "and change nothing" goes_on
mv "$WORK/crl.away" "$TLS/master-1/crl.pem"
touch "$WORK/stop"
wait $LOAD $LOAD2
check "the load met no error" sh -c "! cat '$WORK/load.failed'"

# ---- a revocation that nobody tells the servers of: no signal, no new connection ----

CUTS=$(grep -c 'certificate revoked' "$(part_log master-1)")
cut_again() {
	[ "$(grep -c 'certificate revoked' "$(part_log master-1)")" -gt "$CUTS" ]
}
check "the idle mount's certificate is revoked" ca revoke mount-1
check "its connection ends without a signal" wait_for 60 cut_again
check "no secret is in a log" sh -c "! grep -l 'PRIVATE KEY' '$CLUSTER'/log/*.log"
