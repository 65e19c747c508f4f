#!/usr/bin/env bash
# The differential test: random sequences of operations on a mount and on an ext4, every answer and
# whole trees compared; through one mount and through two that alternate. The seeds are always the
# same ones; `make test-posix` takes others (DIFFER_SEED, DIFFER_SEEDS).
. "$(dirname "$0")/../lib/cluster.sh"
. "$(dirname "$0")/../lib/posix.sh"

posix_local 256M
mkdir "$LOCAL/a" "$LOCAL/b"
posix_cluster
differ() { timeout 300 "$TESTS_BIN/posix_differ" "$@" >"$WORK/differ" || ! grep -v '^ok' "$WORK/differ"; }
check "ext4 against itself" differ --seeds 3 --ops 400 "$LOCAL/a" "$LOCAL/a" "$LOCAL/b"
check "one mount" differ --seed "${DIFFER_SEED:-1}" --seeds "${DIFFER_SEEDS:-5}" --ops 400 "$MNT" "$MNT" "$LOCAL"
check "two mounts" differ --seed "${DIFFER_SEED:-101}" --seeds "${DIFFER_SEEDS:-5}" --ops 400 "$MNT" "$SECOND" "$LOCAL"
posix_unmount
