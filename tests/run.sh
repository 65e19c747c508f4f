#!/usr/bin/env bash
# Runs tests and adds up: tests/run.sh DIR [unit] [cluster] [sim] [fuzz] [deps]. DIR holds the programs.
# CLUSTER_TESTS names the cluster tests to run, such as "tour faults"; all of them by default.
# Unit tests and fuzzers run as many at once as there are processors (JOBS), the others one after
# another. The last line is "N passed, N failed"; the exit status is 1 if any failed.
set -u
JOBS=${JOBS:-$(nproc)}
dir=$(cd "$1" && pwd)
shift
cd "$(dirname "$0")/.." || exit 1
passed=0
failed=0
failures=()
out=$(mktemp)
outs=$(mktemp -d) # of programs that run side by side
trap 'rm -rf "$out" "$outs"' EXIT

note() { # NAME PASSED FAILED [SECONDS]
	passed=$((passed + $2))
	failed=$((failed + $3))
	[ "$3" = 0 ] || failures+=("$1")
	printf '%-32s %4d passed, %d failed (%d s)\n' "$1" "$2" "$3" "${4:-$((SECONDS - begun))}"
	begun=$SECONDS
}
begun=$SECONDS

# Side by side, with the same arguments; how each ended is for `ended`: run_all ARGUMENTS PROGRAM...
run_all() {
	local t args=$1
	shift
	programs=()
	for t in "$@"; do
		[ ! -x "$t" ] || [ -d "$t" ] || programs+=("$t")
	done
	rm -f "$outs"/*
	printf '%s\0' "${programs[@]}" | outs=$outs xargs -0 -P "$JOBS" -I '{}' bash -c '
		begun=$SECONDS
		timeout 300 "$@" >"$outs/${1##*/}" 2>&1
		echo "$? $((SECONDS - begun))" >"$outs/${1##*/}.end"' run '{}' $args
}
ended() { # PROGRAM: sets `name`, `said` (the file of what it printed), `r` and `seconds`
	name=${1##*/}
	said=$outs/$name
	read -r r seconds <"$said.end" || r=1 seconds=0
}

# What a program that was cut off or crashed printed still counts as one failure.
run_unit() {
	local t name said r seconds p f
	run_all "" "$dir"/tests/test_*
	for t in "${programs[@]}"; do
		ended "$t"
		p=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$said" | tail -1)
		f=$(sed -n 's/^\[  FAILED  \] \([0-9]*\) test.*/\1/p' "$said" | tail -1)
		[ $r = 0 ] || [ "${f:-0}" != 0 ] || f=1
		[ "${f:-0}" = 0 ] || grep -vE '^\[ (RUN|      OK)' "$said" | tail -60
		note "$name" "${p:-0}" "${f:-0}" "$seconds"
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
	local t name said r seconds
	FUZZ_CORPUS=tests/fuzz/corpus run_all 20000 "$dir"/fuzz/fuzz_*
	for t in "${programs[@]}"; do
		ended "$t"
		[ "$r" = 0 ] || tail -40 "$said"
		note "$name" $((r == 0)) $((r != 0)) "$seconds"
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
