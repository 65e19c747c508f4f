#!/usr/bin/env bash
# A server that comes to full ones empty takes over a share of their chunks, and then all is quiet.
. "$(dirname "$0")/../lib/cluster.sh"

if [ "$(id -u)" != 0 ] || ! mount -t tmpfs -o size=1M tmpfs "$MNT" 2>/dev/null; then
	echo "# skipped: needs root for tmpfs"
	exit
fi
umount "$MNT"
cluster_up --chunkservers 4 --master-flag=--dead-after=2s --master-flag=--repair-delay=60s \
	--chunkserver-flag=--reserve=1M
cairn local down "$CLUSTER" >/dev/null
for n in 1 2 3 4; do
	dir=$CLUSTER/chunkserver-$n
	MOUNTS+=("$dir")
	rm -rf "${dir:?}"/*
	mount -t tmpfs -o size=100M tmpfs "$dir"
done
cluster_up
check "four servers are up" wait_for 30 servers_up 4
kill_part chunkserver-4
check "one of them is down" wait_for 30 servers_up 3
mkdir "$WORK/src"
for i in $(seq 50); do
	head -c 1000000 /dev/urandom >"$WORK/src/$i"
done
check "three servers are filled by half" cairn put -r "$WORK/src" /src

files_on_4() {
	find "$CLUSTER/chunkserver-4" -path '*/chunks/*' -type f | wc -l
}
moves_begun() {
	grep -c 'moved from .* which is emptier' "$(part_log master-1)"
}
# Between two moves nothing moves either: it is over when no server is fuller than another by more than
# the threshold (10 %) and none moves for a while. A server that has nothing to give, as when another is
# late with its heartbeat, is asked again after a minute.
moves_ended() {
	local begun
	begun=$(moves_begun)
	sleep 8
	[ "$begun" = "$(moves_begun)" ] && cairn status --json | jq -e '
		.garbage == 0 and .repairs == 0 and .moves == 0 and
		([.servers[] | select(.total_bytes > 0) | 1 - .free_bytes / .total_bytes] |
			max - min <= 0.10)' >/dev/null
}
cluster_up
check "the empty one is back" wait_for 30 servers_up 4
check "chunks are moved to it" wait_for 60 eval '[ "$(moves_begun)" -ge 1 ]'
check "that comes to an end" wait_for 240 moves_ended
n=$(files_on_4)
check "with its share of the 150 copies: $n" [ "$n" -ge 28 -a "$n" -le 45 ]
check "all is as it was" sh -c "
	cairn get -r /src '$WORK/back' && diff -r '$WORK/src' '$WORK/back'"
check "no copy is left over" wait_for 20 sh -c "
	[ \$(find '$CLUSTER'/chunkserver-* -path '*/chunks/*' -type f | wc -l) = 150 ]"
