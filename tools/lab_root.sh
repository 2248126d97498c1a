#!/usr/bin/env bash
# Run the lab in a root of its own, on any Linux.
#
#   tools/lab_root.sh RELEASE TARGET...
#
# Makes the root of a Debian release, unless it is there, and runs targets of
# lab.mk in it, in namespaces of their own: packages, images and logs are in
# the root, and all that runs ends with the targets. They see this checkout,
# which they may change, and nothing else of this machine that they could.
# Needs root, and kernel modules that the lab needs. Variables: see roots.sh.
#
#   LAB_ROOTS=   the folder in which the roots are kept

set -euo pipefail

cd "$(dirname "$0")/.."
. tools/roots.sh

function mount_checkout {
    local root=$1 path
    # In a linked worktree the repository itself is elsewhere.
    for path in "$PWD" "$(git -c safe.directory='*' rev-parse \
            --path-format=absolute --git-common-dir)"; do
        mkdir -p "$root$path"
        mount --bind "$path" "$root$path"
    done
}

if [ "${INSIDE:-}" ]; then
    unset INSIDE
    root=$1
    shift
    mount_root "$root" kvm fuse net/tun
    ln -s pts/ptmx "$root/dev/ptmx"
    mkdir "$root/dev/pts"
    mount --types devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
    mount --types tmpfs -o mode=755 tmpfs "$root/run"
    mount_read_only /sys "$root/sys"
    mount_checkout "$root"
    checkout=$PWD
    # Not chroot: nsenter, by which the lab enters its machines, leaves that.
    mkdir "$root/run/machine"
    cd "$root"
    pivot_root . run/machine
    cd "$checkout"
    umount --lazy /run/machine
    # The checkout may be a user's, and git asks whose it is.
    exec env --unset=LAB --unset=XDG_CACHE_HOME HOME=/root \
        GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory \
        GIT_CONFIG_VALUE_0='*' make "$@"
fi

release=$1
shift
roots=$LAB_ROOTS
mkdir -p "$roots"
if [ ! -e "$roots/$release.made" ]; then
    rm -rf --one-file-system "${roots:?}/$release"
    make_root "$roots/$release" "$release" ,python3
    touch "$roots/$release.made"
fi
run "$roots/$release" "$@"
