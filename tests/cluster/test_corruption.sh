#!/usr/bin/env bash
# A flipped byte in a chunk file is found, never returned, and read from another replica.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --mount "$MNT"
head -c 3000000 /dev/urandom >"$WORK/f"
cp "$WORK/f" "$MNT/f"
sync "$MNT/f"

flip() { # FILE OFFSET: inverts one byte in place
	local byte
	byte=$(od -An -tu1 -j"$2" -N1 "$1" | tr -d ' ')
	printf "\\x$(printf %02x $((byte ^ 255)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}

for n in 1 2 3; do
	file=$(chunk_files chunkserver-$n | head -1)
	check "chunkserver-$n has the chunk" test -s "$file"
	flip "$file" $((69632 + n * 500000))
	# Each client chooses its replica itself: read with several, so that each is asked.
	for i in 1 2 3 4 5 6; do
		cairn cat /f >"$WORK/got" 2>/dev/null
		cmp -s "$WORK/got" "$WORK/f" || break
	done
	check "the byte flipped on chunkserver-$n is not returned" cmp "$WORK/got" "$WORK/f"
	check "nor through the mount" cmp "$MNT/f" "$WORK/f"
	check "the other replicas mend it" wait_for 60 bash -c "
		cmp <(tail -c +69633 \$(find '$(part_dir chunkserver-$n)' -path '*/chunks/*' -type f) | head -c 3000000) '$WORK/f'" 
done

# The only place a mismatch may show is the log, which names chunk and server.
check "the damage is in the log, with the chunk" sh -c "
	grep -E 'chunk [0-9a-f]{16}' '$CLUSTER'/log/*.log | grep -iE 'checksum|damage|corrupt'"

# A header that is not one: the server says which file and goes on.
file=$(chunk_files chunkserver-1 | head -1)
kill_part chunkserver-1 TERM
printf 'garbage!' | dd of="$file" bs=1 conv=notrunc status=none
cluster_up
check "a server with a damaged header starts" wait_for 60 servers_up 3
check "and the file is still read" sh -c "cairn cat /f | cmp - '$WORK/f'"
