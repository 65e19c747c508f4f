#!/usr/bin/env bash
# Writers (one of them with fsync) and a reader on the mount go on while each role is killed or
# frozen: no call fails, the one under way ends. The longest call of each is printed; what is asserted
# of it is generous, since machines are noisy.
. "$(dirname "$0")/../lib/cluster.sh"

STALL_MAX_MS=15000 # of any call
GO_ON=130          # calls that must end after the fault: more than a chunk has

cluster_up --chunkservers 4 --mount "$MNT"

# What a report says: field CALLS, LONGEST or ERRORS.
report() {
	awk -v n="$2" '{print $(n == "CALLS" ? 2 : n == "LONGEST" ? 4 : 7)}' "$WORK/$1.report"
}
has_done() { # NAME COUNT
	[ -s "$WORK/$1.report" ] && [ "$(report "$1" CALLS)" -ge "$2" ]
}
all_have_done() { # COUNT more than when they were looked at last; of fsyncs a tenth
	has_done write $((writes + $1)) && has_done read $((reads + $1)) &&
		has_done sync $((syncs + $1 / 10))
}
look() {
	writes=$(report write CALLS)
	reads=$(report read CALLS)
	syncs=$(report sync CALLS)
}
begin_io() {
	local io
	pids=()
	for io in write read sync; do
		rm -f "$WORK/$io.report"
		background "$TESTS_BIN/stall_io" $io "$MNT/$io" "$WORK/$io.report" 2>"$WORK/$io.err"
		pids+=($!)
	done
	writes=0
	reads=0
	syncs=0
	wait_for 60 all_have_done 20
}
end_io() { # WHAT SIGNAL
	local io pid longest
	for io in write read sync; do
		pid=${pids[0]}
		pids=("${pids[@]:1}")
		kill -TERM "$pid"
		check "$1 $2: no $io fails" wait "$pid"
		longest=$(report $io LONGEST)
		echo "# stall $1 $2: $longest ms (longest $io of $(report $io CALLS))"
		check "$1 $2: no $io takes for ever" [ "$longest" -lt $STALL_MAX_MS ]
		sed 's/^/#   /' "$WORK/$io.err"
	done
}
is_stopped() {
	grep -q '^State:.*T (stopped)' "/proc/$1/status"
}

frozen_for() {
	[ $((SECONDS - frozen)) -ge "$1" ]
}

# The reader's file: written once by the program that knows what it is to hold.
background "$TESTS_BIN/stall_io" write "$MNT/read" "$WORK/fill.report"
check "the reader's file is written" wait_for 60 has_done fill 200
kill -TERM $! && wait $!

for n in 1 2 3 4; do
	check "writers and reader run" begin_io
	pid=$(part_pid chunkserver-$n)
	kill -STOP "$pid"
	check "chunkserver-$n is frozen" wait_for 60 is_stopped "$pid"
	look
	check "all go on without it" wait_for 60 all_have_done $GO_ON
	kill -CONT "$pid"
	look
	check "all go on with it" wait_for 60 all_have_done $GO_ON
	end_io chunkserver-$n STOP
	check "all servers are up" wait_for 60 servers_up 4
done

for n in 1 2 3 4; do
	check "writers and reader run" begin_io
	check "chunkserver-$n is killed" kill_part chunkserver-$n
	look
	check "all go on without it" wait_for 60 all_have_done $GO_ON
	end_io chunkserver-$n KILL
	cluster_up
	check "all servers are up" wait_for 60 servers_up 4
done

# The master: everything waits for it, and no longer than it takes.
check "writers and reader run" begin_io
pid=$(part_pid master-1)
kill -STOP "$pid"
check "the master is frozen" wait_for 60 is_stopped "$pid"
frozen=$SECONDS
check "for two seconds" wait_for 60 frozen_for 2
kill -CONT "$pid"
look
check "all go on after it" wait_for 60 all_have_done $GO_ON
end_io master STOP

check "writers and reader run" begin_io
check "the master is killed" kill_part master-1
cluster_up
look
check "all go on after it" wait_for 60 all_have_done $GO_ON
end_io master KILL
