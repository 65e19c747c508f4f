#!/usr/bin/env bash
# What a mount has open when another one takes its last name away is released when it is closed, also
# when the master hears of the close only after a restart.
. "$(dirname "$0")/../lib/cluster.sh"

SECOND=$WORK/second
mkdir "$SECOND"
MOUNTS+=("$SECOND")
inodes() {
	stat -f -c '%c %d' "$MNT" | { read -r all free && echo $((all - free)); }
}
inodes_are() {
	[ "$(inodes)" = "$1" ]
}

cluster_up --mount "$MNT"
check "a second mount" cairn-mount "$SECOND" -o "log_file=$WORK/second.log"
before=$(inodes)
echo content >"$MNT/f"
exec 8<"$SECOND/f"
rm "$MNT/f"
check "it is there while it is open" [ "$(cat <&8)" = content ]
check "and counts" inodes_are $((before + 1))
kill_part master-1
exec 8<&-
cluster_up
check "it goes, though the master was away at its close" wait_for 60 inodes_are "$before"
