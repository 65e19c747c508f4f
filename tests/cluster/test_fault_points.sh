#!/usr/bin/env bash
# Every named step of the work of every role is a place to die: each is armed, the process is killed
# there while the checker works, and started again. At the end nothing that was acknowledged is
# lost, and the copies are the same.
. "$(dirname "$0")/../fault/lib.sh"

suite_start

# One step: POINT PART [MATCH]
die_at() {
	local point=$1 part=$2 match=${3:-} slot
	check "armed: $part at $point${match:+ ($match)}" arm "$part" "$point" crash \
		${match:+match=$match}
	slot=$SLOT
	provoke "$point" "$part"
	check "$part dies at $point${match:+ ($match)}" wait_for 60 has_fired "$part" "$slot" 1
	check "and is gone" wait_for 60 part_is_dead "$part"
	disarm_all
	check "it starts again" revive
}

for point in $(fault_ctl points STEP_CHAIN); do
	for place in head middle tail; do
		# Which server has that place differs from chunk to chunk.
		die_at "$point" "$(any_server)" $place
	done
done
for point in $(fault_ctl points STEP_CHUNKSERVER); do
	die_at "$point" "$(any_server)"
done
for point in $(fault_ctl points STEP_MASTER); do
	die_at "$point" master-1
done
for point in $(fault_ctl points STEP_CLIENT); do
	die_at "$point" mount-1
done

check "the cluster is well again by itself" wait_for $HEALTH_S healthy
check "the checker rests" ask pause
check "the copies of each chunk are the same" replicas_same_soon
check "everything can be read back" ask verify
check "nothing is lost, nothing is there twice" no_violations
tell_violations
echo "# $ANSWER"
