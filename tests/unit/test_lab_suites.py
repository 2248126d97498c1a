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
from unittest import mock

import fixtures
import testtools

from tests.lab.cloud import process
from tests.lab.cloud import settings
from tests.lab.cloud import tempest
from tests.lab.suites import page


class PageTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.path = pathlib.Path(
            self.useFixture(fixtures.TempDir()).path, 'page.rst')
        self.useFixture(fixtures.MockPatchObject(page, '_PAGE', self.path))
        self.useFixture(fixtures.MockPatchObject(
            settings.Shape, 'current', mock.Mock(
                return_value=settings.Shape(net='ovs'))))

    def test_same(self):
        """A test that fails on each cloud is no fault of the package."""
        results = {'a.Test.test_x[id-1]': 'success', 'a.Test.test_y': 'fail'}
        page.write({'Suite': {page.WITH: results, page.WITHOUT: results}})
        text = self.path.read_text()
        self.assertIn('``PROFILE=qcow2 EXT=1 NET=ovs``', text)
        self.assertIn(
            '2 tests, of which pass: 1 without the package, 1 with the '
            'package.', text)
        self.assertIn('   * - ``a.Test.test_x``\n     - success\n'
                      '     - success\n', text)
        self.assertNotIn('**', text)

    def test_difference(self):
        results = {'Suite': {page.WITH: {'test_x': 'success'},
                             page.WITHOUT: {'test_x': 'success',
                                            'test_y': 'fail'}}}
        exc = self.assertRaises(process.LabError, page.write, results)
        self.assertIn('Suite: test_y: fail, absent', str(exc))
        self.assertIn('   * - ``test_y``\n     - **fail**\n'
                      '     - **absent**\n', self.path.read_text())

    def test_failure_where_nothing_is_compared(self):
        results = {'Suite': {page.WITH: {'test_x': 'fail', 'test_y': 'skip'}}}
        exc = self.assertRaises(process.LabError, page.write, results)
        self.assertIn('test_x: fail', str(exc))
        self.assertNotIn('test_y', str(exc))


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
