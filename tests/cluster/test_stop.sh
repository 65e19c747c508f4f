#!/usr/bin/env bash
# A master ends well whenever it is told to, and what it acknowledged is there when it is back.
. "$(dirname "$0")/../lib/cluster.sh"

STOPS=8
(umask 077; od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >"$WORK/key")
export CAIRN_CREDENTIALS=$WORK/key
start() { # sets PID
	background "$BIN/cairn-master" --credentials "$WORK/key" --listen 127.0.0.1:0 --data-dir "$WORK/m" \
		>"$WORK/log" 2>&1
	PID=${BACKGROUND[-1]}
}
address() { sed -n 's/.*: ready on \([^ ,]*\).*/\1/p' "$WORK/log"; }
ready() { [ -n "$(address)" ]; }
catches_sigterm() { # the master, not the shell that is about to become it
	[ "/proc/$PID/exe" -ef "$BIN/cairn-master" ] || return
	local caught=$(sed -n 's/^SigCgt:[ \t]*//p' /proc/$PID/status)
	[ $((0x${caught:-0} >> 14 & 1)) = 1 ]
}
ends_well() {
	cat "$WORK/log"
	kill $PID && wait_for 60 sh -c "! kill -0 $PID" && wait $PID
	local r=$?
	echo "exit status $r: $(tail -1 "$WORK/log")"
	return $r
}

# The signal is there at the loop's first step, while the log is still being made ready.
for i in $(seq $STOPS); do
	start
	until catches_sigterm; do kill -0 $PID || break; done
	check "stop $i of a master that starts" ends_well
done

makes_directories() { # NAME: until the master is gone; tells which were acknowledged
	local n=0
	while timeout 10 cairn mkdir "/$1.$n" >/dev/null 2>&1; do
		echo "$1.$n"
		n=$((n + 1))
	done
}
all_there() {
	timeout 20 cairn ls / | sed 's/.* //; s|/$||' | sort >"$WORK/there"
	sort "$WORK/acknowledged" | comm -23 - "$WORK/there" | tee "$WORK/lost"
	[ -s "$WORK/acknowledged" ] && [ ! -s "$WORK/lost" ]
}
: >"$WORK/acknowledged"
for i in $(seq $STOPS); do
	start
	wait_for 60 ready
	export CAIRN_MASTER=$(address)
	makes_directories "d$i" >"$WORK/made" &
	maker=$!
	wait_for 60 test -s "$WORK/made"
	check "stop $i under load" ends_well
	kill $maker 2>/dev/null # its last command may wait for the master for long
	wait $maker 2>/dev/null
	cat "$WORK/made" >>"$WORK/acknowledged"
done
start
wait_for 60 ready
export CAIRN_MASTER=$(address)
check "what was acknowledged is there" all_there
check "the last stop" ends_well
