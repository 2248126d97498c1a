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
import sys
import unittest

import fixtures
import testtools

from tests.nova_suite import explained
from tests.nova_suite import recorded
from tests.nova_suite import runner
from tests.nova_suite import selection
from tests.nova_suite import slices
from tests.nova_suite import verdict
from tests.nova_suite import worker
from tests.records import page
from tests.records import store

TESTS = {'nova.tests.unit.a': ['nova.tests.unit.a.T.test_%d' % number
                               for number in range(5)],
         'nova.tests.unit.b': ['nova.tests.unit.b.T.test_%d' % number
                               for number in range(3)]}
ONE, TWO, THREE = TESTS['nova.tests.unit.b']


class Suite(fixtures.Fixture):
    """Runs of tests whose outcomes are set, in ``stock`` and ``active``."""

    def _setUp(self):
        #: dicts, id -> its outcomes, run by run; the last one holds on
        self.stock, self.active = {}, {}
        self.runs = []
        self.useFixture(fixtures.MonkeyPatch(
            'tests.nova_suite.runner.Run', self._run))

    def _run(self, tests, active, log, setting=None):
        self.runs.append(('active' if active else 'stock', tests))
        return _Run(tests, self.active if active else self.stock)


class _Run:

    applied = {'nova.a:B.c'}

    def __init__(self, tests, outcomes):
        self.outcomes = {
            name: runner.Outcome(self._next(outcomes.get(name)))
            for names in tests.values() for name in names}

    @staticmethod
    def _next(outcomes):
        if not outcomes:
            return worker.SUCCESS
        return outcomes.pop(0) if len(outcomes) > 1 else outcomes[0]


class SlicesTestCase(testtools.TestCase):

    def test_parse(self):
        self.assertEqual(slices.Slice(3, 12), slices.parse('3/12'))
        self.assertEqual(slices.Slice(None, 12), slices.parse('next/12'))
        for text in ('0/12', '13/12', '12', '', '1/0', 'next', 'x/12', '-1/2'):
            self.assertRaises(ValueError, slices.parse, text)

    def test_cut(self):
        for count in (1, 2, 3, 7, 12):
            parts = [slices.cut(TESTS, number, count)
                     for number in range(1, count + 1)]
            self.assertEqual(
                sum(TESTS.values(), []),
                [name for part in parts for names in part.values()
                 for name in names])
            sizes = [sum(map(len, part.values())) for part in parts]
            self.assertLessEqual(max(sizes) - min(sizes), 1)
            self.assertNotIn([], [names for part in parts
                                  for names in part.values()])


class DueTestCase(testtools.TestCase):

    def test_not_run(self):
        self.assertEqual(1, store.due({}, 3, 'new'))
        self.assertEqual(2, store.due({'1': {'commit': 'new'}, '2': {},
                                       '3': {'commit': 'new'}}, 3, 'new'))

    def test_not_run_before_outdated(self):
        self.assertEqual(2, store.due({'1': {'commit': 'old'}}, 2, 'new'))

    def test_outdated(self):
        self.assertEqual(2, store.due({'1': {'commit': 'new'},
                                       '2': {'commit': 'old'}}, 2, 'new'))

    def test_none(self):
        self.assertIsNone(store.due({'1': {'commit': 'new'}}, 1, 'new'))


class ExplainedTestCase(testtools.TestCase):

    def test_reason(self):
        table = explained.parse(['# a comment: of mine\n', '\n',
                                 'nova.tests.a: It has to: be.\n',
                                 'nova.tests.b.T.test_x*: Why.\n'])
        self.assertEqual('It has to: be.',
                         explained.reason('nova.tests.a.T.test', table))
        self.assertEqual('Why.',
                         explained.reason('nova.tests.b.T.test_xy', table))
        self.assertIsNone(explained.reason('nova.tests.b.T.test', table))
        self.assertIsNone(explained.reason('nova.tests.ab.T.test', table))

    def test_each_has_a_reason(self):
        for line in explained.read():
            self.assertTrue(line.reason, line.entry.name)

    def test_in_this_nova(self):
        entries = [line.entry for line in explained.read()]
        entries += selection.read('alone')
        with open('/dev/null', 'w') as log:
            self.assertEqual({}, runner.find(entries, log)['unmatched'])


class SelectionTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.useFixture(fixtures.MonkeyPatch(
            'sys.path', [str(folder)] + sys.path))
        # A name that is no other module's.
        self.name = 'found_%x' % id(self)
        test = ('import unittest\n'
                'class T(unittest.TestCase):\n'
                '    def test(self):\n        pass\n')
        for path, text in (
                ('__init__.py', ''), ('test_good.py', test),
                ('test_skipped.py', 'import unittest\n'
                 'raise unittest.SkipTest("not here")\n'),
                ('test_broken.py', 'import no_such_module\n'),
                ('bad/__init__.py', '1 / 0\n'), ('bad/test_x.py', test)):
            path = folder / self.name / path
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)

    def test_what_cannot_be_imported_is_told(self):
        found = selection.find([selection.Entry(self.name)])
        self.assertEqual({self.name + '.test_good': [
            self.name + '.test_good.T.test']}, found.tests)
        self.assertEqual({
            self.name + '.test_skipped': 'SkipTest: not here',
            self.name + '.test_broken':
                "ModuleNotFoundError: No module named 'no_such_module'",
            self.name + '.bad': 'ZeroDivisionError: division by zero'},
            found.not_imported)


class VerdictTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.suite = self.useFixture(Suite())

    def judge(self, known=None):
        return verdict.Verdict(TESTS, io.StringIO(), known=known).judgements()

    def test_passes(self):
        self.assertEqual({}, self.judge())

    def test_fails_with_the_package(self):
        self.suite.active[ONE] = [worker.FAILURE]
        self.assertEqual({ONE: verdict.DIFFERENT}, self.judge())

    def test_skipped_with_the_package(self):
        self.suite.active[ONE] = [worker.SKIP]
        self.assertEqual({ONE: verdict.DIFFERENT}, self.judge())

    def test_fails_stock_too(self):
        self.suite.active[ONE] = self.suite.stock[ONE] = [worker.FAILURE]
        self.assertEqual({ONE: verdict.SAME}, self.judge())
        self.assertEqual({}, self.judge(known={ONE: worker.FAILURE}))

    def test_fails_now_and_then(self):
        self.suite.active[ONE] = [worker.FAILURE, worker.SUCCESS]
        self.assertEqual({ONE: verdict.FLAKY}, self.judge())

    def test_fails_stock_only(self):
        self.suite.stock[ONE] = [worker.FAILURE]
        self.assertEqual({ONE: verdict.DIFFERENT},
                         self.judge(known={ONE: worker.FAILURE}))

    def test_failed_stock_once(self):
        self.assertEqual({ONE: verdict.SAME},
                         self.judge(known={ONE: worker.FAILURE}))

    def test_explained(self):
        self.useFixture(fixtures.MonkeyPatch(
            'tests.nova_suite.explained.read',
            lambda: explained.parse([ONE + ': Why.'])))
        self.suite.active[ONE] = self.suite.active[TWO] = [worker.FAILURE]
        self.assertEqual({ONE: verdict.EXPLAINED, TWO: verdict.DIFFERENT},
                         self.judge())


class RecordedTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.suite = self.useFixture(Suite())
        folder = pathlib.Path(self.useFixture(fixtures.TempDir()).path)
        self.useFixture(fixtures.MonkeyPatch(
            'tests.records.store.DATA', folder))
        self.commit = 'one'
        for name, value in (
                ('nova_suite.recorded.importlib.metadata.version',
                 lambda name: '34.0.0'),
                ('records.store.commit', lambda *paths: self.commit),
                ('records.store.today', lambda: '2026-11-28'),
                ('nova_suite.recorded.find', lambda *args: {
                    'tests': TESTS, 'unmatched': {},
                    'not_imported': {'nova.tests.unit.c': 'SkipTest: no'}})):
            self.useFixture(fixtures.MonkeyPatch('tests.' + name, value))

    def run_slice(self, text):
        with open('/dev/null', 'w') as log:
            return recorded.run('unit', slices.parse(text), runner.Setting(),
                                log)

    def recorded(self):
        run, = store.load('nova-suite-34.0.0')['runs'].values()
        return run

    def test_what_is_kept(self):
        self.suite.active[ONE] = [worker.FAILURE]
        self.suite.active[THREE] = [worker.FAILURE, worker.SUCCESS]
        self.suite.stock[TWO] = self.suite.active[TWO] = [worker.SKIP]
        self.run_slice('2/2')
        run = self.recorded()
        self.assertEqual(
            {'commit': 'one', 'date': '2026-11-28', 'overrides': 1,
             'different': {ONE: [worker.SUCCESS, worker.FAILURE]},
             'explained': {}, 'unsteady': [THREE]},
            run['parts']['2']['active'])
        self.assertEqual({worker.SKIP: [TWO]},
                         run['parts']['2']['stock']['outcomes'])
        self.assertEqual(4, run['parts']['2']['tests'])
        self.assertEqual({'nova.tests.unit.c': 'SkipTest: no'},
                         run['not imported'])

    def test_stock_once(self):
        self.suite.stock[TWO] = self.suite.active[TWO] = [worker.FAILURE]
        self.run_slice('2/2')
        stock = self.recorded()['parts']['2']['stock']
        self.commit = 'two'
        del self.suite.runs[:]
        self.assertEqual([], self.run_slice('2/2').judged(verdict.SAME))
        part = self.recorded()['parts']['2']
        self.assertEqual(stock, part['stock'])
        self.assertEqual('two', part['active']['commit'])
        self.assertEqual({}, self.suite.runs[1][1])

    def test_stock_of_other_tests(self):
        self.run_slice('2/2')
        tests = dict(TESTS, **{'nova.tests.unit.z': ['nova.tests.unit.z.T.t']})
        self.useFixture(fixtures.MonkeyPatch(
            'tests.nova_suite.recorded.find', lambda *args: {
                'tests': tests, 'unmatched': {}, 'not_imported': {}}))
        del self.suite.runs[:]
        self.run_slice('2/2')
        self.assertEqual(('stock', slices.cut(tests, 2, 2)),
                         self.suite.runs[0])

    def test_stock_is_kept_when_the_run_breaks(self):
        self.suite.stock[TWO] = [worker.FAILURE]
        self.useFixture(fixtures.MonkeyPatch(
            'tests.nova_suite.verdict.Verdict.__init__', self._break))
        self.assertRaises(KeyboardInterrupt, self.run_slice, '2/2')
        self.assertEqual({worker.FAILURE: [TWO]},
                         self.recorded()['parts']['2']['stock']['outcomes'])

    @staticmethod
    def _break(*args):
        raise KeyboardInterrupt()

    def test_next(self):
        for _ in range(2):
            self.run_slice('next/2')
        self.assertEqual(['1', '2'], sorted(self.recorded()['parts']))
        self.assertIsNone(self.run_slice('next/2'))
        self.commit = 'two'
        self.assertIsNotNone(self.run_slice('next/2'))
        self.assertEqual(
            ['two', 'one'], [self.recorded()['parts'][number]['active'][
                'commit'] for number in '12'])

    def test_another_number_of_slices(self):
        self.run_slice('1/2')
        self.assertRaises(recorded.OtherSlices, self.run_slice, '1/3')


class _Samples:
    """Tests that the worker runs; hidden here from the loader."""

    class Passes(unittest.TestCase):

        def test_1(self):
            pass

        def test_2(self):
            self.skipTest('not here')

    class Skipped(Passes):

        @classmethod
        def setUpClass(cls):
            raise unittest.SkipTest('no server')

    class Broken(Passes):

        @classmethod
        def setUpClass(cls):
            raise RuntimeError('no server')

    class BadEnd(Passes):

        @classmethod
        def tearDownClass(cls):
            raise RuntimeError('still there')


class EnvironmentTestCase(testtools.TestCase):

    def test_threads(self):
        for native in (False, True):
            environment = runner._environment(runner.Setting(native=native))
            self.assertEqual(str(native).lower(), environment[
                'OS_NOVA_DISABLE_EVENTLET_PATCHING'])

    def test_source(self):
        environment = runner._environment(runner.Setting(source='/sources'))
        self.assertEqual('/sources', environment['PYTHONPATH'])

    def test_nothing_is_opted_in(self):
        name = 'OS_RESCUE_EXT__DEFAULT_API_VERSION'
        self.useFixture(fixtures.EnvironmentVariable(name, 'latest'))
        self.assertNotIn(name, runner._environment(runner.Setting()))


class WorkerTestCase(testtools.TestCase):

    def outcomes(self, kind):
        tests = {test.id(): test for test in
                 unittest.defaultTestLoader.loadTestsFromTestCase(kind)}
        self.useFixture(fixtures.MonkeyPatch(
            'tests.nova_suite.worker.loaded', lambda module: tests))
        sent = []
        worker.serve({'module': 'm', 'tests': sorted(tests)}, sent.append)
        # As the runner does: the last word counts.
        found = {message['test']: message['outcome'] for message in sent}
        return [found[name] for name in sorted(found)]

    def test_outcomes(self):
        self.assertEqual([worker.SUCCESS, worker.SKIP],
                         self.outcomes(_Samples.Passes))

    def test_class_is_skipped(self):
        self.assertEqual([worker.SKIP] * 2, self.outcomes(_Samples.Skipped))

    def test_class_is_broken(self):
        self.assertEqual([worker.FAILURE] * 2, self.outcomes(_Samples.Broken))

    def test_class_ends_badly(self):
        self.assertEqual([worker.SUCCESS, worker.FAILURE],
                         self.outcomes(_Samples.BadEnd))


class PageTestCase(testtools.TestCase):

    def test_is_that_of_the_data(self):
        self.assertEqual(
            page.page(), page.PAGE.read_text(),
            'Run "python -m tests.records.page" and commit the page.')

    def test_shows_what_was_found(self):
        self.useFixture(fixtures.MonkeyPatch(
            'tests.records.store.DATA',
            pathlib.Path(self.useFixture(fixtures.TempDir()).path)))
        self.save()
        rows = [[cell.strip() for cell in row.split('\n     -')]
                for row in page.page().replace('   * - ', '\n\n').split(
                    '\n\n') if '\n     -' in row]
        self.assertIn(['34.0.0', 'unit', '3.11', 'eventlet', '2 of 12', '30',
                       '1', '0', '1', '2026-11-27 to 2026-11-28', 'a1, b2'],
                      rows)
        self.assertIn(['2', '``SkipTest: no``'], rows)
        self.assertIn(['29.4.0', '3.10', 'eventlet', 'all 1', '5', '1', '1',
                       '3', '2026-11-28', 'a1'], rows)
        self.assertIn(['no server', '29.4.0'], rows)
        self.assertIn(['SkipTest: not here', '29.4.0'], rows)
        self.assertIn(['Debian', 'trixie, forky', '1-1', 'x differs',
                       '2026-11-28', 'a1'], rows)
        for name in ('* ``different``', '* ``unsteady``', '* ``failed`` (',
                     '* ``broken`` cannot be imported: ``ImportError: no`` ('):
            self.assertIn('\n' + name, page.page())

    @staticmethod
    def save():
        active = {'commit': 'a1', 'date': '2026-11-28', 'different': {},
                  'explained': {}, 'unsteady': []}
        store.save('nova-suite-34.0.0', {'nova': '34.0.0', 'runs': {'unit': {
            'selection': 'unit', 'python': '3.11', 'threads': 'eventlet',
            'slices': 12, 'not imported': {'a': 'SkipTest: no',
                                           'b': 'SkipTest: no'},
            'parts': {
                '1': {'tests': 10, 'active': dict(
                    active, commit='b2', date='2026-11-27',
                    different={'different': ['success', 'failure']})},
                '2': {'tests': 20, 'active': dict(
                    active, unsteady=['unsteady'])},
                # Only without the package so far.
                '3': {'tests': 40}}}}})
        store.save('functional-29.4.0', {'nova': '29.4.0', 'runs': {'x': {
            'python': '3.10', 'threads': 'eventlet', 'slices': 1,
            'skipped': {'c': 'SkipTest: not here'},
            'broken': {'broken': 'ImportError: no'},
            'parts': {'1': {
                'passed': 5, 'failed': ['failed'], 'unsteady': [],
                'skipped': {'no server': 3}, 'commit': 'a1',
                'date': '2026-11-28'}}}}})
        store.save('distributors', {'debian': [
            {'suites': ['trixie', 'forky'], 'version': '1-1',
             'objections': ['x differs'], 'date': '2026-11-28',
             'commit': 'a1'}]})
