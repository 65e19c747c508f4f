#!/usr/bin/env bash
# Coherence of two mounts: what processes on each of them saw of few objects, with warm caches, is
# linearizable; and nobody waits long where four of them create and remove names. The test proves
# itself: with a step of the leases left out by a fault point, it finds a violation.
# HISTORY_SECONDS (4): how long each part runs; from 20 on it is the long form.
. "$(dirname "$0")/../lib/cluster.sh"
. "$(dirname "$0")/../lib/posix.sh"
PATH=$TESTS_BIN:$PATH

[ "$(id -u)" = 0 ] || posix_skip
EACH=${HISTORY_SECONDS:-4}
FAULTS=$WORK/faults
mkdir "$FAULTS"
for part in master-1 cairn-mount; do
	fault_ctl create "$FAULTS/$part"
done
export CAIRN_FAULTS=$FAULTS
posix_cluster

history() { timeout 300 posix_history "$@" "$MNT" "$SECOND"; }
# One process a mount, and two: these see what their own kernel remembers while a neighbour changes it.
check "one process a mount" history --workers 2 --seconds "$EACH"
check "two processes a mount" history --workers 4 --seconds "$EACH"
if [ "$EACH" -ge 20 ]; then
	for words in names "links append" "block size mtime" "replace lock"; do
		check "two processes a mount: $words" history --workers 4 --seconds "$EACH" --with "$words"
	done
	check "four processes a mount" history --workers 8 --seconds "$EACH"
fi

# A wait for one another would be there in every round; a busy machine's hiccups are not. And nobody
# waits for a lease to end: each of them is there as at the start.
leases() { cat "$WORK"/mount-*.log | grep -c 'leases of'; }
shortest() { history --seconds 5 --busy | sed -n 's/^longest \([0-9]*\) ms/\1/p' | sort -n | head -1; }
shortest_longest() {
	local ms before
	before=$(leases)
	ms=$(shortest) && [ -n "$ms" ] && echo "# longest wait in a busy directory: $ms ms" >&3 &&
		[ "$ms" -le 1000 ] && [ "$(leases)" = "$before" ]
}
exec 3>&1
check "nobody waits for a second in a busy directory" shortest_longest

# caught PART POINT ACTION WORDS [WORKERS]: with the step left out. It ends with the first violation, which
# takes a second or two, and half a minute on a machine that seldom runs both at the same time.
caught() {
	local r
	fault_ctl arm "$FAULTS/$1" "$2" "$3" times=ever arg=5 >/dev/null || return
	history --workers "${5:-2}" --seconds 240 --with "$4" >"$WORK/history"
	r=$?
	cat "$WORK/history"
	[ "$(fault_ctl disarm "$FAULTS/$1")" -gt 0 ] && [ $r = 1 ]
}
check "caught: a recall is left out" caught master-1 master.lease.recall error names
check "caught: readers do not wait for who is behind" caught master-1 master.lease.behind error size 4
check "caught: a cache is not dropped" caught cairn-mount client.lease.drop drop names
check "caught: the kernel is not told of names" caught cairn-mount fuse.inval.epoch drop names
check "caught: the kernel is not told of attributes" caught cairn-mount fuse.inval.attr drop size

if [ "$EACH" -ge 20 ]; then
	check "caught: what is about to change is leased" caught master-1 master.lease.busy error "names size" 4
fi
posix_unmount
