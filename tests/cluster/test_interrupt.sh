#!/usr/bin/env bash
# Processes that wait for a cluster that does not answer: who is killed dies at once, who handles a signal
# has his call ended with EINTR long before the mount's time-out (30 s). Nobody is blamed for it. Half
# of that time-out counts as at once: machines are busy with other things.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --chunkservers 3 --mount "$MNT"
head -c 3000000 /dev/urandom >"$MNT/file"
cp "$MNT/file" "$WORK/file"

parts() {
	local part
	for part in "$@"; do part_pid "$part"; done
}
is_stopped() {
	grep -q '^State:.*T (stopped)' "/proc/$1/status"
}
silence() { # PART...
	local pid
	SILENT=($(parts "$@"))
	for pid in "${SILENT[@]}"; do
		kill -STOP "$pid"
		wait_for 60 is_stopped "$pid" || return 1
	done
}
go_on() {
	kill -CONT "${SILENT[@]}"
}
asleep() { # in a call that cannot be interrupted, or waits for the answer
	grep -qE '^State:.*[DS] ' "/proc/$1/status" && grep -q fuse "/proc/$1/stack" 2>/dev/null
}
sleeps() {
	grep -qE '^State:.*[DS] ' "/proc/$1/status"
}
gone() {
	! kill -0 "$1" 2>/dev/null || grep -q '^State:.*Z' "/proc/$1/status"
}
versions() {
	cairn stat --json /file | tr -d ' \n' | grep -oE '"version":[0-9]+'
}
call_ends() { # MODE PATH PART...: in RESULT what it came to
	local mode=$1 path=$2
	shift 2
	rm -f "$WORK/go" "$WORK/said"
	mkfifo "$WORK/go"
	background "$TESTS_BIN/signalled" "$mode" "$path" "$WORK/go" >"$WORK/said"
	local pid=$!
	wait_for 60 grep -q ready "$WORK/said" || return 1
	silence "$@" || return 1
	: >"$WORK/go"
	wait "$pid"
	go_on
	RESULT=$(tail -1 "$WORK/said")
	echo "# $mode: $RESULT ms"
	[ "${RESULT%% *}" = EINTR ] && [ "${RESULT##* }" -lt 15000 ]
}

before=$(versions)
# ---- killed ----
silence master-1
background mkdir "$MNT/killed"
pid=$!
wait_for 60 asleep $pid
kill -KILL $pid
check "who waits for the master and is killed dies at once" wait_for 15 gone $pid
background touch "$MNT/terminated"
pid=$!
wait_for 60 asleep $pid
kill -TERM $pid
check "also by a signal that it does not handle" wait_for 15 gone $pid
go_on
check "the mount goes on" wait_for 60 sh -c "echo x >'$MNT/after' && rm '$MNT/after'"
silence chunkserver-1 chunkserver-2 chunkserver-3
background dd if=/dev/zero of="$MNT/file" bs=1M count=1 conv=notrunc status=none
pid=$!
wait_for 60 asleep $pid
kill -KILL $pid
check "who waits for chunkservers and is killed dies at once" wait_for 15 gone $pid
go_on
check "all servers are up" wait_for 60 servers_up 3
check "the mount goes on" wait_for 60 sh -c "echo x >'$MNT/after' && rm '$MNT/after'"
silence master-1 chunkserver-1 chunkserver-2 chunkserver-3
background dd if="$MNT/file" of=/dev/null bs=1M iflag=nocache status=none
pid=$!
wait_for 60 sleeps $pid
kill -KILL $pid
check "so does who reads" wait_for 15 gone $pid
go_on
check "all servers are up" wait_for 60 servers_up 3

# ---- handled (not reads: the kernel waits for their pages itself, and so that only death ends it) ----
check "mkdir is interrupted" call_ends mkdir "$MNT/new" master-1
check "the mount goes on" wait_for 60 sh -c "echo x >'$MNT/after' && rm '$MNT/after'"
check "a write is interrupted" call_ends write "$MNT/file" master-1 chunkserver-1 chunkserver-2 chunkserver-3
check "all servers are up" wait_for 60 servers_up 3
check "the mount goes on" wait_for 60 sh -c "echo x >'$MNT/after' && rm '$MNT/after'"

# ---- nothing is wrong, and writers are killed in the middle ----
cp "$WORK/file" "$MNT/file"
check "all copies are there" wait_for 60 nothing_under_goal
before=$(versions)
for n in $(seq 20); do
	dd if=/dev/urandom of="$MNT/file" bs=1M count=3 conv=notrunc status=none &
	pid=$!
	sleep 0.0$((RANDOM % 6)) # somewhere in it
	kill -KILL $pid
	wait $pid 2>/dev/null
done
check "no server is blamed for it" [ "$(versions)" = "$before" ]
check "all copies are there" nothing_under_goal
check "the file can be written and read" sh -c "cp '$WORK/file' '$MNT/file' && cmp '$WORK/file' '$MNT/file'"
