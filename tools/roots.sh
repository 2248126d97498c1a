# Functions for roots of a distribution's release; sourced.
#
#   MIRROR=   where debootstrap gets packages from
#   BIND=     folders of this machine to be seen, read-only, in the roots

# How names are found, local certificates, and how pip is set up.
copied=(/etc/resolv.conf /etc/hosts /usr/local/share/ca-certificates
    /etc/pip.conf)

# Make a root with debootstrap, with git and make and what else is named.
function make_root {
    local root=$1 release=$2 more=${3:-} path
    debootstrap --variant=minbase --include="git,make$more" "$release" "$root" \
        ${MIRROR:-} >"$root.log" 2>&1 || { tail -n 20 "$root.log"; return 1; }
    for path in "${copied[@]}"; do
        if [ -e "$path" ]; then
            mkdir -p "$root$(dirname "$path")"
            cp -rL --no-target-directory "$path" "$root$path"
        fi
    done
    # As in the images of containers: packages start no services.
    printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
    chmod +x "$root/usr/sbin/policy-rc.d"
}

function mount_read_only {
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
}

# Mount what every root has of this machine, and the devices that are named.
function mount_root {
    local root=$1 path
    shift
    mount --bind "$root" "$root"
    mount --types proc proc "$root/proc"
    mount_read_only "$root/proc/sys" "$root/proc/sys"
    mount --types tmpfs tmpfs "$root/tmp"
    mount --types tmpfs -o mode=755 tmpfs "$root/dev"
    mkdir -m 1777 "$root/dev/shm"
    for path in null zero full random urandom tty "$@"; do
        if [ -e "/dev/$path" ]; then
            mkdir -p "$(dirname "$root/dev/$path")"
            touch "$root/dev/$path"
            mount --bind "/dev/$path" "$root/dev/$path"
        fi
    done
    ln -s /proc/self/fd "$root/dev/fd"
    for path in ${BIND:-}; do
        mkdir -p "$root$path"
        mount_read_only "$path" "$root$path"
    done
}

# Call this script again, in namespaces that end with it.
function run {
    INSIDE=1 unshare --mount --pid --ipc --uts --fork --kill-child \
        "$0" "$@"
}
