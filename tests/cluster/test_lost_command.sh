#!/usr/bin/env bash
# A command of the master to a server, or its answer, is lost on a connection that lives: the copy is
# asked for again soon, and what was to be deleted is.
. "$(dirname "$0")/../lib/cluster.sh"

export CAIRN_FAULTS=$WORK/faults
mkdir "$CAIRN_FAULTS"
for part in master-1 chunkserver-1 chunkserver-2 chunkserver-3 chunkserver-4; do
	"$TESTS_BIN/fault_ctl" create "$CAIRN_FAULTS/$part" || exit 2
done
up() {
	cluster_up --chunkservers 4 --master-flag=--heartbeat=300ms --master-flag=--dead-after=2s \
		--master-flag=--repair-delay=1s --master-flag=--garbage-grace=1s
}
fault() { # COMMAND PART ...
	"$TESTS_BIN/fault_ctl" "$1" "$CAIRN_FAULTS/$2" "${@:3}"
}
arm() { # PART MATCH
	SLOT=$(fault arm "$1" net.send drop "match=$2")
}
has_struck() { # PART
	[ "$(fault fired "$1" "$SLOT")" -ge 1 ]
}
chunks_left() {
	local s
	for s in 1 2 3 4; do
		chunk_files chunkserver-$s
	done
}
three_left() {
	[ "$(chunks_left | wc -l)" = 3 ]
}
none_left() {
	[ -z "$(chunks_left)" ]
}

up
head -c 100000 /dev/urandom >"$WORK/data"
check "a file" cairn put "$WORK/data" /f
for what in request reply; do
	for s in 1 2 3 4; do # the one server that has no copy gets one
		[ -n "$(chunk_files chunkserver-$s)" ] && victim=chunkserver-$s ||
			target=chunkserver-$s
	done
	[ $what = request ] && part=master-1 || part=$target
	arm "$part" "$what CHUNK_PULL"
	check "a server dies" kill_part "$victim"
	check "the $what for a copy is lost" wait_for 60 has_struck "$part"
	check "and it is made all the same" wait_for 60 nothing_under_goal
	fault disarm "$part" "$SLOT" >"$WORK/struck"
	up
	check "all are back" wait_for 60 servers_up 4
	check "the copy that is too many is deleted" \
		wait_for 60 three_left
done

arm master-1 "request CHUNK_DELETE"
check "the file is removed" cairn rm /f
check "the request to delete its chunk is lost" wait_for 60 has_struck master-1
check "it is deleted all the same" wait_for 60 none_left
