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

import io
import os
import pathlib
import sys
import zipfile

import fixtures
import testtools

ROOT = pathlib.Path(__file__).parents[2]

BEFORE = '''
class Api:

    def rescue(self):
        return 1

    def unrescue(self):
        return 1


def helper():
    pass
'''
AFTER = '''
class Api:

    def rescue(self):
        return 2 < 3

    def unrescue(self):
        return 1


def helped():
    pass
'''
CONSTRAINTS = '''\
# Nova 34.0.0 (2026.2) and all that its own tests and ours need.
# Nova 34 needs SQLAlchemy < 2.1.
alembic==1.20.1
nova==34.0.0
openstack-placement==16.0.0
oslo.config==9.0.0
ours-only==1.0
setuptools<81
'''


class NewNovaTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        tools = str(ROOT / 'tools')
        self.useFixture(fixtures.MonkeyPatch('sys.path', [tools] + sys.path))
        import make_digests
        import new_nova
        self.make_digests, self.tool = make_digests, new_nova
        self.folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        for name in ('constraints', 'digests'):
            (self.folder / name).mkdir()
        for name, value in (
                ('make_digests.ROOT', str(self.folder)),
                ('make_digests.verification.DIGESTS',
                 str(self.folder / 'digests')),
                ('make_digests.overrides', lambda: {
                    'nova.api:Api.rescue': 'nova_rescue_ext.api:rescue'}),
                ('make_digests.relied_on.CALLABLES', [
                    'nova.api:Api.unrescue', 'nova.api:helper',
                    'nova.api:helped', 'nova.later:later']),
                ('make_digests.releases_of', self.releases_of)):
            self.useFixture(fixtures.MonkeyPatch(name, value))
        self.output = io.StringIO()
        self.useFixture(fixtures.MonkeyPatch('sys.stdout', self.output))
        self.registry = {'33.0.0': BEFORE, '34.0.0': BEFORE, '34.0.1': AFTER}
        for release, source in self.registry.items():
            with zipfile.ZipFile(self.wheel(release), 'w') as files:
                files.writestr('nova/api.py', source)
        self.constraints = self.folder / 'constraints/nova-34.txt'
        self.constraints.write_text(CONSTRAINTS)
        self.report = self.folder / 'report.html'

    def wheel(self, release):
        return self.folder / ('nova-%s-py3-none-any.whl' % release)

    def releases_of(self, project):
        return (sorted(self.registry) if project == 'nova'
                else ['15.0.0', '16.0.0'])

    def take_in(self, series='34', upper=None):
        return self.tool.take_in(series, str(self.folder), str(self.report),
                                 upper)

    def digests(self, series):
        return self.make_digests.read(self.make_digests.path_of(series))

    def know(self, series, *releases):
        everything = dict(self.registry)
        self.registry = {release: everything[release] for release in releases}
        self.make_digests.write(series, self.make_digests.digests(
            series, str(self.folder)))
        self.registry = everything

    def test_point_release(self):
        self.know('34', '34.0.0')
        self.assertTrue(self.take_in())
        self.assertEqual(['34.0.0', '34.0.1'], self.digests('34')['releases'])
        self.assertEqual(
            {'34.0.0', '34.0.1'},
            set(self.digests('34')['callables'][
                'nova.api:Api.rescue'].values()))
        text = self.output.getvalue()
        self.assertIn('changed: nova.api:Api.rescue '
                      '(nova_rescue_ext.api:rescue)', text)
        self.assertIn('gone: nova.api:helper (relied on)', text)
        self.assertIn('new: nova.api:helped (relied on)', text)
        self.assertNotIn('unrescue', text)
        self.assertNotIn('later', text)
        page = self.report.read_text()
        self.assertIn('2 &lt; 3', page.replace('<span class="diff_add">', '')
                      .replace('<span class="diff_chg">', '')
                      .replace('</span>', ''))
        self.assertNotIn('33.0.0', page)

    def test_constraints_of_a_point_release(self):
        self.know('34', '34.0.0')
        self.take_in()
        self.assertEqual(
            CONSTRAINTS.replace('34.0.0', '34.0.1'),
            self.constraints.read_text())

    def test_nothing_new(self):
        self.know('34', '34.0.0', '34.0.1')
        before = self.digests('34')
        self.assertFalse(self.take_in())
        self.assertEqual(before, self.digests('34'))
        self.assertEqual(CONSTRAINTS, self.constraints.read_text())
        self.assertFalse(self.report.exists())

    def test_taken_out_and_brought_back(self):
        self.know('34', '34.0.0', '34.0.1')
        path = self.make_digests.path_of('34')
        with open(path) as text:
            before = text.read()
        self.know('34', '34.0.0')
        with open(path) as text:
            self.assertNotEqual(before, text.read())
        self.take_in()
        with open(path) as text:
            self.assertEqual(before, text.read())

    def test_new_series(self):
        self.know('33', '33.0.0')
        (self.folder / 'constraints/nova-33.txt').write_text(CONSTRAINTS)
        os.remove(self.constraints)
        upper = self.folder / 'upper.txt'
        upper.write_text("alembic===1.21.0\noslo_config===9.1.0;python_version"
                         "=='3.13'\nunused===1\n")
        self.assertTrue(self.take_in(upper=str(upper)))
        self.assertIn('33.0.0 to 34.0.0', self.output.getvalue())
        self.assertIn('34.0.0 to 34.0.1', self.output.getvalue())
        self.assertIn(': ours-only\n', self.output.getvalue())
        lines = [line for line in self.constraints.read_text().splitlines()
                 if not line.startswith('#')]
        self.assertEqual(
            ['alembic==1.21.0', 'nova==34.0.1', 'openstack-placement==16.0.0',
             'oslo.config==9.1.0', 'ours-only==1.0', 'setuptools<81'], lines)

    def test_new_series_without_upper_constraints(self):
        os.remove(self.constraints)
        self.assertRaises(SystemExit, self.take_in)
        self.assertEqual({}, self.digests('34'))
