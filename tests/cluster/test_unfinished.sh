#!/usr/bin/env bash
# A client dies when its bytes are on the servers and the master does not know of them: they lie behind
# the end of the file, and do not appear when the file grows later. (Found by the fault suite.)
. "$(dirname "$0")/../lib/cluster.sh"

SECOND=$WORK/second
mkdir "$SECOND"
MOUNTS+=("$SECOND")
export CAIRN_FAULTS=$WORK/faults
mkdir "$CAIRN_FAULTS"
"$TESTS_BIN/fault_ctl" create "$CAIRN_FAULTS/cairn-mount" || exit 2

has_struck() {
	[ "$("$TESTS_BIN/fault_ctl" fired "$CAIRN_FAULTS/cairn-mount" "$slot")" -ge 1 ]
}
zeros_behind() { # FILE FROM TO
	cmp <(tail -c +$(($2 + 1)) "$1" | head -c $(($3 - $2))) <(head -c $(($3 - $2)) /dev/zero)
}
# A mount dies in a write at 100 of a file of 3 bytes.
die_in_write() { # FILE
	printf abc >"$MNT/$1"
	check "a mount of its own" cairn-mount "$SECOND" -o "log_file=$WORK/second.log"
	slot=$("$TESTS_BIN/fault_ctl" arm "$CAIRN_FAULTS/cairn-mount" client.write.done crash)
	seq 1000 | head -c 2000 | timeout 60 dd of="$SECOND/$1" bs=2000 seek=100 oflag=seek_bytes \
		conv=notrunc 2>"$WORK/dd.out"
	check "it died when the bytes were written" has_struck
	"$TESTS_BIN/fault_ctl" disarm "$CAIRN_FAULTS/cairn-mount" >"$WORK/disarmed"
	umount -l "$SECOND"
	check "the size is what it was" [ "$(stat -c %s "$MNT/$1")" = 3 ]
}

cluster_up --mount "$MNT"
die_in_write larger
check "the file is made larger" timeout 60 truncate -s 5000 "$MNT/larger"
check "with zeros" zeros_behind "$MNT/larger" 3 5000
die_in_write same
check "the size is set to what it is" timeout 60 truncate -s 3 "$MNT/same"
check "a write far behind it" timeout 60 sh -c "printf end | dd of='$MNT/same' bs=3 seek=5000 oflag=seek_bytes conv=notrunc"
check "leaves zeros between" zeros_behind "$MNT/same" 3 5000
