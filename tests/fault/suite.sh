#!/usr/bin/env bash
# The fault suite: faults strike at random, from a printed seed, while the checker works. After each
# few of them the cluster must be well again by itself within HEALTH_S seconds; now and then, and at
# the end, the copies on the disks are compared and everything is read back.
#
#     SEED=N FAULT_SECONDS=N BIN=DIR tests/fault/suite.sh
#
# The table at the end counts what struck, by kind and role: from the counters in the processes'
# fault files where a fault is armed there, not from what was intended.
. "$(dirname "$0")/../fault/lib.sh"

FAULT_SECONDS=${FAULT_SECONDS:-1800}
ROUND=0
declare -A STRUCK # "kind role" -> how often
declare -A DIED	  # named step -> how often

KINDS_MASTER="kill stop cut drop twice delay clock step"
KINDS_CHUNKSERVER="kill stop cut drop twice delay clock step eio short full flip-disk flip-write"
KINDS_CLIENT="kill stop cut drop twice delay clock step flip-net"

struck() { # KIND ROLE N
	STRUCK["$1 $2"]=$((${STRUCK["$1 $2"]:-0} + $3))
}

# ---- who ----

part_of_role() { # ROLE
	case $1 in
	master) echo master-1 ;;
	chunkserver) any_server ;;
	client) echo mount-1 ;;
	esac
}
# Of messages: the client is the mount or the checker itself.
talker_of_role() {
	[ "$1" = client ] && [ $((RANDOM % 2)) = 0 ] && echo checker || part_of_role "$1"
}
pick() { # one of the arguments
	local i=$((RANDOM % $# + 1))
	echo "${!i}"
}

# ---- kinds: each strikes once or a few times, then sees to it that it is over ----

wait_a_moment() { # 0.1 to SECONDS: a random moment is the point here
	sleep $((RANDOM % $1)).$((RANDOM % 9 + 1))
}

strike_kill() { # ROLE
	local part
	part=$(part_of_role "$1")
	wait_a_moment 1
	kill_part "$part" && struck kill "$1" 1
	wait_a_moment 3
}

strike_stop() {
	local part pid
	part=$(part_of_role "$1")
	pid=$(part_pid "$part")
	kill -STOP "$pid" && struck stop "$1" 1
	wait_a_moment 5
	kill -CONT "$pid"
}

# A named step, at random; a few are rare and need help.
strike_step() {
	local who point part slot match
	case $1 in
	master) who=STEP_MASTER ;;
	client) who=STEP_CLIENT ;;
	chunkserver) who=$(pick STEP_CHAIN STEP_CHUNKSERVER) ;;
	esac
	point=$(pick $(fault_ctl points "$who"))
	part=$(part_of_role "$1")
	[ $who = STEP_CHAIN ] && match=$(pick head middle tail)
	arm "$part" "$point" crash ${match:+match=$match} nth=$((RANDOM % 4 + 1)) || return
	slot=$SLOT
	provoke "$point" "$part"
	if wait_for 10 has_fired "$part" "$slot" 1 2>/dev/null; then
		struck step "$1" 1
		DIED[$point]=$((${DIED[$point]:-0} + 1))
		wait_for 10 part_is_dead "$part"
	fi
	wait_a_moment 2
}

# Armed at one point of one process until it struck N times, or some seconds have passed.
strike_armed() { # KIND ROLE PART N POINT ACTION [KEY=VALUE...]
	local kind=$1 role=$2 part=$3 n=$4 slot
	shift 4
	arm "$part" "$@" times="$n" nth=$((RANDOM % 10 + 1)) || return
	slot=$SLOT
	wait_for 4 has_fired "$part" "$slot" "$n" 2>/dev/null
	struck "$kind" "$role" "$(disarm "$part" "$slot")"
}

# What is said, by those who say it.
any_message() { # ROLE
	case $1 in
	master) pick "reply WROTE" "reply MAKE" "reply CHUNK_FOR_WRITE" "reply LOCATE" "reply RENAME" \
		"reply SETATTR" "reply UNLINK" "request CHUNK_RAISE" "request CHUNK_PULL" \
		"request CHUNK_DELETE" "reply CS_HEARTBEAT" "reply CS_" ;;
	chunkserver) pick "reply WRITE" "request WRITE" "request SYNC" "reply SYNC" "reply READ" \
		"reply CHUNK_RAISE" "reply CHUNK_PULL" "reply CHUNK_DELETE" "request CS_HEARTBEAT" \
		"request CS_" "request CHUNK_FAULT" ;;
	client) pick "request WRITE" "request WROTE" "request SYNC" "request RENAME" "request MAKE" \
		"request UNLINK" "request SETATTR" "request READ" "request LOCATE" ;;
	esac
}
strike_message() { # KIND ROLE ACTION [ARG]
	local match
	match=$(any_message "$2")
	strike_armed "$1" "$2" "$(talker_of_role "$2")" $((RANDOM % 3 + 1)) \
		net.send "$3" "match=$match" ${4:+arg=$4}
}
strike_cut() { strike_message cut "$1" cut; }
strike_drop() { strike_message drop "$1" drop; }
strike_twice() { strike_message twice "$1" twice; }
strike_delay() { strike_message delay "$1" delay $((RANDOM % 2500 + 100)); }

strike_flip-net() {
	strike_armed flip-net "$1" "$(talker_of_role "$1")" $((RANDOM % 3 + 1)) \
		net.send flip "match=request WRITE" arg=$((RANDOM * RANDOM))
}

# Realtime back and forth, boottime forward only: as the clock of a machine that slept.
declare -A BOOT_MS
strike_clock() {
	local part file before after
	part=$(part_of_role "$1")
	file=$(fault_file "$part")
	before=$(fault_ctl clock-reads "$file")
	case $((RANDOM % 3)) in
	0) fault_ctl clock "$file" real 3600000 ;;
	1) fault_ctl clock "$file" real -3600000 ;;
	2)
		BOOT_MS[$part]=$((${BOOT_MS[$part]:-0} + RANDOM % 30000 + 1000))
		fault_ctl clock "$file" boot ${BOOT_MS[$part]} ;;
	esac
	wait_a_moment 2
	after=$(fault_ctl clock-reads "$file")
	[ "$before" != "$after" ] && struck clock "$1" 1
	[ $((RANDOM % 2)) = 0 ] && fault_ctl clock "$file" real 0
}

strike_eio() {
	strike_armed eio "$1" "$(part_of_role "$1")" $((RANDOM % 4 + 1)) \
		"$(pick io.pwrite io.pread io.fdatasync io.open io.rename io.unlink io.sync_dir io.ftruncate)" \
		error arg=5 match=/chunks/
}
strike_short() {
	strike_armed short "$1" "$(part_of_role "$1")" $((RANDOM % 3 + 1)) \
		io.pwrite short arg=$((RANDOM % 9000)) match=/chunks/
}
strike_flip-write() {
	strike_armed flip-write "$1" "$(part_of_role "$1")" 1 \
		"$(pick io.pwrite io.pread)" flip arg=$((RANDOM * RANDOM)) match=/chunks/
}

# The second disk is small, if it could be made so; else single writes fail for want of room.
strike_full() {
	local part dir
	part=$(part_of_role "$1")
	dir=$CLUSTER/$part/second
	if [ -n "$SMALL_DISKS" ]; then
		dd if=/dev/zero of="$dir/filler" bs=1M status=none 2>/dev/null
		[ "$(df --output=avail -k "$dir" | tail -1)" -lt 1024 ] && struck full "$1" 1
		wait_a_moment 4
		rm -f "$dir/filler"
	fi
	strike_armed full "$1" "$part" $((RANDOM % 3 + 1)) io.pwrite error arg=28 match=/chunks/
}

# A bit of a chunk file at rest, or anything else of it.
strike_flip-disk() {
	local part file size offset byte
	part=$(part_of_role "$1")
	file=$(chunk_files "$part" | shuf -n 1 --random-source=<(yes $RANDOM))
	[ -n "$file" ] || return
	size=$(stat -c %s "$file")
	offset=$((RANDOM * 32768 % size))
	[ $((RANDOM % 4)) = 0 ] && offset=$((RANDOM % 512)) # the header
	byte=$(od -An -tu1 -j$offset -N1 "$file" 2>/dev/null | tr -d ' ')
	[ -n "$byte" ] || return
	printf "\\x$(printf %02x $((byte ^ (1 << RANDOM % 8))))" |
		dd of="$file" bs=1 seek=$offset conv=notrunc,nocreat status=none && struck flip-disk "$1" 1
}

# ---- the run ----

small_disks() { # tmpfs for the second disks
	local part
	SMALL_DISKS=
	[ "$(id -u)" = 0 ] || return
	mkdir -p "$CLUSTER"
	chmod 700 "$CLUSTER"
	for part in "${SERVER_NAMES[@]}"; do
		mkdir -p "$CLUSTER/$part/second"
		mount -t tmpfs -o size=128M tmpfs "$CLUSTER/$part/second" || return
		MOUNTS+=("$CLUSTER/$part/second")
	done
	SMALL_DISKS=1
}

# All pairs of kind and role, in an order of their own each time; those that struck N times already
# are left out.
deal() { # [N]
	local role kind kinds
	for role in master chunkserver client; do
		kinds=KINDS_${role^^}
		for kind in ${!kinds}; do
			[ -n "${1:-}" ] && [ "${STRUCK["$kind $role"]:-0}" -ge "$1" ] && continue
			echo "$kind $role"
			# The named steps are many.
			[ "$kind" = step ] && { echo "$kind $role"; echo "$kind $role"; }
		done
	done | shuf --random-source=<(yes $RANDOM)
}

# A disk that failed stays failed until somebody looks after it and starts the server again.
replace_disks() {
	local part addr
	timeout 20 cairn status --json 2>/dev/null | tr -d ' \n' >"$WORK/status.flat"
	for part in "${SERVER_NAMES[@]}"; do
		addr=$(cairn local status "$CLUSTER" | sed -n "s/^$part .*addr=\([^ ]*\) .*/\1/p")
		grep -q "\"addr\":\"$addr\"[^}]*\"disks_bad\":[1-9]" "$WORK/status.flat" || continue
		kill_part "$part" TERM
		revive
	done
}

told_failures() { # what `check` does not tell: a round's failure, with its last strikes
	echo "# round $ROUND, last strikes: ${RECENT[*]}"
}

look_closely() {
	check "round $ROUND: the checker rests" ask pause
	check "round $ROUND: well again within $HEALTH_S s" wait_for $HEALTH_S healthy
	check "round $ROUND: the copies of each chunk are the same" replicas_same_soon
	check "round $ROUND: everything can be read back" ask verify
	check "round $ROUND: nothing is lost, nothing is there twice" no_violations
	ask go
}

rounds() { # SECONDS [N]: N: until each kind struck each role so often, at most for SECONDS
	local begun=$SECONDS end=$((SECONDS + $1)) strike failed=$FAILED
	while [ $SECONDS -lt $end ] && ! { [ -n "${2:-}" ] && enough "$2" >"$WORK/missing"; }; do
		while read -r -u 9 kind role && [ $SECONDS -lt $end ]; do
			ROUND=$((ROUND + 1))
			RECENT+=("$kind/$role")
			echo "# $SECONDS s, round $ROUND: $kind $role" >>"$WORK/rounds"
			"strike_$kind" "$role"
			# Now and then a second one comes before the first is over.
			[ $((RANDOM % 4)) = 0 ] && continue
			disarm_all
			revive || check "round $ROUND: what was down is up again" false
			replace_disks
			[ $((ROUND % 4)) = 0 ] || continue
			check "round $ROUND: well again within $HEALTH_S s" wait_for $HEALTH_S healthy
			[ $((ROUND % 16)) = 0 ] && look_closely
			if [ $FAILED -gt $failed ]; then
				told_failures
				RAN=$((RAN + SECONDS - begun))
				return 1
			fi
			RECENT=()
		done 9< <(deal "${2:-}")
	done
	RAN=$((RAN + SECONDS - begun))
}

table() {
	local role kind kinds
	printf '# %-12s %12s %12s %12s\n' kind master chunkserver client
	for kind in $KINDS_CHUNKSERVER flip-net; do
		printf '# %-12s' $kind
		for role in master chunkserver client; do
			kinds=KINDS_${role^^}
			case " ${!kinds} " in
			*" $kind "*) printf ' %12d' "${STRUCK["$kind $role"]:-0}" ;;
			*) printf ' %12s' - ;;
			esac
		done
		echo
	done
	for kind in $(fault_ctl points); do
		[ "${DIED[$kind]:-0}" = 0 ] || printf '#   died at %-24s %d\n' $kind "${DIED[$kind]}"
	done
}

# In a long run every kind has struck every role that can have it.
enough() { # N
	local role kind kinds
	for role in master chunkserver client; do
		kinds=KINDS_${role^^}
		for kind in ${!kinds}; do
			[ "${STRUCK["$kind $role"]:-0}" -ge "$1" ] || { echo "$kind $role"; return 1; }
		done
	done
}

RECENT=()
RAN=0
LONG_S=1800 # a run of so long is to have enough of everything
MORE_S=900  # and goes on for so long to get it
small_disks
suite_start
rounds "$FAULT_SECONDS" && [ "$FAULT_SECONDS" -ge $LONG_S ] && rounds $MORE_S 10
check "faults struck for $FAULT_SECONDS s" [ $RAN -ge "$FAULT_SECONDS" ]
disarm_all
check "at the end everything starts again" revive
look_closely
table
ask counts
echo "# $ANSWER"
echo "# $ROUND faults struck in $RAN s"
tell_violations
[ "$FAULT_SECONDS" -lt $LONG_S ] || check "each kind struck each role 10 times" enough 10
