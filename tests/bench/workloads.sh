# Sourced by bench.sh: the workloads. work_NAME runs in the empty directory $W of one system, calls
# `row "what" UNIT command...` for each row of the table, and leaves what it made behind. A command
# prints "SECONDS OPERATIONS BYTES" (bench_io, or `timed`); UNIT is MiB/s or /s. `cold` unmounts,
# drops the kernel's caches and mounts again; the servers keep running.

BIG=$(scaled 1073741824 4194304)
FILES=$(scaled 10000 100)
BIGDIR=$(scaled 50000 200)
TREE_FILES=$(scaled 20000 100)
REQUESTS=$(scaled 10000 200)   # random reads, random writes with one fsync
SYNCED=$(scaled 1000 50)       # random writes with an fdatasync each, transactions
IO=$BIN/tests/bench_io

# timed OPERATIONS BYTES command...
timed() {
	local operations=$1 bytes=$2 begun=$EPOCHREALTIME
	shift 2
	"$@" >"$WORK/timed.out" 2>&1 || { tail -5 "$WORK/timed.out" >&2; return 1; }
	awk -v a="$begun" -v b="$EPOCHREALTIME" -v o="$operations" -v n="$bytes" \
		'BEGIN { printf "%.6f %d %d\n", b - a, o, n }'
}

work_stream() {
	row "write, 1 stream, fsync" MiB/s "$IO" write "$W" "$BIG" 1
	cold
	row "read cold, 1 stream" MiB/s "$IO" read "$W" "$BIG" 1
	row "read warm, 1 stream" MiB/s "$IO" read "$W" "$BIG" 1
	rm "$W/stream0"
	row "write, 4 streams, fsync" MiB/s "$IO" write "$W" "$BIG" 4
	cold
	row "read cold, 4 streams" MiB/s "$IO" read "$W" "$BIG" 4
	row "read warm, 4 streams" MiB/s "$IO" read "$W" "$BIG" 4
}

work_random() {
	"$IO" write "$W" "$BIG" 1 >/dev/null || return
	cold
	row "random read 4K cold, 1 in flight" /s "$IO" randread "$W" "$REQUESTS" 1
	cold
	row "random read 4K cold, 16 in flight" /s "$IO" randread "$W" "$REQUESTS" 16
	row "random write 4K, 1 in flight, fsync at end" /s "$IO" randwrite "$W" "$REQUESTS" 1 end
	row "random write 4K, 16 in flight, fsync at end" /s "$IO" randwrite "$W" "$REQUESTS" 16 end
	row "random write 4K, 1 in flight, fdatasync each" /s "$IO" randwrite "$W" "$SYNCED" 1 each
	row "random write 4K, 16 in flight, fdatasync each" /s "$IO" randwrite "$W" "$SYNCED" 16 each
}

# files PROCESSES
files() {
	local p="$1 process$([ "$1" = 1 ] || echo es)"
	row "create 4K files, $p" /s "$IO" create "$W" "$FILES" "$1"
	row "stat warm, $p" /s "$IO" stat "$W" "$FILES" "$1"
	row "open+read warm, $p" /s "$IO" open "$W" "$FILES" "$1"
	cold
	row "stat cold, $p" /s "$IO" stat "$W" "$FILES" "$1"
	cold
	row "open+read cold, $p" /s "$IO" open "$W" "$FILES" "$1"
	row "open+read again, $p" /s "$IO" open "$W" "$FILES" "$1"
	row "rename, $p" /s "$IO" rename "$W" "$FILES" "$1"
	row "unlink, $p" /s "$IO" unlink "$W" "$FILES" "$1"
}
work_files() { files 1; }
work_files8() { files 8; }

work_bigdir() {
	row "one directory: create empty files" /s "$IO" create "$W" "$BIGDIR" 1 0
	row "one directory: list warm" /s "$IO" list "$W/p0"
	row "one directory: ls -l warm" /s "$IO" listl "$W/p0"
	cold
	row "one directory: ls -l cold" /s "$IO" listl "$W/p0"
	"$IO" rename "$W" "$BIGDIR" 1 0 >/dev/null || return
	row "one directory: unlink" /s "$IO" unlink "$W" "$BIGDIR" 1 0
}

# The tree is made once, on memory where that is possible, and packed.
tree_pack() {
	[ ! -e "$WORK/tree.tar" ] || return 0
	mkdir "$WORK/tree" && "$IO" tree "$WORK/tree" "$TREE_FILES" >"$WORK/tree.size" &&
		tar -C "$WORK" -cf "$WORK/tree.tar" tree
}
work_tree() {
	tree_pack || return
	row "tree: tar -x" /s timed "$TREE_FILES" 0 tar -C "$W" -xf "$WORK/tree.tar"
	row "tree: cp -a" /s timed "$TREE_FILES" 0 cp -a "$W/tree" "$W/copy"
	row "tree: du warm" /s timed "$TREE_FILES" 0 du -s "$W/tree"
	cold
	row "tree: du cold" /s timed "$TREE_FILES" 0 du -s "$W/tree"
	row "tree: rm -r" /s timed "$TREE_FILES" 0 rm -r "$W/copy"
}

work_git() {
	local files=$((TREE_FILES / 4))
	export HOME=$WORK GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_DATE=@1700000000 GIT_COMMITTER_DATE=@1700000000
	git config --global user.name bench && git config --global user.email bench@example.org &&
		git config --global safe.directory '*' && git config --global gc.auto 0 || return
	git init -q "$W/git" && "$IO" tree "$W/git" "$files" >/dev/null || return
	row "git add" /s timed "$files" 0 git -C "$W/git" add -A
	row "git commit" /s timed "$files" 0 git -C "$W/git" commit -qm first
	row "git status warm" /s timed "$files" 0 git -C "$W/git" status --porcelain
	cold
	row "git status cold" /s timed "$files" 0 git -C "$W/git" status --porcelain
}

sqlite_script() { # TRANSACTIONS JOURNAL-MODE
	echo "pragma journal_mode=$2; pragma synchronous=full; create table t(a integer primary key, b blob);"
	awk -v n="$1" 'BEGIN {
		for (i = 0; i < n; i++) print "begin; insert into t(b) values (randomblob(400)); commit;" }'
}
sqlite_run() { sqlite3 "$W/$1.db" <"$WORK/sqlite.$1"; }
work_sqlite() {
	local mode
	for mode in delete wal; do
		sqlite_script "$SYNCED" $mode >"$WORK/sqlite.$mode"
		row "SQLite transactions, $([ $mode = wal ] && echo WAL || echo 'rollback journal')" /s \
			timed "$SYNCED" 0 sqlite_run $mode
	done
}

# The master alone, of one cluster: its limit when requests come pipelined and when each waits for its answer.
work_master() {
	local load=$BIN/tests/master_load n=$((FILES * 2))
	[[ $SYS = cairn? ]] || return 0
	eval "$("$BIN/cairn" local env "$WORK/$SYS")"
	row "master: create, 1 in flight" /s "$load" create "a$ROUND" "$FILES" 1 1
	row "master: create, 4 x 256 in flight" /s "$load" create "b$ROUND" "$n" 4 256
	row "master: lookup, 4 x 256 in flight" /s "$load" lookup "b$ROUND" "$n" 4 256
	row "master: getattr, 4 x 256 in flight" /s "$load" getattr "b$ROUND" $((n * 5)) 4 256
	row "master: getattr, 4 x 1 in flight" /s "$load" getattr "b$ROUND" "$n" 4 1
	row "master: unlink, 4 x 256 in flight" /s "$load" unlink "b$ROUND" "$n" 4 256
}

# memory_row WHAT FILES command...: the master's resident memory after it; and what FILES added, per million
memory_row() {
	local what=$1 n=$2 before after
	shift 2
	before=$(rss_kb ${LOG_PIDS[$SYS]})
	timeout "$ROW_LIMIT_S" "$@" >/dev/null || { echo "failed: $SYS: $what" >&2; FAILED=$((FAILED + 1)); return; }
	after=$(rss_kb ${LOG_PIDS[$SYS]})
	printf '%s\t%s\t%s\t%s\t%s\n' "$what" MiB "$SYS" 1 "1 1 $((after * 1024))" >>"$RAW"
	[ "$n" = 0 ] || printf '%s, per million\t%s\t%s\t%s\t%s\n' "$what" MiB "$SYS" 1 \
		"1 1 $(((after - before) * 1024 * 1000000 / n))" >>"$RAW"
}
# How the master's memory grows: empty files, as many as MEMORY_FILES says (10000000 takes minutes).
work_memory() {
	local n=${MEMORY_FILES:-$(scaled 200000 1000)} load=$BIN/tests/master_load
	[ -n "${LOG_PIDS[$SYS]:-}" ] && [[ $SYS != gluster? ]] && [ "$ROUND" = 1 ] || return 0
	case $SYS in
	cairn?)
		eval "$("$BIN/cairn" local env "$WORK/$SYS")"
		memory_row "master: memory with $n files" "$n" "$load" create memory "$n" 8 64
		memory_row "master: memory after a lookup of all" 0 "$load" lookup memory "$n" 8 64
		;;
	*)
		memory_row "master: memory with $n files" "$n" "$IO" create "$W" "$n" 8 0
		memory_row "master: memory after a lookup of all" 0 "$IO" stat "$W" "$n" 8 0
		;;
	esac
}

# Cairn's CLI; for the others, what their users have: cp to and from the mount.
bulk_put() {
	case $SYS in
	cairn?) "$BIN/cairn" put -r --quiet "$1" "/w/" ;;
	*) cp -r "$1" "$W/" ;;
	esac
}
bulk_get() {
	case $SYS in
	cairn?) "$BIN/cairn" get -r --quiet "/w/$1" "$WORK/got/" ;;
	*) cp -r "$W/$1" "$WORK/got/" ;;
	esac
}
work_bulk() {
	tree_pack || return
	[ -e "$WORK/big/stream0" ] || { mkdir -p "$WORK/big" && "$IO" write "$WORK/big" "$BIG" 1 >/dev/null; } || return
	[[ $SYS != cairn? ]] || eval "$("$BIN/cairn" local env "$WORK/$SYS")"
	row "put tree (Cairn: CLI, others: cp -r)" /s timed "$TREE_FILES" 0 bulk_put "$WORK/tree"
	row "put 1 GiB" MiB/s timed 1 "$BIG" bulk_put "$WORK/big"
	cold
	rm -rf "$WORK/got" && mkdir "$WORK/got"
	row "get tree" /s timed "$TREE_FILES" 0 bulk_get tree
	row "get 1 GiB" MiB/s timed 1 "$BIG" bulk_get big
	rm -rf "$WORK/got"
}
