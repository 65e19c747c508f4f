#!/usr/bin/env bash
# Power loss below all code: every part lives on a loop-mounted ext4 whose plug is pulled. Every
# metadata operation that returned and every fsynced byte is there afterwards.
. "$(dirname "$0")/../lib/cluster.sh"

DISK=$WORK/disk
mkdir "$DISK"
truncate -s 600M "$WORK/image"
if [ "$(id -u)" != 0 ] || ! mkfs.ext4 -q "$WORK/image" || ! mount -o loop "$WORK/image" "$DISK" 2>/dev/null; then
	echo "# skipped: needs root and loop devices"
	exit
fi
MOUNTS+=("$DISK")
# Only the data lies on the disk whose plug is pulled; logs and pid files must outlive it.
mkdir "$CLUSTER"
chmod 700 "$CLUSTER"
for part in master-1 chunkserver-1 chunkserver-2 chunkserver-3; do
	mkdir "$DISK/$part"
	ln -s "$DISK/$part" "$CLUSTER/$part"
done
sync -f "$DISK"
cluster_up --mount "$MNT"

for round in 1 2 3; do
	mkdir "$MNT/round$round"
	# Unsynced work goes on while the plug is pulled.
	background "$TESTS_BIN/power_ops" "$MNT/round$round" "$WORK/told$round"
	ops=$!
	wait_for 60 sh -c "[ \$(wc -l <'$WORK/told$round') -gt 40 ]"
	"$TESTS_BIN/godown" "$DISK"
	for part in master-1 chunkserver-1 chunkserver-2 chunkserver-3 mount-1; do
		kill -KILL "$(cat "$CLUSTER/run/$part.pid")" 2>/dev/null
	done
	kill -KILL $ops 2>/dev/null
	wait $ops 2>/dev/null
	umount -l "$MNT" 2>/dev/null
	wait_for 60 umount "$DISK"
	mount -o loop "$WORK/image" "$DISK" || exit
	cluster_up --mount "$MNT"
	check "the servers are back after power loss $round" wait_for 60 servers_up 3
	check "everything acknowledged and every fsynced byte is there ($round)" \
		"$TESTS_BIN/power_ops" --check "$MNT/round$round" "$WORK/told$round"
	sed -n '$s/^/# last told: /p' "$WORK/told$round"
done
