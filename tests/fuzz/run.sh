#!/usr/bin/env bash
# Runs libFuzzer's programs one after the other: tests/fuzz/run.sh FUZZERS DRIVERS SECONDS [keep]
# FUZZERS: their directory; DRIVERS: that of the same targets with driver.c, which write their seeds.
# Each starts from its seeds and from the kept corpus (tests/fuzz/corpus/TARGET.hex, an input on each line)
# and runs for SECONDS. keep: what covers most in few and short inputs becomes the corpus.
set -u
fuzzers=$1 drivers=$2 seconds=$3 keep=${4:-}
corpus=tests/fuzz/corpus
KEPT_BYTES=512 KEPT_INPUTS=120
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

unpack() { # TARGET DIRECTORY
	local line n=0
	[ -e "$corpus/$1.hex" ] || return 0
	while read -r line; do
		n=$((n + 1))
		# shellcheck disable=SC2059 # the escapes are the input
		printf "$(printf %s "$line" | sed 's/../\\x&/g')" >"$2/kept-$n"
	done <"$corpus/$1.hex"
}
pack() { # PROGRAM INPUTS
	local f
	mkdir -p "$work/least" "$corpus"
	"$1" -merge=1 -max_len=$KEPT_BYTES "$work/least" "$2" >"$work/merged" 2>&1 || return
	for f in "$work"/least/*; do
		od -An -v -tx1 "$f" | tr -d ' \n'
		echo
	done | awk 'NF { print length($0), $0 }' | sort -k1,1n -k2 -u | head -n $KEPT_INPUTS | cut -d' ' -f2 \
		>"$corpus/$(basename "$1").hex"
	rm -rf "$work/least"
}

total=0 failed=0
for t in "$fuzzers"/fuzz_*; do
	name=$(basename "$t")
	inputs=$work/$name
	mkdir "$inputs"
	"$drivers/$name" --seeds "$inputs" || exit 1
	unpack "$name" "$inputs"
	began=$(find "$inputs" -type f | wc -l)
	nice -n 15 "$t" -max_total_time="$seconds" -print_final_stats=1 -artifact_prefix="$fuzzers/$name-" "$inputs" \
		>"$work/said" 2>&1
	r=$?
	n=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/said")
	total=$((total + ${n:-0}))
	printf '%-28s %10s executions, %4s inputs at the start, %5s at the end%s\n' "$name" "${n:-?}" \
		"$began" "$(find "$inputs" -type f | wc -l)" "$([ $r = 0 ] || echo ', FAILED')"
	if [ $r != 0 ]; then
		failed=$((failed + 1))
		tail -40 "$work/said"
	elif [ -n "$keep" ]; then
		pack "$t" "$inputs" || exit 1
	fi
done
echo "$total executions, $failed targets failed"
[ $failed = 0 ]
