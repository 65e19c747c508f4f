#!/usr/bin/env bash
# The master's data is lost and restored from a backup that was taken while clients were writing.
. "$(dirname "$0")/../lib/cluster.sh"

GRACE=4
cluster_up --chunkservers 3 --replicas 2 --mount "$MNT" --master-flag=--dead-after=2s \
	--master-flag=--garbage-grace=${GRACE}s --master-flag=--repair-delay=1s
DATA=$(part_dir master-1)
TREE=/usr/include/linux

status_says() { # KEY VALUE
	cairn status --json | tr -d ' \n' | grep -q "\"$1\":$2[,}]"
}
# The ids of a file's chunks, as they stand in the names of chunk files; and those files.
chunk_ids() {
	cairn stat --json "$1" | tr -d ' \n' | grep -o '"id":"*[0-9a-f]*' | grep -o '[0-9a-f]*$'
}
files_of() { # CHUNK...
	local id
	for id in "$@"; do
		find "$CLUSTER"/chunkserver-* -path '*/chunks/*' -type f -name "*$id*"
	done
}
none_left() {
	[ -z "$(files_of "$@")" ]
}
version_of() {
	cairn stat --json "$1" | tr -d ' \n' | sed -n 's/.*"version":\([0-9]*\).*/\1/p'
}
# The name of a server that has a copy of the file.
server_of() {
	local addr
	addr=$(cairn stat --json "$1" | grep -o '"127[^"]*"' | head -1 | tr -d '"')
	cairn local status "$CLUSTER" | sed -n "s/^\(chunkserver-[0-9]*\) .*addr=$addr .*/\1/p"
}
all_chunk_files() {
	find "$CLUSTER"/chunkserver-* -path '*/chunks/*' -type f | sort
}

# ---- before the backup ----

head -c 3000000 /dev/urandom >"$WORK/old"
cp "$WORK/old" "$MNT/old"
cp -a $TREE "$MNT/tree"
check "the master that runs is not checked" sh -c \
	"cairn-master --check --data-dir '$DATA'; [ \$? = 2 ]"

# ---- the backup, while a client writes ----

touch "$WORK/go"
background sh -c "i=0
	while [ -e '$WORK/go' ]; do i=\$((i + 1)); echo \$i >'$MNT/w'\$i || exit; done"
check "a client writes" wait_for 60 test -e "$MNT/w20"
check "a backup while a client writes" cairn backup "$WORK/backup"
rm "$WORK/go"
wait
check "a backup is a whole file under its name" test -s "$WORK/backup" -a ! -e "$WORK/backup.new"
check "a backup to standard output" sh -c "cairn backup - >'$WORK/piped' && [ -s '$WORK/piped' ]"
check "a backup that cannot be written fails" sh -c "! cairn backup '$WORK/none/b'"

# ---- after the backup: a newer version of a chunk, a new file ----

before=$(version_of /old)
victim=$(server_of /old)
kill_part "$victim"
head -c 1000000 /dev/urandom >"$WORK/part"
dd if="$WORK/part" of="$MNT/old" bs=100000 seek=5 conv=notrunc,fsync status=none
dd if="$WORK/part" of="$WORK/old" bs=100000 seek=5 conv=notrunc status=none
check "the write goes on without $victim" cmp "$WORK/old" "$MNT/old"
check "the chunk has a newer version than the backup knows" test "$(version_of /old)" -gt "$before"
cp "$WORK/part" "$MNT/after"
sync "$MNT/after"
cluster_up
check "all is well before the loss" wait_for 60 nothing_under_goal
after=$(chunk_ids /after)
check "the new file's chunk is on two servers" test "$(files_of $after | wc -l)" = 2

# ---- the loss ----

kill_part master-1
rm -rf "$DATA"
all_chunk_files >"$WORK/files-before"
addr=$(cairn local status "$CLUSTER" | sed -n 's/^master-1 .*addr=\([^ ]*\).*/\1/p')
cairn-master --data-dir "$WORK/other" --listen "$addr" --credentials "$(credentials master-1)" \
	--replicas 2 --garbage-grace 0s --dead-after 2s >"$WORK/other.log" 2>&1 &
other=$!
BACKGROUND+=($other)
check "a new, empty master is refused to by each server" wait_for 60 sh -c \
	"[ \$(grep -h 'another cluster' '$WORK/other.log' | grep -o 'chunkserver-[0-9]' |
		sort -u | wc -l) = 3 ]"
kill "$other"
wait_for 60 sh -c "! kill -0 $other"
all_chunk_files >"$WORK/files-after"
check "nothing is deleted by it" cmp "$WORK/files-before" "$WORK/files-after"

# ---- the import ----

head -c 20000 "$WORK/backup" >"$WORK/cut"
check "a backup that was cut is refused" sh -c \
	"! cairn-master --import '$WORK/cut' --data-dir '$DATA' && [ ! -e '$DATA/db' ]"
check "the backup is restored" cairn-master --import "$WORK/backup" --data-dir "$DATA"
check "the restored state is sound" cairn-master --check --data-dir "$DATA"
check "nothing is restored over it" sh -c \
	"! cairn-master --import '$WORK/backup' --data-dir '$DATA'"
cluster_up
check "the servers are back" wait_for 60 servers_up 3
check "the state is held" status_says held true
check "the newer version is taken over" cmp <(cairn cat /old) "$WORK/old"
check "which was decided when all servers had reported" grep -q 'taken over from' \
	"$(part_log master-1)"
check "through the mount that went on too" cmp "$WORK/old" "$MNT/old"
check "the files of the backup are there" diff -r $TREE "$MNT/tree"
check "the mount makes files again" sh -c "echo new >'$MNT/new' && [ \"\$(cat '$MNT/new')\" = new ]"
check "the file made after the backup is not known" sh -c "! cairn stat /after"

# What users delete now goes at once; what is not known stays.
gone=$(chunk_ids /new)
rm "$MNT/new"
check "a removed file's chunk is deleted" wait_for 60 none_left $gone
check "the unknown chunk is still on two servers" test "$(files_of $after | wc -l)" = 2

# A master that starts again in the same state knows what it may take over, and what not.
kill_part master-1
cluster_up
check "it is still held after a restart" status_says held true
check "the taken over version is still the one" cmp <(cairn cat /old) "$WORK/old"

check "fsck counts what is kept" sh -c \
	"cairn fsck | grep -qE 'held: [1-9][0-9]* replicas of [1-9][0-9]* chunks that the state'"

# ---- the end of it ----

start=$SECONDS
check "hold off" cairn hold off
check "the state is not held any more" status_says held false
check "the unknown chunk is deleted" wait_for 60 none_left $after
check "but not before the grace is over" test $((SECONDS - start)) -ge $((GRACE - 1))
check "all copies are there" wait_for 60 nothing_under_goal
check "the files are there at the end" sh -c "
	diff -r $TREE '$MNT/tree' && cmp '$WORK/old' '$MNT/old'"

# ---- fsck names files ----

check "all is well" cairn fsck
mkdir "$MNT/some"
head -c 100000 /dev/urandom >"$MNT/some/lost file"
head -c 100000 /dev/urandom >"$MNT/some/half"
sync
lost=$(chunk_ids "/some/lost file")
half=$(chunk_ids /some/half)
holders=$(files_of $half | sed 's|.*/\(chunkserver-[0-9]*\)/.*|\1|' | sort)
# Seen when the servers are asked what they have.
cairn local down "$CLUSTER" >/dev/null
check "the chunk files are removed" sh -c "rm $(files_of $lost | tr '\n' ' ')"
cluster_up
wait_for 60 servers_up 3
status=0
wait_for 60 sh -c "cairn fsck | grep -q missing:"
cairn fsck >"$WORK/fsck" || status=$?
check "fsck says that a chunk is missing" test $status = 3
check "and names the file, the chunk and the servers" grep -q \
	"^/some/lost file: chunk 0 ($lost v[0-9]*) missing: 0 of 2 copies; 127.*damaged, 127" \
	"$WORK/fsck"
check "and no other" test "$(grep -c ': chunk ' "$WORK/fsck")" = 1
check "reading it fails" sh -c "! cairn cat '/some/lost file' >/dev/null"
check "limited to a tree" sh -c "cairn fsck /tree; [ \$? = 0 ]"
check "limited to its tree" sh -c "cairn fsck /some; [ \$? = 3 ]"
check "for programs" sh -c "cairn fsck --json /some | tr -d ' \n' | grep -q '\"missing\":1,'"
# Two of three are away, one of them with a copy: nobody is left to make another one.
for part in chunkserver-1 chunkserver-2 chunkserver-3; do
	[ "$part" = "$(echo "$holders" | head -1)" ] || kill_part "$part"
done
wait_for 60 servers_up 1
check "a copy that is away is missed" wait_for 60 sh -c \
	"cairn fsck /some/half | grep -q '^/some/half: chunk 0 .* under goal: 1 of 2 .* away'"
cluster_up
wait_for 60 servers_up 3
check "fsck without a cluster" sh -c \
	"CAIRN_MASTER=127.0.0.1:1 CAIRN_TIMEOUT=2s timeout 60 cairn fsck >/dev/null; [ \$? = 4 ]"
cairn local down "$CLUSTER" >/dev/null
check "the state is sound at the end" cairn-master --check --data-dir "$DATA"
check "it can be exported" cairn-master --export "$WORK/exported" --data-dir "$DATA"

# ---- a database whose files are damaged ----

cp -a "$DATA" "$WORK/damaged"
for f in "$WORK"/damaged/db/*.ldb "$WORK"/damaged/db/*.log; do
	[ "$(stat -c %s "$f")" -gt 6000 ] && printf '\252\252\252' |
		dd of="$f" bs=1 seek=5000 conv=notrunc status=none
done
check "a damaged database is not sound" sh -c \
	"cairn-master --check --json --data-dir '$WORK/damaged'; [ \$? = 1 ]"
check "and is not exported" sh -c \
	"! cairn-master --export '$WORK/x' --data-dir '$WORK/damaged' && [ ! -e '$WORK/x' ]"
