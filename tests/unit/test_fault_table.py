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
import tempfile
import unittest

from tests.lab import fault_table

_QCOW2 = 'PROFILE=qcow2 EXT=1 NET=none'
_RBD = 'PROFILE=rbd EXT=1 NET=none'
_KILL = ('rescue', 'nova compute', 'at once')
_FULL = ('rescue', 'full disk', 'later')
_STAYS = ('ACTIVE', 'nothing', 'yes')
_LOST = ('lost', '-', 'no')


class FaultTableTest(unittest.TestCase):

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.page = pathlib.Path(folder.name) / 'faults.rst'

    def test_rows_of_other_faults_and_shapes_stay(self):
        fault_table.note(self.page, _QCOW2, _KILL, _STAYS)
        fault_table.note(self.page, _RBD, _KILL, _LOST)
        fault_table.note(self.page, _QCOW2, _FULL, _LOST)
        self.assertEqual({_QCOW2: {_KILL: _STAYS, _FULL: _LOST},
                          _RBD: {_KILL: _LOST}},
                         fault_table.read(self.page))

    def test_row_is_replaced(self):
        fault_table.note(self.page, _QCOW2, _KILL, _LOST)
        fault_table.note(self.page, _QCOW2, _KILL, _STAYS)
        self.assertEqual({_QCOW2: {_KILL: _STAYS}},
                         fault_table.read(self.page))

    def test_order_of_runs_does_not_show(self):
        fault_table.note(self.page, _QCOW2, _KILL, _STAYS)
        fault_table.note(self.page, _QCOW2, _FULL, _STAYS)
        first = self.page.read_text()
        self.page.unlink()
        fault_table.note(self.page, _QCOW2, _FULL, _STAYS)
        fault_table.note(self.page, _QCOW2, _KILL, _STAYS)
        self.assertEqual(first, self.page.read_text())
