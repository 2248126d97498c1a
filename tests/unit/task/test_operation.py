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


import threading
import unittest

from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.task import operation


class Some(operation.Operation):
    pass


class OperationTest(unittest.TestCase):

    def _found(self):
        return Some.of_this_thread(uuids.server)

    def test_found_until_its_end(self):
        """The next operation of the thread sees nothing of it."""
        with Some(uuids.server) as some:
            self.assertIs(some, self._found())
        self.assertIsNone(self._found())
        self.assertFalse(Some.is_run_by_this_thread())

    def test_ends_with_a_failure(self):
        with self.assertRaises(KeyError), Some(uuids.server):
            raise KeyError()
        self.assertIsNone(self._found())

    def test_of_this_kind(self):
        with operation.Operation(uuids.server):
            self.assertIsNone(self._found())
            self.assertFalse(Some.is_run_by_this_thread())

    def test_of_this_server(self):
        with Some(uuids.other):
            self.assertIsNone(self._found())
            self.assertTrue(Some.is_run_by_this_thread())

    def test_innermost(self):
        with Some(uuids.server) as outer:
            with Some(uuids.server) as inner:
                self.assertIs(inner, self._found())
            self.assertIs(outer, self._found())

    def test_of_this_thread(self):
        """Not even in a thread that this one waits for."""
        found = []
        with Some(uuids.server):
            thread = threading.Thread(
                target=lambda: found.append(self._found()))
            thread.start()
            thread.join()
        self.assertEqual([None], found)
