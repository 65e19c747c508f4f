#!/usr/bin/env bash
# Power loss below all code, part by part: each server's data is on an ext4 of its own whose plug is
# pulled (unsynced data and names are gone), at random moments, and exactly at a sync of the process
# itself. The checker is at work. One server's power loses nothing at all; every server's at once
# loses nothing that was fsynced, and no metadata.
SEED=${SEED:-2026}
. "$(dirname "$0")/../fault/lib.sh"
. "$(dirname "$0")/../lib/power.sh"

PARTS=(master-1 "${SERVER_NAMES[@]}")
LOSSES=0
POWER_ROUNDS=${POWER_ROUNDS:-2} # all power at once: with the clients, and without

if ! make_disks "${PARTS[@]}"; then
	echo "# skipped: needs root and loop devices"
	exit
fi

power_back() { # PART...
	plug_all_in "$@" && revive
}
is_off() { # PART: nothing can be written on its disk any more
	! touch "$WORK/disk-$1/probe" 2>/dev/null
}
all_is_well() { # WHAT
	check "$1: it starts again" power_back "${@:2}"
	check "$1: well again within $HEALTH_S s" wait_for $HEALTH_S healthy
	check "$1: the checker rests" ask pause
	check "$1: the copies of each chunk are the same" replicas_same_soon
	check "$1: everything can be read back" ask verify
	check "$1: nothing is lost" no_violations
	tell_violations
	ask go
}
work_for() { # SECONDS and a little
	sleep "$1.$((RANDOM % 10))" # a random moment is the point here
}
# The plug is pulled by the process itself, at a point of its work: PART POINT [MATCH]
pull_at() {
	local part=$1 point=$2 slot
	arm "$part" "$point" poweroff path="$WORK/disk-$part" nth=$((RANDOM % 20 + 1)) \
		${3:+match=$3}
	slot=$SLOT
	check "$part loses its power at $point${3:+ of $3}" \
		wait_for 60 has_fired "$part" "$slot" 1
	check "and its disk is off" wait_for 60 is_off "$part"
	wait_for 60 part_is_dead "$part"
	LOSSES=$((LOSSES + 1))
	disarm_all
	all_is_well "$part at $point" "$part"
}

suite_start
work_for 2

pull_plugs master-1
LOSSES=$((LOSSES + 1))
all_is_well "the master's power" master-1
work_for 1
server=$(any_server)
pull_plugs "$server"
LOSSES=$((LOSSES + 1))
all_is_well "one server's power" "$server"

# The master, once applied, before and after LevelDB's own sync; a chunkserver at its syncs.
for point in master.apply master.store.write master.store.written; do
	work_for 1
	pull_at master-1 $point
done
for what in journal chunks; do
	work_for 1
	pull_at "$(any_server)" io.fdatasync /$what
done
for point in io.sync_dir cs.raise.renamed cs.write.applied cs.journal.anew; do
	work_for 1
	pull_at "$(any_server)" $point
done

# Everything at once, clients with it or left alone.
for round in $(seq "$POWER_ROUNDS"); do
	work_for 2
	with=
	if [ $((round % 2)) = 1 ]; then
		kill_part mount-1
		with=" mount"
	fi
	pull_plugs "${PARTS[@]}"
	LOSSES=$((LOSSES + ${#PARTS[@]}))
	ask "power$with"
	all_is_well "all power ($round)" "${PARTS[@]}"
done
echo "# $LOSSES plugs pulled; $ANSWER"
ask counts
echo "# $ANSWER"
