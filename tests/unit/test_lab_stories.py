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


import io
import sys
from unittest import mock

import fixtures
import testtools

from tests.lab import stories


class StoriesTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        self.out = self.useFixture(fixtures.MockPatchObject(
            sys, 'stdout', io.StringIO())).mock

    def _main(self, *argv):
        with mock.patch.object(sys, 'argv', ['stories', *argv]):
            return self.assertRaises(SystemExit, stories.main).code

    def test_told_in_a_process_of_its_own(self):
        name = ('tests.unit.test_lab_suites.EndTest.'
                'test_all_have_a_result')
        self.assertFalse(self._main(name))
        self.assertIn('test_all_have_a_result', self.out.getvalue())
        self.assertRegex(self.out.getvalue(), f'ok +{name}\n')

    def test_failure(self):
        self.assertTrue(self._main('no.such.story'))
        self.assertRegex(self.out.getvalue(), 'FAIL +no.such.story\n')

    def test_alone_after_all_others(self):
        """What takes hosts away begins when nobody else is at work."""
        told = []
        self.useFixture(fixtures.MockPatchObject(
            stories, '_tell_all', side_effect=lambda names, jobs:
            told.append((names, jobs)) or
            [(name, True, 1.0) for name in names]))
        self.assertFalse(self._main('a', 'b', '--alone', 'c', 'd'))
        self.assertEqual([(['a', 'b'], 2), (['c', 'd'], 1)], told)
