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
from nova import exception as nova_exception
from nova import objects
from oslo_db import exception as db_exc
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import exception
from nova_rescue_ext.host import hard_reboot
from nova_rescue_ext.rescue import compute
from nova_rescue_ext.rescue import operation


class RescueTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.instance = self._instance(host='here')
        self.rescue = operation.Rescue(
            mock.Mock(), mock.Mock(request_id='req'), self.instance)
        self.rescue.was_running = True
        self.remove = self.patch('rescue.operation.rescue_files.remove_all')
        self.restore = self.patch(
            'rescue.operation.rescue_files.restore_stock_domain')

    def _instance(self, host, vm_state='active', task_state='rescuing'):
        return objects.Instance(uuid=uuids.instance, host=host,
                                vm_state=vm_state, task_state=task_state,
                                system_metadata={})

    def patch(self, name, new=None):
        new = new or mock.Mock()
        self.useFixture(fixtures.MonkeyPatch('nova_rescue_ext.' + name, new))
        return new

    def becomes(self, *args, **kwargs):
        fresh = self._instance(*args, **kwargs)
        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.Instance.get_by_uuid',
            lambda *args, **kwargs: fresh))


class MovedTest(RescueTestCase):
    """The server is on another host, which may share the directory."""

    def setUp(self):
        super().setUp()
        self.becomes('there')
        self.patch('rescue.operation.guests.is_in_rescue', lambda *args: False)
        self.addCleanup(self.rescue.end_turn)

    def test_task_of_the_other_host(self):
        self.assertRaises(exception.TaskEnded, self.rescue.take_turn)
        self.assertTrue(self.rescue.is_lost)

    def test_files_stay(self):
        self.rescue.roll_back()
        self.remove.assert_not_called()

    def test_guest_stays(self):
        self.rescue._is_guest_touched = self.rescue._is_switched = True
        self.rescue.roll_back()
        self.restore.assert_not_called()
        self.remove.assert_not_called()

    def test_guest_stays_in_the_turn(self):
        self.rescue._is_guest_touched = self.rescue._is_switched = True
        self.rescue._lock()
        self.rescue.roll_back()
        self.restore.assert_not_called()
        self.remove.assert_not_called()


class LeaveOffTest(RescueTestCase):
    """Whether the guest is started on the way back, with the lock held."""

    def _starts(self, **values):
        self.becomes('here', **values)
        self.patch('rescue.operation.guests.is_in_rescue', lambda *args: False)
        self.rescue._is_guest_touched = self.rescue._is_switched = True
        self.rescue._lock()
        self.addCleanup(self.rescue.end_turn)
        self.rescue.roll_back()
        return self.restore.call_args[1]['start']

    def test_still_rescuing(self):
        self.assertTrue(self._starts())

    def test_reset_to_active(self):
        self.assertTrue(self._starts(task_state=None))

    def test_reset_and_stopped(self):
        self.assertFalse(self._starts(vm_state='stopped', task_state=None))

    def test_other_task(self):
        self.assertFalse(self._starts(task_state='powering-off'))

    def test_database_away(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.rescue.operation.Rescue._read',
            mock.Mock(side_effect=OSError('gone'))))
        self.patch('rescue.operation.guests.is_in_rescue', lambda *args: False)
        self.rescue._is_guest_touched = self.rescue._is_switched = True
        self.rescue._lock()
        self.addCleanup(self.rescue.end_turn)
        self.rescue.roll_back()
        self.assertTrue(self.restore.call_args[1]['start'])


class WayBackTest(RescueTestCase):
    """Volumes could not be connected to a guest that is off."""

    def setUp(self):
        super().setUp()
        self.becomes('here')
        self.patch('host.guests.is_in_rescue', lambda *args: False)
        reboot = self.patch('rescue.operation.hard_reboot.HardReboot')
        self.reboot = reboot.return_value
        self.addCleanup(self.rescue.end_turn)
        self.rescue.switch_guests()
        self.rescue._are_volumes_in_doubt = True

    def test_guest_that_ran(self):
        self.rescue.roll_back()
        self.reboot.run.assert_called_once_with(self.rescue.context)
        self.restore.assert_not_called()

    def test_guest_that_was_off(self):
        """A start connects them anyway."""
        self.rescue.was_running = False
        self.rescue.roll_back()
        self.reboot.run.assert_not_called()
        self.assertFalse(self.restore.call_args.kwargs['start'])

    def test_database_away(self):
        """They are connected, and the guest needs no more."""
        self.reboot.has_begun = False
        self.reboot.run.side_effect = db_exc.DBConnectionError()
        self.rescue.roll_back()
        self.assertTrue(self.restore.call_args.kwargs['start'])

    def test_storage_away(self):
        self.reboot.has_begun = True
        self.reboot.run.side_effect = nova_exception.VolumeNotFound(
            volume_id='1')
        self.assertRaises(nova_exception.VolumeNotFound,
                          self.rescue.roll_back)
        self.restore.assert_not_called()


class SecondRescueTest(RescueTestCase):
    """The guest became that of a rescue since it was last looked at."""

    def test_nothing_is_removed(self):
        remove = self.patch('rescue.operation.rescue_files.remove')
        self.patch('rescue.operation.guests.is_in_rescue', lambda *args: True)
        self.patch('rescue.operation.Rescue.take_turn')
        self.assertRaises(nova_exception.InstanceNotRescuable,
                          self.rescue.remove_earlier)
        self.rescue.roll_back()
        remove.assert_not_called()
        self.remove.assert_not_called()
        self.restore.assert_not_called()


class PowerOffTest(RescueTestCase):

    def setUp(self):
        super().setUp()
        self.patch('rescue.compute.capabilities.is_libvirt',
                   lambda driver: True)
        self.announced = mock.Mock()
        self.rescue.power_off_when_ready = self.announced

    def _power_off(self):
        done = []

        def original(context, instance, clean_shutdown):
            done.append(instance)

        compute.power_off_instance(original, mock.Mock(), None, self.instance,
                                   False)
        return done == [self.instance]

    def test_put_off_in_a_rescue(self):
        with self.rescue:
            self.assertFalse(self._power_off())

    def test_at_once_in_a_hard_reboot_of_the_way_back(self):
        with self.rescue, hard_reboot.HardReboot(None, self.instance, True):
            self.assertTrue(self._power_off())
        self.announced.assert_not_called()
