# Sourced after cluster.sh by the tests that compare a mount with a local file system: $LOCAL is a
# directory of an ext4 of its own, $MNT and $SECOND are two mounts for every user.

LOCAL=$WORK/local
SECOND=$WORK/second

posix_skip() { # why
	echo "# skipped: needs root, loop devices"
	exit
}
# An ext4 with ACLs and big enough for sparse files: posix_local SIZE
posix_local() {
	mkdir "$LOCAL" && chmod 711 "$WORK"
	[ "$(id -u)" = 0 ] && truncate -s "$1" "$WORK/local.image" &&
		mkfs.ext4 -q -b 4096 "$WORK/local.image" &&
		mount -o loop "$WORK/local.image" "$LOCAL" || posix_skip
	MOUNTS+=("$LOCAL")
}
# posix_cluster cluster_up's arguments...: both mounts
posix_cluster() {
	local m
	mkdir "$SECOND"
	MOUNTS+=("$SECOND")
	cluster_up "$@"
	for m in "$MNT" "$SECOND"; do
		cairn-mount "$m" -o "allow_other,dev,suid,log_file=$WORK/mount-$(basename "$m").log" ||
			echo "not ok mounts on $m"
	done
}
# cluster.sh unmounts at the end; its own clusters have no mount of theirs.
posix_unmount() {
	umount "$MNT" "$SECOND"
}
