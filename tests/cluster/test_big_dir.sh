#!/usr/bin/env bash
# A directory of BIG_DIR entries (`make test-posix`: a million): all of them are listed once, by two mounts,
# also while others come and go; and an entry costs no more than in a small directory. That is told, not judged.
. "$(dirname "$0")/../lib/cluster.sh"

BIG=${BIG_DIR:-8000}
SMALL=500
SECOND=$WORK/second
mkdir "$SECOND"
MOUNTS+=("$SECOND")
LIMIT=$((300 + BIG / 100)) # of what would hang

cluster_up --mount "$MNT" --chunkservers 1 --replicas 1
check "a second mount" cairn-mount "$SECOND" -o "log_file=$WORK/second.log"
mkdir "$MNT/big" "$MNT/small"
check "$SMALL files" timeout "$LIMIT" "$TESTS_BIN/fill_dir" /small $SMALL
check "$BIG files" timeout "$LIMIT" "$TESTS_BIN/fill_dir" /big "$BIG"

for dir in small big; do
	n=$SMALL
	[ $dir = small ] || n=$BIG
	for what in list list stat stat absent churn unlink list; do
		check "$dir: $what" timeout "$LIMIT" "$TESTS_BIN/big_dir" "$MNT/$dir" "$n" $what
		echo "# $dir: $(cat "$WORK/check.out") for one of $n"
	done
	check "$dir: the other mount" timeout "$LIMIT" "$TESTS_BIN/big_dir" "$SECOND/$dir" "$n" list stat
done
check "one reads it while the other changes it" timeout "$LIMIT" sh -c "
	'$TESTS_BIN/big_dir' '$MNT/big' $BIG churn & '$TESTS_BIN/big_dir' '$SECOND/big' $BIG list list list; a=\$?
	wait \$! && [ \$a = 0 ]"
check "all are removed" timeout "$LIMIT" cairn rm -r /big
check "gone for both" sh -c "! [ -e '$MNT/big' ] && ! [ -e '$SECOND/big' ]"
