#!/usr/bin/env bash
# cairn-mount and cairn local: how they start, fail, stop and come back; two mounts at once.
. "$(dirname "$0")/../lib/cluster.sh"

SECOND=$WORK/second
mkdir "$SECOND"
MOUNTS+=("$SECOND")
OPTIONS=log_file=$WORK/second.log
[ "$(id -u)" = 0 ] && OPTIONS=$OPTIONS,allow_other

mountpoint_pid() { # of the cairn-mount on SECOND
	for p in /proc/[0-9]*; do
		{ tr '\0' '\n' <"$p/cmdline"; } 2>/dev/null | grep -qx "$SECOND" && echo "${p#/proc/}"
	done
}
second_is_gone() { [ -z "$(mountpoint_pid)" ] && ! mountpoint -q "$SECOND"; }
fails_with() { # TEXT command...: a non-zero status and one line that says why
	local text=$1
	shift
	! "$@" >"$WORK/out" 2>&1 && [ "$(wc -l <"$WORK/out")" = 1 ] && grep -qF "$text" "$WORK/out"
}

cluster_up --mount "$MNT"

# ---- refusals, each with a reason ----
check "no master: said in one line" fails_with "127.0.0.1:1: Connection refused" \
	cairn-mount 127.0.0.1:1 "$SECOND" -o timeout=2s
echo 00112233445566778899aabbccddeeff >"$WORK/other.key" && chmod 600 "$WORK/other.key"
check "another key is refused" fails_with "key" \
	cairn-mount -o "credentials=$WORK/other.key" "$SECOND"
check "a mount point that is not there" fails_with "/no/such/place" cairn-mount /no/such/place
check "nothing was mounted" sh -c "! mountpoint -q '$SECOND'"
check "more masters are refused" fails_with "not supported yet" \
	cairn local up "$CLUSTER" --masters 3
check "fewer chunkservers are refused" fails_with "cannot be made fewer" \
	cairn local up "$CLUSTER" --chunkservers 2

# ---- a second mount: as two processes on one disk ----
check "a daemon is mounted when it returns" sh -c "
	cairn-mount '$SECOND' -o '$OPTIONS' && mountpoint -q '$SECOND'"
check "a write is seen at once" sh -c "
	for i in 1 2 3 4 5 6 7 8 9; do
		echo \$i >'$MNT/f'; [ \$(cat '$SECOND/f') = \$i ] || exit 1
		echo \$i\$i >'$SECOND/f'; [ \$(cat '$MNT/f') = \$i\$i ] || exit 1
	done"
check "names come and go at once" sh -c "
	mkdir '$MNT/d' && touch '$SECOND/d/x' && [ \$(ls '$MNT/d') = x ] && mv '$MNT/d/x' '$SECOND/y' &&
	[ -e '$MNT/y' ] && ! [ -e '$SECOND/d/x' ] && rmdir '$SECOND/d' && ! [ -e '$MNT/d' ]"
check "appends of two mounts follow each other" sh -c "
	exec 3>>'$MNT/log' 4>>'$SECOND/log'
	for i in 1 2 3 4 5 6 7 8 9; do echo a >&3; echo b >&4; done
	[ \$(tr -d '\n' <'$MNT/log') = ababababababababab ]"
if [ "$(id -u)" = 0 ]; then
	chmod 711 "$WORK"
	as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
	# PLAIN, APPEND, TRUNCATE: the kernel clears the bits itself in the first case only.
	for how in "1<>" ">>" ">"; do
		echo >"$MNT/setid" && chmod 6777 "$MNT/setid"
		check "writing with $how takes set-id bits away" as_nobody sh -c "
			echo x $how '$SECOND/setid'; [ \$(stat -c %a '$SECOND/setid') = 777 ]"
	done
	check "permissions hold" sh -c "echo >'$MNT/own' && chmod 600 '$MNT/own'" &&
		check "for others too" fails_with "Permission denied" \
			setpriv --reuid 65534 --regid 65534 --clear-groups cat "$SECOND/own"
fi

# ---- stopping ----
truncate -s 512K "$MNT/mapped"
"$TESTS_BIN/mmap_dirty" "$SECOND/mapped" kept 128 >"$WORK/ready" &
BACKGROUND+=($!)
check "pages are dirty" wait_for 60 grep -q ready "$WORK/ready"
kill "$(mountpoint_pid)"
check "SIGTERM ends the mount, though a file is open" wait_for 60 second_is_gone
check "and writes all dirty pages first" sh -c "
	[ \$(tr -d '\\0' <'$MNT/mapped' | grep -o kept | wc -l) = 64 ]"

check "mount(8)'s form: helper name, fstab options" sh -c "
	ln -s '$BIN/cairn-mount' '$WORK/mount.cairn' &&
	'$WORK/mount.cairn' \$CAIRN_MASTER:/ '$SECOND' -s -n -o ro,_netdev,x-a.b,unheard=of"
check "ro is read-only" sh -c "[ -s '$SECOND/f' ] && ! touch '$SECOND/new'"
umount "$SECOND"
check "umount ends the daemon" wait_for 60 second_is_gone

# ---- dying ----
kill_part mount-1
check "status says what is down, with 3" sh -c "
	cairn local status '$CLUSTER' >'$WORK/out'; [ \$? = 3 ] &&
	grep -q '^mount-1 pid=- .*state=down' '$WORK/out' && [ \$(grep -c state=up '$WORK/out') = 4 ]"
cluster_up
check "up brings a killed mount back" sh -c "[ -s '$MNT/f' ]"
MASTER=$CAIRN_MASTER
kill_part master-1
kill_part chunkserver-2
cluster_up --mount "$MNT"
check "up brings killed servers back at their addresses" sh -c "
	[ \$(cairn local status '$CLUSTER' | grep -c 'state=up') = 5 ] && [ $MASTER = $CAIRN_MASTER ]"
check "and the mount goes on" sh -c "[ -s '$MNT/f' ]"

# A mount that is told to stop while the master is gone: it used to wait for itself, unkillable.
PID=$(part_pid mount-1)
kill_part master-1
background cat "$MNT/f"
kill "$PID"
check "it ends all the same" wait_for 60 sh -c "! [ -s /proc/$PID/cmdline ]"
check "down is bounded without a master" timeout 40 cairn local down "$CLUSTER"
check "and leaves no process" wait_for 60 sh -c "! [ -s /proc/$PID/cmdline ]"
check "and no mount" sh -c "! mountpoint -q '$MNT'"
