#!/usr/bin/env bash
# Copies that the servers make: right bytes between any two ranges, through two mounts, while servers die;
# and the client does not carry the bytes.
. "$(dirname "$0")/../lib/cluster.sh"

export CAIRN_FAULTS=$WORK/faults
mkdir "$CAIRN_FAULTS"
for part in chunkserver-1 chunkserver-2 chunkserver-3 chunkserver-4 cairn-mount; do
	"$TESTS_BIN/fault_ctl" create "$CAIRN_FAULTS/$part" || exit 2
done
# Four servers, two copies: the heads of two chunks are seldom the same.
cluster_up --chunkservers 4 --replicas 2 --mount "$MNT"
check "a second mount" second_mount

passed() { # PART POINT: how often
	"$TESTS_BIN/fault_ctl" show "$CAIRN_FAULTS/$1" | awk -v p="$2" '$1 == "passed" && $2 == p {n = $3} END {print n + 0}'
}
server_reads() {
	local n=0 server
	for server in 1 2 3 4; do
		n=$((n + $(passed chunkserver-$server cs.copy.read)))
	done
	echo $n
}

head -c 100M /dev/urandom >"$WORK/source"
cp "$WORK/source" "$MNT/source"
sent=$(passed cairn-mount client.write.done)
check "cp copies on the mount" cp --reflink=auto "$MNT/source" "$MNT/copy"
check "the copy is right, through the other mount" cmp "$WORK/source" "$SECOND/copy"
check "the servers read it themselves, a MiB at a time" [ "$(server_reads)" -ge 100 ]
check "and the client told of few large writes" [ $(($(passed cairn-mount client.write.done) - sent)) -le 10 ]
reads=$(server_reads)
check "the command line copies" cairn cp /source /copy2
check "the copy is right" cmp "$WORK/source" "$SECOND/copy2"
check "the servers read it themselves too" [ $(($(server_reads) - reads)) -ge 100 ]
truncate -s 64G "$MNT/sparse"
printf end | dd of="$MNT/sparse" bs=3 seek=60000000000 oflag=seek_bytes conv=notrunc status=none
check "a sparse file is copied soon" timeout 120 cairn cp /sparse /sparse2
check "and stays sparse" sh -c "[ \$(du -k '$SECOND/sparse2' | cut -f1) -le 65536 ] &&
	[ \$(stat -c %s '$SECOND/sparse2') = \$((64 << 30)) ]"
check "with its end" [ "$(dd if="$SECOND/sparse2" bs=3 count=1 skip=60000000000 iflag=skip_bytes status=none)" = end ]
check "any ranges of any files" timeout 120 "$TESTS_BIN/copy_ops" "$MNT" "$SECOND" "$SEED" 6

# Servers die while they copy: at the reading of the source, and anywhere. Which servers copy depends on
# where the chunks were placed, and some make none: the one that makes most dies.
for server in 1 2 3 4; do
	before[server]=$(passed chunkserver-$server cs.copy.read)
done
"$TESTS_BIN/copy_ops" "$SECOND" "$MNT" $((SEED + 1)) 300 >"$WORK/ops" 2>&1 &
ops=$!
BACKGROUND+=("$ops")
copies() { # sets `copier` to the server that made most copies since, if it is some
	local server n most=2
	copier=
	for server in 1 2 3 4; do
		n=$(($(passed chunkserver-$server cs.copy.read) - before[server]))
		[ $n -le $most ] || { most=$n copier=$server; }
	done
	[ -n "$copier" ]
}
check "a server copies" wait_for 60 copies
faults=$CAIRN_FAULTS/chunkserver-$copier
slot=$("$TESTS_BIN/fault_ctl" arm "$faults" cs.copy.read crash nth=3)
struck() { [ "$("$TESTS_BIN/fault_ctl" fired "$faults" "$slot")" -ge 1 ]; }
check "it dies while it copies" wait_for 60 struck
"$TESTS_BIN/fault_ctl" disarm "$faults" >"$WORK/disarmed"
check "it comes back" timeout 60 cairn local up "$CLUSTER"
check "all servers are up" wait_for 60 servers_up 4
check "another dies while there are copies" kill_part chunkserver-$((copier % 4 + 1))
check "it comes back" timeout 60 cairn local up "$CLUSTER"
check "all servers are up again" wait_for 60 servers_up 4
check "the copies still go on" kill -TERM "$ops"
check "all had the right bytes" wait "$ops"
cat "$WORK/ops"
kill -TERM "$second"
check "the second mount ends" wait_for 60 sh -c "! mountpoint -q '$SECOND'"
