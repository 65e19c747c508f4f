#!/usr/bin/env bash
# Copies are made up for by themselves: a server that stays away, one that comes back, one that is
# frozen, one that is drained while clients write.
. "$(dirname "$0")/../lib/cluster.sh"

CLOCKS="--master-flag=--dead-after=2s --master-flag=--repair-delay=3s"
cluster_up --mount "$MNT" --chunkservers 4 $CLOCKS

# status_field SERVER FIELD: of the server with this name
status_field() {
	cairn status --json | tr -d ' \n' | grep -o "\"host\":\"$1\"[^{]*\"members\":[0-9]*" |
		grep -o "\"$2\":[a-z0-9]*" | cut -d: -f2
}
server_id() {
	cairn status --json | tr -d ' \n' | grep -o "{\"id\":[0-9]*,[^{]*\"host\":\"$1\"" |
		sed 's/{"id":\([0-9]*\).*/\1/'
}
# Nothing waits, runs or is missing; two looks, so that what was about to begin has begun.
all_mended() {
	local i s
	for i in 1 2; do
		s=$(cairn status --json | tr -d ' \n')
		echo "$s" | grep -q '"chunks_under_goal":0,"chunks_pending":0' || return 1
		echo "$s" | grep -q '"repairs":0,"moves":0,"queue":\[0,0,0,0,0,0,0,0\]' || return 1
		sleep 0.3 # longer than three ticks of the master
	done
}
members_of() {
	[ "$(status_field "$1" members)" = "$2" ]
}
# Every chunk of every file has three copies, none of them on the server with this number.
all_copies_without() {
	local id=$1 n=0 bad=0 line
	while read -r line; do
		n=$((n + 1))
		[ "$(echo "$line" | grep -o '"server":' | wc -l)" = 3 ] || bad=$((bad + 1))
		! echo "$line" | grep -q "\"server\":$id[,}]" || bad=$((bad + 1))
	done < <(cairn stat --json $(cd "$MNT" && find . -type f -size +0 | sed 's/^\.//') |
		tr -d ' \n' | grep -o '"replicas":\[[^]]*\]')
	[ $n -gt 0 ] && [ $bad = 0 ] || { echo "$bad of $n chunks"; return 1; }
}

head -c 30000000 /dev/urandom >"$WORK/big"
cp "$WORK/big" "$MNT/big"
mkdir "$MNT/many"
for i in $(seq 100); do
	echo "file $i" >"$MNT/many/$i"
done
sync -f "$MNT"

# ---- one comes back in time: nothing is copied, it counts again ----
version() {
	cairn stat --json /big | tr -d ' \n' | grep -o '"version":[0-9]*'
}
before=$(version)
kill_part chunkserver-1 TERM # after a crash what was open is compared, which changes the version
cluster_up $CLOCKS
check "a server that comes back in time counts again" wait_for 60 servers_up 4
check "and all is as it should be" wait_for 60 all_mended
check "nothing was changed for it" [ "$(version)" = "$before" ]

# ---- one is lost for good ----
lost=$(server_id chunkserver-2)
kill_part chunkserver-2
check "its copies are made up for, though nobody writes" wait_for 120 all_copies_without "$lost"
check "nothing is left to do" wait_for 60 all_mended
check "what was stored is the same" cmp "$WORK/big" "$MNT/big"

# ---- it comes back with what is still good: a chunk that was written to without it ----
cluster_up $CLOCKS
check "the lost one is back" wait_for 60 servers_up 4
check "its old replicas are removed" wait_for 60 sh -c "
	[ \$(find '$(part_dir chunkserver-2)' -path '*/chunks/*' -type f | wc -l) = 0 ]"
cp "$WORK/big" "$MNT/delta"
id=$(cairn stat --json /delta | tr -d ' \n' | grep -o '"server":[0-9]*' | head -1 | cut -d: -f2)
for n in 1 2 3 4; do
	[ "$(server_id chunkserver-$n)" = "$id" ] && head=chunkserver-$n
done
kill_part "$head"
echo "a few other bytes" | dd of="$MNT/delta" bs=4096 seek=100 conv=notrunc status=none
echo "a few other bytes" | dd of="$WORK/big" bs=4096 seek=100 conv=notrunc status=none
cluster_up $CLOCKS
check "the one that missed a write is back" wait_for 60 servers_up 4
check "and all is mended" wait_for 60 all_mended
check "it was given the blocks that differ, not the chunk" \
	grep -E 'copied from .*, [1-9] of 7[0-9]+ blocks sent' "$(part_log "$head")"
check "the file is the same" cmp "$WORK/big" "$MNT/delta"

# ---- one that is frozen is as good as dead ----
frozen=$(part_pid chunkserver-3)
lost=$(server_id chunkserver-3)
kill -STOP "$frozen"
check "a frozen server is replaced" wait_for 120 all_copies_without "$lost"
kill -CONT "$frozen"
check "it comes back" wait_for 60 servers_up 4
check "nothing is left to do" wait_for 60 all_mended
check "what was stored is the same" cmp "$WORK/big" "$MNT/delta"

# ---- a server is emptied while clients write ----
writer() {
	local i=0
	while [ ! -e "$WORK/stop" ]; do
		i=$((i + 1))
		head -c $((RANDOM % 200000)) /dev/urandom >"$WORK/new"
		cp "$WORK/new" "$MNT/many/new$((i % 40))" || { echo "write $i failed"; return 1; }
		cmp "$WORK/new" "$MNT/many/new$((i % 40))" || return 1
		dd if="$WORK/big" of="$MNT/big" bs=64K count=4 seek=$((i % 400)) skip=$((i % 400)) \
			conv=notrunc status=none || return 1
	done
	echo "$i rounds" >"$WORK/rounds"
}
cp "$WORK/big" "$MNT/big"
drained=$(server_id chunkserver-4)
writer >"$WORK/writer.out" 2>&1 &
writer=$!
BACKGROUND+=($writer)
wait_for 60 [ -e "$MNT/many/new5" ]
check "a server under load is emptied" timeout 120 cairn drain --wait "$drained"
check "it says so" sh -c "cairn status | grep -E '^ +$drained .*draining: 0 chunks left'"
: >"$WORK/stop"
check "the writer noticed nothing" wait "$writer"
check "it wrote" [ -s "$WORK/rounds" ]
check "nothing is on the drained server" wait_for 120 all_copies_without "$drained"
check "what was written meanwhile is the same" cmp "$WORK/big" "$MNT/big"
check "its replicas are removed" wait_for 60 sh -c "
	[ \$(find '$(part_dir chunkserver-4)' -path '*/chunks/*' -type f | wc -l) = 0 ]"
kill_part chunkserver-4
check "it is not missed" sh -c "cmp '$WORK/big' '$MNT/big' && cmp '$WORK/big' '$MNT/delta'"
check "nothing waits for it" all_mended
cluster_up $CLOCKS
check "still draining after a restart of everything" sh -c "
	cairn local down '$CLUSTER' >/dev/null; cairn local up '$CLUSTER' >/dev/null;
	cairn drain --json --cancel $drained | tr -d ' \n' | grep '\"draining\":false'"
check "a server that does not exist cannot be drained" sh -c "! cairn drain 999"

# ---- the master dies in the middle of it ----
cluster_up $CLOCKS --mount "$MNT"
check "four servers are up" wait_for 60 servers_up 4
for i in $(seq 300); do
	echo "another file $i" >"$MNT/many/another$i"
done
drained=$(server_id chunkserver-1)
cairn drain "$drained" >"$WORK/drain.out"
kill_part master-1
check "it was not empty yet" sh -c "! grep -q 'draining, 0 chunks left' '$WORK/drain.out'"
cluster_up $CLOCKS
check "after a restart of the master it goes on" timeout 120 cairn drain --wait "$drained"
check "nothing is on the drained server" wait_for 120 all_copies_without "$drained"
check "nothing is left to do" wait_for 60 all_mended
check "what was stored is the same" sh -c "
	cmp '$WORK/big' '$MNT/big' && [ \"\$(cat '$MNT/many/another300')\" = 'another file 300' ]"

# ---- it is taken off the list ----
servers_listed() {
	[ "$(cairn status --json | tr -d ' \n' | grep -o '"uuid":' | wc -l)" = "$1" ]
}
check "one that runs cannot be taken off the list" sh -c "
	cairn remove $drained 2>&1 | grep 'is running'"
kill_part chunkserver-1
check "the drained one can" wait_for 60 cairn remove "$drained"
check "it is not on the list any more" servers_listed 3
check "and cannot be taken off it again" sh -c "! cairn remove $drained"
lost=$(server_id chunkserver-3)
kill_part chunkserver-3
check "one that files have copies on cannot" wait_for 60 sh -c "
	cairn remove $lost 2>&1 | grep 'is a member'"
cluster_up $CLOCKS
check "one that comes back all the same is new" wait_for 60 servers_up 4
check "what was stored is the same" cmp "$WORK/big" "$MNT/big"
