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

"""The history of what was measured, and its plot."""

import os
import re
import tempfile
import unittest
from unittest import mock
from xml.etree import ElementTree

from bench import history
from bench import report

SVG = '{http://www.w3.org/2000/svg}'


def result(measure, share):
    return report.Result(measure, '1 s', '2 s', '+1 s', '< 2 s', True, 3,
                         (1.0, 2.0, share))


class HistoryTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, 'history.jsonl')
        self.svg = os.path.join(folder.name, 'plot.svg')

    def add(self, *results, machine='2 x CPU'):
        with mock.patch.object(history, '_machine', return_value=machine):
            history.add(self.path, results)

    def plot(self):
        history.plot(self.svg, history.read(self.path))
        return ElementTree.parse(self.svg).getroot()

    def test_add(self):
        """A run adds a line, and those before stay."""
        self.add(result('Start', 0.5))
        self.add(result('Start', 0.7), result('A < call', 1.0))
        first, second = history.read(self.path)
        self.assertEqual({'Start': [1.0, 2.0, 0.5]}, first['measures'])
        self.assertEqual({'Start': [1.0, 2.0, 0.7],
                          'A < call': [1.0, 2.0, 1.0]}, second['measures'])
        self.assertEqual('2 x CPU', second['machine'])
        self.assertRegex(second['commit'], r'^[0-9a-f]{8}\+?$')
        self.assertRegex(second['date'], r'^\d{4}-\d\d-\d\d$')
        self.assertRegex(second['nova'], r'^\d+\.')

    def test_plot(self):
        """Two machines are two lines, and each run is a point."""
        self.add(result('Start', 0.5))
        self.add(result('Start', 0.5), result('A < call', 1.0))
        self.add(result('Start', 0.9), machine='8 x CPU')
        drawn = self.plot()
        self.assertEqual(3, len(drawn.findall(SVG + 'polyline')))
        self.assertEqual(4, len(drawn.findall(SVG + 'circle')))
        texts = [text.text for text in drawn.findall(SVG + 'text')]
        self.assertIn('A < call', texts)
        self.assertEqual(
            3, sum(bool(re.match('[0-9a-f]{8}', text)) for text in texts))

    def test_goal(self):
        """What misses its goal is above the line of the goal."""
        self.add(result('Met', 0.9), result('Missed', 1.1), result('Far', 99))
        drawn = self.plot()
        goal = next(float(line.get('y1'))
                    for line in drawn.findall(SVG + 'line')
                    if line.get('stroke') == 'red')
        met, missed, far = (float(point.get('cy'))
                            for point in drawn.findall(SVG + 'circle'))
        self.assertGreater(met, goal)
        self.assertLess(missed, goal)
        self.assertLess(far, missed)
        self.assertGreater(far, 0)
