#!/usr/bin/env bash
# kill -9 of any one chunkserver, while and after data is written: the same bytes come back.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --mount "$MNT" --master-flag=--dead-after=2s --master-flag=--repair-delay=5s
head -c 120000000 /dev/urandom >"$WORK/big"
TREE=/usr/include/linux

# The writer is slowed by nothing but itself: the server dies when the file has half its size.
for n in 1 2 3; do
	background timeout 60 dd if="$WORK/big" of="$MNT/big$n" bs=1M status=none
	writer=$!
	wait_for 60 sh -c "[ \$(stat -c %s '$MNT/big$n') -gt 30000000 ]"
	kill_part chunkserver-$n
	check "dd goes on without chunkserver-$n" wait $writer
	check "the file is the same without chunkserver-$n" cmp "$WORK/big" "$MNT/big$n"
	background timeout 100 cp -a $TREE "$MNT/tree$n"
	check "a tree can be copied with two servers" wait $!
	check "the tree is the same with two servers" diff -r $TREE "$MNT/tree$n"
	cluster_up
	check "chunkserver-$n is back" wait_for 60 servers_up 3
done
for n in 1 2 3; do
	check "big$n is the same with all servers back" cmp "$WORK/big" "$MNT/big$n"
done

# Lost after the writing, read with what is left.
check "the copies are made up for" wait_for 120 nothing_under_goal
for n in 1 2 3; do
	kill_part chunkserver-$n
	check "all is there without chunkserver-$n (after)" sh -c "
		cmp '$WORK/big' '$MNT/big1' && cmp '$WORK/big' '$MNT/big2' &&
		diff -r $TREE '$MNT/tree1'"
	cluster_up
	check "chunkserver-$n is back again" wait_for 60 servers_up 3
done

# A server that is frozen, not dead: connections stay open, nothing answers.
frozen=$(part_pid chunkserver-2)
kill -STOP "$frozen"
check "a frozen server does not stop a reader" timeout 60 cmp "$WORK/big" "$MNT/big3"
check "a frozen server does not stop a writer" timeout 60 cp "$WORK/big" "$MNT/big4"
check "what was written is the same" timeout 60 cmp "$WORK/big" "$MNT/big4"
kill -CONT "$frozen"
check "it comes back" wait_for 60 servers_up 3
check "and all is the same" cmp "$WORK/big" "$MNT/big4"
