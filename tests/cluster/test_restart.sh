#!/usr/bin/env bash
# What a new master waits for: a mount that does not hear that the old one is gone, because it is frozen, and
# whose kernel answers from memory until the mount's lease ends. Nobody changes anything before, and nobody is
# told of a change whose answer went down with the old master. The test proves itself: with the wait left out
# by a fault point, the frozen mount answers what was before.
. "$(dirname "$0")/../lib/cluster.sh"
PATH=$TESTS_BIN:$PATH

export CAIRN_FAULTS=$WORK/faults
MAP=$CAIRN_FAULTS/master-1
mkdir "$CAIRN_FAULTS"
fault_ctl create "$MAP" || exit 2
second=
trap 'kill -CONT "$second" 2>/dev/null; cluster_cleanup' EXIT

up() { cluster_up --master-flag=--lease=$LEASE "$@"; }
restart() { kill_part master-1 && up; }
# Of the frozen mount's kernel. A question to its daemon is not answered.
remembers() { timeout 5 stat "$SECOND/d/$1"; }
has_forgotten() { ! remembers "$1"; }
# With the name in its kernel's memory.
freeze_with() {
	stat "$SECOND/d/$1" "$SECOND/d/$1" && kill -STOP $second || return
	remembers "$1" || { kill -CONT $second; return 1; }
}
thaw() { kill -CONT $second; }
attached() { grep -c 'leases of' "$WORK/second.log"; }
has_attached() { [ "$(attached)" -gt "$1" ]; }
# A master that tells of another length of leases.
restart_with_leases_of() {
	local before
	before=$(attached)
	LEASE=$1
	restart && wait_for 60 has_attached "$before"
}

LEASE=10s
up --mount "$MNT"
check "a second mount" second_mount
mkdir -p "$MNT/d/a" # directories: of files others might ask for what is held back
if ! wait_for 60 freeze_with a; then
	echo "# skipped: this kernel remembers no names (before Linux 6.16)"
	exit
fi

check "the master restarts while a mount is frozen" restart
check "a change is done in the end" timeout 120 mv "$MNT/d/a" "$MNT/d/b"
check "and the frozen mount answers no more" has_forgotten a
thaw
check "it sees the change when it goes on" wait_for 60 [ -e "$SECOND/d/b" ]

# Its own change: logged, not answered. Its kernel takes the old name for good until the answer comes.
is_logged() { [ "$(fault_ctl fired "$MAP" "$slot")" -gt 0 ]; }
rename_is_logged() {
	stat "$SECOND/d/b" "$SECOND/d/b" || return
	slot=$(fault_ctl arm "$MAP" master.committed delay match=RENAME arg=600000) || return
	background mv "$SECOND/d/b" "$SECOND/d/c" 2>"$WORK/mv.err"
	wait_for 60 is_logged && kill -STOP $second && restart
}
check "the master dies when a rename is logged, and its mount is frozen" rename_is_logged
check "others see the new name in the end" timeout 120 [ -e "$MNT/d/c" ]
check "and the frozen mount answers no more" has_forgotten b
thaw
check "it sees the change when it goes on" wait_for 60 [ -e "$SECOND/d/c" ]

# Leases that are longer than a restart takes on a machine that is very busy: nothing here waits for them.
seen_before() {
	timeout 60 mv "$MNT/d/$1" "$MNT/d/$2" && wait_for 30 remembers "$1"
}
check "longer leases" restart_with_leases_of 100s
check "frozen with a name" wait_for 60 freeze_with c
slot=$(fault_ctl arm "$MAP" master.lease.grace error times=ever arg=5)
check "the master restarts and does not wait" restart
check "caught: the frozen mount answers what was before" seen_before c d
check "the wait was left out" is_logged
fault_ctl disarm "$MAP" >/dev/null
thaw
check "it sees the change when it goes on" wait_for 60 [ -e "$SECOND/d/d" ]
