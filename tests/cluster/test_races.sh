#!/usr/bin/env bash
# Sessions that write and truncate one file at the same time: what is there in the end is what some
# order of the operations gives. Also while servers are lost.
. "$(dirname "$0")/../lib/cluster.sh"

ROUNDS=${ROUNDS:-300}
cluster_up --master-flag=--dead-after=2s
check "every end can be explained" timeout 200 "$TESTS_BIN/race_truncate" /race "$ROUNDS" "$SEED"
sed 's/^/# /' "$WORK/check.out"

# The same, while a server at a time dies and comes back.
background timeout 200 "$TESTS_BIN/race_truncate" /race2 "$ROUNDS" "$((SEED + 1))" >"$WORK/race.out" 2>&1
race=$!
kills=0
while kill -0 $race 2>/dev/null; do
	kill_part chunkserver-$((kills % 3 + 1)) && kills=$((kills + 1))
	cluster_up
	wait_for 20 servers_up 3
done
check "every end can be explained, after $kills kills" wait $race
sed 's/^/# /' "$WORK/race.out"
check "servers were killed" test $kills -ge 3
