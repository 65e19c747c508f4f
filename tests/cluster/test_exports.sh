#!/usr/bin/env bash
# Exports: a credential that sees one directory as all there is, as whom its users count, and every way
# out that we could think of, by the CLI, a mount, and a client that says what libcairn would not.
. "$(dirname "$0")/../lib/cluster.sh"
CA=$CLUSTER/ca

cluster_up --mount "$MNT" --master-flag=--lease=15s # one that is frozen is waited for so long
ca() {
	local verb=$1
	shift
	cairn ca "$verb" --ca "$CA" "$@" >/dev/null
}
inode() { stat -c %i "$1"; }
refused() { # WORDS COMMAND...
	! "${@:2}" >"$WORK/out" 2>&1 && grep -qi "$1" "$WORK/out"
}
mkdir -p "$MNT/tenants/a/sub" "$MNT/tenants/b"
echo secret >"$MNT/tenants/b/secret" # the first chunk there is: see fault-foreign
echo a >"$MNT/tenants/a/own"
dd if=/dev/urandom of="$MNT/tenants/b/large" bs=64K count=64 status=none
chmod 777 "$MNT/tenants/a" "$MNT/tenants/a/sub" "$MNT/tenants/b"
ln "$MNT/tenants/b/large" "$MNT/tenants/a/linked"
A=$CA/issued/client-a
ca issue --role client --name a --export a
ca issue --role client --name b --export b
mount_a() { # for all users
	mkdir -p "$SECOND"
	MOUNTS+=("$SECOND")
	cairn-mount "$CAIRN_MASTER:/" "$SECOND" -f -o "credentials=$A,allow_other" >"$WORK/second.log" 2>&1 &
	second=$!
	BACKGROUND+=("$second")
	wait_for 20 mountpoint -q "$SECOND"
}
as_a() { timeout 60 cairn --credentials "$A" "$@"; }

# ---- what there is to see ----

check "no export of that name yet" refused "export that is not there" as_a ls /
check "it is made" cairn export add a /tenants/a --no-root-squash
check "another tenant's too" cairn export add b /tenants/b
check "not twice" refused "exists" cairn export add a /tenants/b
check "a client cannot make one" refused "not permitted" as_a export add c /
check "its root is the directory" [ "$(as_a cat /own)" = a ]
check "nothing above it" [ "$(as_a ls / | sort | tr '\n' ' ')" = "own sub " ]
check "a name of a file that another one counts is not told, nor opened" refused "no such" as_a cat /linked
check "dots lead nowhere" [ "$(as_a cat /../../sub/../../own)" = a ]
check "nor to the other's" refused "no such" as_a cat /../b/secret
ln -s /tenants/b/secret "$MNT/tenants/a/sub/absolute"
ln -s ../../b/secret "$MNT/tenants/a/sub/relative"
check "an absolute link is its own" refused "no such" as_a cat /sub/absolute
check "a relative one too" refused "no such" as_a cat /sub/relative
rm "$MNT/tenants/a/sub/absolute" "$MNT/tenants/a/sub/relative"
check "df tells of no more than its own inodes" [ "$(as_a df --json | tr -d ' \n' | grep -c '"inodes":3[,}]')" = 1 ]
check "the cluster's state is not told" refused "not permitted" as_a status
check "nor whose files are damaged" refused "not permitted" as_a fsck
check "nor quotas and locks" sh -c "! timeout 30 cairn --credentials '$A' quota list && ! timeout 30 cairn --credentials '$A' locks"
check "the list of exports is for all" sh -c "cairn export list | grep -q '^a .*/tenants/a$'"
check "but for those who see a part" refused "not permitted" as_a export list

# ---- a client that knows numbers ----

attempts() {
	"$TESTS_BIN/escape" "$CAIRN_MASTER" "$A" "$(inode "$MNT/tenants/a")" \
		"$(inode "$MNT/tenants/b")" "$(inode "$MNT/tenants/b/secret")" >"$WORK/attempts" || return
	cat "$WORK/attempts"
}
check "the attempts are made" attempts
cat >"$WORK/expected" <<'END'
getattr-inside OK
getattr-foreign NOENT
getattr-none NOENT
getattr-root NOENT
lookup-up OK
up-is itself
lookup-foreign NOENT
lookup-foreign-up NOENT
readdir-foreign NOENT
locate-foreign NOENT
xattr-foreign NOENT
xattrs-foreign NOENT
statfs-foreign NOENT
make-foreign NOENT
link-in NOENT
unlink-foreign NOENT
rename-out NOENT
rename-in NOENT
chmod-foreign NOENT
write-foreign NOENT
wrote-foreign NOENT
lock-foreign NOENT
fault-foreign NOENT
make-inside OK
with-token yes
make-inside OK
with-token no
unlink-inside OK
make-set-id OK
where-to-write OK
look OK
modes 6777 777 777
unlink-set-id OK
make-locked OK
lock OK
whose-lock ACCES
wait-for-lock ACCES
owner-whose-lock OK
unlink-locked OK
status PERM
fsck PERM
quotas PERM
locks PERM
exports PERM
export-set PERM
other-session PERM
END
check "each finds what is inside and nothing else" diff "$WORK/expected" "$WORK/attempts"
check "nothing came of it" sh -c "[ \"\$(ls '$MNT/tenants/b' | tr '\n' ' ')\" = 'large secret ' ] &&
	[ \"\$(cat '$MNT/tenants/b/secret')\" = secret ] && [ -e '$MNT/tenants/a/own' ]"

# ---- a mount of it ----

check "a mount of it" mount_a
check "its root is the directory" [ "$(cat "$SECOND/own")" = a ]
check "which says so of itself" [ "$(inode "$SECOND")" = "$(inode "$MNT/tenants/a")" ]
mkdir "$SECOND/dir"
check "files are written" sh -c "seq 20000 >'$SECOND/dir/file' && cmp '$SECOND/dir/file' '$MNT/tenants/a/dir/file'"
check "and moved to its root and back" sh -c "mv '$SECOND/dir/file' '$SECOND/file' && mv '$SECOND/file' '$SECOND/dir/file2' &&
	[ -e '$MNT/tenants/a/dir/file2' ]"
seen() { [ "$(cat "$SECOND/new")" = "$1" ]; }
ls "$SECOND" >/dev/null
echo one >"$MNT/tenants/a/new"
check "a name that another mount makes in its root is seen at once" seen one
echo two >"$MNT/tenants/a/new"
check "so is what is written" seen two
rm "$MNT/tenants/a/new"
check "and that it is gone" sh -c "! ls '$SECOND' | grep -q new && ! [ -e '$SECOND/new' ]"
check "the root's attributes too" sh -c "chmod 755 '$MNT/tenants/a' && [ \"\$(stat -c %a '$SECOND')\" = 755 ]"
check "df tells its own" [ "$(df --output=iused "$SECOND" | tail -1)" -le 8 ]
check "up from its root is where it is mounted" [ "$(ls "$SECOND/.." | grep -c "^second$")" = 1 ]
check "what another one counts is not there" refused "no such" cat "$SECOND/linked"

# ---- read-only, from one moment to the next ----

check "it is made read-only" cairn export set a --ro
check "a write is refused" refused "read-only" sh -c "echo x >'$SECOND/dir/x'"
check "and the removal of a name" refused "read-only" rm "$SECOND/dir/file2"
check "and mkdir by the command line" refused "read-only" as_a mkdir /never
check "and another mode" refused "read-only" chmod 777 "$SECOND/dir"
check "reading is not" cmp "$SECOND/dir/file2" "$MNT/tenants/a/dir/file2"
check "others write as before" sh -c "echo y >'$MNT/tenants/a/dir/y' && [ \"\$(cat '$SECOND/dir/y')\" = y ]"
check "and writable again" cairn export set a --rw
check "it is" sh -c "echo x >'$SECOND/dir/x'"

# ---- as whom ----

owner() { stat -c %u:%g "$MNT/tenants/a/$1"; }
check "root is root" [ "$(owner dir/x)" = 0:0 ]
echo mine >"$MNT/tenants/a/roots"
chmod 600 "$MNT/tenants/a/roots"
check "and reads what is root's" [ "$(as_a cat /roots)" = mine ]
check "also through its mount" [ "$(cat "$SECOND/roots")" = mine ]
check "root becomes nobody" cairn export set a --root-squash --anon 4321:4322
chmod 777 "$MNT/tenants/a"
check "the session that was root's has ended" wait_for 20 grep -q "going on as session" "$WORK/second.log"
check "and what it remembers" refused "permission denied" cat "$SECOND/roots"
check "the mount ends" sh -c "umount '$SECOND' && tail --pid=$second -f /dev/null"
check "who does not read what is root's" refused "permission denied" as_a cat /roots
check "nor takes it" refused "not permitted" as_a chmod 666 /roots
echo hers >"$WORK/hers"
check "and owns what he makes" sh -c "timeout 60 cairn --credentials '$A' put '$WORK/hers' /hers && [ \"\$(stat -c %u:%g '$MNT/tenants/a/hers')\" = 4321:4322 ]"
check "the mount again: its kernel is not believed" mount_a
check "what is root's is not root's" refused "permission denied" cat "$SECOND/roots"
check "nor is a device made" refused "not permitted" mknod "$SECOND/null" c 1 3
mkdir -m 770 "$MNT/tenants/a/group"
chown 5001:5002 "$MNT/tenants/a/group"
user() { # UID:GID GROUP COMMAND...
	setpriv --reuid "${1%:*}" --regid "${1#*:}" --groups "$2" "${@:3}"
}
chmod 711 "$WORK"
check "users are themselves" sh -c "setpriv --reuid 5001 --regid 5001 --clear-groups sh -c 'echo u >\"$SECOND/group/u\"; chmod 600 \"$SECOND/group/u\"; cat \"$SECOND/group/u\"'"
check "with their groups" user 5003:5003 5002 sh -c "echo g >'$SECOND/group/g' && [ \"\$(cat '$SECOND/group/g')\" = g ]"
check "and no others" refused "permission denied" user 5003:5003 5004 ls "$SECOND/group"
user 5001:5001 5002 sh -c "echo s >'$SECOND/group/set' && chgrp 5002 '$SECOND/group/set' && chmod 6770 '$SECOND/group/set'"
check "a file of theirs gets set-id bits" [ "$(stat -c %a "$SECOND/group/set")" = 6770 ]
check "and loses them to a writer of its group" user 5003:5003 5002 sh -c "echo w >>'$SECOND/group/set' && [ \"\$(stat -c %a '$SECOND/group/set')\" = 770 ]"
check "all become one" cairn export set a --all-squash
check "the owner is no more who he was" refused "permission denied" user 5001:5001 5001 cat "$SECOND/group/u"
check "what he makes is that one's" sh -c "setpriv --reuid 5001 --regid 5001 --clear-groups sh -c 'echo s >\"$SECOND/s\"' && [ \"\$(stat -c %u:%g '$MNT/tenants/a/s')\" = 4321:4322 ]"
check "the mount ends" sh -c "umount '$SECOND' && tail --pid=$second -f /dev/null"

# ---- how much ----

none_left() { cairn export list --json | tr -d ' \n' | grep -q '"name":"a"[^}]*"sessions":0,'; }
check "no session is left" wait_for 30 none_left
check "one session at most" cairn export set a --sessions 1
check "the first one" mount_a
check "another one is refused" refused "as many as it may" as_a ls /
check "the mount ends" sh -c "umount '$SECOND' && tail --pid=$second -f /dev/null"
check "its place is free" wait_for 30 as_a ls /
check "ten requests a second" cairn export set a --sessions 0 --rate 10
many() { for i in $(seq 12); do as_a stat /own >/dev/null || return; done; }
check "are waited for, not refused" many
check "without limit again" cairn export set a --rate 0

# Its kernel knows the file when it is frozen: who changes it has to wait until its lease ends.
first=$(part_pid mount-1)
hers=$(inode "$MNT/tenants/a/hers")
kill -STOP "$first"
"$TESTS_BIN/escape" waits "$CAIRN_MASTER" "$A" "$hers" >"$WORK/waits" &
waits=$!
BACKGROUND+=("$waits")
check "a change waits for a frozen mount" wait_for 20 grep -q waiting "$WORK/waits"
check "its export is removed meanwhile" timeout 30 cairn export remove a
check "it is answered" wait "$waits"
kill -CONT "$first"
check "by what may be done now" [ "$(tail -1 "$WORK/waits")" = "waited PERM" ]
check "the export is made again" cairn export add a /tenants/a --all-squash --anon 4321:4322

# ---- the master's memory, and the end ----

check "its quota stays while it is there" refused "an export is of this" cairn quota remove /tenants/a
kill_part master-1
check "the master comes back" timeout 60 cairn local up "$CLUSTER"
check "and knows" wait_for 20 sh -c "cairn export list --json | tr -d ' \n' | grep -q '\"name\":\"a\"[^}]*\"squash\":\"all_squash\"'"
check "and confines" sh -c "[ \"\$(timeout 60 cairn --credentials '$A' cat /../own)\" = a ]"
check "the backup" cairn backup "$WORK/backup"
check "is restored" cairn-master --import "$WORK/backup" --data-dir "$WORK/restored"
check "and checked" sh -c "cairn-master --check --data-dir '$WORK/restored' >'$WORK/checked' && grep -q '^0 wrong' '$WORK/checked'"
check "one request a second" cairn export set a --rate 1
"$TESTS_BIN/escape" late "$CAIRN_MASTER" "$A" "$(inode "$MNT/tenants/b")" >"$WORK/late" &
late=$!
BACKGROUND+=("$late")
check "some wait" wait_for 20 grep -q queued "$WORK/late"
check "it is removed" cairn export remove a
check "what waited is answered" wait "$late"
check "and sees nothing instead of all" sh -c "grep -q 'late PERM' '$WORK/late' && ! grep -q 'late OK' '$WORK/late'"
check "and nobody comes in" refused "export that is not there" as_a ls /
check "the directory is still there" [ "$(cat "$MNT/tenants/a/own")" = a ]
