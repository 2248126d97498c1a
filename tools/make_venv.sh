#!/usr/bin/env bash
# Make the environment of "make demo", "make test" and "make bench".
#
#   tools/make_venv.sh VENV CONSTRAINTS [PYTHON]
#
# Without PYTHON it is the newest that the Nova of CONSTRAINTS supports.
# System packages that are missing are installed with apt-get or dnf, as root
# or with sudo; NO_INSTALL=1 only tells which. bindep.txt names them.

set -euo pipefail

venv=$1
constraints=$2
python=${3:-}

function die {
    printf '\nmake: %s\n' "$@" >&2
    exit 1
}

# Newest first, but for Nova 29 and 30 those that these support.
function pythons {
    case "$constraints" in
        *nova-29.txt | *nova-30.txt) echo 3.11 3.10 3.12 3.13 ;;
        *nova-34.txt) echo 3.13 3.12 3.11 ;;
        *) echo 3.13 3.12 3.11 3.10 ;;
    esac
}

function makes_environments {
    "$1" -c 'import ensurepip, venv' 2>/dev/null
}

# Print the Python to use: one that can make environments, if there is one.
function find_python {
    local version found=
    for version in $(pythons); do
        command -v "python$version" >/dev/null || continue
        if makes_environments "python$version"; then
            echo "python$version"
            return
        fi
        found=${found:-python$version}
    done
    echo "$found"
}

function package_manager {
    command -v apt-get || command -v dnf || true
}

# How to become root: nothing, "sudo", or "no".
function as_root {
    if [ "$(id -u)" -eq 0 ]; then
        return
    elif command -v sudo >/dev/null \
            && { [ -t 0 ] || sudo -n true 2>/dev/null; }; then
        echo sudo
    else
        echo no
    fi
}

# Install packages, or say how: $1 says what they are for.
function install {
    local why=$1 manager root
    shift
    manager=$(package_manager)
    root=$(as_root)
    if [ -z "$manager" ]; then
        die "$why: install these packages, or what they are called here: $*"
    elif [ -n "${NO_INSTALL:-}" ] || [ "$root" = no ]; then
        die "$why. Install it as root:
    $(basename "$manager") install $*"
    fi
    echo "make: $why: ${root:+$root }$(basename "$manager") install $*"
    if [ "$(basename "$manager")" = apt-get ]; then
        $root apt-get -qq update
        $root env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 \
            install --yes --no-install-recommends "$@" >/dev/null
    else
        $root dnf --quiet install --assumeyes "$@" >/dev/null
    fi
}

# Print the packages of a Python that this system has and Nova supports.
function python_packages {
    local version candidate
    if [ -n "$(command -v apt-get)" ]; then
        if [ -z "${NO_INSTALL:-}" ] && [ "$(as_root)" != no ]; then
            $(as_root) apt-get -qq update >&2
        fi
        for version in $(pythons); do
            candidate=$(apt-cache policy python3)
            if [[ $candidate == *"Candidate: $version."* ]]; then
                echo python3 python3-venv
                return
            fi
        done
        for version in $(pythons); do
            candidate=$(apt-cache policy "python$version")
            if [[ $candidate == *"Candidate: $version."* ]]; then
                echo "python$version python$version-venv"
                return
            fi
        done
    elif [ -n "$(command -v dnf)" ]; then
        for version in $(pythons); do
            if dnf --quiet list "python$version" >/dev/null 2>&1; then
                echo "python$version"
                return
            fi
        done
        echo python3
    fi
}

if [ -z "$python" ]; then
    python=$(find_python)
    if [ -z "$python" ]; then
        packages=$(python_packages)
        if [ -n "$packages" ]; then
            install 'Python is missing' $packages
            python=$(find_python)
        fi
    fi
    if [ -z "$python" ]; then
        die "no Python that the Nova of $constraints supports ($(pythons)) \
was found. Name one: make PYTHON=/path/to/python"
    fi
fi
if ! command -v "$python" >/dev/null; then
    die "$python is not installed. Leave PYTHON out, or name another one."
fi
if ! makes_environments "$python"; then
    if [ -z "$(command -v apt-get)" ]; then
        die "$python cannot make an environment: its module venv is missing."
    fi
    install "the module venv of $python is missing" \
        "$("$python" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])')"
fi

echo "make: $venv with $("$python" --version) for $constraints"
"$python" -m venv --clear "$venv"
pip="$venv/bin/pip --disable-pip-version-check --quiet"
$pip install --upgrade 'setuptools<81' wheel bindep

# netifaces, which Nova 29 and 30 need, has no wheel.
profile=
case "$constraints" in
    *nova-29.txt | *nova-30.txt) profile=compile ;;
esac
# 1: packages are missing. Others: bindep does not know this system.
missing=$("$venv/bin/bindep" --brief --file bindep.txt $profile) \
    && status=0 || status=$?
if [ "$status" -eq 1 ] && [ -n "$missing" ]; then
    install 'system packages are missing' $missing
elif [ "$status" -ne 0 ]; then
    echo "make: bindep does not know this system: bindep.txt names the" \
        "packages that are needed" >&2
fi

$pip install -c "$constraints" \
    -r requirements.txt -r test-requirements.txt -r doc/requirements.txt
$pip install --no-deps --editable .
