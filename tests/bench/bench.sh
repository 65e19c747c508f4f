#!/usr/bin/env bash
# `make bench`: the same workloads on the local disk, on a pass-through FUSE mount, on Cairn and on its
# peers, interleaved; one table (results.txt) and the same as JSON (results.json). What can be chosen:
#
#	SYSTEMS="local fuse cairn1 cairn3 moosefs1 moosefs3 gluster3"   (systems.sh)
#	WORKLOADS="stream random files files8 bigdir tree git sqlite bulk master memory"   (workloads.sh)
#	SCALE=1       sizes and counts are multiplied with it; 0.1 takes minutes
#	ROUNDS=3      timed rounds, of which the table has the medians
#	ACCOUNT=1     one round more, before: CPU of the daemons, fsyncs and memory; its times are not used,
#	              since counting slows every system call down a little; 0: none
#	BENCH_DIR=/var/tmp   all data, of all systems, goes to one directory below; /dev/shm for memory
#	OUT=build/bench      where the results go
#	MEMORY_FILES=200000  files by which the master's memory is measured; 10000000 takes long
#	BENCH_CAIRN_MOUNT, BENCH_CAIRN_FLAGS   more flags for cairn-mount, for `cairn local up`
#
# Exits with 1 if a row failed. Whatever happens, what was started is stopped, by process id.
set -u
HERE=$(cd "$(dirname "$0")" && pwd)
BIN=$(cd "${BIN:?directory of the programs}" && pwd)
SYSTEMS=${SYSTEMS:-local fuse cairn1 cairn3 moosefs1 moosefs3 gluster3}
WORKLOADS=${WORKLOADS:-stream random files files8 bigdir tree git sqlite bulk master memory}
SCALE=${SCALE:-1} ROUNDS=${ROUNDS:-3} ACCOUNT=${ACCOUNT:-1}
BENCH_CAIRN_MOUNT=${BENCH_CAIRN_MOUNT:-} BENCH_CAIRN_FLAGS=${BENCH_CAIRN_FLAGS:-}
ROW_LIMIT_S=${ROW_LIMIT_S:-900}
SETTLE_S=${SETTLE_S:-1} # what a system does a moment later belongs to the row, too
OUT=${OUT:-$BIN/bench}
mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd) || exit 2
WORK=$(mktemp -d "${BENCH_DIR:-/var/tmp}/cairn-bench-XXXXXX") || exit 2
RAW=$OUT/results.tsv
FAILED=0
ulimit -n "$(ulimit -Hn)"
mkdir "$WORK/log" "$WORK/mnt"

scaled() { # NUMBER LEAST
	awk -v n="$1" -v least="$2" -v s="$SCALE" 'BEGIN { n = int(n * s); printf "%d\n", n < least ? least : n }'
}

. "$HERE/systems.sh"
. "$HERE/workloads.sh"

clean_up() {
	local status=$?
	trap - EXIT INT TERM
	systems_stop
	if [ -n "${KEEP:-}" ]; then echo "kept: $WORK"; else rm -rf --one-file-system "$WORK"; fi
	exit $status
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# ---- accounting ----

# CPU seconds that processes (with all their threads, and children that ended) have used.
cpu_s() { # PIDS...
	local p
	for p in "$@"; do
		sed 's/.*) //' "/proc/$p/stat" 2>/dev/null
	done | awk -v hz="$(getconf CLK_TCK)" '{ t += $12 + $13 + $14 + $15 } END { printf "%.2f\n", t / hz }'
}
rss_kb() { # PIDS...
	local p
	for p in "$@"; do grep -s '^VmRSS' "/proc/$p/status"; done | awk '{ t += $2 } END { print t + 0 }'
}

# perf counts the calls where they enter the kernel: nothing stops, no process is traced. C-Raft's durable
# appends are asynchronous writes with RWF_DSYNC: one io_getevents each (io_submit may be tried twice).
SYNC_EVENTS=$(printf 'syscalls:sys_enter_%s,' fsync fdatasync sync_file_range syncfs sync msync)
LOG_EVENTS=$SYNC_EVENTS$(printf 'syscalls:sys_enter_%s,' io_getevents)
can_count() { perf stat -x, -e "${SYNC_EVENTS%,}" -o /dev/null true 2>/dev/null; }
count_begin() { # FILE EVENTS PIDS...: until count_end
	local file=$1 events=$2
	shift 2
	rm -f "$file" "$file".*
	[ $# -gt 0 ] && [ "$COUNTING" = 1 ] || return 0
	local list="$*"
	mkfifo "$file.end"
	perf stat -x, -e "${events%,}" -o "$file" -p "${list// /,}" -- \
		sh -c ": >'$file.begun'; read -r _ <'$file.end'" &
	wait_for 10 test -e "$file.begun"
}
count_end() { # FILES...
	local file
	for file in "$@"; do
		[ ! -e "$file.begun" ] || echo >"$file.end"
	done
	for file in "$@"; do
		[ ! -e "$file.begun" ] || wait_for 10 test -s "$file"
	done
}
count_of() { # FILE
	[ -s "$1" ] && awk -F, '$1 ~ /^[0-9]+$/ { n += $1 } END { print n + 0 }' "$1" || echo -
}

# ---- one row of one system ----

row() { # WHAT UNIT command...
	local what=$1 unit=$2 client server log cpu out value
	shift 2
	client=${CLIENT_PIDS[$SYS]:-} server=${SERVER_PIDS[$SYS]:-} log=${LOG_PIDS[$SYS]:-}
	if [ "$ROUND" = 0 ]; then
		count_begin "$WORK/count.server" "$SYNC_EVENTS" $server
		count_begin "$WORK/count.log" "$LOG_EVENTS" $log
		cpu=$(cpu_s $client $server $log)
	fi
	if ! out=$(limited "$@"); then
		echo "failed: $SYS: $what" >&2
		FAILED=$((FAILED + 1))
		count_end "$WORK"/count.server "$WORK"/count.log
		printf '%s\t%s\t%s\t%s\tfailed\n' "$what" "$unit" "$SYS" "$ROUND" >>"$RAW"
		return
	fi
	if [ "$ROUND" = 0 ]; then
		[ -z "$client$server" ] || sleep $SETTLE_S
		cpu="$cpu $(cpu_s $client $server $log)"
		count_end "$WORK"/count.server "$WORK"/count.log
		printf '%s\t%s\t%s\taccount\t%s\t%s\t%s\t%s\t%s\t%s\n' "$what" "$unit" "$SYS" "$out" "$cpu" \
			"$(count_of "$WORK/count.server")" "$(count_of "$WORK/count.log")" \
			"${COPIES[$SYS]}" "$(rss_kb $log)" >>"$RAW"
		return
	fi
	printf '%s\t%s\t%s\t%s\t%s\n' "$what" "$unit" "$SYS" "$ROUND" "$out" >>"$RAW"
}
limited() {
	case $(type -t "$1") in
	function) "$@" ;; # they call programs that have limits
	*) timeout "$ROW_LIMIT_S" "$@" ;;
	esac
}
cold() { remount "$SYS" || { echo "failed: $SYS does not mount again" >&2; FAILED=$((FAILED + 1)); }; }

# ---- all of them ----

package_version() { dpkg-query -W -f '${Version}' "$1" 2>/dev/null || echo none; }
describe() {
	local disk
	disk=$(df --output=fstype,source "$WORK" | tail -1)
	printf 'date\t%s\n' "$(date -u '+%F %R UTC')"
	printf 'machine\t%s, %s CPUs, %s MiB, Linux %s\n' \
		"$(sed -n 's/^model name.*: //p' /proc/cpuinfo | head -1)" "$(nproc)" \
		"$(awk '/MemTotal/ { print int($2 / 1024) }' /proc/meminfo)" "$(uname -r)"
	printf 'load\t%s when it began\n' "$(cut -d' ' -f1-3 /proc/loadavg)"
	printf 'versions\tCairn %s, MooseFS %s, GlusterFS %s, libfuse %s\n' \
		"$("$BIN/cairn" --version 2>/dev/null | awk '{ print $NF; exit }')" "$(package_version moosefs-master)" \
		"$(package_version glusterfs-server)" "$(package_version libfuse3-3)"
	printf 'settings\tall data and logs of all systems on one %s; three servers each; defaults, but MooseFS without its priority and its trash; pass-through: %s\n' \
		"${disk/ / of }" "$([ -x "$BIN/tests/passthrough_ll" ] && echo 'passthrough_ll, default loop' || echo bindfs)"
	printf 'size\tSCALE=%s: streams of %s bytes, %s small files, a directory of %s, a tree of %s, %s random requests, %s synced ones; medians of %s rounds\n' \
		"$SCALE" "$BIG" "$FILES" "$BIGDIR" "$TREE_FILES" "$REQUESTS" "$SYNCED" "$ROUNDS"
}

up=
for SYS in $SYSTEMS; do
	if "start_$SYS" && "mount_$SYS"; then
		up="$up $SYS"
	else
		echo "failed: $SYS does not start" >&2
		tail -n 5 "$WORK"/log/* >&2
		FAILED=$((FAILED + 1))
	fi
done
describe >"$OUT/about.tsv"
: >"$RAW"
COUNTING=0
[ "$ACCOUNT" = 0 ] || ! can_count || COUNTING=1
[ "$COUNTING" = 1 ] || echo "# fsyncs are not counted: perf has no tracepoints here" >&2
for workload in $WORKLOADS; do
	for ROUND in $(seq $((ACCOUNT ? 0 : 1)) "$ROUNDS"); do
		for SYS in $up; do
			echo "# $(date +%T) $workload, round $ROUND, $SYS" >&2
			W=$("root_$SYS")/w
			mkdir -p "$W" && "work_$workload" || {
				echo "failed: $workload on $SYS" >&2
				FAILED=$((FAILED + 1))
			}
			rm -rf "$W"
		done
	done
done
awk -v systems="$(echo $SYSTEMS)" -v json="$OUT/results.json" -f "$HERE/table.awk" "$OUT/about.tsv" "$RAW" |
	tee "$OUT/results.txt"
[ $FAILED = 0 ]
