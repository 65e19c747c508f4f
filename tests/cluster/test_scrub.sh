#!/usr/bin/env bash
# A byte that rots in a chunk which nobody reads is found and mended by itself.
. "$(dirname "$0")/../lib/cluster.sh"

DATA=69632 # where the data begins in the file of a 64 MiB chunk
same_on() { # N SERVER: the data of file n
	local f
	for f in $(chunk_files "$2"); do
		cmp -s <(tail -c +$((DATA + 1)) "$f" | head -c 300000) "$WORK/f$1" && return
	done
	return 1
}
chunk_of() { # N SERVER
	local f
	for f in $(chunk_files "$2"); do
		cmp -s -n 4096 <(tail -c +$((DATA + 1)) "$f") "$WORK/f$1" && echo "$f" && return
	done
}
three_found() { # one on each server
	[ "$(cairn status --json | tr -d ' \n' | grep -o '"bad":[1-9]' | wc -l)" = 3 ]
}

cluster_up --chunkserver-flag=--scrub-period=2s
for n in 1 2 3 4 5; do
	head -c 300000 /dev/urandom >"$WORK/f$n"
	cairn put "$WORK/f$n" "/f$n"
done
for n in 1 2 3; do
	file=$(chunk_of $n chunkserver-$n)
	check "chunkserver-$n has file $n" test -s "$file"
	printf 'rot' | dd of="$file" bs=1 seek=$((DATA + 200000 + n)) conv=notrunc status=none
	check "it is damaged now" bash -c "! cmp -s <(tail -c +$((DATA + 1)) '$file' | head -c 300000) '$WORK/f$n'"
	check "file $n is mended on chunkserver-$n though nobody read it" wait_for 60 same_on $n chunkserver-$n
	check "the log names the block" grep -q "scrub: chunk [0-9a-f]* block 48" "$(part_log chunkserver-$n)"
done
check "the findings are in the status" wait_for 60 three_found
check "rounds are counted" wait_for 60 sh -c "cairn status --json | tr -d ' \n' | grep -qE '\"rounds\":[1-9]'"
