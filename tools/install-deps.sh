#!/bin/sh
# Installs the Debian packages named as arguments that are missing; asks for sudo only if needed.
# With OPTIONAL=1 a failure is reported and ignored.
set -u
missing=
for p in "$@"; do
	dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' ||
		missing="$missing $p"
done
[ -n "$missing" ] || exit 0
echo "installing:$missing"
sudo=
[ "$(id -u)" = 0 ] || sudo=sudo
# shellcheck disable=SC2086 # the lists are words
$sudo env DEBIAN_FRONTEND=noninteractive sh -c "apt-get -q update && apt-get -q install -y --no-install-recommends $missing" && exit 0
[ -n "${OPTIONAL:-}" ] && echo "not installed (optional):$missing" && exit 0
exit 1
