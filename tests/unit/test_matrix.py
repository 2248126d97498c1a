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
import pathlib

import fixtures
import testtools

from nova_rescue_ext.activation import verification
from tests.matrix import places
from tests.matrix import recorded
from tests.nova_suite import runner
from tests.nova_suite import slices
from tests.nova_suite import worker
from tests.records import store

OLD = places.Place('29', '3.10', False)
NEW = places.Place('34', '3.13', True)
TESTS = {'tests.functional.test_a': ['tests.functional.test_a.T.test_%d' % n
                                     for n in range(4)]}
ONE, TWO, THREE, FOUR = TESTS['tests.functional.test_a']


class PlacesTestCase(testtools.TestCase):

    def test_places(self):
        found = places.places()
        self.assertEqual(set(verification.SERIES),
                         {place.series for place in found})
        self.assertIn(OLD, found)
        self.assertIn(NEW, found)
        self.assertNotIn(OLD._replace(native=True), found)
        self.assertEqual(len(found), len(set(found)))

    def test_release(self):
        for place in places.places():
            self.assertTrue(place.release.startswith(place.series + '.'))

    def test_find_python(self):
        home = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.make(home / 'versions/3.99.1/bin/python3.99', 'exit 0')
        self.make(home / 'versions/3.9.9/bin/python3.9', 'exit 0')
        self.assertEqual(str(home / 'versions/3.99.1/bin/python3.99'),
                         places.find_python('3.99', home))
        self.assertRaises(places.Missing, places.find_python, '3.98', home)
        self.useFixture(fixtures.EnvironmentVariable('PATH', str(home)))
        # As pyenv's own, for a version that is not chosen.
        self.make(home / 'python3.99', 'exit 127')
        self.assertEqual(str(home / 'versions/3.99.1/bin/python3.99'),
                         places.find_python('3.99', home))
        self.make(home / 'python3.99', 'exit 0')
        self.assertEqual(str(home / 'python3.99'),
                         places.find_python('3.99', home))

    @staticmethod
    def make(path, command):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('#!/bin/sh\n%s\n' % command)
        path.chmod(0o755)


class RecordedTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.useFixture(fixtures.MonkeyPatch(
            'tests.records.store.DATA', folder))
        self.commit = 'one'
        #: the outcomes of each run, by id
        self.outcomes = [{}, {}]
        self.runs = []
        for name, value in (
                ('records.store.commit', lambda *paths: self.commit),
                ('records.store.today', lambda: '2026-11-28'),
                ('matrix.places.Place.make',
                 lambda place, folder: folder / 'python'),
                ('nova_suite.runner.find', lambda *args: {
                    'tests': TESTS, 'not_imported': {
                        'tests.functional.test_b': 'SkipTest: no',
                        'tests.functional.test_c': 'ImportError: no'}}),
                ('nova_suite.runner.Run', self._run)):
            self.useFixture(fixtures.MonkeyPatch('tests.' + name, value))

    def _run(self, tests, active, log, setting):
        self.assertFalse(active)
        self.assertEqual('/environments/python', setting.python)
        self.runs.append(tests)
        outcomes = self.outcomes.pop(0)

        class Run:
            pass

        Run.outcomes = {name: outcomes.get(name, runner.Outcome(
            worker.SUCCESS)) for names in tests.values() for name in names}
        return Run

    def run_slice(self, place, text):
        return recorded.run(place, slices.parse(text),
                            pathlib.Path('/environments'), 1, io.StringIO())

    def test_what_is_kept(self):
        failed = runner.Outcome(worker.FAILURE)
        self.outcomes = [
            {ONE: failed, TWO: runner.Outcome(runner.LOST),
             THREE: runner.Outcome(worker.SKIP, 'Nova has it not.\n')},
            {ONE: failed}]
        result = self.run_slice(OLD, '1/1')
        self.assertEqual({'tests.functional.test_c': 'ImportError: no'},
                         result['broken'])
        content = store.load('functional-' + OLD.release)
        self.assertEqual(
            {'python': '3.10', 'threads': 'eventlet', 'slices': 1,
             'skipped': {'tests.functional.test_b': 'SkipTest: no'},
             'broken': {'tests.functional.test_c': 'ImportError: no'},
             'parts': {'1': {
                 'passed': 2, 'failed': [ONE], 'unsteady': [TWO],
                 'skipped': {'Nova has it not.': 1}, 'commit': 'one',
                 'date': '2026-11-28'}}},
            content['runs']['Python 3.10, eventlet'])
        self.assertEqual([ONE, TWO], self.runs[1]['tests.functional.test_a'])

    def test_next(self):
        part = slices.parse('next/2')
        found = []
        for _ in range(4):
            place, due = recorded.find_next([NEW, OLD], part)
            found.append((place, due.number))
            self.outcomes = [{}, {}]
            self.run_slice(place, str(due))
        self.assertEqual([(NEW, 1), (NEW, 2), (OLD, 1), (OLD, 2)], found)
        self.assertEqual((None, None), recorded.find_next([NEW, OLD], part))
        self.commit = 'two'
        self.assertEqual((NEW, slices.Slice(1, 2)),
                         recorded.find_next([NEW, OLD], part))

    def test_another_number_of_slices(self):
        self.run_slice(OLD, '1/2')
        self.outcomes = [{}, {}]
        self.run_slice(OLD, '3/4')
        run = store.load('functional-' + OLD.release)['runs'][
            'Python 3.10, eventlet']
        self.assertEqual((4, ['3']), (run['slices'], list(run['parts'])))
