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

"""The steps of a rescue, and what each leaves to its end."""

from unittest import mock

from nova import conf
from nova import exception
from nova import objects
from oslo_serialization import jsonutils
from oslo_utils.fixture import uuidsentinel as uuids

from nova_rescue_ext import conf as ext_conf
from nova_rescue_ext import exception as ext_exception
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.rescue import operation
from tests.unit.rescue import test_operation

LOST = exception.UnexpectedTaskStateError(
    instance_uuid=uuids.instance, expected={}, actual={})
GONE = exception.InstanceNotFound(instance_id=uuids.instance)


class StepsTestCase(test_operation.RescueTestCase):

    def setUp(self):
        super().setUp()
        self.becomes('here')
        self.driver = self.rescue.manager.driver
        self.is_in_rescue(False)
        self.patch('tpm.has_tpm', lambda instance: False)
        self.close = self.patch('rescue.operation.notifications.close')
        self.addCleanup(self.rescue.end_turn)

    def is_in_rescue(self, found):
        self.patch('rescue.operation.guests.is_in_rescue',
                   lambda driver, instance: found)

    def fail_to_read(self, error):
        self.patch('rescue.operation.Rescue._read',
                   mock.Mock(side_effect=error))


class AnnouncedTest(StepsTestCase):
    """Nova wants the guest off; it stays up until the disk is ready."""

    def announce(self, has_shares=False):
        self.patch('rescue.operation.guests.is_running',
                   lambda driver, instance: True)
        self.patch('rescue.operation.guests.has_shares',
                   lambda instance: has_shares)
        self.rescue.was_running = False
        self.power_off = mock.Mock()
        self.rescue.power_off_when_ready(self.power_off)
        self.assertTrue(self.rescue.was_running)

    def test_put_off(self):
        self.announce()
        self.power_off.assert_not_called()
        self.rescue.switch_guests()
        self.rescue.switch_guests()
        self.power_off.assert_called_once_with()
        self.assertTrue(self.rescue.has_turn)

    def test_shares(self):
        """A guest must be off when they are unmounted, which Nova does."""
        self.announce(has_shares=True)
        self.power_off.assert_called_once_with()
        self.rescue.switch_guests()
        self.power_off.assert_called_once_with()

    def test_shares_and_a_failure(self):
        """The guest is down, although nothing was switched."""
        reboot = self.patch('rescue.operation.hard_reboot.HardReboot')
        self.announce(has_shares=True)
        self.rescue.roll_back()
        reboot.return_value.run.assert_called_once_with(self.rescue.context)
        reboot.return_value.run.side_effect = OSError('gone')
        reboot.return_value.has_begun = False
        self.assertRaises(OSError, self.rescue.roll_back)
        self.restore.assert_not_called()

    def test_failure(self):
        """The guest was not touched."""
        self.announce()
        self.rescue.roll_back()
        self.restore.assert_not_called()
        self.remove.assert_called_once_with(self.driver, self.instance)

    def test_end_is_told(self):
        self.rescue.notify_of_end(uuids.image, OSError())
        self.close.assert_not_called()
        self.announce()
        error = OSError()
        self.rescue.notify_of_end(uuids.image, error)
        self.close.assert_called_once_with(
            self.rescue.manager, self.rescue.context, self.instance,
            uuids.image, error)

    def test_end_was_saved(self):
        """Nova fails after it: that is not a failure of the rescue."""
        self.announce()
        for vm_state, unsaved, told in (
                ('rescued', False, type(None)), ('rescued', True, OSError),
                ('active', False, OSError)):
            self.close.reset_mock()
            self.instance.vm_state = vm_state
            if not unsaved:
                self.instance.obj_reset_changes()
            self.rescue.notify_of_end(uuids.image, OSError())
            self.assertIsInstance(self.close.call_args.args[-1], told)

    def test_second_rescue(self):
        self.is_in_rescue(True)
        self.assertRaises(exception.InstanceNotRescuable, self.announce)
        # Whatever it is by now: this rescue has made nothing.
        self.is_in_rescue(False)
        self.rescue.roll_back()
        self.remove.assert_not_called()


class EarlierTest(StepsTestCase):
    """What an earlier rescue has left must not be booted again."""

    def setUp(self):
        super().setUp()
        self.files = self.patch('rescue.operation.rescue_files.remove')

    def remaining(self, *volumes):
        self.patch('rescue.operation.rescue_files.remaining_volumes',
                   lambda instance: list(volumes))

    def test_removed(self):
        self.remaining()
        self.files.side_effect = lambda *args: self.assertTrue(
            self.rescue.has_turn)
        self.rescue.remove_earlier()
        self.files.assert_called_once_with(self.driver, self.instance)
        self.assertFalse(self.rescue.has_turn)

    def test_busy_volumes(self):
        self.remaining('one', 'two')
        refused = self.assertRaises(exception.InstanceNotRescuable,
                                    self.rescue.remove_earlier)
        self.assertIn('one, two', str(refused))


class RecordTest(StepsTestCase):

    def setUp(self):
        super().setUp()
        ext_conf.register_opts(conf.CONF)
        self.patch('rescue.operation.guests.firmware',
                   lambda driver, instance: self.firmware)
        self.firmware = None
        self.save = self.patch('rescue.operation.objects.Instance.save')
        self.save = mock.Mock()
        self.instance.save = self.save

    def record(self):
        self.rescue.record(uuids.image, '', '', instance_metadata.STABLE)

    def test_saved(self):
        self.record()
        self.save.assert_called_once_with(expected_task_state=['rescuing'])
        self.assertTrue(instance_metadata.has_record(self.instance))
        self.assertIsNone(instance_metadata.recorded_firmware(self.instance))

    def test_firmware(self):
        self.firmware = instance_metadata.Firmware('code', None, 'nvram',
                                                   None)
        self.record()
        self.assertEqual(self.firmware, instance_metadata.recorded_firmware(
            self.instance))

    def test_forgotten_on_the_way_back(self):
        self.record()
        self.rescue.roll_back()
        self.assertFalse(instance_metadata.has_record(self.instance))

    def test_lost(self):
        self.save.side_effect = LOST
        self.assertRaises(exception.UnexpectedTaskStateError, self.record)
        self.assertTrue(self.rescue.is_lost)
        self.driver.delete_instance_files.assert_not_called()

    def test_deleted(self):
        """The directory that was made for it is removed again."""
        self.save.side_effect = GONE
        self.assertRaises(exception.InstanceNotFound, self.record)
        self.assertTrue(self.rescue.is_lost)
        self.patch('rescue.operation.guests.exists',
                   lambda driver, instance: False)
        self.rescue.roll_back()
        self.driver.delete_instance_files.assert_called_once_with(
            self.instance)

    def test_answer_lost(self):
        """It may be in the database: it is saved when it is forgotten."""
        self.save.side_effect = OSError()
        self.assertRaises(OSError, self.record)
        self.assertFalse(self.rescue.is_lost)
        self.assertNotIn('system_metadata',
                         self.instance.obj_what_changed())
        self.rescue.roll_back()
        self.assertIn('system_metadata', self.instance.obj_what_changed())


class RemovedFilesTest(StepsTestCase):
    """Of a server that was deleted, only what nobody uses."""

    def removed(self, deleted, exists):
        self.rescue._is_deleted = deleted
        self.patch('rescue.operation.guests.exists',
                   lambda driver, instance: exists)
        self.rescue.roll_back()
        return self.driver.delete_instance_files.called

    def test_not_deleted(self):
        self.assertFalse(self.removed(deleted=False, exists=False))

    def test_deleted_with_a_guest(self):
        self.assertFalse(self.removed(deleted=True, exists=True))

    def test_deleted(self):
        self.assertTrue(self.removed(deleted=True, exists=False))

    def test_in_use(self):
        self.is_in_rescue(True)
        self.assertFalse(self.removed(deleted=True, exists=False))
        self.remove.assert_not_called()


class ConnectingTest(StepsTestCase):
    """Nova connects the volumes of the server to the rescue guest."""

    def setUp(self):
        super().setUp()
        self.power_off = self.rescue._power_off = mock.Mock()
        self.bdm = objects.BlockDeviceMapping(
            source_type='volume', destination_type='volume',
            volume_id=uuids.volume,
            connection_info=jsonutils.dumps({'data': {'lun': 1}}))
        self.patch('rescue.operation.objects.BlockDeviceMappingList.'
                   'get_by_instance_uuid', lambda *args: [self.bdm])

    def volume(self, **data):
        volume = mock.MagicMock(volume_id=uuids.volume)
        volume.__getitem__.side_effect = {
            'connection_info': {'data': data}}.get
        return volume

    def connect(self, *volumes, error=None):
        with self.rescue.connecting(list(volumes)):
            self.assertTrue(self.rescue.has_turn)
            self.doubted = self.rescue._are_volumes_in_doubt
            if error:
                raise error

    def test_no_volumes(self):
        """The guest may stay up for longer."""
        self.connect()
        self.power_off.assert_not_called()
        self.assertFalse(self.doubted)

    def test_connected(self):
        self.connect(self.volume(lun=1))
        self.power_off.assert_called_once_with()
        self.assertTrue(self.doubted)
        self.assertFalse(self.rescue._are_volumes_in_doubt)

    def test_fails(self):
        """Nova has disconnected some: the way back connects them."""
        self.assertRaises(OSError, self.connect, self.volume(lun=1),
                          error=OSError())
        self.assertTrue(self.rescue._are_volumes_in_doubt)

    def assert_replaced(self, volume):
        refused = self.assertRaises(exception.InstanceNotRescuable,
                                    self.connect, volume)
        self.assertIn('was replaced', str(refused))
        self.power_off.assert_not_called()

    def test_replaced(self):
        self.assert_replaced(self.volume(lun=2))

    def test_detached(self):
        self.bdm.volume_id = uuids.other
        self.assert_replaced(self.volume(lun=1))

    def test_no_longer_a_volume(self):
        self.bdm.source_type, self.bdm.destination_type = 'image', 'local'
        self.assert_replaced(self.volume(lun=1))

    def test_never_connected(self):
        self.bdm.connection_info = None
        self.assert_replaced(self.volume(lun=1))


class DriverTest(StepsTestCase):
    """The driver's part, while its overrides find the rescue."""

    def found(self):
        return operation.Rescue.in_driver_of_this_thread(uuids.instance)

    def test_found(self):
        with self.rescue:
            self.assertIsNone(self.found())
            with self.rescue.in_driver('image', 'disks'):
                self.assertIs(self.rescue, self.found())
                self.assertEqual('disks', self.rescue.block_device_info)
                self.rescue.take_turn()
            self.assertIsNone(self.found())
            self.assertFalse(self.rescue.has_turn)
        self.remove.assert_not_called()

    def test_not_on_the_way_back(self):
        seen = []
        self.remove.side_effect = lambda *args: seen.append(self.found())

        def fail():
            with self.rescue, self.rescue.in_driver('image', None):
                raise OSError('failed')

        self.assertRaises(OSError, fail)
        self.assertEqual([None], seen)
        self.assertFalse(self.rescue.has_turn)


class EndTest(StepsTestCase):
    """What Nova's manager may save at the end."""

    def run_guest(self):
        with self.rescue.in_driver('image', None):
            pass

    def test_rolled_back(self):
        """The server is as it was, not in ERROR; once is enough."""
        self.assertFalse(self.rescue.may_set_error())
        self.assertFalse(self.rescue.may_set_error())
        self.remove.assert_called_once_with(self.driver, self.instance)

    def test_way_back_fails(self):
        self.remove.side_effect = OSError()
        self.assertTrue(self.rescue.may_set_error())

    def test_lost(self):
        self.rescue.is_lost = True
        self.assertFalse(self.rescue.may_set_error())

    def test_end_that_may_be_saved(self):
        self.run_guest()
        self.instance.vm_state = 'rescued'
        self.instance.obj_reset_changes()
        self.assertTrue(self.rescue.may_end())
        self.instance.vm_state = 'rescued'
        self.instance.launched_at = None
        self.assertTrue(self.rescue.may_end())
        self.remove.assert_not_called()

    def test_end_before_it_was_saved(self):
        """Nova cannot save RESCUED, and would clear the task."""
        self.run_guest()
        self.instance.vm_state = 'rescued'
        self.assertTrue(self.rescue.may_end())
        self.remove.assert_called_once_with(self.driver, self.instance)
        self.assertEqual('active', self.instance.vm_state)

    def test_end_in_another_state(self):
        self.run_guest()
        self.instance.obj_reset_changes()
        self.assertTrue(self.rescue.may_end())
        self.remove.assert_called_once_with(self.driver, self.instance)

    def test_end_before_it_was_saved_and_no_way_back(self):
        self.remove.side_effect = OSError()
        self.run_guest()
        self.assertTrue(self.rescue.may_end())
        self.assertEqual('error', self.instance.vm_state)

    def test_without_a_guest(self):
        self.assertTrue(self.rescue.may_end())
        self.remove.assert_not_called()

    def test_task_lost_with_the_last_save(self):
        self.rescue.settle()
        self.remove.assert_not_called()
        self.run_guest()
        self.rescue.settle()
        self.remove.assert_called_once_with(self.driver, self.instance)
        self.assertFalse(self.rescue.may_end())


class LostTest(StepsTestCase):
    """The way back of a rescue whose server somebody else has by now."""

    def setUp(self):
        super().setUp()
        self.patch('rescue.operation.final_save.read',
                   lambda instance: instance)
        self.rescue._is_guest_touched = self.rescue._is_switched = True
        self.runs_rescue_guest = True
        # Until it is replaced.
        self.patch('rescue.operation.guests.is_in_rescue',
                   lambda *args: self.runs_rescue_guest
                   and not self.restore.called)

    def roll_back(self, **values):
        """:returns: whether its own guest is put back, and started"""
        self.becomes('here', **values)
        self.fresh = self.rescue._read()
        self.fresh.system_metadata = {
            instance_metadata.MODE: instance_metadata.LEGACY}
        self.fresh.save = mock.Mock()
        self.instance.refresh = mock.Mock()
        self.rescue.roll_back()
        self.assertFalse(self.rescue.has_turn)
        if not self.restore.called:
            return None
        return self.restore.call_args.kwargs['start']

    def test_moved(self):
        """Its guest here is for the operator to look at."""
        self.becomes('there', task_state=None)
        self.rescue.roll_back()
        self.restore.assert_not_called()
        self.driver.power_off.assert_not_called()

    def test_not_lost(self):
        self.assertTrue(self.roll_back())
        self.assertFalse(self.rescue.is_lost)

    def test_reset(self):
        self.assertTrue(self.roll_back(task_state=None))
        self.assertTrue(self.rescue.is_lost)
        self.assertFalse(instance_metadata.has_record(self.fresh))
        self.fresh.save.assert_called_once_with(expected_task_state=[None])

    def test_reset_to_error(self):
        self.assertTrue(self.roll_back(task_state=None, vm_state='error'))

    def test_reset_and_stopped(self):
        self.assertIs(False, self.roll_back(task_state=None,
                                            vm_state='stopped'))

    def test_reset_and_soft_deleted(self):
        self.assertIs(False, self.roll_back(task_state=None,
                                            vm_state='soft-delete'))

    def test_reset_and_another_has_put_it_back(self):
        self.runs_rescue_guest = False
        self.assertIsNone(self.roll_back(task_state=None))

    def test_saved_after_all(self):
        self.assertIsNone(self.roll_back(task_state=None,
                                         vm_state='rescued'))
        self.instance.refresh.assert_called_once_with()
        self.fresh.save.assert_not_called()
        self.remove.assert_not_called()

    def test_soft_deleting(self):
        """Its power off may have come before the guest was started."""
        self.assertIsNone(self.roll_back(task_state='soft-deleting'))
        self.driver.power_off.assert_called_once_with(self.instance)

    def test_another_task(self):
        for task_state in ('deleting', 'powering-off'):
            self.assertIsNone(self.roll_back(task_state=task_state))
        self.driver.power_off.assert_not_called()
        self.remove.assert_not_called()

    def test_deleted(self):
        self.fail_to_read(GONE)
        self.rescue.roll_back()
        self.assertTrue(self.rescue.is_lost)
        self.restore.assert_not_called()

    def test_deleted_in_the_turn(self):
        self.rescue._lock()
        self.fail_to_read(GONE)
        self.rescue.roll_back()
        self.assertIs(False, self.restore.call_args.kwargs['start'])
        self.assertTrue(self.rescue.is_lost)

    def test_no_database(self):
        """Nobody knows whether the server is still ours."""
        self.patch('rescue.operation.final_save.read', lambda instance: None)
        self.assertRaises(ext_exception.DatabaseAway, self.rescue.roll_back)
        self.restore.assert_not_called()
        self.remove.assert_not_called()
