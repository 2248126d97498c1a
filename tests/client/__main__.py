# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""The openstack command of several releases against the embedded cloud.

``python -m tests.client [RELEASE ...]`` makes an environment for each, with
OpenStackClient and the plugin and without Nova, and tells the stories of
tests.client.stories there; then OpenStackClient's own functional test of what
a server can be asked to do. The embedded cloud runs in the environment that
this is called in.
"""

import argparse
import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import venv

from tests.client import cloud

_ROOT = pathlib.Path(__file__).parents[2]
# What belonged together. The newest of openstacksdk has left the oldest
# clients behind.
_RELEASES = {
    '2024.1': ['python-openstackclient==6.6.*', 'openstacksdk==3.0.*'],
    '2024.2': ['python-openstackclient==7.1.*', 'openstacksdk==4.0.*'],
    '2025.2': ['python-openstackclient==8.2.*', 'openstacksdk==4.7.*'],
    'newest': ['python-openstackclient'],
}
_OWN_TEST = ('openstackclient.tests.functional.compute.v2.test_server.'
             'ServerTests.test_server_actions')


def _make_venv(folder, requirements):
    """Make an environment with the plugin.

    :returns: the folder of its commands
    """
    if not (folder / 'bin/pip').exists():
        venv.create(folder, with_pip=True)
    pip = [folder / 'bin/pip', '--disable-pip-version-check', '--quiet',
           'install']
    with tempfile.TemporaryDirectory() as sources:
        _copy_checkout(sources)
        variables = dict(os.environ, PBR_VERSION=importlib.metadata.version(
            'nova-rescue-ext'))
        # OpenStackClient's own tests need Tempest.
        subprocess.run([*pip, '%s[client]' % sources, *requirements,
                        'tempest'], check=True, env=variables)
        # A checkout that has changed may have kept its version.
        subprocess.run([*pip, '--force-reinstall', '--no-deps', sources],
                       check=True, env=variables)
    return folder / 'bin'


def _copy_checkout(folder):
    """Copy what is to be installed.

    pip leaves files in the folder that it installs from, and the embedded
    cloud would take them for the metadata of the package.
    """
    names = subprocess.run(
        ['git', 'ls-files', '-z', '--cached', '--others',
         '--exclude-standard'], cwd=_ROOT, stdout=subprocess.PIPE, text=True,
        check=True).stdout.split('\0')
    for name in filter(None, names):
        if (_ROOT / name).is_file():
            copy = pathlib.Path(folder, name)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(_ROOT / name, copy)


def _check_venv(commands):
    """:raises: SystemExit if there is a Nova, or something does not fit"""
    python = commands / 'python'
    if subprocess.run([python, '-c', 'import nova'],
                      stderr=subprocess.DEVNULL).returncode == 0:
        sys.exit('The plugin has brought Nova along.')
    subprocess.run([python, '-m', 'pip', 'check'], check=True)


def _run_stories(commands):
    """:returns: whether they hold"""
    return subprocess.run(
        [sys.executable, '-m', 'unittest', '-v', 'tests.client.stories'],
        cwd=_ROOT, env=cloud.environment(commands)).returncode == 0


def _run_own_test(commands):
    """:returns: whether OpenStackClient's own test passes"""
    with cloud.Cloud() as running, tempfile.TemporaryDirectory() as folder:
        running.upload_image('cirros-0.6.3-x86_64-disk')
        # It takes no option from the environment.
        running.write_clouds(os.path.join(folder, 'clouds.yaml'),
                             devstack='alice', **{
                                 'devstack-admin': 'operator'})
        return subprocess.run(
            [commands / 'python', '-m', 'unittest', '-v', _OWN_TEST],
            cwd=folder, env=cloud.environment(commands)).returncode == 0


def main():
    parser = argparse.ArgumentParser(prog='python -m tests.client')
    parser.add_argument('releases', nargs='*', metavar='RELEASE',
                        default=list(_RELEASES),
                        help='of %s; default: all' % ', '.join(_RELEASES))
    parser.add_argument('--folder',
                        # Commands are run from elsewhere.
                        type=lambda path: pathlib.Path(path).absolute(),
                        default=_ROOT / '.venv-client',
                        help='for the environments')
    arguments = parser.parse_args()
    results = {}
    for release in arguments.releases:
        print('\nOpenStackClient %s' % release, flush=True)
        commands = _make_venv(arguments.folder / release, _RELEASES[release])
        _check_venv(commands)
        results[release] = {'stories': _run_stories(commands),
                            'own test': _run_own_test(commands)}
    for release, result in results.items():
        print('%s: %s' % (release, ', '.join(
            '%s %s' % (name, 'passed' if passed else 'FAILED')
            for name, passed in result.items())))
    return not all(passed for result in results.values()
                   for passed in result.values())


if __name__ == '__main__':
    sys.exit(main())
