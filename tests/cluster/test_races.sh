#!/usr/bin/env bash
# Sessions that write and truncate one file at the same time: what is there in the end is what some
# order of the operations gives. Also while servers are lost. ROUNDS (100) and KILLS (6) for longer.
. "$(dirname "$0")/../lib/cluster.sh"

ROUNDS=${ROUNDS:-100}
KILLS=${KILLS:-6}
cluster_up --master-flag=--dead-after=2s
check "every end can be explained" timeout 300 "$TESTS_BIN/race_truncate" /race "$ROUNDS" "$SEED"
sed 's/^/# /' "$WORK/check.out"

# The same, while a server at a time dies and comes back.
background "$TESTS_BIN/race_truncate" /race2 1000000 "$((SEED + 1))" >"$WORK/race.out" 2>&1
race=$!
kills=0
while [ $kills -lt "$KILLS" ] && kill -0 $race; do
	kill_part chunkserver-$((kills % 3 + 1)) && kills=$((kills + 1))
	cluster_up
	wait_for 60 servers_up 3
done
kill -TERM $race
check "every end can be explained, after $kills kills" wait $race
sed 's/^/# /' "$WORK/race.out"
check "servers were killed" test $kills = "$KILLS"
