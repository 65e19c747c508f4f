#!/usr/bin/env bash
# Two mounts with warm caches: what one does, the other one sees at once.
. "$(dirname "$0")/../lib/cluster.sh"

SECOND=$WORK/second
mkdir "$SECOND"
MOUNTS+=("$SECOND")
cluster_up --mount "$MNT"
check "a second mount" cairn-mount "$SECOND" -o "log_file=$WORK/second.log"

for case in names directories data time-set-back attributes links replaced open-unlinked exclusive; do
	mkdir "$MNT/$case"
	check "$case" timeout 300 "$TESTS_BIN/coherence" "$MNT/$case" "$SECOND/$case" $case 40
done
mkdir "$MNT/mapped" "$MNT/busy"
check "mapped pages follow" timeout 300 "$TESTS_BIN/coherence" "$MNT/mapped" "$SECOND/mapped" mapped 10
check "a name that is replaced all the time is always there" \
	timeout 300 "$TESTS_BIN/coherence" "$MNT/busy" "$SECOND/busy" replaced-all-the-time 4
# No call takes more than a second, as a wait for one another would: that would be there in every round; a
# busy machine's hiccups are not. And no recall expires, which would end a lease: then a mount attaches anew.
attached() { cat "$WORK/second.log" "$CLUSTER"/log/mount-*.log | grep -c 'leases of'; }
busy() {
	local before
	before=$(attached)
	timeout 300 "$TESTS_BIN/coherence" "$MNT/busy" "$SECOND/busy" busy-directory 4 >"$WORK/busy" || {
		cat "$WORK/busy"
		return 1
	}
	cat "$WORK/busy"
	[ "$before" -ge 2 ] && [ "$before" = "$(attached)" ] &&
		[ "$(sed -n 's/^longest \([0-9]*\) ms/\1/p' "$WORK/busy" | sort -n | head -1)" -le 1000 ]
}
check "nobody waits in a busy directory, no recall expires" busy
sed 's/^/# /' "$WORK/busy"
