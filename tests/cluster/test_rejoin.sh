#!/usr/bin/env bash
# Servers are killed one after the other under a writer, with disks on which a whole copy of a chunk takes
# minutes. One that comes back is a member of every chunk again before that, and none is left with its
# last copy on the next victim. Then two are lost at once and not replaced: who has the only copy of a
# chunk gets company without waiting for them.
. "$(dirname "$0")/../lib/cluster.sh"

PASS=205 # calls in which the writer has come to each of its chunks

export CAIRN_FAULTS=$WORK/faults
mkdir "$CAIRN_FAULTS"
for part in master-1 chunkserver-1 chunkserver-2 chunkserver-3 chunkserver-4; do
	"$TESTS_BIN/fault_ctl" create "$CAIRN_FAULTS/$part" || exit 2
done
each_server() { # fault_ctl COMMAND ARGS...: in SLOTS what it says
	local n
	SLOTS=()
	for n in 1 2 3 4; do
		SLOTS+=("$("$TESTS_BIN/fault_ctl" "$1" "$CAIRN_FAULTS/chunkserver-$n" "${@:2}")")
	done
}
calls() {
	awk '{print $2}' "$WORK/write.report"
}
has_written() { # COUNT
	[ "$(calls)" -ge "$1" ]
}
goes_round() {
	wait_for 60 has_written $(($(calls) + PASS))
}
copies() { # of each chunk of the writer's file
	cairn stat --json /write | tr -d ' \n' | grep -o '"replicas":\[[^]]*\]' |
		while read -r line; do grep -o '"server"' <<<"$line" | wc -l; done
}
none_alone() {
	[ "$(copies | sort -n | head -1)" -ge 2 ]
}
struck() {
	local n sum=0
	for n in 0 1 2 3; do
		sum=$((sum + $("$TESTS_BIN/fault_ctl" fired "$CAIRN_FAULTS/chunkserver-$((n + 1))" \
			"${SLOW[n]}")))
	done
	[ "$sum" -ge 1 ]
}

cluster_up --chunkservers 4 --mount "$MNT"
background "$TESTS_BIN/stall_io" write "$MNT/write" "$WORK/write.report"
check "the writer has been round" wait_for 60 has_written $PASS
each_server arm io.pwrite delay match=.new arg=20 times=ever
SLOW=("${SLOTS[@]}")
for n in 1 2 3 4; do
	check "chunkserver-$n is killed" kill_part chunkserver-$n
	check "the writer goes on" goes_round
	cluster_up
	check "chunkserver-$n is back" wait_for 60 servers_up 4
	check "and a member again" wait_for 60 nothing_under_goal
done
check "they were given what they lacked, not whole chunks" \
	grep -E 'copied from .*, [0-9]{1,3} of [0-9]+ blocks sent' "$CLUSTER"/log/chunkserver-*.log
for n in 1 2; do
	check "chunkserver-$n is killed" kill_part chunkserver-$n
	check "the writer goes on" goes_round
done
check "no chunk is left with one copy" wait_for 40 none_alone
check "whole copies were made, slowly" struck
check "chunkserver-3 is killed" kill_part chunkserver-3
check "the writer goes on" goes_round
kill -TERM "${BACKGROUND[0]}"
check "none of its calls failed" wait "${BACKGROUND[0]}"
echo "# $(cat "$WORK/write.report")"
