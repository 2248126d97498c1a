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


"""What nova-compute does about guests that a failed build may have left."""

import types
import unittest
from unittest import mock

from nova import exception
from nova import objects
from nova.virt import driver as virt_driver
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext.rebuild import compute


class GuestTest(unittest.TestCase):

    def setUp(self):
        self.instance = types.SimpleNamespace(uuid=uuids.server, name='name')
        self.driver = mock.create_autospec(virt_driver.ComputeDriver,
                                           instance=True)
        self.log = mock.patch.object(compute, 'LOG').start()
        self.addCleanup(mock.patch.stopall)

    def may_have_guest(self, exists, uuids):
        self.driver.instance_exists.side_effect = [exists]
        self.driver.list_instance_uuids.side_effect = [uuids]
        return compute._may_have_guest(self.driver, self.instance)

    def test_cache(self):
        """That of Ironic does not have it yet."""
        self.assertTrue(self.may_have_guest(True, []))

    def test_no_answer_that_says_no(self):
        """As that of libvirt does."""
        self.assertTrue(self.may_have_guest(
            False, exception.HypervisorUnavailable()))
        self.assertTrue(self.log.exception.called)

    def test_no_list(self):
        """The driver for z/VM has none."""
        self.assertFalse(self.may_have_guest(False, NotImplementedError()))
        self.assertFalse(self.log.exception.called)

    def test_failure(self):
        self.assertTrue(self.may_have_guest(
            exception.HypervisorUnavailable(), []))

    def test_both_agree(self):
        self.assertFalse(self.may_have_guest(False, []))
        self.assertTrue(self.may_have_guest(False, [uuids.server]))


class Manager:
    host = 'host'
    driver = mock.Mock()


class LookTest(unittest.TestCase):

    def setUp(self):
        self.manager = Manager()
        self.left = mock.patch.object(compute, '_left_servers',
                                      return_value=[]).start()
        self.log = mock.patch.object(compute, 'LOG').start()
        self.addCleanup(mock.patch.stopall)

    def update_nodes(self, startup=False):
        for number in range(3):
            compute.update_available_resource_for_node(
                mock.Mock(), self.manager, 'context', 'node%d' % number,
                startup=startup)

    def test_one_look_for_all_nodes(self):
        self.update_nodes(startup=True)
        self.assertEqual(1, self.left.call_count)

    def test_failure_is_not_repeated_for_each_node(self):
        self.left.side_effect = exception.NovaException('no database')
        self.update_nodes(startup=True)
        self.assertEqual((1, 1), (self.left.call_count,
                                  self.log.exception.call_count))

    def test_sooner_after_failure(self):
        watch = mock.patch.object(compute.timeutils, 'StopWatch').start()
        self.left.side_effect = exception.NovaException('no database')
        self.update_nodes()
        self.assertNotIn(mock.call(compute.INTERVAL), watch.mock_calls)
        watch.return_value.start.return_value.expired.return_value = True
        self.left.side_effect = None
        self.update_nodes()
        self.assertIn(mock.call(compute.INTERVAL), watch.mock_calls)


class RecordTest(unittest.TestCase):

    def setUp(self):
        self.instance = self.make_instance()
        self.found = self.make_instance()
        get = mock.patch('nova.objects.Instance.get_by_uuid',
                         return_value=self.found)
        get.start()
        self.addCleanup(get.stop)

    def make_instance(self):
        return mock.Mock(id=1, uuid=uuids.server, host=None,
                         vm_state='error', system_metadata={})

    def record(self):
        compute._record_whether_there_is_a_guest(self.instance, 'host', False)

    def test_it_changed_meanwhile(self):
        """Not only its task state, and others still have their turn."""
        for error in (exception.InstanceNotFound(instance_id='i'),
                      exception.UnexpectedTaskStateError(
                          instance_uuid='i', expected={}, actual={}),
                      exception.InstanceUpdateConflict(
                          instance_uuid='i', expected={}, actual={})):
            self.found = self.make_instance()
            objects.Instance.get_by_uuid.return_value = self.found
            self.found.save.side_effect = error
            self.record()
            self.found.save.assert_called_once()
            self.instance.save.assert_not_called()

    def test_it_is_another_by_now(self):
        """The hypervisor was asked before, and was slow."""
        for field, value in (('id', 2), ('host', 'host'),
                             ('vm_state', 'building'),
                             ('system_metadata', {'a': 'b'})):
            with mock.patch.object(self.found, field, value):
                self.record()
        self.found.save.assert_not_called()
        self.record()
        self.found.save.assert_called_once()
