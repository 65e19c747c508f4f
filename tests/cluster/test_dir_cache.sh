#!/usr/bin/env bash
# What a mount's kernel has of directories while another mount changes them: answers of READDIRPLUS that it has not
# taken yet, a directory that two mounts share beside one that they do not, listings, and link targets.
. "$(dirname "$0")/../lib/cluster.sh"
PATH=$TESTS_BIN:$PATH

SECOND=$WORK/second
FAULTS=$WORK/faults
ROUNDS=40
mkdir "$SECOND" "$FAULTS"
MOUNTS+=("$SECOND")
fault_ctl create "$FAULTS/cairn-mount"
cluster_up --mount "$MNT"
check "a mount with faults" env CAIRN_FAULTS="$FAULTS" cairn-mount "$SECOND" -o "log_file=$WORK/second.log"
links() { cairn status --json | tr -d ' \n' | grep -q "\"links\":$1[,}]"; }
check "both have a lease" wait_for 60 links 2

# ---- a page of names and attributes that the kernel has not taken yet ----
mkdir "$MNT/limbo" "$MNT/left-out"
limbo "$SECOND/limbo" "$MNT/limbo" >"$WORK/limbo" 2>&1
r=$?
sed 's/^/# /' "$WORK/limbo"
if grep -q userfaultfd: "$WORK/limbo"; then
	echo "# skipped: userfaultfd"
else
	check "an answer in limbo is undone" [ $r = 0 ]
	check "because the change waited" grep -q "the change waited" "$WORK/limbo"
	fault_ctl arm "$FAULTS/cairn-mount" fuse.inval.limbo drop times=ever >/dev/null
	limbo "$SECOND/left-out" "$MNT/left-out" >"$WORK/limbo" 2>&1
	r=$?
	sed 's/^/# /' "$WORK/limbo"
	check "caught: nobody waits for it" [ $r = 1 ]
	check "the fault struck" [ "$(fault_ctl disarm "$FAULTS/cairn-mount")" -ge 1 ]
fi

# ---- one directory is shared, others are not ----
mkdir "$MNT/shared" "$MNT/own"
for i in $(seq 20); do echo "$i" >"$MNT/own/$i"; done
share() {
	for i in $(seq $ROUNDS); do
		echo "$i" >"$MNT/shared/$i" || return
		[ "$(cat "$SECOND/shared/$i")" = "$i" ] || { echo "$i was not seen"; return 1; }
		[ ! -e "$SECOND/shared/next" ] && stat "$SECOND"/own/* >/dev/null || return
		mv "$MNT/shared/$i" "$MNT/shared/next" && [ -e "$SECOND/shared/next" ] &&
			[ ! -e "$SECOND/shared/$i" ] && rm "$MNT/shared/next" || return
	done
}
check "each change is seen" share

# ---- listings and links, also when the directory's times are set back ----
mkdir "$MNT/list"
touch "$MNT/list/a"
ln -s a "$MNT/list/link"
touch -d 2020-01-01 "$MNT/list"
names() { [ "$(ls "$SECOND/list" | tr '\n' ' ')" = "$1 " ]; }
check "listed" names "a link"
check "and again" names "a link"
check "a name more, the time as before" sh -c "touch '$MNT/list/b' && touch -d 2020-01-01 '$MNT/list'"
check "is there" names "a b link"
check "one less" rm "$SECOND/list/a"
check "is gone for both" sh -c "! [ -e '$MNT/list/a' ] && ! ls '$SECOND/list' | grep -qx a"
check "a link" [ "$(readlink "$SECOND/list/link")" = a ]
check "is another one" ln -sfn b "$MNT/list/link"
check "and leads elsewhere" [ "$(readlink "$SECOND/list/link")" = b ]
check "ls -l agrees" sh -c "ls -l '$MNT/list' >'$WORK/a' && ls -l '$SECOND/list' >'$WORK/b' && cmp '$WORK/a' '$WORK/b'"

# ---- that there is no extended attribute is known, until there is one ----
touch "$MNT/list/plain"
of() { getfattr -n "$1" --only-values "$SECOND/list/plain"; }
check "none" sh -c "! getfattr -n user.a '$SECOND/list/plain' && ! getfattr -n user.a '$SECOND/list/plain'"
check "no list" [ -z "$(getfattr -d "$SECOND/list/plain")" ]
check "one is set elsewhere" setfattr -n user.a -v value "$MNT/list/plain"
check "and is seen" [ "$(of user.a)" = value ]
check "another one here" setfattr -n user.b -v other "$SECOND/list/plain"
check "is seen at once" [ "$(of user.b)" = other ]

umount "$SECOND"
check "unmounted" wait_for 60 grep -q "epoch moved" "$WORK/second.log"
grep -o "[0-9]* recalls.*" "$WORK/second.log" | sed 's/^/# /'
# Three changes of names in each round: one epoch for each would have cost all others their names.
check "a shared directory leaves the others alone" sh -c "
	n=\$(sed -n 's/.*epoch moved \([0-9]*\) times.*/\1/p' '$WORK/second.log') && [ \"\$n\" -lt $ROUNDS ]"
