#!/usr/bin/env bash
# Run targets of the Makefile in the bare root of a distribution's release.
#
#   tools/bare_root.sh 'RELEASE...' TARGET...
#
# Makes each root with debootstrap, with git and make and nothing else, clones
# this repository into it, and runs the targets there, in namespaces of their
# own. Needs root. The targets see nothing of this machine that they could
# change: what they need to know of it is copied or read-only. Nothing is left
# behind.
#
#   MIRROR=   where debootstrap gets packages from
#   BIND=     folders of this machine to be seen, read-only, in the roots

set -euo pipefail

cd "$(dirname "$0")/.."

# How names are found, local certificates, and how pip is set up.
copied=(/etc/resolv.conf /etc/hosts /usr/local/share/ca-certificates
    /etc/pip.conf)
devices=(null zero full random urandom tty)

function make_root {
    local root=$1 release=$2 path
    debootstrap --variant=minbase --include=git,make "$release" "$root" \
        ${MIRROR:-} >"$root.log" 2>&1 || { tail -n 20 "$root.log"; return 1; }
    prepare_root "$root"
}

function prepare_root {
    local root=$1 path
    for path in "${copied[@]}"; do
        if [ -e "$path" ]; then
            mkdir -p "$root$(dirname "$path")"
            cp -rL --no-target-directory "$path" "$root$path"
        fi
    done
    # As in the images of containers: packages start no services.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
    git clone --quiet . "$root/src"
}

function mount_read_only {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}

# What runs in the namespaces: mounts and chroot. They end with it.
function run_inside {
    local root=$1 path
    shift
    mount --bind "$root" "$root"
    mount --types proc proc "$root/proc"
    mount_read_only "$root/proc/sys" "$root/proc/sys"
    mount --types tmpfs tmpfs "$root/tmp"
    mount --types tmpfs -o mode=755 tmpfs "$root/dev"
    mkdir -m 1777 "$root/dev/shm"
    for path in "${devices[@]}"; do
        touch "$root/dev/$path"
        mount --bind "/dev/$path" "$root/dev/$path"
    done
    ln -s /proc/self/fd "$root/dev/fd"
    for path in ${BIND:-}; do
        mkdir -p "$root$path"
        mount_read_only "$path" "$root$path"
    done
    exec chroot "$root" /usr/bin/env HOME=/root make -C /src "$@"
}

function run {
    INSIDE=1 unshare --mount --pid --ipc --uts --fork --kill-child \
        "$0" "$@"
}

if [ "${INSIDE:-}" ]; then
    unset INSIDE
    run_inside "$@"
fi

releases=$1
shift
folder=$(mktemp --directory)
trap 'rm -rf --one-file-system "$folder"' EXIT
result=0
for release in $releases; do
    echo "=== $release: make $*"
    if make_root "$folder/$release" "$release" \
            && run "$folder/$release" "$@"; then
        echo "=== $release: passed"
    else
        echo "=== $release: failed"
        result=1
    fi
    rm -rf --one-file-system "${folder:?}/$release"
done
exit $result
