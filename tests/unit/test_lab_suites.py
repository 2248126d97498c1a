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

"""What the page with the results of the lab's suites makes of them."""

import pathlib

import fixtures
import testtools

from tests.lab.cloud import process
from tests.lab.cloud import tempest
from tests.lab.suites import page
from tests.lab.suites import rally
from tests.lab.suites import record
from tests.records import store


class SuitesTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.folder = pathlib.Path(
            self.useFixture(fixtures.TempDir()).path)
        self.explained = self.folder / 'explained.txt'
        self.explained.touch()
        for name, value in (('records.store.DATA', self.folder),
                            ('records.store.today', lambda: '2026-11-28'),
                            ('lab.suites.page.EXPLAINED', self.explained)):
            self.useFixture(fixtures.MonkeyPatch('tests.' + name, value))

    @staticmethod
    def save(suite, cloud, commit='a1', **found):
        record.save(suite, cloud, found, commit=commit, profile='raw')


class RecordTest(SuitesTestCase):

    def test_what_is_kept(self):
        record.save('rally', record.ON, {
            'a.Test.test_y[id-2,slow]': 'success',
            'a.Test.test_x[id-1]': 'success', 'a.Test.test_z': 'fail'},
            commit='a1', profile='raw')
        run = store.load('lab-suites')['rally'][record.ON]
        self.assertEqual(
            {'commit': 'a1', 'profile': 'raw', 'date': '2026-11-28',
             'results': {'success': ['a.Test.test_x', 'a.Test.test_y'],
                         'fail': ['a.Test.test_z']}}, run)
        self.assertEqual('fail', record.results(run)['a.Test.test_z'])

    def test_goes_on_with_what_was_never_run(self):
        pairs = [('rally', cloud) for cloud in record.CLOUDS]
        self.save('rally', record.OFF, 'a1')
        self.save('rally', record.ON, 'b2')
        self.assertEqual(
            [('rally', record.LATEST), ('rally', record.OFF)],
            record.due(pairs, 'b2'))


class PageTest(SuitesTestCase):

    def rows(self):
        return [[cell.strip() for cell in row.split('\n     -')]
                for row in page.page().replace('   * - ', '\n\n').split(
                    '\n\n') if '\n     -' in row]

    def test_is_that_of_the_data(self):
        self.useFixture(fixtures.MonkeyPatch(
            'tests.records.store.DATA', store.ROOT / 'tests/records/data'))
        self.useFixture(fixtures.MonkeyPatch(
            'tests.lab.suites.page.EXPLAINED',
            store.ROOT / 'tests/lab/suites/explained.txt'))
        self.assertEqual(
            page.page(), page.PAGE.read_text(),
            'Run "python -m tests.records.page" and commit the page.')

    def test_not_run(self):
        self.save('rally', record.ON, test_x='success', test_y='skip')
        self.assertIn(['Rally', 'with the package', '1', '0', '1',
                       'raw', '2026-11-28', 'a1'], self.rows())
        self.assertIn(['Rally', 'without the package', 'not run', '', '', '',
                       '', ''], self.rows())
        self.assertIn(['``test_x``', 'success', ''], self.rows())
        self.assertEqual([], page.wrong())

    def test_same(self):
        """A test that fails on each cloud is no fault of the package."""
        for cloud in record.CLOUDS:
            self.save('rally', cloud, test_x='success', test_y='fail')
        self.assertIn(['``test_y``', 'fail', 'fail', 'fail', ''], self.rows())
        self.assertEqual([], page.wrong())

    def test_difference(self):
        self.save('rally', record.OFF, test_x='success', test_y='fail')
        self.save('rally', record.LATEST, test_x='success')
        self.assertEqual(['rally: test_y: fail, absent'], page.wrong())
        self.assertIn(['``test_y``', '**fail**', '**absent**', ''],
                      self.rows())

    def test_explained_difference(self):
        self.explained.write_text('# comment\na.Test.test_y: It has to.\n')
        for cloud, result in ((record.OFF, 'fail'), (record.ON, 'success')):
            self.save('rally', cloud, **{'a.Test.test_y': result})
        self.assertEqual([], page.wrong())
        self.assertIn(['``a.Test.test_y``', '**fail**', '**success**',
                       'It has to.'], self.rows())

    def test_failure_where_nothing_is_compared(self):
        self.save('plugin', record.ON, test_x='fail', test_y='skip')
        self.assertEqual(['plugin: test_x: fail'], page.wrong())


class EndTest(testtools.TestCase):

    WANTED = ('a.Test.test_x[id-1]', 'a.Test.test_y[id-2,slow]')

    def _check(self, status, *results):
        tempest.check_end(status, dict(zip(self.WANTED, results)),
                          self.WANTED)

    def test_all_have_a_result(self):
        self._check(0, 'success', 'skip')
        self._check(1, 'success', 'fail')

    def test_class_that_could_not_be_set_up(self):
        tempest.check_end(1, {'setUpClass (a.Test)': 'fail'}, self.WANTED)

    def test_interrupted_between_tests(self):
        exc = self.assertRaises(process.LabError, self._check, 1, 'fail')
        self.assertIn('1 of 2 have no result: a.Test.test_y[id-2,slow]',
                      str(exc))

    def test_interrupted_in_a_test(self):
        self.assertRaises(process.LabError, self._check, 1, 'success',
                          'inprogress')

    def test_killed(self):
        self.assertRaises(process.LabError, self._check, -15, 'success',
                          'success')


class RallyTest(testtools.TestCase):

    @staticmethod
    def report(**counts):
        return {'tasks': [{'subtasks': [{'workloads': [{
            'scenario': {name: {}}, 'total_iteration_count': ended,
            'failed_iteration_count': failed}]}
            for name, (ended, failed) in counts.items()]}]}

    def setUp(self):
        super().setUp()
        self.useFixture(fixtures.MonkeyPatch(
            'tests.lab.suites.rally._SCENARIOS', {'one': {}, 'two': {}}))

    def test_all_have_a_result(self):
        self.assertEqual(
            {'one': 'success', 'two': 'fail'},
            rally.results(self.report(one=(1, 0), two=(1, 1))))

    def test_interrupted(self):
        """What was never run has not failed."""
        for report in (self.report(one=(1, 0)),
                       self.report(one=(1, 0), two=(0, 0))):
            exc = self.assertRaises(process.LabError, rally.results, report)
            self.assertIn('no result of two', str(exc))
