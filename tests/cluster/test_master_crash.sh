#!/usr/bin/env bash
# kill -9 of the master at random moments under a stream of creates and renames: what was
# acknowledged is there, nothing happened twice.
. "$(dirname "$0")/../lib/cluster.sh"

KILLS=10
cluster_up
background "$TESTS_BIN/crash_ops" run /crash 8 >"$WORK/ops.out" 2>&1
ops=$!
kills=0
while [ $kills -lt $KILLS ] && kill -0 $ops; do
	sleep 0.$((RANDOM % 9 + 1)) # a random moment is the point here
	kill_part master-1 && kills=$((kills + 1))
	cluster_up
done
kill -TERM $ops
check "every acknowledged operation is there, once, after $kills kills" wait $ops
sed 's/^/# /' "$WORK/ops.out"
check "the master was killed" test $kills = $KILLS
check "some operations were done" sh -c "[ \$(sed -n 's/^operations \([0-9]*\).*/\1/p' '$WORK/ops.out') -gt 200 ]"

check "64 renames are sent, their answers dropped" "$TESTS_BIN/retry" prepare "$WORK/retry"
kill_part master-1
cluster_up
check "the retries get their first answers" "$TESTS_BIN/retry" again "$WORK/retry"
