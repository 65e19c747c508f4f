# Sourced by the cluster tests: a private cluster of real processes in a directory of its own, on
# ports chosen at run time, and checks that read like sentences. Whatever happens, everything that
# was started is stopped, by process id, when the script ends.
#
# A test calls `check "what should hold" command...`; the script's exit status is the number of
# failures. BIN is the directory of the programs under test.
set -u

BIN=${BIN:?directory of the programs under test}
TESTS_BIN=$BIN/tests
WORK=$(mktemp -d "${TMPDIR:-/tmp}/cairn-cluster-XXXXXX")
CLUSTER=$WORK/cluster
MNT=$WORK/mnt
SEED=${SEED:-$RANDOM}
PASSED=0
FAILED=0
BACKGROUND=()
MOUNTS=()
export PATH=$BIN:$PATH
RANDOM=$SEED
mkdir "$MNT"
echo "# seed $SEED, work $WORK"

check() {
	local what=$1
	shift
	if "$@" >"$WORK/check.out" 2>&1; then
		PASSED=$((PASSED + 1))
		echo "ok $what"
	else
		FAILED=$((FAILED + 1))
		echo "not ok $what: $*"
		head -20 "$WORK/check.out" | sed 's/^/#   /'
	fi
}

# Waits until the command succeeds: wait_for SECONDS command... The limit is no claim about how long
# it takes: it ends what never comes, and a busy machine is ten times slower. Hardly any is below 60.
wait_for() {
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { echo "# gave up waiting for: $*" >&2; return 1; }
		sleep 0.05 # between two looks at a condition that has a deadline
	done
}

cluster_up() {
	# A limit, so that a bug cannot hang the run; the flags shorten the clocks of failures.
	timeout 120 cairn local up "$CLUSTER" "$@" >"$WORK/up.out" 2>&1 || {
		echo "not ok cluster starts"
		sed 's/^/#   /' "$WORK/up.out"
		FAILED=$((FAILED + 1))
		exit
	}
	eval "$(cairn local env "$CLUSTER")"
}

# The credentials of a part, or of admin: a directory, or with --plain the key.
credentials() {
	if [ -d "$CLUSTER/tls" ]; then echo "$CLUSTER/tls/$1"; else echo "$CLUSTER/key"; fi
}
part_pid() {
	cairn local status "$CLUSTER" | sed -n "s/^$1 pid=\([0-9]*\).*state=up.*/\1/p"
}
part_dir() {
	cairn local status "$CLUSTER" | sed -n "s/^$1 .*dir=\([^ ]*\).*/\1/p"
}
part_log() {
	echo "$CLUSTER/log/$1.log"
}
# Kills one part and waits until it is gone: kill_part NAME [SIGNAL]
kill_part() {
	local pid
	pid=$(part_pid "$1")
	[ -n "$pid" ] || { echo "# $1 is not running" >&2; return 1; }
	kill "-${2:-KILL}" "$pid"
	wait_for 60 sh -c "! kill -0 $pid"
}
servers_up() {
	[ "$(cairn status --json | tr -d ' \n' | grep -o '"state":"up"' | wc -l)" = "$1" ]
}
nothing_under_goal() {
	cairn status --json | tr -d ' \n' | grep -q '"chunks_under_goal":0,'
}

# Another mount of the cluster, on SECOND, by a process that can be killed: second.
SECOND=$WORK/second
second_mount() {
	mkdir -p "$SECOND"
	MOUNTS+=("$SECOND")
	cairn-mount "$CAIRN_MASTER:/" "$SECOND" -f >"$WORK/second.log" 2>&1 &
	second=$!
	BACKGROUND+=("$second")
	wait_for 60 mountpoint -q "$SECOND"
}

background() {
	"$@" &
	BACKGROUND+=($!)
}

cluster_cleanup() {
	local status=$? pid m
	trap - EXIT INT TERM
	for pid in "${BACKGROUND[@]}"; do
		kill -KILL "$pid" 2>/dev/null
	done
	# Before the cluster goes: without a master a mount answers late.
	for m in "${MOUNTS[@]}"; do
		grep -qsF " $m fuse.cairn " /proc/mounts && umount -l "$m"
	done
	if [ -d "$CLUSTER" ]; then
		timeout 60 cairn local down "$CLUSTER" >"$WORK/down.out" 2>&1 || {
			echo "not ok cluster stops"
			sed 's/^/#   /' "$WORK/down.out"
			FAILED=$((FAILED + 1))
		}
		for pid in "$CLUSTER"/run/*.pid; do
			[ -e "$pid" ] && kill -KILL "$(cat "$pid")" 2>/dev/null
		done
	fi
	for m in "$MNT" "${MOUNTS[@]}"; do
		# Of a mount whose process was killed mountpoint(1) says that it is none.
		grep -qs " $m " /proc/mounts && umount -l "$m"
	done
	if grep -lE 'ERROR: (Address|Thread|Leak|Undefined)|runtime error:' "$CLUSTER"/log/*.log 2>/dev/null; then
		echo "not ok no sanitizer report"
		grep -hE -A12 'ERROR: |runtime error:' "$CLUSTER"/log/*.log | head -60 | sed 's/^/#   /'
		FAILED=$((FAILED + 1))
	fi
	if [ $FAILED -gt 0 ] || [ $status -gt 1 ]; then
		tail -n 15 "$CLUSTER"/log/*.log 2>/dev/null | cut -c1-300 | sed 's/^/# /'
	fi
	[ -n "${KEEP:-}" ] || rm -rf --one-file-system "$WORK"
	echo "$(basename "$0" .sh): $PASSED passed, $FAILED failed"
	[ $FAILED -eq 0 ] && [ $status -le 1 ]
	exit
}
trap cluster_cleanup EXIT
trap 'exit 130' INT TERM

# The chunk files of one chunkserver.
chunk_files() {
	find "$(part_dir "$1")" -path '*/chunks/*' -type f
}
