#!/usr/bin/env bash
# Who did what, and what was refused to whom, is in a file beside the data of each daemon: a line each,
# of a bounded size, without secrets.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --master-flag=--audit-size=8K --master-flag=--audit-keep=2 --mount "$MNT"
echo content >"$MNT/f"
ADMIN=$(credentials admin) ME=$(credentials mount-1)
MASTER=$(part_dir master-1)
server_addr() {
	cairn local status "$CLUSTER" | sed -n "s/^chunkserver-1 .*addr=\([^ ]*\).*/\1/p"
}
audited() { # DIRECTORY REGEXP: in the present file
	grep -E -- "$2" "$1/audit.log" || { cat "$1/audit.log"; return 1; }
}
check "chunkservers came" audited "$MASTER" ' CS_REGISTER OK by 127.0.0.1:[0-9]+ \(chunkserver chunkserver-1, '
check "an administrator drains a server" cairn drain 1
check "that is written down: who, what, how it went" \
	audited "$MASTER" ' SERVER_SET OK by 127.0.0.1:[0-9]+ \(admin admin, .*\): .*server=1 flags=1'
cairn drain --cancel 1 >/dev/null
check "one that fails too" sh -c "! cairn remove 1 2>'$WORK/out'"
check "with the reason" audited "$MASTER" ' SERVER_REMOVE BUSY by .*server=1: .'

as_client() {
	! cairn --credentials "$ME" drain 2 >"$WORK/out" 2>&1 && grep 'certificate of an administrator' "$WORK/out"
}
check "a client may not, and is told why" as_client
check "nor without being seen" \
	audited "$MASTER" ' SERVER_SET PERM by 127.0.0.1:[0-9]+ \(client mount-1, .*\): .*server=2 .*administrator'
openssl s_client -connect "$CAIRN_MASTER" </dev/null >"$WORK/s_client" 2>&1
check "who has no certificate" wait_for 10 audited "$MASTER" ' connection from 127.0.0.1:[0-9]+: '

refused=$("$TESTS_BIN/raw_port" read "$(server_addr)" "$ME" 1 1 2>/dev/null)
check "a chunk is asked for without a token" [ "$refused" = TOKEN ]
check "the chunkserver writes it down" audited "$(part_dir chunkserver-1)" \
	' READ by 127.0.0.1:[0-9]+ \(client mount-1, test\): chunk 0*1 v1: access token: none'

for i in $(seq 100); do
	cairn --credentials "$ADMIN" hold off >/dev/null 2>&1
done
check "files are begun anew" test -e "$MASTER/audit.log.1"
kept() { # all files together, whose number and size are bounded
	[ "$(ls "$MASTER" | grep -c '^audit.log')" -le 3 ] && [ "$(cat "$MASTER"/audit.log* | wc -c)" -le 24576 ]
}
check "and bounded" kept
check "only their owner may read them" sh -c "[ \$(stat -c %a '$MASTER/audit.log') = 600 ]"
check "no lines but whole ones" sh -c "! grep -vhE '^20[0-9-]*T[0-9:.]*Z ' '$MASTER'/audit.log*"
kill_part master-1
before=$(wc -l <"$MASTER/audit.log")
cluster_up
check "after a restart it goes on where it was" sh -c "[ \$(wc -l <'$MASTER/audit.log') -ge $before ] || [ -e '$MASTER/audit.log.2' ]"
check "and the files are as they were" sh -c "[ \"\$(cairn cat /f)\" = content ]"
