#!/usr/bin/env bash
# Links that break without a word, and in one direction only: each server has a network namespace of
# its own, and packets from one to another are dropped there on arrival. The checker is at work:
# whoever cannot be reached counts as dead, nothing is lost, and all heals when packets pass again.
. "$(dirname "$0")/../fault/lib.sh"

. "$(dirname "$0")/../lib/network.sh"

ADDR=([master-1]=10.99.0.1 [chunkserver-1]=10.99.0.11 [chunkserver-2]=10.99.0.12
	[chunkserver-3]=10.99.0.13 [chunkserver-4]=10.99.0.14 [client]=10.99.0.21)
export CAIRN_MASTER=10.99.0.1:7400 CAIRN_CREDENTIALS=$WORK/tls/admin
declare -A PID

network_up

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
tools_inside client cairn replicas

replicas_same() {
	local args=() part
	for part in "${SERVER_NAMES[@]}"; do
		args+=("${ADDR[$part]}:7410=$WORK/$part")
	done
	replicas "${args[@]}" >"$WORK/replicas.out" 2>&1
}

# ---- broken links ----

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

check "an authority, and certificates for those addresses" authority
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
