#!/usr/bin/env bash
# Who may do what: the master, asked by the CLI, says what the kernel says on a mount. The same
# attempts by the same users on two trees that are alike, one through each.
. "$(dirname "$0")/../lib/cluster.sh"

cluster_up --mount "$MNT"
chmod 711 "$WORK" # others go through to what is theirs

USERS="1001: 1001:2000 1002: 1002:2000,3000"
user_credentials() { # UID: an administrator's certificate, of his own
	[ -d "$WORK/cred.$1" ] || {
		cp -r "$(credentials admin)" "$WORK/cred.$1" && chown -R "$1" "$WORK/cred.$1"
	}
}
as() { # UID:GROUPS COMMAND...
	local uid=${1%%:*} groups=${1#*:}
	shift
	if [ -n "$groups" ]; then
		setpriv --reuid "$uid" --regid "$uid" --groups "$groups" "$@"
	else
		setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
	fi
}
remote() { # UID:GROUPS COMMAND...: of the CLI
	local who=$1
	shift
	as "$who" env CAIRN_CREDENTIALS="$WORK/cred.${who%%:*}" timeout 60 cairn "$@"
}
tree() { # DIRECTORY: users 1001 and 1002, group 2000
	local m
	mkdir -p "$1"
	for m in 600 640 604 660 606 000 070 007; do
		echo text >"$1/f$m"
		chown 1001:2000 "$1/f$m"
		chmod $m "$1/f$m"
	done
	for m in 700 750 705 770 1777 711 733; do
		mkdir "$1/d$m"
		echo text >"$1/d$m/own"
		echo text >"$1/d$m/other"
		chown 1001:2000 "$1/d$m" "$1/d$m/own"
		chown 1002:3000 "$1/d$m/other"
		chmod $m "$1/d$m"
	done
	chmod 777 "$1"
}
# The same attempt through the kernel (in tree k) and by the CLI (in tree c). Prints what differs.
both() { # WHO "KERNEL COMMAND" CLI-COMMAND...: the kernel's works in its tree
	local who=$1 kernel=$2 a=no b=no
	shift 2
	as "$who" sh -c "cd '$MNT/k' && $kernel" >/dev/null 2>&1 && a=yes
	remote "$who" "$@" >/dev/null 2>"$WORK/said" && b=yes
	total=$((total + 1))
	[ $a = $b ] || echo "$who $*: the kernel says $a, the master $b: $(tail -1 "$WORK/said")"
}
for who in $USERS; do
	user_credentials "${who%%:*}"
done
printf 'more' >"$WORK/more"
chmod 644 "$WORK/more"

total=0
# The master keeps hard links as a kernel does that was told to.
links=$(cat /proc/sys/fs/protected_hardlinks)
try() { # WHO: all attempts, in trees that are made anew
	local who=$1 m
	rm -rf "$MNT/k" "$MNT/c"
	tree "$MNT/k"
	tree "$MNT/c"
	for m in f600 f640 f604 f660 f606 f000 f070 f007; do
		both "$who" "cat $m" cat "/c/$m"
		both "$who" "chmod 666 $m" chmod 666 "/c/$m"
	done
	for m in d700 d750 d705 d770 d1777 d711 d733; do
		both "$who" "ls $m" ls "/c/$m"
		both "$who" "cat $m/other" cat "/c/$m/other"
		both "$who" "mkdir $m/new" mkdir "/c/$m/new"
		both "$who" "cp '$WORK/more' $m/more" put "$WORK/more" "/c/$m/more"
		both "$who" "mv $m/own $m/moved" mv "/c/$m/own" "/c/$m/moved"
		both "$who" "rm -f $m/other && ! test -e $m/other" rm "/c/$m/other"
		[ $links = 0 ] || both "$who" "ln $m/moved linked-$m" ln "/c/$m/moved" "/c/linked-$m"
	done
}
for who in $USERS; do
	try "$who" >>"$WORK/differs"
done
alike() {
	cat "$WORK/differs"
	[ ! -s "$WORK/differs" ]
}
check "the master says what the kernel says" alike
check "in so many attempts" [ "$total" = $((4 * (8 * 2 + 7 * (6 + links)))) ]

echo secret >"$MNT/secret"
chmod 600 "$MNT/secret"
refused() { # WORDS COMMAND...
	! "${@:2}" >"$WORK/out" 2>&1 && grep -qi "$1" "$WORK/out"
}
check "a refusal says what it is" refused "permission denied" remote 1001: cat /secret
check "root's own is root's" timeout 30 cairn cat /secret
chmod 644 "$MNT/secret"
check "a change counts at once" remote 1001: cat /secret
