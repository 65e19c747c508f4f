#!/usr/bin/env bash
# The benchmark's harness at the smallest scale, on the local disk and on Cairn: each workload runs,
# and the table and the JSON have all its rows. It measures nothing; `make bench` does.
. "$(dirname "$0")/../lib/cluster.sh"
BENCH=$(cd "$(dirname "$0")/../bench" && pwd)

[ -c /dev/fuse ] && command -v jq >/dev/null || { echo "# skipped: no FUSE or no jq"; exit 0; }
export BENCH_DIR=$WORK SCALE=0 ROUNDS=1 SETTLE_S=0 SYSTEMS="local cairn3"
WANTED="stream random files files8 bigdir tree bulk"
ROWS=42
! command -v git >/dev/null || { WANTED="$WANTED git" ROWS=$((ROWS + 4)); }
! command -v sqlite3 >/dev/null || { WANTED="$WANTED sqlite" ROWS=$((ROWS + 2)); }

# bench OUT WORKLOADS ACCOUNT
bench() {
	OUT=$1 WORKLOADS=$2 ACCOUNT=$3 timeout 400 bash "$BENCH/bench.sh"
}
json_counts() { # FILE CONDITION
	jq "[.rows[].systems | select($2)] | length" "$1"
}
table_counts() { # FILE: lines that begin with the name of a row of the JSON
	jq -r '.rows[].work' "$1/results.json" | awk -v table="$1/results.txt" '
		{ row[$0] } END { while ((getline line <table) > 0) { name = substr(line, 1, 46); sub(/ *$/, "", name)
			n += name in row } print n }'
}

check "the harness runs every workload" bench "$WORK/times" "$WANTED" 0
check "each of $ROWS rows has a median" [ \
	"$(json_counts "$WORK/times/results.json" '.local.median > 0 and .cairn3.median > 0')" = $ROWS ]
check "the load generator measures the master" bench "$WORK/master" "master memory" 0
check "in 9 rows" [ "$(json_counts "$WORK/master/results.json" '.cairn3.median > 0')" = 9 ]
check "the table has them, with CPU and fsyncs" [ "$(table_counts "$WORK/times")" = $((ROWS * 3)) ]
check "it accounts for the daemons" bench "$WORK/account" files 1
check "their CPU is in the JSON" [ "$(json_counts "$WORK/account/results.json" '.cairn3.cpu_s > 0')" -gt 0 ]
check "nothing of it is left" sh -c "! ls -d '$WORK'/cairn-bench-*"
check "a system that does not start is a failure" sh -c "
	! SYSTEMS=nosuch WORKLOADS=stream OUT='$WORK/none' timeout 60 bash '$BENCH/bench.sh'"
