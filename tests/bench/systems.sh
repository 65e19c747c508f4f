# Sourced by bench.sh: the systems that are compared. Each has three functions,
#	start_NAME   starts its daemons, if they do not run yet, and sets SERVER_PIDS, LOG_PIDS
#	mount_NAME   mounts it on $MOUNTS/NAME and sets CLIENT_PIDS
#	root_NAME    prints the directory that workloads use
# SERVER_PIDS keep the data, LOG_PIDS the metadata, CLIENT_PIDS serve the mount. `local` has no mount.
# Everything is stopped by systems_stop, by process id.

declare -A SERVER_PIDS LOG_PIDS CLIENT_PIDS COPIES=([local]=1 [fuse]=1 [cairn1]=1 [cairn3]=3
	[moosefs1]=1 [moosefs3]=3 [gluster3]=3)
MOUNTS=$WORK/mnt
NET_PID=       # keeps the network namespace of the peers
NET_ADDR=10.77.0.1
STARTED=()     # process ids to stop, last first

need_root() {
	[ "$(id -u)" = 0 ] || { echo "needs root: network namespace and mounts" >&2; return 1; }
}

wait_for() { # SECONDS command...
	local end=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { echo "gave up waiting for: $*" >&2; return 1; }
		sleep 0.05
	done
}

is_mounted() { # of the type $2
	grep -qs "^[^ ]* $1 $2" /proc/mounts
}

# A process that nobody has waited for yet is gone, too.
gone() {
	! grep -qs '^[0-9]* (.*) [^Z]' "/proc/$1/stat"
}

# daemon LOG command...: in the background; sets DAEMON to its process id.
daemon() {
	local log=$1
	shift
	setsid "$@" >>"$log" 2>&1 </dev/null &
	DAEMON=$!
	STARTED+=("$DAEMON")
}

unmount() {
	local m=$MOUNTS/$1 pid
	is_mounted "$m" fuse || return 0
	umount "$m" 2>/dev/null || umount -l "$m"
	for pid in ${CLIENT_PIDS[$1]:-}; do
		wait_for 60 gone "$pid" || kill -KILL "$pid"
	done
	CLIENT_PIDS[$1]=
}

# ---- a directory of the disk that everybody's data is on; a pass-through mount of another ----

start_local() { mkdir -p "$WORK/local"; }
mount_local() { :; }
root_local() { echo "$WORK/local"; }

# libfuse's own example with its default loop and caching; bindfs where the example is not installed.
start_fuse() { mkdir -p "$WORK/fuse" "$MOUNTS/fuse"; }
mount_fuse() {
	if [ -x "$BIN/tests/passthrough_ll" ]; then
		daemon "$WORK/log/fuse" "$BIN/tests/passthrough_ll" -f -o "source=$WORK/fuse" "$MOUNTS/fuse"
	else
		daemon "$WORK/log/fuse" bindfs -f "$WORK/fuse" "$MOUNTS/fuse"
	fi
	CLIENT_PIDS[fuse]=$DAEMON
	wait_for 20 is_mounted "$MOUNTS/fuse" fuse
}
root_fuse() { echo "$MOUNTS/fuse"; }

# ---- Cairn: three chunkservers ----

cairn_start() { # COPIES
	local name=cairn$1 dir=$WORK/cairn$1
	mkdir -p "$MOUNTS/$name"
	timeout 120 "$BIN/cairn" local up "$dir" --chunkservers 3 --replicas "$1" \
		$BENCH_CAIRN_FLAGS >"$WORK/log/$name" 2>&1 || return
	"$BIN/cairn" local status "$dir" >"$WORK/$name.parts"
	SERVER_PIDS[$name]=$(sed -n 's/^chunkserver-.* pid=\([0-9]*\).*/\1/p' "$WORK/$name.parts")
	LOG_PIDS[$name]=$(sed -n 's/^master-.* pid=\([0-9]*\).*/\1/p' "$WORK/$name.parts")
}
cairn_mount() { # COPIES
	local name=cairn$1
	daemon "$WORK/log/$name-mount" sh -c "eval \"\$('$BIN/cairn' local env '$WORK/$name')\";
		exec '$BIN/cairn-mount' '$MOUNTS/$name' -f $BENCH_CAIRN_MOUNT"
	CLIENT_PIDS[$name]=$DAEMON
	wait_for 30 is_mounted "$MOUNTS/$name" fuse
}
start_cairn1() { cairn_start 1; }
start_cairn3() { cairn_start 3; }
mount_cairn1() { cairn_mount 1; }
mount_cairn3() { cairn_mount 3; }
root_cairn1() { echo "$MOUNTS/cairn1"; }
root_cairn3() { echo "$MOUNTS/cairn3"; }

# ---- peers: in a network namespace, since they refuse loopback addresses between servers ----

net_start() {
	[ -z "$NET_PID" ] || return 0
	need_root || return
	# A session of its own: a signal to our process group must not take it away before the peers are stopped.
	setsid unshare --net sleep infinity &
	NET_PID=$!
	disown
	wait_for 10 sh -c "[ \$(readlink /proc/$NET_PID/ns/net) != \$(readlink /proc/self/ns/net) ]" &&
		in_net ip link set lo up && in_net ip addr add "$NET_ADDR/24" dev lo
}
in_net() { nsenter --net="/proc/$NET_PID/ns/net" "$@"; }
# A daemon in it: nsenter executes the program, so the process id is the daemon's.
net_daemon() {
	local log=$1
	shift
	daemon "$log" nsenter --net="/proc/$NET_PID/ns/net" "$@"
}
# Peers start helpers of their own: whoever lives in the namespace is ours.
net_pids() {
	local p ours
	ours=$(readlink "/proc/${NET_PID:-none}/ns/net") || return 0
	for p in /proc/[0-9]*; do
		[ "$(readlink "$p/ns/net")" != "$ours" ] || echo "${p#/proc/}"
	done 2>/dev/null
}

# MooseFS: one cluster with three chunkservers; the number of copies is a property of the directory.
# Its defaults, but for priority (it would run at nice -19) and trash (deleted files would stay).
moosefs_cluster() {
	local dir=$WORK/moosefs i conf servers=
	[ -z "${LOG_PIDS[moosefs]:-}" ] || return 0
	net_start || return
	command -v mfsmaster >/dev/null || { echo "MooseFS is not installed" >&2; return 1; }
	mkdir -p "$dir/master" "$MOUNTS/moosefs"
	echo "* / rw,alldirs,maproot=0,mintrashtime=0" >"$dir/exports"
	: >"$dir/topology"
	printf 'MFSM NEW' >"$dir/master/metadata.mfs" # what the package's empty file holds
	conf="WORKING_USER=root\nWORKING_GROUP=root\nNICE_LEVEL=0\nDISABLE_OOM_KILLER=0\n"
	printf "${conf}DATA_PATH=$dir/master\nEXPORTS_FILENAME=$dir/exports\nTOPOLOGY_FILENAME=$dir/topology\n" \
		>"$dir/master.cfg"
	net_daemon "$WORK/log/moosefs-master" mfsmaster -f -c "$dir/master.cfg" start
	LOG_PIDS[moosefs]=$DAEMON
	for i in 1 2 3; do
		mkdir -p "$dir/cs$i" "$dir/disk$i"
		echo "$dir/disk$i" >"$dir/hdd$i"
		printf "${conf}DATA_PATH=$dir/cs$i\nHDD_CONF_FILENAME=$dir/hdd$i\nMASTER_HOST=$NET_ADDR\nMASTER_RECONNECTION_DELAY=1\nCSSERV_LISTEN_PORT=942$((i + 3))\n" \
			>"$dir/cs$i.cfg"
		net_daemon "$WORK/log/moosefs-cs$i" mfschunkserver -f -c "$dir/cs$i.cfg" start
		servers+=" $DAEMON"
	done
	SERVER_PIDS[moosefs]=$servers
	moosefs_mount && wait_for 60 moosefs_stores && mkdir -p "$MOUNTS/moosefs/1" "$MOUNTS/moosefs/3" &&
		in_net mfssetgoal -r 1 "$MOUNTS/moosefs/1" && in_net mfssetgoal -r 3 "$MOUNTS/moosefs/3" &&
		in_net mfssettrashtime -r 0 "$MOUNTS/moosefs"
}
# All three chunkservers count when a file with three copies has them.
moosefs_stores() {
	local probe=$MOUNTS/moosefs/probe
	rm -f "$probe"
	: >"$probe" && in_net mfssetgoal 3 "$probe" && timeout 20 sh -c "echo x >'$probe'" &&
		[ "$(in_net mfsfileinfo "$probe" | grep -c 'status:VALID')" = 3 ]
}
moosefs_mount() {
	is_mounted "$MOUNTS/moosefs" fuse && return
	wait_for 20 in_net bash -c "exec 3<>/dev/tcp/$NET_ADDR/9421" || return
	# mfsioretries: an error after seconds, not hours, when something is wrong.
	net_daemon "$WORK/log/moosefs-mount" mfsmount -f -H "$NET_ADDR" \
		-o mfsnice=0,mfsallowoomkiller,mfsioretries=10 "$MOUNTS/moosefs"
	CLIENT_PIDS[moosefs]=$DAEMON
	wait_for 30 is_mounted "$MOUNTS/moosefs" fuse
}
moosefs_share_pids() {
	SERVER_PIDS[$1]=${SERVER_PIDS[moosefs]} LOG_PIDS[$1]=${LOG_PIDS[moosefs]} CLIENT_PIDS[$1]=${CLIENT_PIDS[moosefs]}
}
start_moosefs1() { moosefs_cluster >>"$WORK/log/moosefs" 2>&1 && moosefs_share_pids moosefs1; }
start_moosefs3() { moosefs_cluster >>"$WORK/log/moosefs" 2>&1 && moosefs_share_pids moosefs3; }
mount_moosefs1() { moosefs_mount && moosefs_share_pids moosefs1; }
mount_moosefs3() { moosefs_mount && moosefs_share_pids moosefs3; }
root_moosefs1() { echo "$MOUNTS/moosefs/1"; }
root_moosefs3() { echo "$MOUNTS/moosefs/3"; }

# GlusterFS: three bricks of one server, defaults.
start_gluster3() { gluster_cluster >>"$WORK/log/gluster" 2>&1; }
gluster_cluster() {
	local dir=$WORK/gluster
	net_start || return
	command -v glusterd >/dev/null || { echo "GlusterFS is not installed" >&2; return 1; }
	mkdir -p "$dir/run" "$dir/state" "$dir"/brick{1,2,3} "$MOUNTS/gluster3"
	cat >"$dir/glusterd.vol" <<-END
		volume management
		    type mgmt/glusterd
		    option working-directory $dir/state
		    option run-directory $dir/run
		    option transport-type socket
		    option transport.socket.listen-port 24007
		    option glusterd-sockfile $dir/glusterd.sock
		    option ping-timeout 0
		    option event-threads 1
		    option max-port 60999
		end-volume
	END
	net_daemon "$WORK/log/glusterd" glusterd -N -f "$dir/glusterd.vol" -l "$WORK/log/glusterd.log" \
		-p "$dir/glusterd.pid"
	LOG_PIDS[gluster3]=$DAEMON
	wait_for 60 gluster_cli volume info &&
		gluster_cli volume create bench replica 3 "$NET_ADDR:$dir/brick1" "$NET_ADDR:$dir/brick2" \
			"$NET_ADDR:$dir/brick3" force &&
		gluster_cli volume start bench || return
	# It keeps data and metadata in the same processes.
	SERVER_PIDS[gluster3]=$(for p in $(net_pids); do
		grep -q '^glusterfsd' "/proc/$p/comm" 2>/dev/null && echo "$p"
	done)
	[ -n "${SERVER_PIDS[gluster3]}" ]
}
gluster_cli() {
	timeout 120 nsenter --net="/proc/$NET_PID/ns/net" gluster --mode=script \
		--glusterd-sock="$WORK/gluster/glusterd.sock" --log-file="$WORK/log/gluster-cli" "$@"
}
mount_gluster3() {
	net_daemon "$WORK/log/gluster-mount" glusterfs -N -s "$NET_ADDR" --volfile-id=bench \
		-l "$WORK/log/gluster-mount.log" "$MOUNTS/gluster3"
	CLIENT_PIDS[gluster3]=$DAEMON
	wait_for 60 is_mounted "$MOUNTS/gluster3" fuse
}
root_gluster3() { echo "$MOUNTS/gluster3"; }

# ---- all of them ----

mount_name() { # of the system: both forms of MooseFS share a mount
	case $1 in moosefs?) echo moosefs ;; *) echo "$1" ;; esac
}

remount() { # SYSTEM, and drop what the kernel has cached of anything
	local name
	name=$(mount_name "$1")
	sync -f "$WORK"
	unmount "$name" || return
	[ ! -w /proc/sys/vm/drop_caches ] || echo 3 >/proc/sys/vm/drop_caches
	"mount_$1"
}

systems_stop() {
	local pid m n
	for m in "$MOUNTS"/*; do
		! grep -qs " $m fuse" /proc/mounts || umount "$m" 2>/dev/null || umount -l "$m"
	done
	for n in 1 3; do
		[ ! -d "$WORK/cairn$n" ] || timeout 60 "$BIN/cairn" local down "$WORK/cairn$n" >/dev/null
	done
	# First the daemons, which end their helpers; then whatever is left, helpers too.
	for pid in "${STARTED[@]}"; do kill -TERM "$pid" 2>/dev/null; done
	wait_for 10 systems_gone
	for pid in "${STARTED[@]}" $(net_pids); do
		[ "$pid" = "$NET_PID" ] || kill -KILL "$pid" 2>/dev/null
	done
	wait_for 10 systems_gone
	[ -z "$NET_PID" ] || kill -KILL "$NET_PID" 2>/dev/null
	STARTED=() NET_PID=
}
systems_gone() {
	local pid
	for pid in "${STARTED[@]}" $(net_pids); do
		[ "$pid" = "$NET_PID" ] || gone "$pid" || return
	done
}
