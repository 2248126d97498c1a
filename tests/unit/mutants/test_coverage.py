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

"""Which tests execute which statement."""

import pathlib
import tempfile
import textwrap
import unittest
from unittest import mock

from tests.mutants import coverage
from tests.mutants import operators

SOURCE = textwrap.dedent('''\
    """Words."""

    from __future__ import annotations

    LIMIT = 3

    def f(a):
        """Words."""
        if a > LIMIT:
            a = 0
        else:
            a = 1
        for each in (1, 2):
            a += each
        try:
            check(a)
        except ValueError:
            a = 2
        return a

    def g(b):
        return b
    ''').encode()


class CoverageTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        for name, value in (('_MAP', pathlib.Path(folder.name) / 'map'),
                            ('digest', lambda module: module)):
            patch = mock.patch.object(coverage, name, value)
            patch.start()
            self.addCleanup(patch.stop)

    def run_instrumented(self, *arguments, check=lambda a: None):
        seen = set()
        text = coverage.instrument('a.py', SOURCE).decode()
        namespace = {'check': check}
        with mock.patch('tests.mutants.hits.hit', seen.add):
            exec(compile(text, 'a.py', 'exec'), namespace)
            for argument in arguments:
                namespace['f'](argument)
        return seen

    def mutant(self, before, after):
        [found] = [each for each in operators.find('a.py', SOURCE)
                   if (each.before, each.after) == (before, after)]
        return found

    def test_statements(self):
        """Those in functions, by branch and handler."""
        self.assertEqual(set(), self.run_instrumented())
        low, high = self.run_instrumented(1), self.run_instrumented(9)
        self.assertEqual(1, len(low - high))
        self.assertEqual(1, len(high - low))

        def fail(a):
            raise ValueError()

        failing = self.run_instrumented(1, check=fail)
        self.assertEqual(
            {self.mutant('ValueError', '()').statement}, failing - low)

    def test_covering(self):
        """Those that do different things first; the quickest of a kind."""
        low, high = self.run_instrumented(1), self.run_instrumented(9)
        coverage.save('tests.functional.test_a', {
            'tests.functional.test_a.A.high': (3, high),
            'tests.functional.test_a.A.low': (1, low),
            'tests.functional.test_a.A.slow': (2, low)})
        coverage.save('tests.unit.test_b', {
            'tests.unit.test_b.B.low': (5, low)})
        found = coverage.Map()
        self.assertEqual(
            ['tests.unit.test_b.B.low', 'tests.functional.test_a.A.low',
             'tests.functional.test_a.A.high',
             'tests.functional.test_a.A.slow'],
            found.covering(self.mutant('a > LIMIT', 'a >= LIMIT')))
        self.assertEqual(['tests.functional.test_a.A.high'],
                         found.covering(self.mutant('0', '1')))
        # What happens at import is covered by all that use the file.
        self.assertEqual(4, len(found.covering(self.mutant('3', '4'))))
        # Nothing calls it.
        self.assertEqual([], found.covering(self.mutant('b', 'None')))
