#!/usr/bin/env bash
# Names, inodes, attributes, access control lists: what one mount does, another one sees, as two
# processes see it on one local disk. ONLY="names", "attrs" or "acls" picks programs.
. "$(dirname "$0")/../lib/cluster.sh"

SECOND=$WORK/second
mkdir "$SECOND"
MOUNTS+=("$SECOND")
OPTIONS=log_file=$WORK/second.log
[ "$(id -u)" = 0 ] && OPTIONS=$OPTIONS,allow_other

said_before() { # LINE FILE: what was said since the last case; a failure
	awk -v last="$1" '$0 == last {printf "%s", text; exit} /^(not )?ok / {text = ""; next}
		{text = text $0 "\n"}' "$2"
	false
}

cluster_up --mount "$MNT"
check "a second mount" cairn-mount "$SECOND" -o "$OPTIONS"
chmod 711 "$WORK"
for program in ${ONLY:-names attrs acls}; do
	mkdir "$MNT/$program"
	"$TESTS_BIN/$program" "$MNT/$program" "$SECOND/$program" >"$WORK/$program.out"
	check "$program: some cases ran" grep -q '^ok ' "$WORK/$program.out"
	while read -r line; do
		case $line in
		"ok "*) check "$program: ${line#ok }" true ;;
		"not ok "*) check "$program: ${line#not ok }" said_before "$line" "$WORK/$program.out" ;;
		esac
	done <"$WORK/$program.out"
done
umount "$SECOND"
