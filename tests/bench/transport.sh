#!/usr/bin/env bash
# What TLS costs: the same work on two clusters, one with certificates and one with a shared key, in turn,
# on one machine. Prints the median time of each over ROUNDS (5) and the ratio of the medians.
#     BIN=build TMPDIR=/dev/shm bash tests/bench/transport.sh
set -u
BIN=$(cd "${BIN:-build}" && pwd)
export PATH=$BIN:$PATH
WORK=$(mktemp -d "${TMPDIR:-/tmp}/cairn-transport-XXXXXX")
ROUNDS=${ROUNDS:-5}
MB=${MB:-256}
FILES=${FILES:-300}
CONNECTS=${CONNECTS:-30}

finish() {
	for t in tls plain; do
		timeout 60 cairn --quiet local down "$WORK/$t" >/dev/null
	done
	rm -rf --one-file-system "$WORK"
}
trap finish EXIT
mkdir "$WORK/mnt-tls" "$WORK/mnt-plain"
cairn --quiet local up "$WORK/tls" --mount "$WORK/mnt-tls" || exit
cairn --quiet local up "$WORK/plain" --plain --mount "$WORK/mnt-plain" || exit
head -c "${MB}M" /dev/urandom >"$WORK/data"

inside() { # TRANSPORT COMMAND...: with the CLI pointed at that cluster
	(eval "$(cairn local env "$WORK/$1")"; shift; "$@")
}
stream_write() { dd if="$WORK/data" of="$WORK/mnt-$1/stream" bs=1M conv=fsync status=none; }
# By libcairn: the kernel's cache of the mount would answer.
stream_read() { inside "$1" cairn cat /stream >/dev/null; }
small_files() {
	local i
	mkdir "$WORK/mnt-$1/small.$2"
	for ((i = 0; i < FILES; i++)); do
		echo content >"$WORK/mnt-$1/small.$2/$i"
	done
}
small_reads() { inside "$1" cairn get -r "/small.$2" "$WORK/copy.$1.$2"; }
connects() {
	local i
	for ((i = 0; i < CONNECTS; i++)); do
		inside "$1" cairn stat / >/dev/null
	done
}
for ((round = 1; round <= ROUNDS; round++)); do
	for work in stream_write stream_read small_files small_reads connects; do
		for t in tls plain; do
			begin=$(date +%s%N)
			$work $t $round || echo "$work on $t failed"
			echo "$work $t $((($(date +%s%N) - begin) / 1000))" >>"$WORK/times"
		done
	done
	rm -rf "$WORK"/copy.*
done
median() { # WORK TRANSPORT
	awk -v w="$1" -v t="$2" '$1 == w && $2 == t {print $3}' "$WORK/times" | sort -n |
		awk '{v[NR] = $1} END {print v[int((NR + 1) / 2)]}'
}
printf '%-14s %10s %10s %8s\n' work tls/ms plain/ms ratio
for work in stream_write stream_read small_files small_reads connects; do
	awk -v w=$work -v a="$(median $work tls)" -v b="$(median $work plain)" \
		'BEGIN {printf "%-14s %10.0f %10.0f %8.2f\n", w, a / 1000, b / 1000, a / b}'
done
echo "streams of $MB MB, $FILES files, $CONNECTS connections; $ROUNDS rounds"
