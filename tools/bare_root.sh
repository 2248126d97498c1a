#!/usr/bin/env bash
# Run targets of the Makefile in the bare root of a distribution's release.
#
#   tools/bare_root.sh 'RELEASE...' TARGET...
#
# Makes each root, clones this repository into it, and runs the targets there,
# in namespaces of their own. Needs root. The targets see nothing of this
# machine that they could change: what they need to know of it is copied or
# read-only. Nothing is left behind. Variables: see roots.sh.

set -euo pipefail

cd "$(dirname "$0")/.."
. tools/roots.sh

if [ "${INSIDE:-}" ]; then
    unset INSIDE
    root=$1
    shift
    mount_root "$root"
    exec chroot "$root" /usr/bin/env HOME=/root make -C /src "$@"
fi

releases=$1
shift
folder=$(mktemp --directory)
trap 'rm -rf --one-file-system "$folder"' EXIT
result=0
for release in $releases; do
    echo "=== $release: make $*"
    if make_root "$folder/$release" "$release" \
            && git clone --quiet . "$folder/$release/src" \
            && run "$folder/$release" "$@"; then
        echo "=== $release: passed"
    else
        echo "=== $release: failed"
        result=1
    fi
    rm -rf --one-file-system "${folder:?}/$release"
done
exit $result
