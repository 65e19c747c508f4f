#!/usr/bin/env bash
# Many processes on two mounts and many clients append to one file: every record is there once, whole,
# without gaps, while servers, the master and clients die.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --chunkservers 3 --mount "$MNT" --master-flag=--session-ttl=3s
W=()
writer() { # KIND FILE ID COUNT
	"$TESTS_BIN/append_ops" "$@" >>"$WORK/writers" 2>&1 &
	W+=($!)
	BACKGROUND+=($!)
}
all_done() {
	local pid status=0
	for pid in "${W[@]}"; do
		wait "$pid" || status=1
	done
	W=()
	[ $status = 0 ] || { cat "$WORK/writers"; false; }
}
records() { # FILE DONE MAYBE
	"$TESTS_BIN/append_ops" check "$@"
}
grown() { # FILE BYTES
	[ "$(stat -c %s "$1")" -ge "$2" ]
}
check "a second mount" second_mount

# Two mounts and two programs at once.
for id in 1 2 3; do
	writer mount "$MNT/all" $id 60
	writer mount "$SECOND/all" $((id + 10)) 60
done
writer record /all 21 60
writer record /all 22 60
check "eight append at once" all_done
check "each record once, whole" records "$SECOND/all" 1:60,2:60,3:60,11:60,12:60,13:60,21:60,22:60 ""
check "the other mount sees the same" cmp "$MNT/all" "$SECOND/all"

# A chunkserver and the master die meanwhile.
writer mount "$MNT/deaths" 1 120
writer mount "$SECOND/deaths" 2 120
writer record /deaths 3 120
check "they have begun" wait_for 60 grown "$MNT/deaths" 3000
kill_part chunkserver-1
check "they go on without a chunkserver" wait_for 60 grown "$MNT/deaths" 20000
kill_part master-1
check "both start again" timeout 60 cairn local up "$CLUSTER"
check "all end well" all_done
check "each record once, whole" records "$MNT/deaths" 1:120,2:120,3:120 ""

# Clients die while they append: what they had begun is there whole or not at all, and the others go on.
writer mount "$MNT/killed" 1 200
writer mount "$SECOND/killed" 2 100000
two=$!
"$TESTS_BIN/append_ops" record /killed 3 100000 >"$WORK/three" 2>&1 &
three=$!
BACKGROUND+=("$three")
check "they have begun" wait_for 60 grown "$MNT/killed" 3000
kill -KILL "$three"
kill -KILL "$second"
kill -KILL "$two"
umount -l "$SECOND"
W=("${W[0]}")
check "the other one goes on" all_done
check "no lock is left" wait_for 60 sh -c "[ \"\$(cairn locks --json | tr -d ' \n')\" = '[]' ]"
check "each record once, whole" records "$MNT/killed" 1:200 2,3

# What a writer that does not append does meanwhile: the file grows and is cut.
check "a second mount" second_mount
writer mount "$MNT/cut" 1 100
check "it has begun" wait_for 60 grown "$MNT/cut" 1000
for _ in 1 2 3 4 5; do
	: >"$SECOND/cut"
done
check "it ends well" all_done
check "and the file is whole records again" sh -c "
	: >'$SECOND/cut' && '$TESTS_BIN/append_ops' mount '$MNT/cut' 7 5 &&
	'$TESTS_BIN/append_ops' check '$SECOND/cut' 7:5 ''"
# Another mount frees the chunk that an appender has a location of.
exec 9>>"$SECOND/freed"
printf first >&9
: >"$MNT/freed"
printf second >&9
check "a record is there once when its chunk was freed" [ "$(cat "$MNT/freed")" = second ]
exec 9>&-
kill -TERM "$second"
check "the second mount ends" wait_for 60 sh -c "! mountpoint -q '$SECOND'"
