#!/usr/bin/env bash
# What a session held goes with it: files that are open without a name are reclaimed when they are
# closed, when the mount ends, and when a mount that was killed has not been heard of for session_ttl.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --chunkservers 3 --mount "$MNT" --master-flag=--session-ttl=3s \
	--master-flag=--garbage-grace=1s

status_number() {
	cairn status --json | tr -d ' \n' | grep -o "\"$1\":[0-9]*" | head -1 | grep -o '[0-9]*$'
}
all_reclaimed() { # no inode but the root, no chunk on any disk
	[ "$(status_number inodes)" = 1 ] && [ "$(status_number chunks)" = 0 ] &&
		[ -z "$(chunk_files chunkserver-1; chunk_files chunkserver-2; chunk_files chunkserver-3)" ]
}
# Opens SECOND/held, removes its name through the second mount; a process of its own keeps it open.
hold() {
	sh -c "exec 3>'$SECOND/held' && head -c 200000 /dev/urandom >&3 && rm '$SECOND/held' &&
		echo held >'$WORK/held' && exec sleep 1000" &
	holder=$!
	BACKGROUND+=("$holder")
	check "a file is held open without a name" wait_for 60 grep -qs held "$WORK/held"
	rm "$WORK/held"
	check "it is there still" sh -c "[ $(status_number inodes) = 2 ] && [ $(status_number chunks) = 1 ]"
}

check "a second mount" second_mount
hold
kill "$holder"
check "closed, it is reclaimed" wait_for 60 all_reclaimed

hold
kill "$holder"
kill "$second"
check "the mount ends" wait_for 60 sh -c "! mountpoint -q '$SECOND'"
check "and what it held is reclaimed" wait_for 60 all_reclaimed

check "a second mount" second_mount
sessions=$(status_number sessions)
hold
kill -KILL "$second"
umount -l "$SECOND"
check "the killed mount's session expires" wait_for 60 sh -c "
	[ \$(cairn status --json | tr -d ' \n' | grep -o '\"sessions\":[0-9]*' | grep -o '[0-9]*\$') -lt $sessions ]"
check "and what it held is reclaimed" wait_for 60 all_reclaimed

# A copy of many files does not wait for each of them alone when the cluster is gone.
CAIRN_TIMEOUT=5s cairn put -r /usr/include/linux /tree >"$WORK/put.out" 2>&1 &
put=$!
BACKGROUND+=("$put")
check "a tree is being copied" wait_for 60 sh -c "[ \$(cairn ls /tree | wc -l) -gt 3 ]"
for part in master-1 chunkserver-1 chunkserver-2 chunkserver-3; do
	kill -KILL "$(cat "$CLUSTER/run/$part.pid")"
done
check "the copy gives up" wait_for 100 sh -c "! kill -0 $put"
wait "$put"
check "with status 1" test $? = 1
check "and says why" grep "giving up" "$WORK/put.out"
