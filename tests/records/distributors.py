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

"""Whether the package fits the Nova of distributors.

``python -m tests.records.distributors`` downloads the package of Nova from
each suite of the distribution that this machine runs, compares the code in it
with what the package was tested on, and keeps what it finds in
``data/distributors.json``. Nothing is installed, and what apt knows of this
machine is left alone.

``--show`` prints what a distributor has changed in the callables that differ.
``--accept``, after the functional tests have passed on that code (``--keep``
leaves it in a folder), adds it to what the package was tested on.

Exit status: 0 if all are code that the package was tested on, else 1.
"""

import argparse
import difflib
import json
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import typing

from nova_rescue_ext.activation import verification
from tests.nova_suite import source
from tests.records import store

PACKAGE = 'python3-nova'
# Suites that have or had a Nova from 29 on, oldest first.
SUITES = {
    'debian': ['bookworm-backports', 'trixie', 'trixie-security',
               'trixie-updates', 'trixie-backports', 'forky', 'sid'],
    'ubuntu': ['noble', 'noble-security', 'noble-updates', 'plucky-updates',
               'questing-updates', 'resolute', 'resolute-security',
               'resolute-updates'],
}
KEYRINGS = {'debian': '/usr/share/keyrings/debian-archive-keyring.gpg',
            'ubuntu': '/usr/share/keyrings/ubuntu-archive-keyring.gpg'}


# Prints the release of Nova, and the sources of callables: those that it is
# given, or those that differ from what the package was tested on.
_PRINT_SOURCES = """\
import json, sys
from nova_rescue_ext.activation import verification
release = verification.nova_release()
names = sys.argv[1:] or [
    finding.callable for finding in verification.verify(release)
    if finding.state == verification.DIFFERS]
print(json.dumps([release, {
    name: verification.source_of(name) for name in names}]))
"""


class NotThere(Exception):
    """A suite does not have the package, or cannot be had."""


class Found(typing.NamedTuple):
    """The package of a suite."""

    version: str
    #: the folder in which the package "nova" is
    folder: pathlib.Path


class Archive:
    """The archive that this machine gets its packages from.

    :param distribution: "debian" or "ubuntu"
    :param release: the code name of the release that this machine runs
    """

    def __init__(self, distribution, release):
        self._keyring = KEYRINGS[distribution]
        listed = subprocess.run(
            ['apt-get', 'indextargets', '--format', '$(RELEASE) $(REPO_URI)',
             'Created-By: Packages'],
            check=True, capture_output=True, text=True).stdout
        uris = dict(line.split() for line in listed.splitlines())
        self._main = uris[release]
        self._security = uris.get(release + '-security', self._main)

    def fetch(self, suite, folder):
        """Download and unpack the package of a suite.

        :param folder: an empty one
        :returns: Found
        :raises: NotThere
        """
        uri = self._security if suite.endswith('-security') else self._main
        components = 'main universe' if 'ubuntu' in self._keyring else 'main'
        (folder / 'sources.list').write_text(
            'deb [signed-by=%s] %s %s %s\n' % (
                self._keyring, uri, suite, components))
        for name in ('lists/partial', 'archives/partial', 'unpacked'):
            (folder / name).mkdir(parents=True)
        (folder / 'status').touch()
        _apt(folder, 'update', '--error-on=any')
        _apt(folder, 'download', PACKAGE)
        package, = folder.glob('*.deb')
        subprocess.run(['dpkg-deb', '--extract', package, folder / 'unpacked'],
                       check=True)
        version = subprocess.run(
            ['dpkg-deb', '--field', package, 'Version'],
            check=True, capture_output=True, text=True).stdout.strip()
        return Found(version,
                     folder / 'unpacked/usr/lib/python3/dist-packages')


def _apt(folder, *command):
    """Run apt-get with all that it reads and writes in a folder.

    :raises: NotThere
    """
    options = {'Dir::Etc::SourceList': 'sources.list',
               'Dir::Etc::SourceParts': 'none', 'Dir::State::Lists': 'lists',
               'Dir::State::Status': 'status', 'Dir::Cache': '.',
               'Dir::Cache::Archives': 'archives'}
    arguments = ['--option=%s=%s' % (name, folder / path)
                 for name, path in options.items()]
    done = subprocess.run(
        ['apt-get', '--quiet', '--option=APT::Sandbox::User=root',
         # Descriptions are not needed.
         '--option=Acquire::Languages=none', *arguments, *command],
        cwd=folder, capture_output=True, text=True)
    if done.returncode:
        errors = [line for line in done.stderr.splitlines()
                  if line.startswith('E: ')]
        raise NotThere((errors or ['E: apt-get failed'])[0][3:])


def compare(folder):
    """Compare the Nova in a folder with what the package was tested on.

    :returns: the objections of ``nova-rescue-ext-status overrides``
    """
    done = subprocess.run(
        [sys.executable, '-m', 'nova_rescue_ext.cmd.status', 'overrides'],
        cwd=store.ROOT, env=dict(os.environ, PYTHONPATH=str(folder)),
        capture_output=True, text=True)
    if done.returncode == 0:
        return []
    return [line[2:] for line in done.stdout.splitlines()
            if line.startswith('* ')] or [(done.stdout + done.stderr).strip()]


def differing(folder):
    """The callables in a folder that the package was not tested on.

    :returns: the release of Nova, and dict, callable -> its source
    """
    return _print_sources(folder)


def _print_sources(folder, *names):
    return json.loads(subprocess.run(
        [sys.executable, '-c', _PRINT_SOURCES, *names],
        cwd=store.ROOT, env=dict(os.environ, PYTHONPATH=str(folder)),
        check=True, capture_output=True, text=True).stdout)


def show(folder):
    """Print how callables in a folder differ from those of the release."""
    release, patched = differing(folder)
    if not patched:
        return
    _, released = _print_sources(source.unpacked(release), *patched)
    for name, text in patched.items():
        print('\n'.join(difflib.unified_diff(
            released[name].splitlines(), text.splitlines(),
            'Nova %s: %s' % (release, name), 'patched', lineterm='')))


def accept(folder, label):
    """Add what differs to what the package was tested on.

    :param label: what has it, for example "2:34.0.0-4 of Debian"
    """
    release, patched = differing(folder)
    path = pathlib.Path(verification.DIGESTS) / verification.DISTRIBUTORS
    content = json.loads(path.read_text())
    known = content.setdefault(verification.series_of(release), {})
    for name, text in patched.items():
        known.setdefault(name, {})[verification.digest(text)] = label
    path.write_text(json.dumps(content, indent=1, sort_keys=True) + '\n')


def look(archive, suites, act=lambda folder, version: None):
    """Look at the packages of suites.

    :param act: called with the folder and the version of each that differs
    :returns: what is kept, a list of dicts
    """
    found = {}
    for suite in suites:
        with tempfile.TemporaryDirectory(prefix='nova-distributor-') as folder:
            try:
                package = archive.fetch(suite, pathlib.Path(folder))
            except NotThere as exc:
                print('%s: %s' % (suite, exc), flush=True)
                continue
            if package.version in found:
                found[package.version]['suites'].append(suite)
                continue
            objections = compare(package.folder)
            if objections:
                act(package.folder, package.version)
        found[package.version] = {
            'version': package.version, 'suites': [suite],
            'objections': objections, 'date': store.today(),
            'commit': store.commit()}
        print('%s: %s: %s' % (suite, package.version, '; '.join(
            objections) or 'as tested'), flush=True)
    return list(found.values())


def main():
    parser = argparse.ArgumentParser(
        prog='python -m tests.records.distributors')
    parser.add_argument('suite', nargs='*', help='all known ones if none')
    parser.add_argument('--show', action='store_true',
                        help='print what differs')
    parser.add_argument('--keep', metavar='FOLDER', type=pathlib.Path,
                        help='leave the code of those that differ there, each '
                        'in a folder that is named after the version')
    parser.add_argument('--accept', action='store_true',
                        help='add what differs to what the package was tested '
                        'on')
    arguments = parser.parse_args()
    system = platform.freedesktop_os_release()
    distribution, release = system['ID'], system.get('VERSION_CODENAME')
    if distribution not in SUITES:
        parser.error('this looks at %s, on a machine that runs it' % (
            ' and '.join(SUITES)))

    def act(folder, version):
        if arguments.show:
            show(folder)
        if arguments.keep:
            shutil.copytree(folder, arguments.keep / version)
        if arguments.accept:
            accept(folder, '%s of %s' % (version, distribution.capitalize()))

    packages = look(Archive(distribution, release),
                    arguments.suite or SUITES[distribution], act)
    if not arguments.suite:
        kept = store.load('distributors')
        kept[distribution] = packages
        store.save('distributors', kept)
    return int(any(package['objections'] for package in packages))


if __name__ == '__main__':
    sys.exit(main())
