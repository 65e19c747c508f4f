#!/usr/bin/env bash
# What fsync says of bytes that were written before a loss, to a client that lived through it: EIO,
# once for each open file, when every copy may have lost them; 0 when they are there, because a
# copy kept its power, or only the processes died.
. "$(dirname "$0")/../lib/cluster.sh"
. "$(dirname "$0")/../lib/power.sh"

SERVERS=(chunkserver-1 chunkserver-2 chunkserver-3)
if ! make_disks master-1 "${SERVERS[@]}"; then
	echo "# skipped: needs root and loop devices"
	exit
fi
up() {
	cluster_up --mount "$MNT" --chunkservers 3 --replicas 3 --mount-option=timeout=60s \
		--master-flag=--heartbeat=300ms --master-flag=--dead-after=2s \
		--master-flag=--repair-delay=1s --chunkserver-flag=--sync-interval=1h
}
well() {
	servers_up 3 && nothing_under_goal &&
		cairn status --json | tr -d ' \n' | grep -q '"chunks_pending":0'
}
is_back() {
	up
	wait_for 60 well
}
files_start() {
	coproc FILES { cd "$MNT" && exec "$TESTS_BIN/fsync_later"; }
	BACKGROUND+=("$FILES_PID")
	exec {TO_FILES}>&"${FILES[1]}" {FROM_FILES}<&"${FILES[0]}"
}
says() { # ERRNO COMMAND...
	local answer
	echo "${*:2}" >&"$TO_FILES"
	read -r -t 120 answer <&"$FROM_FILES" && echo "answered $answer" && [ "$answer" = "$1" ]
}
holds() { # FILE TEXT: asked by another client
	[ "$(cairn cat "/$1")" = "$2" ]
}
kill_all() {
	local s
	for s in "${SERVERS[@]}"; do
		kill_part "$s" || return
	done
}

up
files_start
for f in a b c d e ./e f g; do
	check "open $f" says 0 open $f
done

check "a: written" says 0 write a before
check "every server is killed" kill_all
check "and comes back" is_back
check "a: fsync is true" says 0 sync a
check "a: the bytes are there" holds a before

check "b: written" says 0 write b before
pull_plugs chunkserver-1
plug_all_in chunkserver-1
check "one server comes back from a power loss" is_back
check "b: fsync is true" says 0 sync b
check "b: the bytes are there" holds b before

check "c: written" says 0 write c before
pull_plugs chunkserver-2 chunkserver-3 
plug_all_in chunkserver-2 chunkserver-3
check "two come back from a power loss" is_back
check "c: fsync is true" says 0 sync c
check "c: the bytes are there" holds c before

# All at once, the master with them.
check "d: written" says 0 write d synced
check "d: synced" says 0 sync d
check "e: written" says 0 write e before
check "f: written" says 0 write f before
pull_plugs master-1 "${SERVERS[@]}"
plug_all_in master-1 "${SERVERS[@]}"
check "everything comes back from a power loss" is_back
check "d: fsync is true" says 0 sync d
check "d: the bytes are there" holds d synced
check "e: fsync fails" says 5 sync e
check "e: once" says 0 sync e
check "e: and once for who opened it too" says 5 sync ./e
check "e: once" says 0 sync ./e
check "e: is written again" says 0 write e again
check "e: fsync" says 0 sync e
check "e: the bytes are there" holds e again
# Another write, and losses that are none, do not make up for it.
check "f: another write" says 0 append f more
check "every server is killed" kill_all
check "and comes back" is_back
check "f: fsync fails" says 5 sync f
check "f: once" says 0 sync f
# What was written after a loss is not lost with it.
check "g: written after it" says 0 write g after
check "every server is killed" kill_all
check "and comes back" is_back
check "g: fsync is true" says 0 sync g
check "g: the bytes are there" holds g after
