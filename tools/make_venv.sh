#!/usr/bin/env bash
# Make the environment of "make demo", "make test" and "make bench".
#
#   tools/make_venv.sh PYTHON VENV CONSTRAINTS
#
# Says which system packages are missing, from bindep.txt.

set -euo pipefail

python=$1
venv=$2
constraints=$3

function die {
    printf '\nmake: %s\n' "$@" >&2
    exit 1
}

if ! command -v "$python" >/dev/null; then
    die "$python is not installed. On Debian and Ubuntu:
    sudo apt-get install python3.11 python3.11-venv
or name another one, Python 3.11 or newer: make PYTHON=/path/to/python"
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    die "$python cannot make an environment: its venv module is missing. On \
Debian and Ubuntu:
    sudo apt-get install python3.11-venv"
fi

echo "Making $venv with $("$python" --version) for $constraints ..."
"$python" -m venv --clear "$venv"
pip="$venv/bin/pip --disable-pip-version-check --quiet"
$pip install --upgrade 'setuptools<81' wheel bindep

# 1: packages are missing. Others: bindep does not know this system.
missing=$("$venv/bin/bindep" --brief --file bindep.txt) && status=0 || status=$?
if [ "$status" -eq 1 ] && [ -n "$missing" ]; then
    die "system packages are missing (bindep.txt). On Debian and Ubuntu:
    sudo apt-get install $(echo $missing)"
fi

$pip install -c "$constraints" \
    -r requirements.txt -r test-requirements.txt -r doc/requirements.txt
$pip install --no-deps --editable .
