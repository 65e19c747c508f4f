# Sourced by what injects faults into a cluster of real processes: one master, four chunkservers of
# two disks each, three copies, a mount, the checker at work (tests/fault/checker). After
# suite_start:
#
#     ask COMMAND             the checker's answer; violations are counted on the way
#     arm PART POINT ACTION ...  as fault_ctl arm; the slot is in SLOT
#     fired PART SLOT         how often it struck
#     revive                  starts what is down
#     healthy                 all servers up, nothing below its goal or being changed
#
# Parts have the names of `cairn local status`; the mount's fault file is cairn-mount.
. "$(dirname "${BASH_SOURCE[0]}")/../lib/cluster.sh"

N_SERVERS=4
SERVER_NAMES=(chunkserver-1 chunkserver-2 chunkserver-3 chunkserver-4)
FAULTS=$WORK/faults
TIMEOUT_S=15   # of client operations
HEALTH_S=60    # until everything is well again by itself
VIOLATIONS=0
ANSWER=

suite_start() { # more flags of `cairn local up`
	local part
	mkdir "$FAULTS"
	for part in master-1 "${SERVER_NAMES[@]}" cairn-mount checker; do
		fault_ctl create "$FAULTS/$part"
	done
	export CAIRN_FAULTS=$FAULTS
	cluster_up --mount "$MNT" --chunkservers $N_SERVERS --replicas 3 \
		--mount-option=timeout=$TIMEOUT_S \
		--master-flag=--heartbeat=300ms --master-flag=--dead-after=2s \
		--master-flag=--repair-delay=1s --master-flag=--session-ttl=10s \
		--chunkserver-flag=--data={dir}/second --chunkserver-flag=--sync-interval=1s \
		--chunkserver-flag=--scrub-period=15s \
		--chunkserver-flag=--reserve=1M "$@"
	checker_start
}
checker_start() { # the command it is run with, if any
	coproc CHECKER { exec "$@" "$TESTS_BIN/checker" --mount "$MNT" --seed "$SEED" \
		--timeout-ms ${TIMEOUT_S}000 2>"$WORK/checker.err"; }
	BACKGROUND+=("$CHECKER_PID")
	# Copies: bash forgets the coprocess's own when it ends.
	exec {TO_CHECKER}>&"${CHECKER[1]}" {FROM_CHECKER}<&"${CHECKER[0]}"
}

PATH=$TESTS_BIN:$PATH

# What the checker found while nobody asked is told first.
ask() {
	echo "$1" >&"$TO_CHECKER" || return 1
	while read -r -t 300 ANSWER <&"$FROM_CHECKER"; do
		case $ANSWER in
		VIOLATION*)
			VIOLATIONS=$((VIOLATIONS + 1))
			echo "# $ANSWER" >>"$WORK/violations" ;; # told at the end: a check is silent
		*) return 0 ;;
		esac
	done
	ANSWER="no answer to $1"
	return 1
}
no_violations() {
	ask counts && grep -q ' violations 0 ' <<<"$ANSWER" && [ $VIOLATIONS = 0 ]
}

tell_violations() {
	[ ! -e "$WORK/violations" ] || cat "$WORK/violations"
}

# ---- faults ----

fault_file() { # PART
	[ "$1" = mount-1 ] && echo "$FAULTS/cairn-mount" || echo "$FAULTS/$1"
}
arm() { # PART POINT ACTION [KEY=VALUE...]
	local part=$1
	shift
	SLOT=$(fault_ctl arm "$(fault_file "$part")" "$@") || return 1
}
fired() { # PART SLOT
	fault_ctl fired "$(fault_file "$1")" "$2"
}
has_fired() { # PART SLOT N
	[ "$(fired "$1" "$2")" -ge "$3" ]
}
disarm() { # PART [SLOT]: prints how often it struck
	fault_ctl disarm "$(fault_file "$1")" ${2:+"$2"}
}
disarm_all() {
	local part
	for part in master-1 "${SERVER_NAMES[@]}" mount-1 checker; do
		disarm "$part" >"$WORK/disarmed"
	done
}
part_runs() {
	[ -n "$(part_pid "$1")" ]
}
part_is_dead() {
	! part_runs "$1"
}

# ---- health ----

revive() {
	timeout 60 cairn local up "$CLUSTER" >"$WORK/up.out" 2>&1 && return
	echo "# cairn local up:"
	sed 's/^/#   /' "$WORK/up.out"
	return 1
}
healthy() {
	timeout 20 cairn status --json >"$WORK/status" 2>&1 || return 1
	tr -d ' \n' <"$WORK/status" >"$WORK/status.flat"
	[ "$(grep -o '"state":"up"' "$WORK/status.flat" | wc -l)" = $N_SERVERS ] &&
		grep -q '"chunks_under_goal":0,"chunks_pending":0' "$WORK/status.flat"
}
# Compares what lies on the disks; nobody may be writing.
replicas_same() {
	local args=() part dir
	for part in "${SERVER_NAMES[@]}"; do
		dir=$(part_dir "$part")
		args+=("$(cairn local status "$CLUSTER" |
			sed -n "s/^$part .*addr=\([^ ]*\) .*/\1/p")=$dir,$dir/second")
	done
	replicas "${args[@]}" >"$WORK/replicas.out" 2>&1
}
# Waits for it; says what differs.
replicas_same_soon() {
	wait_for $HEALTH_S replicas_same && return
	tail -15 "$WORK/replicas.out"
	return 1
}

# ---- what makes a step happen ----

any_server() { # [BUT]
	local name
	while name=${SERVER_NAMES[RANDOM % N_SERVERS]}; [ "$name" = "${1:-}" ]; do :; done
	echo "$name"
}
# Some steps are rare: another server is lost for a while, or a link to the master cut.
provoke() { # POINT PART
	local other
	case $1 in
	cs.registered | cs.reported)
		arm "$2" net.send cut "match=request CS_HEARTBEAT" ;;
	cs.pull.* | master.raise.fill | master.raise.mend)
		other=$(any_server "$2")
		kill_part "$other" ;;
	esac
}
