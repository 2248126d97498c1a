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

import pathlib
import shutil

import fixtures
import nova
import testtools

from nova_rescue_ext.activation import verification
from tests.records import distributors

VERSIONS = {'old': '29.0.0-1', 'new': '34.0.0-1', 'newer': '34.0.0-1'}


class _Archive:

    def fetch(self, suite, folder):
        if suite == 'none':
            raise distributors.NotThere('Unable to locate package')
        (folder / 'nova').mkdir()
        return distributors.Found(VERSIONS[suite], folder)


class LookTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        for name, value in (
                ('store.commit', lambda *paths: 'one'),
                ('store.today', lambda: '2026-11-28'),
                ('distributors.compare', self.compare)):
            self.useFixture(fixtures.MonkeyPatch(
                'tests.records.' + name, value))
        self.objections = {}
        self.compared = 0

    def compare(self, folder):
        self.assertTrue((folder / 'nova').is_dir())
        self.compared += 1
        return self.objections.get(self.compared, [])

    def test_look(self):
        self.objections = {1: ['3 callables differ']}
        self.assertEqual(
            [{'version': '29.0.0-1', 'suites': ['old'],
              'objections': ['3 callables differ'], 'date': '2026-11-28',
              'commit': 'one'},
             {'version': '34.0.0-1', 'suites': ['new', 'newer'],
              'objections': [], 'date': '2026-11-28', 'commit': 'one'}],
            distributors.look(_Archive(), ['old', 'none', 'new', 'newer']))
        self.assertEqual(2, self.compared)


class CompareTestCase(testtools.TestCase):
    """With a copy of the installed Nova, as a distributor's is unpacked."""

    RELIED_ON = 'nova/api/openstack/compute/rescue.py'
    CALLABLE = 'nova.api.openstack.compute.rescue:RescueController._rescue'

    def test_compare(self):
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        shutil.copytree(
            pathlib.Path(nova.__file__).parent, folder / 'nova',
            ignore=shutil.ignore_patterns('tests', '*.pyc', 'locale'))
        self.assertEqual([], distributors.compare(folder))
        path = folder / self.RELIED_ON
        source = path.read_text()
        patched = source.replace('def _rescue(self, req, id, body):\n',
                                 'def _rescue(self, req, id, body):\n\n')
        self.assertNotEqual(source, patched)
        path.write_text(patched)
        objections = distributors.compare(folder)
        self.assertIn('RescueController._rescue', ''.join(objections))
        self.accept(folder)

    def accept(self, folder):
        digests = self.useFixture(fixtures.TempDir()).join('digests')
        shutil.copytree(verification.DIGESTS, digests)
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.activation.verification.DIGESTS', digests))
        release, patched = distributors.differing(folder)
        self.assertEqual(verification.nova_release(), release)
        self.assertEqual([self.CALLABLE], list(patched))
        distributors.accept(folder, '1-1 of Debian')
        verification.forget_sources()
        self.addCleanup(verification.forget_sources)
        known = verification.load_digests(verification.series_of(release))
        self.assertEqual(
            '1-1 of Debian',
            known[self.CALLABLE][verification.digest(patched[self.CALLABLE])])
