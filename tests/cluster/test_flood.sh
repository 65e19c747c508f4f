#!/usr/bin/env bash
# Floods of connections, and peers that send a byte at a time or never read: bounded, and nobody
# else is kept out.
. "$(dirname "$0")/../lib/cluster.sh"

ulimit -n 4096
# AddressSanitizer keeps 256 MiB of what was freed: it would count as the master's memory.
export ASAN_OPTIONS=${ASAN_OPTIONS:+$ASAN_OPTIONS:}quarantine_size_mb=4
cluster_up --plain --replicas 1 # `flood` speaks in parts of plain messages --chunkservers 1
round_trip() {
	head -c 100000 /dev/urandom >"$WORK/file"
	timeout 20 cairn put "$WORK/file" "/$1" && timeout 20 cairn get "/$1" "$WORK/$1.back" &&
		cmp "$WORK/file" "$WORK/$1.back"
}
PID=$(part_pid master-1)
resident_kb() { sed -n 's/^VmRSS:[ \t]*\([0-9]*\).*/\1/p' "/proc/$PID/status"; }
descriptors() { ls "/proc/$PID/fd" | wc -l; }
grew_less_than() { echo "from $2 to $3"; [ $(($3 - $2)) -lt "$1" ]; }

check "it works before" round_trip before
before=$(descriptors)
# Authenticated before the flood: one that is in set-up in the middle of it may be given up as the oldest.
"$TESTS_BIN/flood" partial "$CAIRN_MASTER" "$CAIRN_CREDENTIALS" >"$WORK/partial" &
PARTIAL=$!
BACKGROUND+=($PARTIAL)
wait_for 60 grep -q authenticated "$WORK/partial"
"$TESTS_BIN/flood" idle "$CAIRN_MASTER" 1000 >"$WORK/idle" &
IDLE=$!
BACKGROUND+=($IDLE)
wait_for 60 grep -q flooding "$WORK/idle"
check "1000 connections are there" grep flooding "$WORK/idle"
# The limit of SERVER_SETUP_MAX, and some for what else is connected.
check "the master keeps no more than its limit of them" grew_less_than 300 "$before" "$(descriptors)"
check "clients are served meanwhile" round_trip meanwhile
logged() { wait_for 60 grep "$@" "$(part_log master-1)"; }
check "those given up are in the log, together" logged 'given up for newer ones'

rss=$(resident_kb)
deaf() { # N: that many requests a write
	"$TESTS_BIN/flood" deaf "$CAIRN_MASTER" "$CAIRN_CREDENTIALS" "$1" >"$WORK/deaf"
	cat "$WORK/deaf"
	[ "$(tr '\n' ' ' <"$WORK/deaf")" = "blocked resumed " ]
}
check "who does not read its replies is not read from, and again once it does" deaf 1
# The replies to these leave together: few writes of many bytes.
check "nor who asks a lot at once" deaf 1000
check "at the cost of little memory" grew_less_than 40000 "$rss" "$(resident_kb)"

wait $IDLE
check "all connections of the flood were closed, though each sent a byte a second" grep '^1000 closed' "$WORK/idle"
wait $PARTIAL
check "so was the one whose message never ended" grep '^closed' "$WORK/partial"
check "for that reason" grep 'did not come to its end in time' "$(part_log master-1)"
check "a flood does not flood the log" sh -c "[ \$(wc -l <'$(part_log master-1)') -lt 100 ]"
check "all is well afterwards" round_trip after

# The data port, the same.
CS=$(cairn local status "$CLUSTER" | sed -n 's/^chunkserver-1 .*addr=\([^ ]*\).*/\1/p')
"$TESTS_BIN/flood" idle "$CS" 200 >"$WORK/idle-cs" &
IDLE=$!
BACKGROUND+=($IDLE)
wait_for 60 grep -q flooding "$WORK/idle-cs"
check "the data port serves meanwhile" round_trip data
wait $IDLE
check "and closes the flood" grep '^200 closed' "$WORK/idle-cs"
check "the key is in no log" sh -c "! grep -F \"\$(cut -c1-16 '$CAIRN_CREDENTIALS')\" '$CLUSTER'/log/*.log"
