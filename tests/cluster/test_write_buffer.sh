#!/usr/bin/env bash
# Writes that a mount holds back: other mounts and tools see them at once; what a killed mount had not
# synced is lost, no more; what was told of them does not change; small and large, with a server dying.
. "$(dirname "$0")/../lib/cluster.sh"

SECOND=$WORK/second
OTHER=$WORK/other
mkdir "$SECOND" "$OTHER"
MOUNTS+=("$SECOND" "$OTHER")
cluster_up --mount "$MNT" --master-flag=--buffer-room=0
# Nothing is flushed by its age.
check "a mount that holds back for long" cairn-mount "$SECOND" -o \
	"log_file=$WORK/second.log,write_buffer=64M,write_buffer_age=600s"
holds() { # the write made no chunk file: it is in memory
	[ "$(chunk_files chunkserver-1 | wc -l)" = "$1" ]
}

# ---- held back, and seen by everybody ----
before=$(chunk_files chunkserver-1 | wc -l)
check "a write is held back" sh -c "echo held >'$SECOND/a'"
check "really" holds "$before"
check "another mount sees it at once" [ "$(cat "$MNT/a")" = held ]
check "it is with the servers then" holds $((before + 1))
for i in 1 2 3 4 5; do echo "$i" >"$SECOND/many$i"; done
check "tools see it" [ "$(cairn cat /many3)" = 3 ]
check "sizes too" [ "$(stat -c %s "$MNT/many5")" = 2 ]
echo more >>"$SECOND/a"
check "what was appended, too" [ "$(tail -1 "$MNT/a")" = more ]

# ---- what is told stays ----
printf 'told' >"$SECOND/t"
told=$(stat -c '%s %y %z' "$SECOND/t")
check "size and times as others see them" [ "$(stat -c '%s %y %z' "$MNT/t")" = "$told" ]
check "and as they were told" [ "$(stat -c '%s %y %z' "$SECOND/t")" = "$told" ]
printf 'set' >"$SECOND/u"
touch -d '2001-02-03 04:05:06' "$SECOND/u"
chmod 4755 "$SECOND/u"
check "times and modes that were set after a write stay" \
	[ "$(stat -c '%Y %a %s' "$MNT/u")" = "$(date -d '2001-02-03 04:05:06' +%s) 4755 3" ]

# ---- the other way round: truncation, holes, writing beyond the end ----
printf '0123456789' >"$SECOND/h"
truncate -s 4 "$MNT/h"
printf 'x' | dd of="$SECOND/h" bs=1 seek=8 conv=notrunc 2>/dev/null
check "nothing cut off comes back, holes are zeros" \
	[ "$(od -An -tx1 "$MNT/h" | tr -d ' ')" = 303132330000000078 ]

# ---- a quota that is full: nothing keeps them from being held back here (--buffer-room=0) ----
mkdir "$MNT/little"
check "a quota" cairn quota set /little --bytes 1M
fails_for_quota() { # COMMAND...
	! "$@" 2>"$WORK/said" && grep -q "quota exceeded" "$WORK/said"
}
check "what does not fit is told by fsync" fails_for_quota \
	dd if=/dev/zero of="$SECOND/little/big" bs=64k count=32 conv=fsync
check "is held back again" dd if=/dev/zero of="$SECOND/little/big" bs=64k count=32 conv=notrunc status=none
check "when another mount looks, it is not there" [ "$(stat -c %s "$MNT/little/big")" -le 1048576 ]
check "whoever opens it next is told" fails_for_quota sync "$SECOND/little/big"
check "once" sync "$SECOND/little/big"

# ---- a mount that is killed ----
head -c 3000000 /dev/urandom >"$WORK/data"
dd if="$WORK/data" of="$SECOND/synced" bs=64k conv=fsync 2>/dev/null
before=$(chunk_files chunkserver-1 | wc -l)
cp "$WORK/data" "$SECOND/unsynced"
check "the second is in memory" holds "$before"
pid=$(for p in /proc/[0-9]*; do
	{ tr '\0' '\n' <"$p/cmdline"; } 2>/dev/null | grep -qx "$SECOND" && echo "${p#/proc/}"
done)
check "its mount is killed" kill -KILL $pid
umount -l "$SECOND"
check "what was synced is there" timeout 60 cmp "$WORK/data" "$MNT/synced"
check "what was not is no more than gone" timeout 60 [ "$(stat -c %s "$MNT/unsynced")" = 0 ]

# ---- a server dies under a stream that is held back ----
check "a mount" cairn-mount "$OTHER" -o "log_file=$WORK/other.log,write_buffer=8M"
head -c 60000000 /dev/urandom >"$WORK/stream"
background cp "$WORK/stream" "$OTHER/stream"
writer=$!
check "it streams" wait_for 60 sh -c "[ \$(stat -c %s '$OTHER/stream') -gt 5000000 ]"
kill_part chunkserver-2
check "the copy ends well" wait "$writer"
check "fsync says yes" timeout 60 sync "$OTHER/stream"
check "all of it is there" timeout 60 cmp "$WORK/stream" "$MNT/stream"
check "unmounting sends the rest" sh -c "echo last >'$OTHER/last' && umount '$OTHER' && [ \$(cat '$MNT/last') = last ]"
