#!/usr/bin/env bash
# Leases when something fails: a mount that is frozen, a master that is frozen or restarts, a session that
# expired; and that caches are used at all. How fast is told, not judged.
. "$(dirname "$0")/../lib/cluster.sh"

SECOND=$WORK/second
PLAIN=$WORK/plain
mkdir "$SECOND" "$PLAIN"
MOUNTS+=("$SECOND" "$PLAIN")
STOPPED=()
resume() {
	for pid in "${STOPPED[@]}"; do kill -CONT "$pid" 2>/dev/null; done
	STOPPED=()
}
trap 'resume; cluster_cleanup' EXIT
# Nothing of a frozen mount may be open here: children would wait for it when they close it.
freeze() {
	STOPPED+=("$1")
	kill -STOP "$1"
}
mount_pid() { # of the cairn-mount on a directory
	for p in /proc/[0-9]*; do
		{ tr '\0' '\n' <"$p/cmdline"; } 2>/dev/null | grep -qx "$1" && echo "${p#/proc/}"
	done
}
links() { # as many sessions have a link
	cairn status --json | tr -d ' \n' | grep -q "\"links\":$1[,}]"
}
attached() { [ "$(grep -c 'leases of' "$WORK/second.log")" -ge "$1" ]; }

cluster_up --mount "$MNT" --master-flag=--session-ttl=8s
check "a second mount" cairn-mount "$SECOND" -o "log_file=$WORK/second.log,timeout=4s"
check "one that caches nothing" cairn-mount "$PLAIN" -o "log_file=$WORK/plain.log,nolease"
check "both have a link" wait_for 60 attached 1

# ---- rates: with leases against without ----
mkdir "$MNT/d"
for i in $(seq 100); do echo "$i" >"$MNT/d/$i"; done
check "the same is seen with and without" sh -c "
	ls '$SECOND/d' >'$WORK/a' && ls '$PLAIN/d' >'$WORK/b' && cmp '$WORK/a' '$WORK/b' &&
	cat '$SECOND'/d/* >'$WORK/a' && cat '$PLAIN'/d/* >'$WORK/b' && cmp '$WORK/a' '$WORK/b'"
for what in stat absent read list; do
	check "$what" timeout 60 "$TESTS_BIN/lease_rates" "$SECOND/d" "$PLAIN/d" $what
	sed 's/^/# /' "$WORK/check.out"
done

# ---- a frozen mount: others wait for its lease to end, no longer ----
echo before >"$MNT/f"
check "the second mount has it cached" sh -c "[ \$(cat '$SECOND/f') = before ] && stat '$SECOND/f'"
freeze "$(mount_pid "$SECOND")"
check "a write goes on while it is frozen" timeout 25 sh -c "echo after >'$MNT/f'"
check "so do names" timeout 25 sh -c "mv '$MNT/f' '$MNT/g' && echo new >'$MNT/f'"
resume
check "it sees all of it when it goes on" sh -c "[ \$(cat '$SECOND/g') = after ] && [ \$(cat '$SECOND/f') = new ]"
check "it has leases again" wait_for 60 attached 2

# ---- a frozen master: what is cached is used until the lease ends, then errors, not old answers ----
check "cached" stat "$SECOND/f"
freeze "$(part_pid master-1)"
check "in the end it does not answer from memory" wait_for 40 sh -c "! timeout 20 stat '$SECOND/f'"
resume
check "it comes back by itself" wait_for 60 sh -c "[ \$(cat '$SECOND/f') = new ]"
check "and is coherent" wait_for 60 sh -c "
	echo again >'$MNT/f' && [ \$(cat '$SECOND/f') = again ] && echo more >'$SECOND/f' && [ \$(cat '$MNT/f') = more ]"

# ---- the master restarts while both have things cached and open ----
echo open >"$MNT/o"
exec 7<"$SECOND/o" 8<"$MNT/o"
check "warm" sh -c "ls -l '$MNT' '$SECOND' && ! [ -e '$SECOND/absent' ]"
kill_part master-1
cluster_up
check "what one does, the other sees" timeout 60 sh -c "
	echo x >'$MNT/absent' && [ -e '$SECOND/absent' ] && rm '$SECOND/absent' && ! [ -e '$MNT/absent' ]"
check "what is open lives on without its name" timeout 60 sh -c "rm '$MNT/o' && [ \$(cat /dev/fd/7) = open ]"
check "for both" sh -c "[ \$(cat /dev/fd/8) = open ]"
exec 7<&- 8<&-

# ---- a mount that dies while its kernel holds pages for a read that is not answered, and a recall came:
# whoever waits for those pages inside the daemon keeps it from dying, and its users wait for ever ----
head -c 4000000 /dev/urandom >"$MNT/held"
sync "$MNT/held" # or the reader would wait for the writer, not for the servers
for i in 1 2 3; do freeze "$(part_pid chunkserver-$i)"; done
background cat "$SECOND/held" >"$WORK/held" 2>&1
reader=$!
check "a read waits" wait_for 60 grep -qE 'request_wait_answer|folio' "/proc/$reader/wchan"
check "a recall comes" timeout 30 chmod 600 "$MNT/held"
kill -KILL "$(mount_pid "$SECOND")"
check "the read ends with its mount" wait_for 60 sh -c "! kill -0 $reader"
resume
umount -l "$SECOND"
check "mounted again" cairn-mount "$SECOND" -o "log_file=$WORK/second.log,timeout=4s"

# ---- a mount that dies with leases ----
check "cached" stat "$SECOND/f"
kill -KILL "$(mount_pid "$SECOND")"
check "others go on" timeout 40 sh -c "echo on >'$MNT/f' && rm '$MNT/f'"
