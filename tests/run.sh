#!/usr/bin/env bash
# Runs tests and adds up: tests/run.sh DIR [unit] [cluster] [sim] [fuzz] [deps]. DIR holds the programs.
# CLUSTER_TESTS names the cluster tests to run, such as "tour faults"; all of them by default.
# The last line is "N passed, N failed"; the exit status is 1 if any failed.
set -u
dir=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0
failures=()
out=$(mktemp)
trap 'rm -f "$out"' EXIT

note() { # NAME PASSED FAILED
	passed=$((passed + $2))
	failed=$((failed + $3))
	[ "$3" = 0 ] || failures+=("$1")
	printf '%-32s %4d passed, %d failed (%d s)\n' "$1" "$2" "$3" $((SECONDS - begun))
	begun=$SECONDS
}
begun=$SECONDS

# What a program that was cut off or crashed printed still counts as one failure.
run_unit() {
	for t in "$dir"/tests/test_*; do
		[ -x "$t" ] && [ ! -d "$t" ] || continue
		timeout 300 "$t" >"$out" 2>&1
		local r=$? p f
		p=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$out" | tail -1)
		f=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$out" | tail -1)
		[ $r = 0 ] || [ "${f:-0}" != 0 ] || f=1
		if [ "${f:-0}" != 0 ]; then grep -vE '^\[ (RUN|      OK)' "$out" | tail -60; fi
		note "$(basename "$t")" "${p:-0}" "${f:-0}"
	done
}

run_cluster() {
	local t name
	for t in tests/cluster/test_*.sh; do
		name=$(basename "$t" .sh)
		[ -z "${CLUSTER_TESTS:-}" ] || [[ " $CLUSTER_TESTS " = *" ${name#test_} "* ]] || continue
		BIN=$dir timeout 900 bash "$t" >"$out" 2>&1
		local r=$? p f
		p=$(grep -c '^ok ' "$out")
		f=$(grep -c '^not ok ' "$out")
		[ $r = 0 ] || [ "$f" != 0 ] || f=1
		grep -E '^# (seed|skipped)' "$out"
		[ "$f" = 0 ] || grep -vE '^ok ' "$out" | cut -c1-400
		note "$name" "$p" "$f"
	done
}

# Seeds from SEED on; each is one history.
run_sim() {
	SEEDS=${SEEDS:-1500} timeout 900 "$dir/tests/sim" >"$out" 2>&1
	local r=$?
	tail -25 "$out"
	if [ $r = 0 ]; then note sim 1 0; else note sim 0 1; fi
}

run_fuzz() {
	for t in "$dir"/fuzz/fuzz_*; do
		[ -x "$t" ] || continue
		timeout 300 "$t" ${FUZZ_ARGS:-20000} >"$out" 2>&1
		if [ $? = 0 ]; then note "$(basename "$t")" 1 0; else tail -40 "$out"; note "$(basename "$t")" 0 1; fi
	done
}

for what in "$@"; do
	case $what in
	unit) run_unit ;;
	cluster) run_cluster ;;
	sim) run_sim ;;
	fuzz) run_fuzz ;;
	deps) if sh tools/check-deps.sh; then note check-deps 1 0; else note check-deps 0 1; fi ;;
	esac
done
[ $failed = 0 ] || echo "failed: ${failures[*]}"
echo "$passed passed, $failed failed"
[ $failed = 0 ]
