#!/usr/bin/env bash
# A mount that is cut off from everybody: it uses what it has cached no longer than its lease, tells errors
# then, and comes back by itself, with what was open. Another mount waits for that lease to end and
# goes on. Meanwhile fence_probe looks through the mount that is cut off for what is older than a change that
# had returned. The test proves itself: with the mount's fence of time left out it finds some.
. "$(dirname "$0")/../lib/cluster.sh"
. "$(dirname "$0")/../lib/network.sh"
PATH=$TESTS_BIN:$PATH

ADDR=([servers]=10.99.1.1 [near]=10.99.1.11 [far]=10.99.1.12)
export CAIRN_MASTER=10.99.1.1:7400 CAIRN_CREDENTIALS=$WORK/tls/admin
FAULTS=$WORK/faults
LEASE=2s
FAR=$WORK/far
mkdir "$FAULTS" "$FAR"
MOUNTS+=("$FAR")
network_up
trap 'network_down; umount -l "$MNT" "$FAR" 2>/dev/null || :; cluster_cleanup' EXIT
tools_inside near cairn
for part in master-1 cairn-mount; do
	fault_ctl create "$FAULTS/$part"
done

# ---- the cluster: servers on one host, two mounts on hosts of their own ----

start_master() { # its process: master
	CAIRN_FAULTS=$FAULTS exec_inside servers cairn-master --data-dir "$WORK/master-1" --listen "$CAIRN_MASTER" \
		--credentials "$WORK/tls/servers" --name master-1 --lease $LEASE 2>>"$WORK/master-1.log" &
	master=$!
	BACKGROUND+=($master)
}
start_mount() { # PART DIRECTORY TIMEOUT
	exec_inside "$1" cairn-mount "$CAIRN_MASTER" "$2" -f -o credentials="$WORK/tls/$1",timeout="$3" \
		2>>"$WORK/$1.log" &
	BACKGROUND+=($!)
	wait_for 60 mountpoint -q "$2"
}
check "an authority, and certificates" authority
certify master servers "${ADDR[servers]}" >/dev/null
certify admin admin >/dev/null
for part in near far; do
	certify client $part >/dev/null
done
mkdir "$WORK/master-1"
start_master
for i in 1 2 3; do
	certify chunkserver cs$i "${ADDR[servers]}" >/dev/null
	mkdir "$WORK/cs$i"
	exec_inside servers cairn-chunkserver --data "$WORK/cs$i" --listen "${ADDR[servers]}:741$i" \
		--master "$CAIRN_MASTER" --credentials "$WORK/tls/cs$i" --name cs$i 2>>"$WORK/cs$i.log" &
	BACKGROUND+=($!)
done
check "the servers are up" wait_for 60 servers_up 3
check "a mount" start_mount near "$MNT" 60s
CAIRN_FAULTS=$FAULTS check "another one, far away" start_mount far "$FAR" 10s

# ---- the probe ----

trap '' PIPE # one that has ended is told by a check

coproc PROBE { exec fence_probe "$MNT" "$FAR" 2>"$WORK/probe.err"; }
probe=$PROBE_PID # bash forgets its own when the probe ends
BACKGROUND+=($probe)
exec {TO_PROBE}>&"${PROBE[1]}" {FROM_PROBE}<&"${PROBE[0]}"
count() { # done|answers|errors|stale
	local line
	echo >&"$TO_PROBE" && read -r -t 60 line <&"$FROM_PROBE" || { cat "$WORK/probe.err" >&2; return 1; }
	sed "s/.*$1 \([0-9]*\).*/\1/" <<<"$line"
}
more() { [ "$(count "$1")" -gt "$2" ]; }
goes_on() { # WHAT N: N more of them
	wait_for 120 more "$1" $(($(count "$1") + $2))
}
none_stale() { [ "$(count stale)" = 0 ]; }
both_go_on() { goes_on done 20 && goes_on answers 20; }

cut() { # it hears nothing first: or it would forget what a recall names that it cannot answer
	block servers far
	block far servers
}
heal() { # whether it was cut
	unblock far
	unblock servers
}

check "changes here, looks there" both_go_on
check "none sees what was before" none_stale
cut
check "cut off: it tells errors" goes_on errors 5
check "the other mount goes on" goes_on done 20
check "a write there fails in time" timeout 120 sh -c "! echo lost >'$FAR/written'"
check "none sees what was before" none_stale
check "it was cut off" heal
check "it comes back by itself, with what is open" both_go_on
check "and writes" wait_for 60 sh -c "echo back >'$FAR/written' && [ \$(cat '$MNT/written') = back ]"
check "none saw what was before" none_stale

# What is left out by a fault point, to prove that this test sees the difference: something stale is seen,
# on a machine that is not busy within seconds.
left_out() { # PART POINT ACTION COMMAND
	local slot end=$((SECONDS + 200)) before
	before=$(count stale)
	slot=$(fault_ctl arm "$FAULTS/$1" "$2" "$3" times=ever arg=5) || return
	until [ "$(count stale)" -gt "$before" ]; do
		[ $SECONDS -lt $end ] && "$4" || return
	done
	fired "$1" "$slot" && fault_ctl disarm "$FAULTS/$1"
}
fired() { # PART SLOT
	[ "$(fault_ctl fired "$FAULTS/$1" "$2")" -gt 0 ]
}

# A mount whose link is not heard for longer than its lease: here its thread is late at a recall.
LATE_MS=6000
link_is_late() {
	local slot
	slot=$(fault_ctl arm "$FAULTS/cairn-mount" net.recv delay match=LEASE_RECALL arg=$LATE_MS) || return
	wait_for 60 fired cairn-mount "$slot" && goes_on done 20
}
check "a link that is late: the other mount goes on" link_is_late
check "none saw what was before" none_stale
check "and so does this one" both_go_on

check "caught: the mount does not look at its lease's time" left_out cairn-mount client.lease.time drop link_is_late
check "it is well again" both_go_on
SEEN=$(count stale)

# The master restarts and does not know who has what: it has to wait for the mount that it cannot hear.
# That one's lease is a long one, so that it has not ended when the master is there again.
restart_while_cut() {
	cut
	kill -KILL $master
	wait $master
	start_master
	goes_on done 20 || return
	heal && both_go_on
}
no_more_stale() { [ "$(count stale)" = "$SEEN" ]; }
LEASE=8s
check "cut off when the master restarts: both go on" restart_while_cut 2>/dev/null
check "none saw what was before" no_more_stale

echo end >&"$TO_PROBE"
check "the probe ends" wait_for 60 sh -c "! kill -0 $probe"
umount "$MNT" "$FAR"
