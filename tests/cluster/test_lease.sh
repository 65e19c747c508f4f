#!/usr/bin/env bash
# A server that hears nothing from the master stops serving, and goes on when it hears again. And a
# write that comes when its chunk is long gone leaves nothing behind.
. "$(dirname "$0")/../lib/cluster.sh"

addr_of() {
	cairn local status "$CLUSTER" | sed -n "s/^$1 .*addr=\([^ ]*\).*/\1/p"
}
# As another chunkserver: of a client it would want a token.
says() { # WORD read|write SERVER CHUNK VERSION
	[ "$("$TESTS_BIN/raw_port" "$2" "$3" "$(credentials chunkserver-3)" "$4" "$5")" = "$1" ]
}
chunk_gone() {
	[ "$(for s in 1 2 3; do chunk_files chunkserver-$s; done | grep -c "$1")" = 0 ]
}

cluster_up --master-flag=--dead-after=2s --master-flag=--garbage-grace=0s \
	--chunkserver-flag=--report-interval=500ms
echo content >"$WORK/f"
cairn put "$WORK/f" /f
name=$(basename "$(chunk_files chunkserver-1)")
id=${name%.*}
version=$((16#${name#*.}))
one=$(addr_of chunkserver-1)
two=$(addr_of chunkserver-2)
check "the server serves" says OK read "$one" "$id" $version

master=$(part_pid master-1)
kill -STOP "$master"
check "out of contact it refuses reads" wait_for 60 says LEASE read "$one" "$id" $version
check "and writes" wait_for 60 says LEASE write "$two" "$id" $version
check "a frozen master is noticed without TCP's help" wait_for 60 grep -q "no answer for\|timed out" "$(part_log chunkserver-1)"
kill -CONT "$master"
check "it serves again when the master answers" wait_for 60 says OK read "$one" "$id" $version
check "and the file is read" wait_for 60 sh -c "cairn cat /f | cmp - '$WORK/f'"

cairn rm /f
check "the chunk of a removed file goes" wait_for 60 chunk_gone "$id"
check "its late write is refused" says NO_CHUNK write "$one" "$id" $version
# A restart forgets what was deleted; the next comparison with the master finds what a late write made.
kill_part chunkserver-1 TERM
cluster_up
check "the server is back" wait_for 60 servers_up 3
check "a late write makes the chunk again" wait_for 60 says OK write "$(addr_of chunkserver-1)" "$id" $version
check "it is found to be nobody's, and goes" wait_for 60 chunk_gone "$id"
