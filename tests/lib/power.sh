# Sourced after cluster.sh: data directories on an ext4 of their own each, whose plug can be pulled:
# what was not synced is gone (tests/cluster/godown.c). Needs root and loop devices.

plug_in() { # PART
	mount -o loop "$WORK/$1.image" "$WORK/disk-$1"
}
# For a cluster that is not up yet: false where it cannot be done.
make_disks() { # PART...
	local part
	[ "$(id -u)" = 0 ] || return
	mkdir "$CLUSTER"
	chmod 700 "$CLUSTER"
	for part in "$@"; do
		truncate -s 400M "$WORK/$part.image"
		mkdir "$WORK/disk-$part"
		mkfs.ext4 -q "$WORK/$part.image" && plug_in "$part" 2>/dev/null || return
		MOUNTS+=("$WORK/disk-$part")
		mkdir "$WORK/disk-$part/data"
		sync -f "$WORK/disk-$part"
		ln -s "$WORK/disk-$part/data" "$CLUSTER/$part"
	done
}
# The disks of these parts are shut down, what ran on them is killed.
pull_plugs() { # PART...
	local part
	for part in "$@"; do
		"$TESTS_BIN/godown" "$WORK/disk-$part"
	done
	for part in "$@"; do
		kill -KILL "$(part_pid "$part")" 2>/dev/null
	done
}
# They are mounted again: then `cairn local up` starts what was on them.
plug_all_in() { # PART...
	local part
	for part in "$@"; do
		wait_for 60 umount "$WORK/disk-$part"
		plug_in "$part" || return
	done
}
