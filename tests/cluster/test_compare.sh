#!/usr/bin/env bash
# A replica that differs from the others although its checksums are right is found by the master's
# walk over all chunks, named in the log, and mended from the others.
. "$(dirname "$0")/../lib/cluster.sh"

FILES=6
compared() { # FIELD: a number of the status's "compare"
	cairn status --json | tr -d ' \n' | sed 's/.*"compare":{\([^}]*\)}.*/\1/' |
		grep -o "\"$1\":[0-9]*" | grep -o '[0-9]*$'
}
at_least() { # FIELD N
	[ "$(compared "$1")" -ge "$2" ]
}

cluster_up --chunkservers 3 --replicas 3 --master-flag=--compare-period=3s
for f in $(seq $FILES); do
	head -c 200000 /dev/urandom >"$WORK/f$f"
	cairn put "$WORK/f$f" /
done
check "all chunks are compared" wait_for 60 at_least rounds 1
check "and none differs" test "$(compared bad)" = 0

forged=$(chunk_files chunkserver-2 | sort | sed -n 3p)
chunk=$(basename "$forged" | cut -d. -f1)
kill_part chunkserver-2 TERM
check "a replica is changed, with checksums that are right" "$TESTS_BIN/forge" "$forged" 7
cluster_up --chunkservers 3 --replicas 3 --master-flag=--compare-period=3s
wait_for 60 servers_up 3
check "the difference is found" wait_for 60 at_least bad 1
check "the log names the chunk and the servers" grep -E \
	"error.*chunk $chunk v1: replicas differ.*127.*127.*127" "$(part_log master-1)"
same() {
	[ "$(find "$CLUSTER" -path "*/chunks/*/$chunk.*" -type f -exec cksum {} + |
		cut -d' ' -f1 | sort -u | wc -l)" = 1 ]
}
check "the three replicas are alike again" wait_for 60 same
for f in $(seq $FILES); do
	cairn get "/f$f" "$WORK/got$f"
	check "file $f is what was written" cmp "$WORK/f$f" "$WORK/got$f"
done
rounds=$(compared rounds)
check "later rounds find nothing more" wait_for 60 at_least rounds $((rounds + 2))
check "one chunk was different" test "$(compared bad)" = 1
