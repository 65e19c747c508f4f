#!/usr/bin/env bash
# Locks of two mounts: as two processes on one local disk have them.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --chunkservers 1 --replicas 1 --mount "$MNT" --master-flag=--session-ttl=4s
check "a second mount" second_mount

# start NAME MOUNT WAY...: a process that takes these locks of MOUNT/file and keeps them. Its answers
# are the lines of $WORK/NAME.
start() {
	local name=$1 mount=$2
	shift 2
	: >"$WORK/$name"
	"$TESTS_BIN/lock_ops" hold "$mount/file" "$@" >"$WORK/$name" &
	eval "pid_$name=$!"
	BACKGROUND+=($!)
}
end() { # NAME: it ends when it has all of its locks
	eval "kill -TERM \$pid_$1; wait \$pid_$1"
}
go_on() { # NAME: past its pause
	eval "kill -USR2 \$pid_$1"
}
says() { # NAME WORDS...: what it said so far
	[ "$(tr '\n' ' ' <"$WORK/$1" | sed 's/ $//')" = "${*:2}" ]
}
expect() { # NAME WORDS...
	check "$1: ${*:2}" wait_for 60 says "$@"
}
once() { # MOUNT WAY WORD: a lock that is given back at once
	check "then $2 through $(basename "$1"): $3" test \
		"$(lock_ops try "$1/file" "$2")" = "$3"
}
waiters() {
	[ "$(cairn locks --json | tr -d ' \n' | grep -o '"waits":true' | wc -l)" = "$1" ]
}
held() {
	[ "$(cairn locks --json | tr -d ' \n' | grep -o '"waits":false' | wc -l)" = "$1" ]
}
lock_ops() { "$TESTS_BIN/lock_ops" "$@"; }

# Ranges of two mounts.
start a "$MNT" fcntl:r:0:100 fcntl:w:200:10
expect a locked locked
once "$SECOND" fcntl:r:50:10 locked
once "$SECOND" fcntl:w:50:10 EAGAIN
once "$SECOND" fcntl:w:100:100 locked
once "$SECOND" fcntl:r:205:1 EAGAIN
once "$SECOND" ofd:w:205:1 EAGAIN
once "$SECOND" flock:w locked
once "$MNT" fcntl:w:99:1 EAGAIN
check "the list shows them" wait_for 60 held 2
check "with the path" sh -c "cairn locks | grep -q 'range exclusive held .* 200 .* 209 .*/file'"
end a
check "closed by exit" wait_for 60 held 0

# Closing any descriptor gives the process's locks back, but not flock's.
start a "$MNT" fcntl:w:0:1 flock:w close
expect a locked locked locked
once "$SECOND" fcntl:w:0:1 locked
once "$SECOND" flock:r EAGAIN
end a
wait_for 60 held 0
once "$SECOND" flock:w locked
wait_for 60 held 0

# flock: shared, exclusive, conversion.
start a "$MNT" flock:r
start b "$SECOND" flock:r
expect a locked
expect b locked
once "$SECOND" flock:w EAGAIN
start c "$SECOND" flockw:w
check "one waits" wait_for 60 waiters 1
check "and is listed" sh -c "cairn locks | grep -q 'flock exclusive waits'"
end a
check "one shared one is still in the way" wait_for 60 waiters 1
end b
expect c locked
end c

# OFD locks go with the last close.
start a "$MNT" ofd:w:0:10
expect a locked
once "$SECOND" fcntl:r:5:1 EAGAIN
end a
check "an OFD lock goes at the last close" wait_for 60 held 0
once "$SECOND" fcntl:r:5:1 locked

# Waiting, over both mounts and within one.
for mount in "$MNT" "$SECOND"; do
	start a "$MNT" fcntl:w:0:10
	expect a locked
	start b "$mount" fcntlw:w:5:10
	check "it waits" wait_for 60 waiters 1
	end a
	expect b locked
	end b
	wait_for 60 held 0
done

# More waiters than the mount has threads: it goes on serving.
start a "$MNT" fcntl:w
expect a locked
W=()
for _ in $(seq 40); do
	"$TESTS_BIN/lock_ops" try "$SECOND/file" fcntlw:r >>"$WORK/many" &
	W+=($!)
done
BACKGROUND+=("${W[@]}")
check "forty wait" wait_for 60 waiters 40
check "the mount serves others meanwhile" timeout 20 sh -c "echo x >'$SECOND/other' && cat '$MNT/other'"
end a
check "all of them get it" wait_for 60 sh -c "[ \$(grep -c locked '$WORK/many') = 40 ]"
wait "${W[@]}"
wait_for 60 held 0

# A signal ends a wait; so does death.
start a "$MNT" fcntl:w
expect a locked
start b "$SECOND" fcntlw:w fcntl:r:0:1
check "it waits" wait_for 60 waiters 1
kill -USR1 "$pid_b"
expect b EINTR EAGAIN
check "and waits no more" wait_for 60 waiters 0
end b
start b "$SECOND" flock:w fcntlw:w
check "another waits" wait_for 60 waiters 1
kill -KILL "$pid_b"
check "killed, it waits no more" wait_for 60 waiters 0
check "and holds nothing" wait_for 60 held 1
end a
wait_for 60 held 0

# Deadlocks: a circle over two mounts; OFD locks are no part of one.
start a "$MNT" fcntl:w:0:1 pause fcntlw:w:1:1
start b "$SECOND" fcntl:w:1:1 pause fcntlw:w:2:1
start c "$SECOND" fcntl:w:2:1 pause fcntlw:w:0:1
expect a locked
expect b locked
expect c locked
go_on a
check "the first waits" wait_for 60 waiters 1
go_on b
check "the second waits" wait_for 60 waiters 2
go_on c
expect c locked locked EDEADLK
end c
expect b locked locked locked
end b
expect a locked locked locked
end a
wait_for 60 held 0
start a "$MNT" ofd:w:0:1 pause ofdw:w:1:1
start b "$SECOND" ofd:w:1:1 pause ofdw:w:0:1
expect a locked
expect b locked
go_on a
go_on b
check "OFD locks wait in a circle" wait_for 60 waiters 2
kill -USR1 "$pid_a"
expect a locked locked EINTR
end a
expect b locked locked locked
end b
wait_for 60 held 0

# F_GETLK names the process of this mount, none of another.
start a "$MNT" fcntl:w:10:5
expect a locked
check "F_GETLK through the same mount" test "$(lock_ops get "$MNT/file" 0 100)" = "w 10 5 $pid_a"
check "through the other" test "$(lock_ops get "$SECOND/file" 0 100)" = "w 10 5 0"
check "where nothing is" test "$(lock_ops get "$SECOND/file" 15 0)" = u

# A master that dies forgets neither locks nor those that wait.
start b "$SECOND" fcntlw:w:12:1
check "one waits" wait_for 60 waiters 1
kill_part master-1
check "the master starts again" timeout 60 cairn local up "$CLUSTER"
check "the lock is there" wait_for 60 held 1
once "$SECOND" fcntl:r:10:1 EAGAIN
check "the other waits again" wait_for 60 waiters 1
end a
expect b locked
end b
wait_for 60 held 0

# A mount that is killed gives its locks back when its session ends.
start a "$SECOND" fcntl:w flock:w
expect a locked locked
start b "$MNT" fcntlw:w flockw:w
check "one waits for it" wait_for 60 waiters 1
kill -KILL "$second"
umount -l "$SECOND"
check "it has both when the session has ended" wait_for 60 says b locked locked
kill -TERM "$pid_a"
end b
wait_for 60 held 0

# The same as on a local disk, in random order.
check "a second mount again" second_mount
for seed in 1 2 3 4 5 6; do
	# The kernel tells of a last close a moment after it: RELEASE is not waited for.
	wait_for 60 held 0
	check "as on a local disk, seed $seed" timeout 120 "$TESTS_BIN/lock_ops" compare \
		"$MNT/random" "$SECOND/random" "$WORK/random" $seed 400
done
kill -TERM "$second"
check "the second mount ends" wait_for 60 sh -c "! mountpoint -q '$SECOND'"
check "nothing is left" wait_for 60 held 0
check "the master's database is sound" sh -c "
	cairn local down '$CLUSTER' && cairn-master --check --data-dir='$CLUSTER/master-1'"
