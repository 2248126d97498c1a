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
import weakref

from nova import conf
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import conf as ext_conf
from nova_rescue_ext import instance_metadata
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


class SearchTest(testtools.TestCase):
    """What one search tells, and when it ends."""

    def setUp(self):
        super().setUp()
        objects.register_all()
        ext_conf.register_opts(conf.CONF)
        self.manager = mock.Mock(host='here')
        self.search = readiness.Search(self.manager, uuids.instance)
        self.instance = objects.Instance(
            mock.Mock(), uuid=uuids.instance, host='here', vm_state='rescued',
            system_metadata={})

    def test_manager_that_is_gone(self):
        """As after a restart in the process of a test."""
        manager = mock.Mock()
        search = readiness.Search(weakref.proxy(manager), uuids.instance)
        search._since = 'then'
        search._log = mock.Mock()
        search._look = lambda: search._manager.host
        del manager
        self.assertFalse(search.look())

    def test_saved_only_in_rescue_and_idle(self):
        self.search._read = lambda: self.instance
        self.search._tell_all = mock.Mock()
        with mock.patch.object(objects.Instance, 'save') as save:
            self.assertTrue(self.search._tell(None))
        save.assert_called_once_with(expected_vm_state=['rescued'],
                                     expected_task_state=[None])

    def test_trouble_that_is_over(self):
        """What counts in the end is that the line was not shown."""
        self.search._since = 'then'
        self.search._line = b'ready'
        self.search._log = mock.Mock(has_begun_anew=False)
        self.search._log.read_new.side_effect = [OSError(), b'']
        self.search._is_late = mock.Mock(side_effect=[False, True])
        self.search._tell = mock.Mock()
        self.assertTrue(self.search.look())
        self.search.look()
        self.assertIn('did not show', self.search._tell.call_args.args[0])

    def test_action_that_is_gone(self):
        """It was archived: there is nothing to add an event to."""
        with mock.patch.object(objects.InstanceActionEvent,
                               'create') as create:
            readiness._add_event(mock.Mock(), 'here', self.instance, None,
                                 None)
        create.assert_not_called()

    def test_search_that_goes_on(self):
        """It is not begun again each minute."""
        watcher = mock.Mock()
        watcher.has.side_effect = [False, True]
        with (mock.patch.object(readiness, '_watcher_of',
                                lambda manager: watcher),
              mock.patch.object(instance_metadata, 'readiness_of',
                                lambda instance: instance_metadata.WAITING)):
            for _number in range(2):
                readiness.resume(self.manager, [self.instance])
        watcher.add.assert_called_once_with(uuids.instance)
