#!/usr/bin/env bash
# A disk without room in the middle of a chain: the write goes on with the others, and the replicas
# are made the same again without anybody reading, also when no server has room.
. "$(dirname "$0")/../lib/cluster.sh"

export CAIRN_FAULTS=$WORK/faults
mkdir "$CAIRN_FAULTS"
SERVERS="chunkserver-1 chunkserver-2 chunkserver-3 chunkserver-4"
for s in $SERVERS; do
	"$TESTS_BIN/fault_ctl" create "$CAIRN_FAULTS/$s" || exit 2
done
cluster_up --chunkservers 4 --mount "$MNT" --mount-option=timeout=15s --master-flag=--dead-after=3s \
	--master-flag=--repair-delay=1s

addr_of() {
	cairn local status "$CLUSTER" | sed -n "s/^$1 .*addr=\([^ ]*\).*/\1/p"
}
replicas_agree() {
	local s args=()
	for s in $SERVERS; do
		args+=("$(addr_of "$s")=$(part_dir "$s")")
	done
	"$TESTS_BIN/replicas" "${args[@]}"
}
whole_again() {
	nothing_under_goal && replicas_agree
}
arm() { # SERVER: no chunk file of it takes any more data
	"$TESTS_BIN/fault_ctl" arm "$CAIRN_FAULTS/$1" io.pwrite error match=/chunks/ times=ever \
		"arg=28" >"$WORK/slot"
}
disarm() { # prints how often the fault struck
	"$TESTS_BIN/fault_ctl" disarm "$CAIRN_FAULTS/$1"
}

head -c 20000000 /dev/urandom >"$WORK/data"
for s in $SERVERS; do
	f=f-$s
	# The file is there on three of four servers: not every server gets into its chain.
	check "a file" cp "$WORK/data" "$MNT/$f"
	arm "$s"
	check "it is written over while $s has no room" timeout 60 \
		dd if="$WORK/data" of="$MNT/$f" bs=1M conv=notrunc status=none
	check "and new ones are written" sh -c "
		for i in 1 2 3; do timeout 60 cp '$WORK/data' '$MNT/$f.'\$i || exit 1; done"
	check "$s was asked and had none" test "$(disarm "$s")" -gt 0
	check "the replicas are the same again without a reader" wait_for 60 whole_again
	check "what was written is there" sh -c "
		for i in $f $f.1 $f.2 $f.3; do cmp '$WORK/data' '$MNT/'\$i || exit 1; done"
done

# Nobody has room: the writer is told, and what is left of its write is the same everywhere.
for s in $SERVERS; do
	arm "$s"
done
check "no room anywhere is an error" sh -c "
	! timeout 60 dd if='$WORK/data' of='$MNT/f-chunkserver-1' bs=1M conv=notrunc status=none"
struck=0
for s in $SERVERS; do
	struck=$((struck + $(disarm "$s")))
done
check "the servers were asked" test $struck -gt 0
check "the replicas are the same after it" wait_for 60 whole_again
