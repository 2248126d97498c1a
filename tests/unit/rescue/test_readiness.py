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

from unittest import mock

from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.rescue import readiness


class WatcherTest(testtools.TestCase):
    """One thread for all searches of a host, while there are any."""

    def setUp(self):
        super().setUp()
        self.manager = mock.Mock()
        self.watcher = readiness.Watcher(self.manager)
        self.watcher._start = mock.Mock()
        patcher = mock.patch.object(readiness.Search, 'look')
        self.look = patcher.start()
        self.addCleanup(patcher.stop)

    def test_one_thread(self):
        self.watcher.add(uuids.one)
        self.watcher.add(uuids.two)
        self.watcher._start.assert_called_once_with()

    def test_thread_ends(self):
        """And there is another one for the next search."""
        self.watcher.add(uuids.one)
        self.look.return_value = False
        self.assertFalse(self.watcher.look())
        self.assertFalse(self.watcher.has(uuids.one))
        self.watcher.add(uuids.one)
        self.assertEqual(2, self.watcher._start.call_count)

    def test_one_goes_on(self):
        self.watcher.add(uuids.one)
        self.watcher.add(uuids.two)
        self.look.side_effect = [False, True]
        self.assertTrue(self.watcher.look())
        self.assertEqual([False, True], [
            self.watcher.has(uuid) for uuid in (uuids.one, uuids.two)])

    def test_rescued_again_while_it_looks(self):
        """The search of the rescue before ends, and not the new one."""
        self.watcher.add(uuids.one)

        def rescue_again():
            self.watcher.add(uuids.one)
            return False

        self.look.side_effect = rescue_again
        self.assertTrue(self.watcher.look())
        self.assertTrue(self.watcher.has(uuids.one))
        self.watcher._start.assert_called_once_with()
