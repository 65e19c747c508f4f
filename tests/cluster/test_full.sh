#!/usr/bin/env bash
# A server without room is skipped; a cluster without room is ENOSPC; room comes back.
. "$(dirname "$0")/../lib/cluster.sh"

if [ "$(id -u)" != 0 ] || ! mount -t tmpfs -o size=1M tmpfs "$MNT" 2>/dev/null; then
	echo "# skipped: needs root for tmpfs"
	exit
fi
umount "$MNT"
cluster_up --mount "$MNT" --chunkserver-flag=--reserve=1M
cairn local down "$CLUSTER" >/dev/null
for n in 1 2 3; do
	dir=$CLUSTER/chunkserver-$n
	MOUNTS+=("$dir")
	size=48M
	[ $n = 1 ] && size=8M
	rm -rf "${dir:?}"/*
	mount -t tmpfs -o size=$size tmpfs "$dir"
done
cluster_up --mount "$MNT"
check "three servers are up" wait_for 60 servers_up 3
check "what fits two servers is stored though the third is full" sh -c "
	head -c 20000000 /dev/urandom >'$WORK/a' && cp '$WORK/a' '$MNT/a' && cmp '$WORK/a' '$MNT/a'"
check "a full cluster is ENOSPC" sh -c "
	! dd if=/dev/urandom of='$MNT/b' bs=1M count=60 2>'$WORK/dd.out' && grep -i 'no space left' '$WORK/dd.out'"
check "what was there is intact" cmp "$WORK/a" "$MNT/a"
rm -f "$MNT/b"
check "room comes back" wait_for 60 cp "$WORK/a" "$MNT/c"
check "and is good" cmp "$WORK/a" "$MNT/c"
