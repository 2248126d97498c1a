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

import fixtures
from nova.compute import power_state
from nova import exception
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.in_rescue import recovery


class RecoverTest(testtools.TestCase):
    """The end of a reboot of a rescue system, after a restart."""

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.instance = objects.Instance(
            uuid=uuids.instance, vm_state='rescued',
            task_state='rebooting_hard')
        self.instance.save = mock.Mock()
        self.manager = mock.Mock()
        self.manager._get_power_state.return_value = power_state.RUNNING
        self.log = self.useFixture(fixtures.FakeLogger())
        patcher = mock.patch('nova_rescue_ext.task.events.end')
        self.end = patcher.start()
        self.addCleanup(patcher.stop)

    def recover(self):
        return recovery.recover(self.manager, None, self.instance)

    def test_guest_that_runs(self):
        self.assertTrue(self.recover())
        self.instance.save.assert_called_once_with(
            expected_task_state=['rebooting_hard'])
        self.assertIsNone(self.instance.task_state)
        self.end.assert_called_once_with(None, self.instance, 'reboot')
        self.manager.reboot_instance.assert_not_called()

    def test_guest_that_is_off(self):
        self.manager._get_power_state.return_value = power_state.SHUTDOWN
        self.assertFalse(self.recover())
        self.instance.save.assert_called_once_with(
            expected_task_state=['rebooting_hard'])
        self.manager.reboot_instance.assert_called_once_with(
            None, self.instance, block_device_info=None, reboot_type='HARD')
        self.end.assert_not_called()

    def test_server_that_is_gone_or_busy(self):
        """Nothing is to be done, by nobody."""
        for error in (
                exception.InstanceNotFound(instance_id=uuids.instance),
                exception.UnexpectedTaskStateError(
                    instance_uuid=uuids.instance, expected={},
                    actual={'task_state': 'deleting'})):
            self.instance.save.side_effect = error
            self.assertFalse(self.recover())
        self.assertIn('need not be recovered', self.log.output)
        self.assertNotIn('Hard reboot it', self.log.output)
        self.end.assert_not_called()
        self.manager.reboot_instance.assert_not_called()

    def test_database_that_is_away(self):
        """nova-compute starts all the same, and says what to do."""
        self.instance.save.side_effect = exception.CellTimeout()
        self.assertFalse(self.recover())
        self.assertIn('Hard reboot it, or unrescue it', self.log.output)
