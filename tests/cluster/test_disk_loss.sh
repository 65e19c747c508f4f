#!/usr/bin/env bash
# A chunkserver with two disks loses one: the other one's chunks are served all the time, and what
# was lost is copied anew, to the disk that is left. The lost disk is taken back by a restart.
. "$(dirname "$0")/../lib/cluster.sh"

FILES=30
mkdir "$WORK/d1" "$WORK/d2"
for d in d1 d2; do
	truncate -s 300M "$WORK/$d.image"
	if [ "$(id -u)" != 0 ] || ! mkfs.ext4 -q "$WORK/$d.image" ||
		! mount -o loop "$WORK/$d.image" "$WORK/$d" 2>/dev/null; then
		echo "# skipped: needs root and loop devices"
		exit
	fi
	MOUNTS+=("$WORK/$d")
done

# A server beside the local cluster's, with two disks. It takes the place of chunkserver-3, so that
# it is a member of every chunk.
start_server() {
	cairn-chunkserver --data="$WORK/d1/data,$WORK/d2/data" --master="$CAIRN_MASTER" \
		--credentials="$(credentials chunkserver-1)" --listen=127.0.0.1:0 --name=two-disks --host=two-disks \
		--reserve=1M >>"$CLUSTER/log/two-disks.log" 2>&1 &
	SERVER=$!
	BACKGROUND+=($SERVER)
}
stop_server() {
	kill -TERM $SERVER
	wait $SERVER
}
names_on() { # DISK: its chunks, with their versions
	find "$WORK/$1" -path '*/chunks/*' -type f | sed 's/.*chunks//' | sort
}
ids_on() {
	names_on "$1" | sed 's/\.[0-9a-f]*$//'
}
disks_bad() { # N servers have a bad disk, and are up
	[ "$(cairn status --json | tr -d ' \n' | grep -o '"disks_bad":1' | wc -l)" = "$1" ]
}
all_readable() {
	local i
	for i in $(seq $FILES); do
		cairn cat "/f$i" | cmp - "$WORK/f$i" || return
	done
}
every_chunk_on() { # DISK
	[ "$(ids_on "$1" | wc -l)" = $FILES ]
}

cluster_up --master-flag=--dead-after=2s --master-flag=--repair-delay=1s
kill_part chunkserver-3 TERM
start_server
check "the server with two disks is up" wait_for 60 servers_up 3
for i in $(seq $FILES); do
	head -c $((RANDOM * 4)) /dev/urandom >"$WORK/f$i"
	cairn put "$WORK/f$i" "/f$i"
done
names_on d1 >"$WORK/before1"
names_on d2 >"$WORK/before2"
check "both disks have chunks" sh -c "test -s '$WORK/before1' && test -s '$WORK/before2'"
check "together all of them" sh -c "[ \$(cat '$WORK/before1' '$WORK/before2' | wc -l) = $FILES ]"

"$TESTS_BIN/godown" "$WORK/d1"
# Writing is what shows it: the disk does not answer at all.
for i in $(seq $FILES); do
	head -c 5000 /dev/urandom >"$WORK/f$i"
	cairn put "$WORK/f$i" "/f$i" 2>/dev/null || echo "$i" >>"$WORK/put.failed"
done
check "no writer fails" test ! -s "$WORK/put.failed"
check "the server goes on, and the master knows" wait_for 60 disks_bad 1
check "the log names the disk" grep -q "$WORK/d1/data.*failed" "$CLUSTER/log/two-disks.log"
check "all is readable" all_readable
check "nothing is left under goal" wait_for 60 nothing_under_goal
check "every chunk is on the disk that is left" wait_for 60 every_chunk_on d2

# It is still there after a restart, without the disk; and with it again.
stop_server
umount "$WORK/d1"
mv "$WORK/d1" "$WORK/d1.away"
start_server
check "it starts without the disk" wait_for 60 servers_up 3
check "and says so" wait_for 60 disks_bad 1
check "nothing is under goal" wait_for 60 nothing_under_goal
stop_server
mv "$WORK/d1.away" "$WORK/d1"
mount -o loop "$WORK/d1.image" "$WORK/d1"
start_server
check "it takes the disk back" wait_for 60 sh -c "cairn status --json | tr -d ' \n' |
	grep -q '\"disks\":2,\"disks_bad\":0'"
check "nothing is under goal then" wait_for 60 nothing_under_goal
check "all is still readable" all_readable
stop_server
