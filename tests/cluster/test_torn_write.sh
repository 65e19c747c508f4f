#!/usr/bin/env bash
# All replicas crash in the middle of writes that were not synced, and blocks are left that verify
# nowhere. Fsynced bytes in those very blocks are there afterwards, and nothing is an error for ever.
. "$(dirname "$0")/../lib/cluster.sh"

DATA=69632 # where the data begins in the file of a 64 MiB chunk
SERVERS="chunkserver-1 chunkserver-2 chunkserver-3"
FILES="1 2 3 4 5 6"
OPTIONS=(--mount "$MNT" --chunkserver-flag=--sync-interval=1h) # what is unsynced stays so

# The chunk file of FILE n on SERVER, found by what it holds.
chunk_of() {
	local f
	for f in $(chunk_files "$2"); do
		cmp -s -n 6000 <(tail -c +$((DATA + 1)) "$f") "$WORK/f$1" && echo "$f" && return
	done
}
# Of each file 6,000 bytes that are fsynced. $WORK/chunks has a line for each replica: the file's
# number, the server, the chunk file.
write_files() {
	local n s
	for n in $FILES; do
		head -c 7000 /dev/urandom >"$WORK/f$n"
		head -c 6000 "$WORK/f$n" | dd of="$MNT/f$n" bs=6000 conv=fsync status=none
	done
	for n in $FILES; do
		for s in $SERVERS; do
			echo "$n $s $(chunk_of "$n" "$s")"
		done
	done >"$WORK/chunks"
	[ "$(awk 'NF == 3' "$WORK/chunks" | wc -l)" = 18 ]
}
all_arrived() {
	local n s file
	while read -r n s file; do
		cmp -s -n 7000 <(tail -c +$((DATA + 1)) "$file") "$WORK/f$n" || return
	done <"$WORK/chunks"
}
# And 1,000 more, in the same block, that are not. From here on it has to go quickly: after 30 s the
# kernel writes all of it to the disks by itself.
append_unsynced() {
	local n
	for n in $FILES; do
		tail -c 1000 "$WORK/f$n" >>"$MNT/f$n"
	done
	wait_for 60 all_arrived
}
kill_servers() {
	local s
	for s in $SERVERS; do
		kill -KILL "$(cat "$CLUSTER/run/$s.pid")"
	done
	for s in $SERVERS; do
		wait_for 60 sh -c "! kill -0 $(cat "$CLUSTER/run/$s.pid")"
	done
}
torn_count() {
	cat "$CLUSTER"/log/chunkserver-?.log | grep -c "was open at the crash: [1-9]"
}
fsynced_is_there() { # N: through the CLI, which has nothing cached
	cairn cat "/f$1" >"$WORK/got" && [ "$(stat -c %s "$WORK/got")" = 7000 ] &&
		cmp -n 6000 "$WORK/got" "$WORK/f$1"
}
all_is_there() {
	cairn cat "/f$1" | cmp - "$WORK/f$1"
}
replicas_agree() { # N: byte for byte, checksums included
	local one two three
	one=$(chunk_of "$1" chunkserver-1)
	two=$(chunk_of "$1" chunkserver-2)
	three=$(chunk_of "$1" chunkserver-3)
	cmp "$one" "$two" && cmp "$one" "$three"
}

# ---- kill -9 of all, and a torn block made by hand ----
cluster_up "${OPTIONS[@]}"
check "every server has every chunk" write_files
check "what is not synced, too" append_unsynced
kill_servers
# Files 1 and 2 on all servers, 3 and 4 on two, 5 and 6 on one: each with other bytes.
while read -r n s file; do
	if [ "$n" -le 2 ] || { [ "$n" -le 4 ] && [ "$s" != chunkserver-2 ]; } || [ "$s" = chunkserver-1 ]; then
		printf 'torn on %s' "$s" | dd of="$file" bs=1 seek=$((DATA + 6100)) conv=notrunc status=none
	fi
done <"$WORK/chunks"
cluster_up "${OPTIONS[@]}"
check "the servers are back" wait_for 60 servers_up 3
check "the blocks were torn" [ "$(torn_count)" = 12 ]
for n in 1 2; do
	check "torn everywhere: fsynced bytes of file $n are there, and no error" fsynced_is_there "$n"
done
for n in 3 4 5 6; do
	check "torn on some: file $n is taken from the others" all_is_there "$n"
done
for n in $FILES; do
	check "the replicas of file $n are identical" wait_for 60 replicas_agree "$n"
done
check "and can be written again" sh -c "echo more >>'$MNT/f1' && sync '$MNT/f1' && cairn cat /f1 | tail -c 5 | grep -q more"
timeout 60 cairn local down "$CLUSTER" >/dev/null

# ---- power loss: the kernel had written back the data and not the checksums ----
DISK=$WORK/disk
mkdir "$DISK"
truncate -s 600M "$WORK/image"
if [ "$(id -u)" != 0 ] || ! mkfs.ext4 -q "$WORK/image" || ! mount -o loop "$WORK/image" "$DISK" 2>/dev/null; then
	echo "# skipped the part that needs root and loop devices"
	exit
fi
MOUNTS+=("$DISK")
rm -rf "$CLUSTER"
mkdir -m 700 "$CLUSTER"
for part in master-1 $SERVERS; do
	mkdir "$DISK/$part"
	ln -s "$DISK/$part" "$CLUSTER/$part"
done
sync -f "$DISK"
part_dir() { # what find(1) does not follow
	echo "$DISK/$1"
}
cluster_up "${OPTIONS[@]}"
check "every server has every chunk" write_files
check "what is not synced, too" append_unsynced
check "the kernel has written the data, not the checksums" \
	"$TESTS_BIN/write_back" $DATA $(cut -d' ' -f3 "$WORK/chunks")
"$TESTS_BIN/godown" "$DISK"
for part in master-1 $SERVERS mount-1; do
	kill -KILL "$(cat "$CLUSTER/run/$part.pid")" 2>/dev/null
done
umount -l "$MNT" 2>/dev/null
wait_for 60 umount "$DISK"
mount -o loop "$WORK/image" "$DISK" || exit
cluster_up "${OPTIONS[@]}"
check "the servers are back after the power loss" wait_for 60 servers_up 3
check "every block was torn on every server" [ "$(torn_count)" = 18 ]
for n in $FILES; do
	check "every fsynced byte of file $n is there, and no error" fsynced_is_there "$n"
	check "the replicas of file $n are identical" wait_for 60 replicas_agree "$n"
done
