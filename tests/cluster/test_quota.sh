#!/usr/bin/env bash
# Directory quotas over two mounts and the command line: limits, moves, what was there before, restarts
# of the master, another master from its backup.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --chunkservers 3 --mount "$MNT"
check "a second mount" second_mount

quota() { cairn quota "$@"; }
used_is() { # PATH BYTES INODES: of the innermost quota
	quota get "$1"
	quota get "$1" --json | tr -d ' \n' | grep -q "^\[{\"bytes\":$2,\"bytes_max\":[0-9]*,\"inodes\":$3,"
}
says() { # MESSAGE COMMAND...
	! "${@:2}" 2>"$WORK/said" && grep -qi "$1" "$WORK/said"
}
# What is removed counts until the kernel has told of its last close, a moment later: RELEASE is not
# waited for.
comes_to() { wait_for 60 used_is "$@"; }
fill() { dd if=/dev/urandom of="$1" bs=64K count="$2" conv=fsync status=none; }

mkdir -p "$MNT/home/deep/er"
fill "$MNT/home/old" 16
fill "$MNT/home/deep/er/old" 16
for i in $(seq 300); do : >"$MNT/home/deep/$i"; done
check "a quota of a directory with something in it" quota set /home --bytes 4M --inodes 400
check "all of it is counted" used_is /home $((2 << 20)) 305
check "and of what is in it that is told" used_is /home/deep/er/old $((2 << 20)) 305
check "within the limit" fill "$SECOND/home/more" 16
check "beyond it" says "quota exceeded" fill "$MNT/home/deep/too-much" 32
check "which write(2) itself is told" says "quota exceeded" dd if=/dev/zero of="$MNT/home/deep/too-much" bs=64K count=32
check "is not written" [ "$(stat -c %s "$SECOND/home/deep/too-much")" -le 1048576 ]
check "what was is still right" [ "$(stat -c %s "$SECOND/home/more")" = 1048576 ]
check "and can be written over" dd if=/dev/urandom of="$SECOND/home/more" bs=64K count=16 conv=notrunc,fsync status=none
check "fallocate is refused" says "quota exceeded" fallocate -l 3M "$MNT/home/set-aside"
rm -f "$MNT/home/deep/too-much" "$MNT/home/set-aside"
check "what is removed makes room" comes_to /home $((3 << 20)) 306
check "df tells the quota" sh -c "[ \$(df -B 1 --output=size '$MNT/home/deep' | tail -1) = $((4 << 20)) ] &&
	[ \$(df -B 1 --output=avail '$SECOND/home/deep' | tail -1) = $((1 << 20)) ]"
check "and of what is outside the cluster" [ "$(df -B 1 --output=size "$MNT" | tail -1)" -gt $((4 << 20)) ]
many() { for i in $(seq 200); do : >"$MNT/home/deep/many-$i" || return; done; }
check "too many files" says "quota exceeded" many
check "are as many as may be" used_is /home $((3 << 20)) 400
check "no directory either" says "quota exceeded" mkdir "$SECOND/home/deep/er/dir"
find "$MNT/home/deep" -name 'many-*' -delete
check "they are gone" comes_to /home $((3 << 20)) 306

fill "$MNT/outside" 32
check "moved in, it would be too much" says "quota exceeded" mv "$MNT/outside" "$MNT/home/outside"
check "and stays where it was" [ "$(stat -c %s "$SECOND/outside")" = $((2 << 20)) ]
check "moved out, it is not counted" mv "$SECOND/home/old" "$SECOND/old"
check "and makes room" used_is /home $((2 << 20)) 305
check "so that it can be moved in" mv "$MNT/outside" "$MNT/home/outside"
check "and is counted" used_is /home $((4 << 20)) 306
check "a hard link out of it is refused" says "cross-device" ln "$MNT/home/outside" "$MNT/link"
mkdir "$MNT/tree"
fill "$MNT/tree/file" 1
rm "$MNT/home/outside"
check "mv moves a tree by copying it" mv "$MNT/tree" "$MNT/home/tree"
check "which counts" comes_to /home $((2 << 20 | 65536)) 307

check "a quota in a quota" quota set /home/deep --bytes 2M
check "counts what is below" used_is /home/deep $((1 << 20)) 303
check "the outer one holds too" used_is /home $((2 << 20 | 65536)) 307
check "both are listed" [ "$(quota list --json | tr -d ' \n' | grep -o '"path":"/home[a-z/]*"' | sort | tr '\n' ' ')" = '"path":"/home" "path":"/home/deep" ' ]
check "its limit" says "quota exceeded" fill "$SECOND/home/deep/x" 32
rm -f "$MNT/home/deep/x"
check "a limit that is not given stays" quota set /home --bytes 8M
check "the number of inodes did" sh -c "cairn quota get /home --json | tr -d ' \n' | grep -q '\"inodes_max\":400,'"

kill_part master-1
check "the master comes back" timeout 60 cairn local up "$CLUSTER"
check "and knows what is used" comes_to /home/deep $((1 << 20)) 303
check "and refuses what is too much" says "quota exceeded" fill "$SECOND/home/deep/x" 32
rm -f "$MNT/home/deep/x"
check "the inner one is removed" quota remove /home/deep
# A file that another mount had open when it was removed counts until that is told to be closed.
check "what it counted is the outer one's" comes_to /home/deep $((2 << 20 | 65536)) 307
one_left() { [ "$(quota list --json | grep -c '"path"')" = 1 ]; }
check "one is left" wait_for 60 one_left
check "a directory without one" says "no data\|no such attribute" quota remove /home/deep
check "the backup" cairn backup "$WORK/backup"
check "is restored" cairn-master --import "$WORK/backup" --data-dir "$WORK/restored"
check "and checked, with what is counted" sh -c "cairn-master --check --data-dir '$WORK/restored' >'$WORK/checked' &&
	grep -q '^0 wrong' '$WORK/checked'"
kill -TERM "$second"
check "the second mount ends" wait_for 60 sh -c "! mountpoint -q '$SECOND'"
