#!/usr/bin/env bash
# Links that break without a word, and in one direction only: each server has a network namespace of
# its own, and packets from one to another are dropped there on arrival. The checker is at work:
# whoever cannot be reached counts as dead, nothing is lost, and all heals when packets pass again.
. "$(dirname "$0")/../fault/lib.sh"

NET=cn$$                # prefix of all names here
declare -A ADDR=([master-1]=10.99.0.1 [chunkserver-1]=10.99.0.11 [chunkserver-2]=10.99.0.12
	[chunkserver-3]=10.99.0.13 [chunkserver-4]=10.99.0.14 [client]=10.99.0.21)
export CAIRN_MASTER=10.99.0.1:7400 CAIRN_CREDENTIALS=$WORK/tls/admin
declare -A PID

inside() { # PART COMMAND...: in its network
	local part=$1
	shift
	nsenter --net="/run/netns/$NET-$part" "$@"
}
exec_inside() { # for a job: its process is then the program itself, and can be stopped
	exec nsenter --net="/run/netns/$NET-$1" "${@:2}"
}

net_down() {
	local part
	for part in hub "${!ADDR[@]}"; do
		ip netns del "$NET-$part" 2>/dev/null
	done
}
net_up() {
	local part i=0
	[ "$(id -u)" = 0 ] && command -v nft >/dev/null && ip netns add "$NET-hub" 2>/dev/null || return
	inside hub ip link add br0 type bridge && inside hub ip link set br0 up || return
	for part in "${!ADDR[@]}"; do
		i=$((i + 1))
		ip netns add "$NET-$part" &&
			inside hub ip link add "port$i" type veth peer name eth0 netns "$NET-$part" &&
			inside hub ip link set "port$i" master br0 up &&
			inside "$part" ip link set lo up &&
			inside "$part" ip addr add "${ADDR[$part]}/24" dev eth0 &&
			inside "$part" ip link set eth0 up &&
			inside "$part" nft add table inet t &&
			inside "$part" nft 'add chain inet t in { type filter hook input priority 0; }' ||
			return
	done
}
if ! net_up; then
	net_down
	echo "# skipped: needs root, network namespaces and nft"
	exit
fi
# A mount whose daemon was killed does not count as a mount point for the clean-up.
trap 'net_down; umount -l "$MNT" 2>/dev/null || :; cluster_cleanup' EXIT

# ---- the cluster, by hand ----

start() { # PART
	local dir=$WORK/$1
	mkdir -p "$dir"
	case $1 in
	master-1)
		exec_inside master-1 cairn-master --data-dir "$dir" --listen "$CAIRN_MASTER" --credentials "$WORK/tls/$1" \
			--name master-1 --heartbeat 300ms --dead-after 2s --repair-delay 1s \
			--session-ttl 10s 2>>"$WORK/$1.log" & ;;
	chunkserver-*)
		exec_inside "$1" cairn-chunkserver --data "$dir" --listen "${ADDR[$1]}:7410" \
			--master "$CAIRN_MASTER" --credentials "$WORK/tls/$1" --name "$1" --host "$1" \
			--sync-interval 1s --scrub-period 15s 2>>"$WORK/$1.log" & ;;
	client)
		exec_inside client cairn-mount "$CAIRN_MASTER" "$MNT" -f -o credentials="$WORK/tls/client",timeout=$TIMEOUT_S \
			2>>"$WORK/$1.log" & ;;
	esac
	PID[$1]=$!
	BACKGROUND+=($!)
}
mkdir "$WORK/bin"
for program in cairn replicas; do # the tools are the client's
	printf '#!/bin/sh\nexec nsenter --net=/run/netns/%s %s "$@"\n' "$NET-client" \
		"$(command -v $program)" >"$WORK/bin/$program"
done
chmod +x "$WORK/bin/cairn" "$WORK/bin/replicas"
PATH=$WORK/bin:$PATH

replicas_same() {
	local args=() part
	for part in "${SERVER_NAMES[@]}"; do
		args+=("${ADDR[$part]}:7410=$WORK/$part")
	done
	replicas "${args[@]}" >"$WORK/replicas.out" 2>&1
}

# ---- broken links ----

block() { # FROM TO: packets are dropped where they arrive
	inside "$2" nft add rule inet t in ip saddr "${ADDR[$1]}" counter drop
}
unblock() { # TO; whether anything was dropped
	local dropped
	dropped=$(inside "$1" nft list chain inet t in | sed -n 's/.*packets \([0-9]*\).*/\1/p' | head -1)
	inside "$1" nft flush chain inet t in
	echo "# $1: ${dropped:-0} packets were dropped"
	[ "${dropped:-0}" -gt 0 ]
}
not_all_up() {
	timeout 20 cairn status --json | tr -d ' \n' >"$WORK/status.flat"
	[ "$(grep -o '"state":"up"' "$WORK/status.flat" | wc -l)" -lt $N_SERVERS ]
}
goes_on() { # the checker does 300 operations more
	local from
	ask counts
	from=$(sed 's/^operations \([0-9]*\) .*/\1/' <<<"$ANSWER")
	wait_for 60 more_than $((from + 300))
}
more_than() {
	ask counts && [ "$(sed 's/^operations \([0-9]*\) .*/\1/' <<<"$ANSWER")" -gt "$1" ]
}
all_is_well() { # WHAT
	check "$1: well again within $HEALTH_S s" wait_for $HEALTH_S healthy
	check "$1: the checker rests" ask pause
	check "$1: the copies of each chunk are the same" replicas_same_soon
	check "$1: everything can be read back" ask verify
	check "$1: nothing is lost" no_violations
	tell_violations
	ask go
}
one_way() { # FROM TO WHAT [COMMAND that shows that it was noticed]
	block "$1" "$2"
	[ $# -lt 4 ] || check "$3: it is noticed" wait_for 60 "${@:4}"
	check "$3: work goes on" goes_on
	check "$3: packets were dropped" unblock "$2"
	all_is_well "$3"
}

certify() { # ROLE NAME [HOST]
	cairn ca issue --ca "$WORK/ca" --role "$1" --name "$2" --out "$WORK/tls/$2" ${3:+--host "$3"}
}
mkdir "$WORK/tls"
check "an authority, and certificates for those addresses" sh -c "cairn ca init --ca '$WORK/ca'"
certify master master-1 "${ADDR[master-1]}" >/dev/null
certify admin admin >/dev/null
certify client client >/dev/null
for part in "${SERVER_NAMES[@]}"; do
	certify chunkserver "$part" "${ADDR[$part]}" >/dev/null
done
start master-1
for part in "${SERVER_NAMES[@]}"; do
	start "$part"
done
check "the servers are up" wait_for 60 servers_up $N_SERVERS
start client
check "the mount is there" wait_for 60 mountpoint -q "$MNT"
checker_start nsenter --net="/run/netns/$NET-client"
check "the checker works" goes_on

one_way chunkserver-1 master-1 "a server that the master does not hear" not_all_up
one_way master-1 chunkserver-2 "a server that does not hear the master" not_all_up
one_way client chunkserver-3 "a server that does not hear the client"
one_way chunkserver-4 client "a server that the client does not hear"
one_way chunkserver-1 chunkserver-2 "a server that does not hear another one"

# The client and the master: nothing can go on, and nothing may be lost or done twice.
for way in "client master-1" "master-1 client"; do
	block $way
	sleep 3 # for some seconds; the end of it is what is looked at
	check "$way: packets were dropped" unblock "${way#* }"
	check "$way: work goes on" goes_on
	all_is_well "$way"
done

# Half-open connections: the server dies unheard, and comes back without knowing them.
block chunkserver-3 master-1
block chunkserver-3 client
for part in chunkserver-1 chunkserver-2 chunkserver-4; do
	block chunkserver-3 $part
done
kill -KILL "${PID[chunkserver-3]}"
check "a server that died unheard: it is noticed" wait_for 60 not_all_up
check "work goes on" goes_on
unblock master-1
unblock client
for part in chunkserver-1 chunkserver-2 chunkserver-4; do
	unblock $part
done
start chunkserver-3
all_is_well "a server that died unheard"
ask counts
echo "# $ANSWER"
