#!/usr/bin/env bash
# Bad input and bad luck: a clear error that names the thing, no crash, nobody else disturbed.
. "$(dirname "$0")/../lib/cluster.sh"

says() { # PATTERN COMMAND...: fails, within a bound, saying PATTERN
	local pattern=$1
	shift
	timeout 60 "$@" >"$WORK/says.out" 2>&1
	local r=$?
	cat "$WORK/says.out"
	[ $r -ne 0 ] && [ $r -ne 124 ] && [ $r -lt 128 ] && grep -qE "$pattern" "$WORK/says.out"
}

cluster_up --mount "$MNT"
echo content >"$MNT/file"
KEY=$CAIRN_CREDENTIALS
MASTER_DIR=$(part_dir master-1)

check "master: port in use" says "$CAIRN_MASTER" \
	cairn-master --data-dir "$WORK/m2" --listen "$CAIRN_MASTER" --credentials "$(credentials master-1)"
check "master: data directory in use" says "$MASTER_DIR" \
	cairn-master --data-dir "$MASTER_DIR" --listen 127.0.0.1:0 --credentials "$(credentials master-1)"
check "master: missing parent directory" says "$WORK/no/such" \
	cairn-master --data-dir "$WORK/no/such/dir" --listen 127.0.0.1:0 --credentials "$(credentials master-1)"
check "master: no key file" says "$WORK/nokey" \
	cairn-master --data-dir "$WORK/m3" --listen 127.0.0.1:0 --credentials "$WORK/nokey"
check "master: unknown option" says "no-such-option" cairn-master --no-such-option
printf '[master]\ndata_dir = /tmp/x\nheartbeat = soon\n' >"$WORK/bad.conf"
check "master: bad value names file and line" says "$WORK/bad.conf:3: heartbeat" \
	cairn-master --config "$WORK/bad.conf"
check "chunkserver: missing directory" says "$WORK/no/such" \
	cairn-chunkserver --data "$WORK/no/such/disk" --master "$CAIRN_MASTER" --credentials "$(credentials chunkserver-1)" --listen 127.0.0.1:0
check "chunkserver: disk in use" says "$(part_dir chunkserver-1)" \
	cairn-chunkserver --data "$(part_dir chunkserver-1)" --master "$CAIRN_MASTER" --credentials "$(credentials chunkserver-1)" --listen 127.0.0.1:0
check "mount: nobody there" says "127.0.0.1:1" \
	cairn-mount 127.0.0.1:1 "$MNT" -o credentials="$KEY",timeout=2
(umask 077; printf '%064d\n' 7 >"$WORK/wrongkey")
check "cli: wrong key" says "key" cairn --credentials "$WORK/wrongkey" ls /
check "cli: a bad limit in the environment" says "CAIRN_TIMEOUT: \"soon\"" \
	env CAIRN_TIMEOUT=soon cairn ls /
check "cli: no such path" says "/nowhere" cairn cat /nowhere
check "cli: over-long name" says "long" cairn mkdir "/$(printf '%0300d' 0)"
check "cli: get of a missing file exits non-zero and names it" says "/missing" cairn get /missing "$WORK/x"
check "cli: put of a missing file names it" says "$WORK/absent" cairn put "$WORK/absent" /absent

# Hostile bytes on both ports; everybody else goes on.
host=${CAIRN_MASTER%:*}
for addr in "$CAIRN_MASTER" $(cairn local status "$CLUSTER" | sed -n 's/^chunkserver-.*addr=\([^ ]*\).*/\1/p'); do
	for i in 1 2 3 4 5; do
		head -c $((RANDOM % 5000 + 1)) /dev/urandom | timeout 2 bash -c "cat >/dev/tcp/${addr%:*}/${addr#*:}" 2>/dev/null
	done
	printf 'CRN1\001\000\002\001\001\000\000\000\000\000\000\000\377\377\377\377\377\377\377\377' |
		timeout 2 bash -c "cat >/dev/tcp/${addr%:*}/${addr#*:}" 2>/dev/null
	printf 'GET / HTTP/1.0\r\n\r\n' | timeout 2 bash -c "cat >/dev/tcp/${addr%:*}/${addr#*:}" 2>/dev/null
done
check "hostile bytes disturb nobody" sh -c "cairn local status '$CLUSTER' && cat '$MNT/file' | grep content"

# A LevelDB that does not open: the master says which and leaves it alone.
kill_part master-1 TERM
db=$(find "$MASTER_DIR" -name CURRENT | head -1)
cp "$db" "$WORK/CURRENT"
echo nonsense >"$db"
check "master: damaged LevelDB" says "$MASTER_DIR" \
	cairn-master --data-dir "$MASTER_DIR" --listen 127.0.0.1:0 --credentials "$(credentials master-1)"
cp "$WORK/CURRENT" "$db"
cluster_up
check "mended, it starts again and all is there" sh -c "cat '$MNT/file' | grep content"
