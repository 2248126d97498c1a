# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""What the lab needs from Debian and from PyPI."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

from tests.lab.cloud import process
from tests.lab.cloud import settings

_HERE = settings.CHECKOUT / 'tests/lab'
_PYTHON = '/usr/bin/python3'
_PACKAGES = _HERE / 'packages.txt'
_REQUIREMENTS = _HERE / 'requirements.txt'
_HYPERVISOR = _HERE / 'requirements-hypervisor.txt'
_CONSTRAINTS = _HERE / 'constraints.txt'


def install(older=()):
    """Install what is missing; quick where nothing is.

    :param older: the series of Nova that hypervisors are to have as well,
        as "33"
    """
    missing = _missing_packages()
    if missing:
        _install_packages(missing)
    make_venv(settings.VENV, _REQUIREMENTS)
    _link_ceph(settings.VENV)
    for series in older:
        venv = settings.older_venv(series)
        make_venv(venv, _HYPERVISOR, _constraints_of(series))
        _link_ceph(venv)


def _constraints_of(series):
    """The numbers of a series, and the lab's for all that has none there."""
    numbers = {}
    for path in (_CONSTRAINTS,
                 settings.CHECKOUT / f'constraints/nova-{series}.txt'):
        for line in path.read_text().splitlines():
            name = re.match(r'[\w.-]+', line)
            if name:
                numbers[re.sub(r'[-_.]+', '-', name[0].lower())] = line
    return '\n'.join(numbers.values()) + '\n'


def _call(*argv, **kwargs):
    """Run an installer with its output shown: it can take minutes."""
    print('$', *argv, flush=True)
    subprocess.run([str(arg) for arg in argv], check=True, **kwargs)


def _missing_packages():
    wanted = [line.split('#')[0].strip()
              for line in _PACKAGES.read_text().splitlines()]
    wanted = [name for name in wanted if name]
    listing = subprocess.run(
        ['dpkg-query', '-W', '-f', '${Package} ${db:Status-Status}\n'],
        stdout=subprocess.PIPE, text=True, check=True).stdout
    installed = {line.split()[0] for line in listing.splitlines()
                 if line.endswith(' installed')}
    return [name for name in wanted if name not in installed]


def _install_packages(names):
    if os.geteuid() != 0:
        raise SystemExit('Missing Debian packages; as root run:\n'
                         f'apt-get install {" ".join(names)}')
    # The lab starts its own daemons with its own files. Debian's packages
    # must not start theirs, which would stay behind.
    policy = pathlib.Path('/usr/sbin/policy-rc.d')
    ours = not policy.exists()
    if ours:
        policy.write_text('#!/bin/sh\nexit 101\n')
        policy.chmod(0o755)
    env = {**os.environ, 'DEBIAN_FRONTEND': 'noninteractive'}
    try:
        _call('apt-get', 'update', env=env)
        _call('apt-get', 'install', '-y', '--no-install-recommends', *names,
              env=env)
    finally:
        if ours:
            policy.unlink()


def make_venv(venv, requirements, constraints=None):
    """A virtual environment with exactly the committed versions.

    :param venv: its path
    :param requirements: the path of the file that names what is in it
    :param constraints: the versions, as text; the lab's if None
    """
    if constraints is None:
        constraints = _CONSTRAINTS.read_text()
    stamp = venv / 'installed'
    recipe = requirements.read_text() + constraints
    if stamp.exists() and stamp.read_text() == recipe:
        return
    if not (venv / 'bin/pip').exists():
        _call(_PYTHON, '-m', 'venv', venv)
    pip = venv / 'bin/pip'
    numbers = venv / 'constraints.txt'
    numbers.write_text(constraints)
    _call(pip, 'install', '-q', '-c', numbers, '-U', 'pip', 'wheel',
          'setuptools')
    _call(pip, 'install', '-q', '-c', numbers, '-r', requirements)
    stamp.write_text(recipe)


def _link_ceph(venv):
    """Ceph's Python modules are in no registry; take Debian's two."""
    site = next((venv / 'lib').glob('python3*/site-packages'))
    for module in ('rados', 'rbd'):
        source = next(pathlib.Path('/usr/lib/python3/dist-packages').glob(
            f'{module}.cpython-*.so'), None)
        if source is None:
            raise process.LabError(f'python3-{module} has no module')
        target = site / source.name
        if not target.exists():
            target.symlink_to(source)


def install_package(venv=settings.VENV):
    """Install the checkout as a deployer would: pip, into Nova's venv.

    Its wheel stays for install_wheel().

    :param venv: another environment, for the tools of deployers
    """
    copy = settings.ROOT / 'package'
    shutil.rmtree(settings.WHEELS, ignore_errors=True)
    shutil.rmtree(copy, ignore_errors=True)
    # Building in the checkout would leave its files there.
    shutil.copytree(settings.CHECKOUT, copy, symlinks=True,
                    ignore=shutil.ignore_patterns(
                        '.tox', '.stestr', '.venv*', '.explorer', '.mutants',
                        'build', '*.egg-info', '__pycache__'))
    pip = venv / 'bin/pip'
    try:
        _call(pip, 'wheel', '-q', '--no-deps', '-w', settings.WHEELS, copy)
    finally:
        shutil.rmtree(copy)
    _call(pip, 'install', '-q', '-c', _CONSTRAINTS, _wheel())
    install_wheel(venv)


def install_wheel(venv):
    """Put the package, as the lab has it, into an environment; needs no net.

    :param venv: the path of the environment
    """
    # pip keeps a package whose version is the same.
    process.run(venv / 'bin/pip', 'install', '-q', '--no-index', '--no-deps',
                '--force-reinstall', _wheel())


def _wheel():
    (wheel,) = settings.WHEELS.glob('*.whl')
    return wheel


def main(older=()):
    """Install, and say in one line what stands in the way.

    :param older: as for install()
    """
    try:
        install(older)
    except (process.LabError, subprocess.CalledProcessError) as exc:
        sys.exit(str(exc))
