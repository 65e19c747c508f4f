# Sourced after cluster.sh by the tests that break links. Each part of ADDR (name -> address) has a network
# namespace of its own; packets from one to another are dropped there on arrival. What runs in
# them is started by hand, with certificates for those addresses.
#
#     network_up                  or the test is skipped
#     inside PART COMMAND...      in its network; exec_inside: for a job
#     block FROM TO, unblock TO
#     certify ROLE NAME [HOST]    into $WORK/tls/NAME

NET=cn$$ # prefix of all names here
declare -A ADDR

inside() {
	local part=$1
	shift
	nsenter --net="/run/netns/$NET-$part" "$@"
}
exec_inside() { # its process is then the program itself, and can be stopped
	exec nsenter --net="/run/netns/$NET-$1" "${@:2}"
}

network_down() {
	local part
	for part in hub "${!ADDR[@]}"; do
		ip netns del "$NET-$part" 2>/dev/null
	done
}
network_try() {
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
network_up() {
	if ! network_try; then
		network_down
		echo "# skipped: needs root, network namespaces and nft"
		exit
	fi
	# A mount whose daemon was killed does not count as a mount point for the clean-up.
	trap 'network_down; umount -l "$MNT" 2>/dev/null || :; cluster_cleanup' EXIT
	mkdir "$WORK/tls" "$WORK/bin"
	PATH=$WORK/bin:$PATH
}
tools_inside() { # PART PROGRAM...: these programs are that part's from now on
	local program
	for program in "${@:2}"; do
		printf '#!/bin/sh\nexec nsenter --net=/run/netns/%s %s "$@"\n' "$NET-$1" \
			"$(command -v "$program")" >"$WORK/bin/$program"
		chmod +x "$WORK/bin/$program"
	done
}
authority() {
	cairn ca init --ca "$WORK/ca"
}
certify() {
	cairn ca issue --ca "$WORK/ca" --role "$1" --name "$2" --out "$WORK/tls/$2" ${3:+--host "$3"}
}

block() { # packets are dropped where they arrive
	inside "$2" nft add rule inet t in ip saddr "${ADDR[$1]}" counter drop
}
unblock() { # whether anything was dropped
	local dropped
	dropped=$(inside "$1" nft list chain inet t in | sed -n 's/.*packets \([0-9]*\).*/\1/p' | head -1)
	inside "$1" nft flush chain inet t in
	echo "# $1: ${dropped:-0} packets were dropped"
	[ "${dropped:-0}" -gt 0 ]
}
