#!/usr/bin/env bash
# Chunkservers want a token of the master from clients: one with a good certificate and no token gets
# nothing, and is counted. Mounts do not notice that tokens run out and keys change, that the master is
# another one, or that a server has forgotten the keys.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --master-flag=--dead-after=2s --master-flag=--token-life=3s --mount "$MNT"
echo content >"$MNT/f"
inode=$(stat -c %i "$MNT/f")
ME=$(credentials mount-1)

# CHUNK, VERSION, TOKEN and ADDR of the file's first replica, as the master tells them.
locate() {
	read -r CHUNK VERSION TOKEN ADDR _ <<<"$("$TESTS_BIN/raw_port" token "$CAIRN_MASTER" "$ME" "$inode")"
	[ -n "$ADDR" ]
}
says() { # OUTCOME OP CREDENTIALS CHUNK VERSION TOKEN [trap]
	local want=$1 op=$2 got
	shift 2
	got=$("$TESTS_BIN/raw_port" "$op" "$ADDR" "$@" 2>"$WORK/why")
	[ "$got" = "$want" ] || { echo "$got"; cat "$WORK/why"; return 1; }
}
refused() { # requests, over all servers, as of their last heartbeats
	cairn status --json | jq '[.servers[].refused] | add'
}
refused_at_least() {
	[ "$(refused)" -ge "$1" ]
}
# With a token that has just been told: one that ran out between the two is not what is tried here.
fresh() { # OUTCOME OP CREDENTIALS CHANGE [trap]; CHANGE: what is done to CHUNK, VERSION and TOKEN first
	locate || return
	eval "$4"
	says "$1" "$2" "$3" "$CHUNK" "$VERSION" "$TOKEN" ${5:-}
}
locate
check "nothing was refused so far" refused_at_least 0
before=$(refused)
check "with the master's token a chunk is read" fresh OK read "$ME" ''
for op in read sums sync write; do
	check "$op without a token" fresh TOKEN $op "$ME" 'TOKEN='
done
check "a copy without a token" fresh SOURCE copy "$ME" 'TOKEN='
check "a forged one" fresh TOKEN read "$ME" 'TOKEN=${TOKEN%?}$(printf %x $((16#${TOKEN: -1} ^ 1)))'
check "another client's" fresh TOKEN read "$(credentials admin)" ''
check "of another chunk" fresh TOKEN read "$ME" 'CHUNK=$(printf %x $((16#$CHUNK + 1)))'
check "of another version" fresh TOKEN read "$ME" 'VERSION=$((VERSION + 1))'
check "a reader's does not write" fresh TOKEN write "$ME" ''
for op in sync write; do
	check "no $op makes a server connect to who is no member" fresh TOKEN $op "$ME" '' trap
done
check "nor does a copy" fresh SOURCE copy "$ME" '' trap
check "the master is told how many were refused" wait_for 20 refused_at_least $((before + 12))
check "it is written down who that was" \
	grep -q "(client mount-1, test): chunk .*access token" "$(part_dir chunkserver-1)/audit.log" \
	"$(part_dir chunkserver-2)/audit.log" "$(part_dir chunkserver-3)/audit.log"
check "a chunkserver needs none" fresh OK read "$(credentials chunkserver-2)" 'TOKEN='
check "the file is as it was" sh -c "[ \"\$(cairn cat /f)\" = content ]"
locate
check "a token runs out" wait_for 30 says TOKEN read "$ME" "$CHUNK" "$VERSION" "$TOKEN"
check "a new one is as good as the old one was" fresh OK read "$ME" ''

# ---- under load ----

head -c 8000000 /dev/urandom >"$WORK/kept"
cp "$WORK/kept" "$MNT/kept"
load() { # NAME: files are written, synced, read back, removed; blocks of one that stays are read
	local i=0 block
	while [ ! -e "$WORK/stop" ]; do
		i=$((i + 1)) block=$((RANDOM % 1900))
		head -c 300000 /dev/urandom >"$WORK/load.$1"
		dd if="$WORK/load.$1" of="$MNT/load.$1" bs=100000 conv=fsync status=none &&
			cmp "$WORK/load.$1" "$MNT/load.$1" && rm "$MNT/load.$1" &&
			dd if="$MNT/kept" iflag=direct bs=4096 skip=$block count=1 status=none |
				cmp - <(dd if="$WORK/kept" bs=4096 skip=$block count=1 status=none) ||
			{ echo "load $1, round $i failed" >>"$WORK/load.failed"; return; }
		echo $i >"$WORK/rounds.$1"
	done
}
goes_on() {
	local from
	from=$(cat "$WORK/rounds.1")
	wait_for 90 sh -c "[ -e '$WORK/load.failed' ] || [ \$(cat '$WORK/rounds.1') -ge $((from + 5)) ]" &&
		[ ! -e "$WORK/load.failed" ]
}
background load 1
background load 2
wait_for 60 test -e "$WORK/rounds.1"
another_key() { # than $key: its number is in bytes 8 to 15
	locate && [ "${TOKEN:16:16}" != "$key" ]
}
before=$(refused)
for i in 1 2 3; do
	locate
	key=${TOKEN:16:16}
	check "the key changes ($i)" wait_for 30 another_key
	check "under load nobody notices" goes_on
done
check "though tokens had run out" wait_for 30 refused_at_least $((before + 1))

kill_part master-1
cluster_up
check "with another master it goes on" goes_on
kill_part chunkserver-1
cluster_up
check "a server is back that has forgotten the keys" wait_for 60 servers_up 3
check "and with it" goes_on
touch "$WORK/stop"
wait "${BACKGROUND[@]}"
check "no operation of the load has failed" sh -c "! cat '$WORK/load.failed' 2>&1"

# ---- with a shared key ----

cairn local down "$CLUSTER" >"$WORK/down.out" 2>&1
CLUSTER=$WORK/plain
cluster_up --plain
ME=$(credentials admin)
cairn put "$WORK/kept" /f
inode=$(cairn stat --json /f | jq '.[0].inode')
check "with a shared key too: with a token" fresh OK read "$ME" ''
check "and not without" fresh TOKEN read "$ME" 'TOKEN='
check "nor with a forged one" fresh TOKEN write "$ME" 'TOKEN=${TOKEN/1/2}'
