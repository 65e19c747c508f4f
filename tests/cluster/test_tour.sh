#!/usr/bin/env bash
# What a new user does: start, copy a real tree in, look at it from the mount and from the CLI,
# stop, start again.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --mount "$MNT"
check "status names every part" sh -c "[ \$(cairn local status '$CLUSTER' | grep -c 'state=up') = 5 ]"
check "three servers are up" servers_up 3

TREE=/usr/include/linux
cp -a $TREE "$MNT/"
check "a tree copied with cp -a is the same" diff -r $TREE "$MNT/linux"
check "times and modes are kept" sh -c "
	[ \"\$(cd $TREE && find . -printf '%p %m %T@ %y %s\n' | sed 's/ d [0-9]*$/ d/' | sort)\" = \
	  \"\$(cd '$MNT/linux' && find . -printf '%p %m %T@ %y %s\n' | sed 's/ d [0-9]*$/ d/' | sort)\" ]"

head -c 150000000 /dev/urandom >"$WORK/big"
dd if="$WORK/big" of="$MNT/big" bs=1M status=none
check "a file of three chunks is the same" cmp "$WORK/big" "$MNT/big"
check "it has three chunks with three replicas each" sh -c \
	"[ \$(cairn stat --json /big | tr -d ' \n' | grep -o '\"server\":' | wc -l) = 9 ]"
check "unaligned writes land where they belong" sh -c "
	printf hello | dd of='$WORK/big' bs=1 seek=67108860 conv=notrunc status=none &&
	printf hello | dd of='$MNT/big' bs=1 seek=67108860 conv=notrunc status=none &&
	cmp '$WORK/big' '$MNT/big'"
check "truncating and growing never shows old bytes" sh -c "
	truncate -s 70000001 '$WORK/big' && truncate -s 140000000 '$WORK/big' &&
	truncate -s 70000001 '$MNT/big' && truncate -s 140000000 '$MNT/big' &&
	cmp '$WORK/big' '$MNT/big'"
check "a sparse file reads as zeros" sh -c "
	printf x | dd of='$MNT/sparse' bs=1 seek=200000000 status=none &&
	[ \$(stat -c %s '$MNT/sparse') = 200000001 ] &&
	cmp -n 200000000 '$MNT/sparse' /dev/zero"

all_commands_help() {
	local command
	cairn --help | awk '/^  [a-z]+ /{print $1}' >"$WORK/commands"
	[ "$(wc -l <"$WORK/commands")" -ge 20 ] || return 1
	while read -r command; do
		cairn "$command" --help >"$WORK/help" 2>"$WORK/help.err" &&
			grep -q "^usage: cairn $command" "$WORK/help" && [ ! -s "$WORK/help.err" ] ||
			{ echo "$command"; return 1; }
	done <"$WORK/commands"
}
check "every command tells its usage" all_commands_help
check "an operand may look like that" sh -c "touch '$MNT/--help' && cairn ls -- /--help && cairn rm -- /--help"
check "status says what its numbers count" sh -c "
	cairn status | grep -E '^Leases: [0-9]+; clients that cache: 1$' &&
	cairn status | grep -E '^Comparing replicas: [0-9]+ of [0-9]+ chunks compared in this round, 0 bad'"

check "what the mount wrote the CLI reads" sh -c "cairn cat /big | cmp - '$WORK/big'"
check "cairn get -r brings the tree back" sh -c "
	mkdir '$WORK/got' && cairn get -r --quiet /linux '$WORK/got/' && diff -r $TREE '$WORK/got/linux'"
check "cairn put -r stores a tree" cairn put -r --quiet $TREE /put
check "what the CLI wrote the mount sees" diff -r $TREE "$MNT/put"
check "put and get keep times and modes" sh -c "
	[ \"\$(cd $TREE && find . -printf '%p %m %T@\n' | sort)\" = \
	  \"\$(cd '$WORK/got/linux' && find . -printf '%p %m %T@\n' | sort)\" ]"
check "no temporary name is left behind" sh -c "! find '$MNT' -name '*cairn-*' | grep ."

check "mkdir -p, mv, cp -r, rm -r" sh -c "
	cairn mkdir -p /a/b/c && cairn cp -r /put /a/b/c && cairn mv /a/b/c/put /a/moved &&
	diff -r $TREE '$MNT/a/moved' && cairn rm -r /a && [ ! -e '$MNT/a' ]"
check "hard and symbolic links" sh -c "
	cd '$MNT' && echo one >f && ln f g && ln -s f s && echo two >>s && cat g | grep two &&
	[ \$(stat -c %h f) = 2 ] && rm f && [ \$(stat -c %h g) = 1 ] && ! cat s && rm g s"
check "extended attributes" sh -c "
	cd '$MNT' && echo >x && setfattr -n user.a -v one x && getfattr -n user.a x | grep one &&
	setfattr -x user.a x && ! getfattr -n user.a x && rm x"
check "rename over, exchange refused targets" sh -c "
	cd '$MNT' && mkdir d1 d2 && touch d2/x f1 && ! mv -T d1 d2 && ! mv -T f1 d1 && rm -r d1 d2 f1"
check "a file that is open lives on without a name" sh -c "
	cd '$MNT' && echo alive >u && exec 3<u && rm u && [ ! -e u ] && grep alive <&3"
check "rmdir of a full directory is refused" sh -c "! rmdir '$MNT/linux' && [ -d '$MNT/linux' ]"
check "df and statfs answer" sh -c "df '$MNT' | grep cairn; cairn df && cairn du -s /linux"
check "names of 255 bytes, not of 256" sh -c "
	cd '$MNT' && n=\$(printf '%0255d' 0) && echo >\$n && rm \$n && ! echo >0\$n"
check "a missing path is an error that names it" sh -c "
	cairn ls /no/such 2>&1 | grep '/no/such'; ! cairn ls /no/such"

check "the cluster stops" cairn local down "$CLUSTER"
check "nothing is mounted" sh -c "! mountpoint -q '$MNT'"
cluster_up --mount "$MNT"
check "after a restart the tree is there" diff -r $TREE "$MNT/linux"
check "after a restart the big file is there" cmp "$WORK/big" "$MNT/big"
check "SIGTERM unmounts cleanly" sh -c "
	kill \$(cairn local status '$CLUSTER' | sed -n 's/^mount-1 pid=\([0-9]*\).*/\1/p')"
check "the mount is gone" wait_for 60 sh -c "! mountpoint -q '$MNT'"
