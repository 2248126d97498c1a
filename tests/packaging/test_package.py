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

"""The sdist and the wheel that are made of what is committed."""

import configparser
import email
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import zipfile

import fixtures
import testtools
from testtools import matchers

ROOT = pathlib.Path(__file__).parents[2]
SERIES = range(29, 35)


def run(*command, cwd=ROOT):
    # In an isolated build there is no reno, which fails in a shallow clone.
    done = subprocess.run(command, cwd=cwd, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT,
                          env=dict(os.environ, SKIP_GENERATE_RENO='1'))
    if done.returncode:
        raise AssertionError(f'{command}\n{done.stdout[-5000:]}')
    return done.stdout.strip()


def wanted():
    """The version that is going to be released."""
    config = configparser.ConfigParser()
    config.read(ROOT / 'setup.cfg')
    return config['metadata']['version']


class Package:
    """A wheel, and the sdist that it was made of."""

    def __init__(self, tree):
        run(sys.executable, '-m', 'build', '--no-isolation', tree)
        self.sdist, = (tree / 'dist').glob('*.tar.gz')
        self.wheel, = (tree / 'dist').glob('*.whl')
        with zipfile.ZipFile(self.wheel) as archive:
            self.files = archive.namelist()
            name, = (each for each in self.files
                     if each.endswith('.dist-info/METADATA'))
            self.metadata = email.message_from_bytes(archive.read(name))

    @property
    def files_but_metadata(self):
        return [name for name in self.files if '.dist-info/' not in name]

    @property
    def version(self):
        return self.metadata['Version']


class PackageTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.clone = self.folder / 'clone'
        run('git', 'clone', '--quiet', str(ROOT), str(self.clone))

    def tag(self):
        run('git', '-c', 'user.name=nobody', '-c', 'user.email=nobody', 'tag',
            '--annotate', '--message=', wanted(), cwd=self.clone)

    def shallow(self):
        tree = self.folder / 'shallow'
        run('git', 'clone', '--quiet', '--depth=1', self.clone.as_uri(),
            str(tree))
        return tree

    def archive(self):
        archive = self.folder / 'archive.tar'
        tree = self.folder / 'archive'
        run('git', 'archive', '--output', str(archive), 'HEAD',
            cwd=self.clone)
        with tarfile.open(archive) as tar:
            tar.extractall(tree)
        return tree

    def test_between_releases(self):
        coming = re.escape(wanted())
        package = Package(self.clone)
        self.assertThat(package.version, matchers.MatchesRegex(
            rf'{coming}\.dev[1-9]\d*$'))
        self.assertEqual(f'{wanted()}.dev1', Package(self.shallow()).version)
        archived = Package(self.archive())
        self.assertEqual(f'{wanted()}.dev1', archived.version)
        self.check(package)
        self.check(archived)
        self.assertEqual(package.files_but_metadata,
                         archived.files_but_metadata)

    def test_release(self):
        self.tag()
        package = Package(self.clone)
        self.assertEqual(wanted(), package.version)
        self.assertEqual(wanted(), Package(self.shallow()).version)
        self.assertEqual(wanted(), Package(self.archive()).version)

    def check(self, package):
        """Upload would be accepted, and the wheel has what it needs."""
        run(sys.executable, '-m', 'twine', 'check', '--strict',
            str(package.sdist), str(package.wheel))
        for series in SERIES:
            self.assertIn('nova_rescue_ext/activation/digests/'
                          f'nova-{series}.json', package.files)
        self.assertEqual([], [
            name for name in package.files
            if not name.startswith(('nova_rescue_ext/', 'nova_rescue_ext-'))])
        links = [link.split(', ')[0]
                 for link in package.metadata.get_all('Project-URL')]
        self.assertIn('Source', links)
        self.assertIn('Bug tracker', links)
        self.assertIn('text/x-rst',
                      package.metadata['Description-Content-Type'])
        self.assertIn('Install', package.metadata.get_payload())
