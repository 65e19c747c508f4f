#!/usr/bin/env bash
# How the programs are built, who the daemons run as, what the units leave them.
. "$(dirname "$0")/../lib/cluster.sh"

USER_NAME=nobody
says() { # PATTERN COMMAND...: fails, within a bound, saying PATTERN
	local pattern=$1
	shift
	timeout 20 "$@" >"$WORK/says.out" 2>&1
	local r=$?
	cat "$WORK/says.out"
	[ $r -ne 0 ] && [ $r -lt 124 ] && grep -qE "$pattern" "$WORK/says.out"
}

# ---- how they are built ----
printf 'int main(void) { return 0; }\n' >"$WORK/t.c"
compiler_has() { # FLAG: then every object must have been compiled with it
	gcc -Werror "$1" -c -o /dev/null "$WORK/t.c" 2>/dev/null
}
every_unit_has() { # FILE FLAG
	readelf --debug-dump=info --dwarf-depth=1 "$1" 2>/dev/null |
		awk -v flag="$2" '/DW_AT_producer/ && /GNU C/ { n++; if (index($0, flag)) k++ }
			END { print k + 0, "of", n + 0; exit !(n > 0 && k == n) }'
}
is_fortified() { # what formats every error text
	nm -D "$1" | grep ' U __vsnprintf_chk'
}
has_relro() { readelf -lW "$1" | grep GNU_RELRO && readelf -dW "$1" | grep BIND_NOW; }
stack_is_data() { readelf -lW "$1" | grep -E 'GNU_STACK.* RW ' ; }
is_pie() { readelf -hW "$1" | grep 'DYN' && { [[ $1 = *.so ]] || readelf -dW "$1" | grep 'FLAGS_1.*PIE'; }; }

if nm -D "$BIN/cairn" | grep -qE '__(asan|tsan|ubsan)_'; then
	echo "# skipped: how programs are built (these have sanitizers instead)"
else
	for file in cairn-master cairn-chunkserver cairn-mount cairn libcairn.so; do
		f=$BIN/$file
		check "$file: position independent" is_pie "$f"
		check "$file: relocations are read-only once it runs" has_relro "$f"
		check "$file: the stack cannot be executed" stack_is_data "$f"
		check "$file: stack protector" every_unit_has "$f" -fstack-protector-strong
		check "$file: FORTIFY_SOURCE" is_fortified "$f"
		for flag in -fstack-clash-protection -fcf-protection; do
			! compiler_has $flag || check "$file: $flag" every_unit_has "$f" $flag
		done
	done
fi

# ---- daemons of their own, started by hand ----
(umask 077; od -An -v -tx1 -N32 /dev/urandom | tr -d ' \n' >"$WORK/key")
chmod 711 "$WORK" # the daemons' user goes through it to its directories
export CAIRN_CREDENTIALS=$WORK/key
MASTER="$BIN/cairn-master --credentials $WORK/key --listen 127.0.0.1:0 --replicas 1"
CHUNKSERVER="$BIN/cairn-chunkserver --credentials $WORK/key --listen 127.0.0.1:0"
address() { sed -n 's/.*: ready on \([^ ,]*\).*/\1/p' "$WORK/$1.log" | tail -1; }
ready() { [ -n "$(address "$1")" ]; }
start() { # NAME COMMAND...: sets PID
	local name=$1
	shift
	background "$@" >"$WORK/$name.log" 2>&1
	PID=${BACKGROUND[-1]}
	wait_for 60 ready "$name" || cat "$WORK/$name.log"
}
stop() {
	kill "$1"
	wait_for 60 sh -c "! kill -0 $1" && wait "$1"
}
field() { sed -n "s/^$2:[ \t]*//p" "/proc/$1/status" | tr -s '\t' ' ' | sed 's/ *$//'; }
is() { echo "$1, not $2"; [ "$1" = "$2" ]; }
owner() { stat -c %U "$1"; }
files_are_its_own() { [ -n "$(find "$1" -type f)" ] && [ -z "$(find "$1" ! -user $USER_NAME)" ]; }
round_trip() {
	head -c 300000 /dev/urandom >"$WORK/file"
	timeout 60 cairn put "$WORK/file" "/$1" && timeout 60 cairn get "/$1" "$WORK/$1.back" &&
		cmp "$WORK/file" "$WORK/$1.back"
}

if [ "$(id -u)" = 0 ]; then
	mkdir -m 755 "$WORK/data"
	start user-master $MASTER --user $USER_NAME --data-dir "$WORK/data/m"
	M=$PID
	export CAIRN_MASTER=$(address user-master)
	start user-cs $CHUNKSERVER --user $USER_NAME --data "$WORK/data/c" --master "$CAIRN_MASTER"
	C=$PID
	uid=$(id -u $USER_NAME) gid=$(id -g $USER_NAME)
	for p in $M $C; do
		name=$(cat /proc/$p/comm)
		check "$name runs as the user: real, effective, saved, file system" \
			is "$(field $p Uid)" "$uid $uid $uid $uid"
		check "$name: the same for groups" is "$(field $p Gid)" "$gid $gid $gid $gid"
		check "$name: root's other groups are gone" is "$(field $p Groups)" "$(id -G $USER_NAME)"
		check "$name: no capabilities" is "$(field $p CapPrm)$(field $p CapEff)" 00000000000000000000000000000000
		check "$name: no new privileges" is "$(field $p NoNewPrivs)" 1
		# The kernel gives /proc/PID of a process that leaves no core to root.
		check "$name: leaves no core" is "$(owner /proc/$p/environ)" root
	done
	check "it works as that user" round_trip user
	check "the master's files are the user's" files_are_its_own "$WORK/data/m"
	check "the chunkserver's files are the user's" files_are_its_own "$WORK/data/c"
	check "offline commands run as the user too" sh -c "kill $M; while kill -0 $M 2>/dev/null; do sleep 0.05; done
		cairn-master --user $USER_NAME --data-dir '$WORK/data/m' --check"
	check "and leave no file of root's" files_are_its_own "$WORK/data/m"
	stop $C

	start core $MASTER --user $USER_NAME --core-dumps --data-dir "$WORK/data/m"
	check "core_dumps = yes allows cores" is "$(owner /proc/$PID/environ)" $USER_NAME
	stop $PID
	start low $MASTER --user $USER_NAME --data-dir "$WORK/data/m" --listen 127.107.3.9:843
	check "a low port is taken before root's rights go" is "$(address low) $(field $PID Uid)" "127.107.3.9:843 $uid $uid $uid $uid"
	stop $PID
	check "an unknown user is refused" says 'no user "no-such-user"' \
		$MASTER --user no-such-user --data-dir "$WORK/data/m"
	mkdir -m 700 "$WORK/data/roots"
	check "a directory of root's: the error names it" says "$WORK/data/roots" \
		$MASTER --user $USER_NAME --data-dir "$WORK/data/roots"
	check "the same for a disk" says "$WORK/data/roots" \
		$CHUNKSERVER --user $USER_NAME --data "$WORK/data/roots" --master 127.0.0.1:1
	cp "$BIN/cairn-master" "$WORK/data/" # where the user may execute it
	install -m 600 -o $USER_NAME "$WORK/key" "$WORK/data/key"
	check "only root becomes somebody else" says 'only root can become "daemon"' \
		setpriv --reuid $USER_NAME --regid "$gid" --clear-groups "$WORK/data/cairn-master" --user daemon \
		--credentials "$WORK/data/key" --data-dir "$WORK/data/m" --listen 127.0.0.1:0

	# Certificates are renewed by who the daemon is then.
	cairn ca init --ca "$WORK/ca" >/dev/null
	cairn ca issue --ca "$WORK/ca" --role master --name m --host 127.0.0.1 >/dev/null
	cp -r "$WORK/ca/issued/master-m" "$WORK/data/tls"
	TLS="$BIN/cairn-master --credentials $WORK/data/tls --listen 127.0.0.1:0 --replicas 1 --user $USER_NAME"
	check "a key that only root can read: it says what to do" says "cannot read its credentials.*chown -R $USER_NAME" \
		$TLS --data-dir "$WORK/data/t"
	chown -R $USER_NAME "$WORK/data/tls"
	start tls-user $TLS --data-dir "$WORK/data/t"
	kill -HUP $PID
	check "credentials are reloaded as the user" wait_for 20 grep -q 'credentials reloaded' "$WORK/tls-user.log"
	chown root "$WORK/data/tls/"*
	kill -HUP $PID
	check "what cannot be read is told, and the old ones stay" wait_for 20 grep -q 'credentials are not reloaded' "$WORK/tls-user.log"
	check "it goes on" kill -0 $PID
	stop $PID
else
	echo "# skipped: running as another user needs root"
fi

# ---- the units ----
if ! command -v systemd-analyze >/dev/null; then
	echo "# skipped: units (no systemd-analyze)"
	exit
fi
for name in cairn-master cairn-chunkserver; do
	unit=$BIN/$name.service
	# 49 is the highest exposure that systemd calls OK.
	check "$name.service: systemd's verdict is OK or better" \
		systemd-analyze security --offline=true --threshold=49 "$unit"
	check "$name.service: no line that systemd does not know" \
		sh -c "! systemd-analyze verify '$unit' 2>&1 | grep -E 'Unknown|Failed to parse|Invalid|ignoring'"
done

if nm -D "$BIN/cairn" | grep -qE '__(asan|tsan|ubsan)_'; then
	echo "# skipped: the units' filters (the sanitizers make calls of their own)"
	exit
fi
# The unit's filter on the real daemons, with death for what it refuses.
call_names() { # SET_OR_CALL...
	local s
	for s in "$@"; do
		case $s in
		@*) call_names $(systemd-analyze syscall-filter "$s" | sed 1d | grep -v '#') ;;
		*) echo "$s" ;;
		esac
	done
}
unit_calls() { # UNIT: the numbers of the calls that it allows
	local line
	call_names @default >"$WORK/names"
	sed -n 's/^SystemCallFilter=//p' "$1" | while read -r line; do
		call_names ${line#\~} | sort -u >"$WORK/line"
		if [[ $line = \~* ]]; then
			grep -vxF -f "$WORK/line" "$WORK/names" >"$WORK/rest"
			mv "$WORK/rest" "$WORK/names"
		else
			cat "$WORK/line" >>"$WORK/names"
		fi
	done
	{ echo '#include <sys/syscall.h>'; sed 's/.*/CALL SYS_&/' "$WORK/names"; } |
		gcc -E -P - | sed -n 's/^CALL \([0-9]*\)$/\1/p' | sort -nu
}
unit_calls "$BIN/cairn-master.service" >"$WORK/calls-master"
unit_calls "$BIN/cairn-chunkserver.service" >"$WORK/calls-cs"
filtered() { # CALLS PROGRAM ARG...
	exec "$TESTS_BIN/seccomp_exec" "$@"
}
check "the filter kills what it refuses" sh -c "'$TESTS_BIN/seccomp_exec' '$WORK/calls-master' /bin/chown root '$WORK/t.c'; [ \$? = 159 ]"
start seccomp-master filtered "$WORK/calls-master" $MASTER --data-dir "$WORK/sm"
M=$PID
export CAIRN_MASTER=$(address seccomp-master)
start seccomp-cs filtered "$WORK/calls-cs" $CHUNKSERVER --data "$WORK/sc" --master "$CAIRN_MASTER" --scrub-period 1s --sync-interval 100ms
C=$PID
check "both daemons run under the units' filters" is "$(field $M Seccomp) $(field $C Seccomp)" "2 2"
check "and work" round_trip seccomp
check "backup under the filter" timeout 60 cairn backup "$WORK/backup"
check "removal under the filter" timeout 60 cairn rm /seccomp
check "the chunkserver ends well" stop $C
check "the master ends well" stop $M
