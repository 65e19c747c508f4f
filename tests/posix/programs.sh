#!/usr/bin/env bash
# Real programs on the mount: git, SQLite, PostgreSQL, fio, dbench, stress-ng, and Cairn's own build.
# PROGRAMS names those to run; all of them by default. Part of `make test-posix`.
. "$(dirname "$0")/../lib/cluster.sh"
. "$(dirname "$0")/../lib/posix.sh"

SOURCE=$(cd "$(dirname "$0")/../.." && pwd)
PG=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | tail -1)
chmod 711 "$WORK"
[ "$(id -u)" = 0 ] || posix_skip
posix_cluster
wanted() { [ -z "${PROGRAMS:-}" ] || [[ " $PROGRAMS " = *" $1 "* ]]; }

git_works() {
	export HOME=$WORK GIT_CONFIG_NOSYSTEM=1
	git config --global --add safe.directory '*'
	git config --global user.name test && git config --global user.email test@example.org
	rm -rf "$WORK/origin" && mkdir "$WORK/origin" && cd "$WORK/origin" && git init -q &&
		cp -r "$SOURCE"/{common,client,fuse,master} . && git add -A && git commit -qm first &&
		timeout 300 git clone -q "$WORK/origin" "$MNT/clone" && cd "$SECOND/clone" &&
		for i in 1 2 3 4 5; do
			echo "$i" >>common/limits.h && git commit -qam "$i" || return
		done &&
		git checkout -qb other HEAD~2 && git merge -q -m merged master && timeout 300 git gc -q &&
		git fsck --full && [ -z "$(git status --porcelain)" ] && [ "$(git log --oneline | wc -l)" = 6 ]
}

# sqlite MODE: three processes, the third on the other mount where the journal allows that.
sqlite_works() {
	local mode=$1 dirs=("$MNT" "$MNT" "$SECOND") pids=() p ok=0
	[ "$mode" = wal ] && dirs[2]=$MNT # its index is shared memory
	sqlite3 "$MNT/$mode.db" "pragma journal_mode=$mode; create table t(a integer primary key, b text);
		create index i on t(b);" || return
	for n in 0 1 2; do
		(for i in $(seq 1 40); do
			sqlite3 -cmd ".timeout 60000" "${dirs[$n]}/$mode.db" "begin immediate;
				insert into t(b) select hex(randomblob(50)) from generate_series(1, 20);
				commit;" || exit 1
		done) &
		pids+=($!)
	done
	for p in "${pids[@]}"; do wait "$p" || ok=1; done
	[ $ok = 0 ] && [ "$(sqlite3 "$MNT/$mode.db" 'pragma integrity_check')" = ok ] &&
		[ "$(sqlite3 "$MNT/$mode.db" 'select count(*) from t')" = 2400 ]
}

postgres_works() {
	local run="setpriv --reuid postgres --regid postgres --clear-groups" ok
	mkdir "$MNT/pg" "$WORK/pg-socket" && chown postgres "$MNT/pg" "$WORK/pg-socket" || return
	cd / && export PGHOST=$WORK/pg-socket PGUSER=postgres
	timeout 300 $run "$PG/initdb" -D "$MNT/pg/data" -A trust || return
	timeout 100 $run "$PG/pg_ctl" -D "$MNT/pg/data" -l "$WORK/pg-socket/log" -w \
		-o "-k $WORK/pg-socket -c listen_addresses=''" start || return
	$run "$PG/createdb" bench && timeout 300 $run "$PG/pgbench" -q -i -s 5 bench &&
		timeout 100 $run "$PG/pgbench" -c 4 -T 20 bench &&
		$run "$PG/psql" -tc "select sum(abalance) = (select sum(bbalance) from pgbench_branches)
			from pgbench_accounts" bench | grep -q t
	ok=$?
	timeout 100 $run "$PG/pg_ctl" -D "$MNT/pg/data" -m fast -w stop && [ $ok = 0 ] || return
	timeout 100 $run "$PG/pg_checksums" -D "$MNT/pg/data" --check || # off by default in old ones
		$run "$PG/pg_controldata" "$MNT/pg/data" | grep -q 'shut down'
}

fio_works() {
	mkdir "$MNT/fio" && cd / && timeout 300 fio --directory="$MNT/fio" --name=verify \
		--rw=randrw --bsrange=512-128k --size=64m --numjobs=2 --verify=crc32c --do_verify=1 \
		--verify_fatal=1 --fsync=50 --runtime=60 && timeout 300 fio --directory="$MNT/fio" \
		--name=direct --rw=randwrite --bs=4k --size=16m --direct=1 --verify=crc32c --verify_fatal=1
}

dbench_works() {
	mkdir "$MNT/dbench" && timeout 200 dbench -D "$MNT/dbench" -t 20 4
}

# Stressors of file systems that check what they get; each bounded.
stress_works() {
	mkdir -p "$MNT/stress" && timeout 100 stress-ng --temp-path "$MNT/stress" --timeout 10s \
		--verify "--$1" 2 --metrics-brief --oom-avoid
}

build_works() {
	mkdir "$MNT/build" && cp -r "$SOURCE"/{common,client,fuse,master,chunkserver,tools,tests} \
		"$SOURCE/Makefile" "$MNT/build/" && cd "$SECOND/build" &&
		timeout 900 make -s -j2 all && build/cairn help >/dev/null && cd /
}

wanted git && check "git: clone, commits, merge, gc, fsck" git_works
wanted sqlite && check "SQLite, rollback journal, two mounts" sqlite_works delete
wanted sqlite && check "SQLite, WAL" sqlite_works wal
wanted postgres && [ -n "$PG" ] && check "PostgreSQL: initdb, pgbench" postgres_works
wanted fio && check "fio with verification" fio_works
wanted dbench && check "dbench" dbench_works
if wanted stress; then
	for s in dentry dir dirdeep fallocate filename flock fcntl fpunch hdd link lockf mmap open \
		rename seek symlink touch utime xattr; do
		check "stress-ng $s" stress_works $s
	done
fi
wanted build && check "Cairn builds on Cairn" build_works
cd /
posix_unmount
