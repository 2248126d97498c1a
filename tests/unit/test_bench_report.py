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


"""What is measured is written beside what is written by hand."""

import os
import tempfile
import unittest

from bench import report

HEADING = '# Second'
TEXT = 'Generated.\n\n| N | Others | Time |\n|---|---|---|\n'


class WriteRowsTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, 'performance.md')

    def write(self, *rows):
        report.write_rows(self.path, HEADING, TEXT, list(rows))
        with open(self.path, encoding='utf-8') as written:
            return written.read()

    def test_new_section(self):
        with open(self.path, 'w', encoding='utf-8') as existing:
            existing.write('# First\n\nSomething.\n')
        self.assertEqual(
            '# First\n\nSomething.\n\n%s\n\n%s| 1 | 0 | a |\n' % (
                HEADING, TEXT), self.write('| 1 | 0 | a |'))

    def test_by_hand(self):
        self.write('| 1 | 0 | a |')
        with open(self.path, encoding='utf-8') as existing:
            text = existing.read().replace('Generated', 'By hand')
        with open(self.path, 'w', encoding='utf-8') as existing:
            existing.write(text + '\nThe goal is met.\n\n# Third\n\nEnd.\n')
        written = self.write('| 10 | 0 | b |')
        for words in ('By hand', 'a |\n| 10 | 0 | b |\n\nThe goal is met.\n\n'
                      '# Third\n\nEnd.\n'):
            self.assertIn(words, written)
        self.assertNotIn('Generated', written)

    def test_rows(self):
        """Those that are measured again are replaced; in the order of N."""
        self.write('| 100 | 0 | a |', '| 9 | 10000 | b |', '| 9 | 0 | c |')
        written = self.write('| 9, requests only | 0 | d |', '| 100 | 0 | e |')
        self.assertTrue(written.endswith(
            '|---|\n| 9 | 0 | c |\n| 9 | 10000 | b |\n'
            '| 9, requests only | 0 | d |\n| 100 | 0 | e |\n'), written)
