#!/usr/bin/env bash
# Space of files over two mounts: holes that are punched, zeros, sizes, SEEK_HOLE, while servers die.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --chunkservers 3 --mount "$MNT"
check "a second mount" second_mount

# The same done to the mount's file and to a local one.
both() {
	local file
	for file in "$MNT/$1" "$WORK/$1"; do
		"${@:2}" "$file" || return
	done
}
same() { cmp "$MNT/$1" "$WORK/$1" && cmp "$SECOND/$1" "$WORK/$1"; }
used() { # KiB on the disks of all chunkservers
	local server
	for server in 1 2 3; do
		chunk_files chunkserver-$server
	done | xargs -d '\n' du -k | awk '{s += $1} END {print s + 0}'
}
less() { [ "$(used)" -le $(($1 - $2)) ]; }
sound() {
	local json
	json=$(cairn fsck --json) && [ -n "$json" ]
}

head -c 8388608 /dev/urandom | tee "$WORK/f" >"$MNT/f"
check "a file of 8 MiB" same f
before=$(used)
check "a hole is punched" both f fallocate -p -o 1000000 -l 4000000
check "both mounts read zeros there, and nothing else is changed" same f
check "the servers' disks have room again" less "$before" $((3 * 3800))
# Not every local file system has this one: there the zeros are written.
zeros() { # FIRST LENGTH
	dd if=/dev/zero of="$WORK/f" bs=1 count=1 seek=$(($1 + $2 - 1)) conv=notrunc status=none &&
		head -c "$2" /dev/zero | dd of="$WORK/f" bs=1M seek="$1" oflag=seek_bytes \
			iflag=fullblock conv=notrunc status=none
}
check "zeros at the end, beyond it" fallocate -z -o 8000000 -l 1000000 "$MNT/f"
zeros 8000000 1000000
check "the file is longer on both" same f
check "zeros without growing" fallocate -z -n -o 8900000 -l 1000000 "$MNT/f"
zeros 8900000 100000
check "it is not longer" same f
check "a longer file" both f fallocate -o 9500000 -l 500000
check "is longer on both mounts" same f
check "a huge sparse file" both big truncate -s 1T
check "is punched at once" timeout 60 fallocate -p -o 0 -l 1T "$MNT/big"
check "more than there is room for is refused" sh -c "! fallocate -l 900T '$MNT/f' 2>'$WORK/why' &&
	grep -qi 'no space' '$WORK/why'"

# The largest files: no hole is walked through.
check "sizes up to 8 EiB - 1, holes of it, limits" timeout 600 "$TESTS_BIN/huge" "$MNT" "$SECOND"
check "a file of 8 EiB - 1" truncate -s 9223372036854775807 "$MNT/largest"
dd if=/dev/urandom of="$MNT/largest" bs=4096 count=1 seek=1000000000000 conv=notrunc status=none
check "its chunks are told, holes in one line" sh -c "timeout 120 cairn stat /largest | grep -A9 Chunk >'$WORK/chunks' &&
	[ \$(wc -l <'$WORK/chunks') = 3 ] && [ \$(grep -c ' to [0-9]*: hole' '$WORK/chunks') = 2 ]"
check "and in JSON" sh -c "timeout 120 cairn stat --json /largest | jq -e '[.[0].chunks[].count] | length == 3 and .[1] == 1'"
rm "$MNT/largest"

# Truncated and made longer: never old bytes.
check "cut and longer again" both f truncate -s 500001
both f truncate -s 700000
check "zeros on both mounts" same f

# What du tells, on both mounts and from the command line: what was written or set aside.
blocks_are() { # NAME KIB
	[ "$(du -k "$MNT/$1" | cut -f1)" = "$2" ] && [ "$(du -k "$SECOND/$1" | cut -f1)" = "$2" ] &&
		cairn stat --json "/$1" | grep -q "\"blocks\": $(($2 * 2))[,}]"
}
truncate -s 1G "$MNT/sparse"
check "a sparse file has no blocks" blocks_are sparse 0
for at in 0 100 900; do
	dd if=/dev/urandom of="$MNT/sparse" bs=1M count=1 seek=$at conv=notrunc,fsync status=none
done
check "three written pieces count" blocks_are sparse 3072
head -c 2M /dev/zero >"$MNT/zeros"
check "written zeros count" blocks_are zeros 2048
fallocate -n -l 200M "$SECOND/sparse"
check "what is set aside counts, beside what was written" blocks_are sparse $((201 * 1024))
fallocate -p -o 1M -l 99M "$MNT/sparse"
check "a hole does not" blocks_are sparse $((102 * 1024))
check "a copy finds the holes by itself" sh -c "cp --sparse=auto '$MNT/sparse' '$WORK/copy' &&
	cmp '$MNT/sparse' '$WORK/copy' && [ \$(du -k '$WORK/copy' | cut -f1) -lt 110000 ]"
fallocate -n -o 1G -l 4G "$MNT/sparse"
check "behind the end too" blocks_are sparse $((102 * 1024 + 4096 * 1024))
kill_part master-1
check "the master comes back" timeout 60 cairn local up "$CLUSTER"
check "and knows the blocks" wait_for 60 blocks_are sparse $((102 * 1024 + 4096 * 1024))
truncate -s 1G "$MNT/sparse"
check "a truncation to the same size gives back what lies behind the end" blocks_are sparse $((102 * 1024))
truncate -s 150M "$SECOND/sparse"
check "a shorter one what it cuts off" blocks_are sparse $((51 * 1024))

# A chunkserver dies while a hole is punched again and again.
head -c 8388608 /dev/urandom | tee "$WORK/g" >"$MNT/g"
kill_part chunkserver-2
check "punching goes on without a server" both g fallocate -p -o 5000 -l 3000000
check "with the right bytes" same g
check "it comes back" timeout 60 cairn local up "$CLUSTER"
check "and all copies are the same" wait_for 60 sound
check "with the right bytes still" same g
kill -TERM "$second"
check "the second mount ends" wait_for 60 sh -c "! mountpoint -q '$SECOND'"
