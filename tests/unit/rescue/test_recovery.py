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


import datetime
import os
from unittest import mock

import fixtures
from nova.compute import power_state
from nova import exception as nova_exception
from nova import objects
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext import exception
from nova_rescue_ext import instance_metadata
from nova_rescue_ext.rescue import recovery
from nova_rescue_ext.unrescue import operation


class RecoveryTestCase(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.manager = mock.Mock()
        self.patch('recovery.events.end')
        self.patch('recovery.notifications.close')
        self.patch('recovery.notifications.close_unrescue')
        self.useFixture(fixtures.MonkeyPatch('nova.objects.Instance.save',
                                             mock.Mock()))

    def patch(self, name, new=None):
        new = new or mock.Mock()
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.rescue.' + name, new))
        return new


class UnrescueTest(RecoveryTestCase):
    """Nova before 34 loads no system metadata when it is started."""

    def _load(self, instance, name):
        self.assertEqual('system_metadata', name)
        before = objects.Instance(uuid=uuids.instance, vm_state='stopped',
                                  system_metadata={})
        instance_metadata.record_rescue(before, uuids.image, None, None,
                                        instance_metadata.LEGACY, False)
        instance_metadata.request_previous_state(before, True)
        instance.system_metadata = before.system_metadata

    def test_server_that_was_stopped_stays_off(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.Instance.obj_load_attr', self._load))
        instance = objects.Instance(uuid=uuids.instance, vm_state='rescued',
                                    task_state='unrescuing')
        self.patch('recovery.guests.exists', lambda *args: False)
        seen = []
        self.manager.driver.unrescue = lambda context, instance: seen.append(
            operation.Unrescue.of_this_thread(instance.uuid).leaves_off)
        self.assertTrue(recovery.recover(self.manager, None, instance))
        self.assertEqual([True], seen)
        self.assertEqual(
            ('stopped', None, power_state.SHUTDOWN),
            (instance.vm_state, instance.task_state, instance.power_state))


class RescueTest(RecoveryTestCase):

    def test_fault_that_cannot_be_saved(self):
        """The server is put back all the same."""
        instance = objects.Instance(uuid=uuids.instance, vm_state='active',
                                    task_state='rescuing', system_metadata={})
        self.patch('recovery.guests.is_running', lambda *args: False)
        self.patch('operation.Rescue.take_turn')
        self.patch('recovery.compute_utils.add_instance_fault_from_exc',
                   mock.Mock(side_effect=Exception('gone')))
        roll_back = self.patch('recovery.roll_back')
        recovery.recover(self.manager, mock.Mock(), instance)
        roll_back.assert_called_once()
        recovery.events.end.assert_called_once()
        self.assertEqual(('active', None),
                         (instance.vm_state, instance.task_state))


class UnknownGuestTest(RecoveryTestCase):

    def test_guest_that_cannot_be_looked_at(self):
        """The rescue has an end, and the user is told what to do."""
        instance = objects.Instance(uuid=uuids.instance, vm_state='active',
                                    task_state='rescuing', system_metadata={})
        self.patch('operation.Rescue.take_turn')
        self.patch('recovery.guests.is_running',
                   mock.Mock(side_effect=Exception('gone')))
        fault = self.patch(
            'recovery.compute_utils.add_instance_fault_from_exc')
        recovery.recover(self.manager, mock.Mock(), instance)
        self.assertEqual(('error', None),
                         (instance.vm_state, instance.task_state))
        self.assertIn('Hard reboot it', str(fault.call_args.args[2]))
        recovery.events.end.assert_called_once()
        recovery.notifications.close.assert_called_once()


class LostTest(RecoveryTestCase):
    """The server is deleted or reset while its recovery waits."""

    def setUp(self):
        super().setUp()
        self.log = self.useFixture(fixtures.FakeLogger())
        self.fresh = objects.Instance(uuid=uuids.instance, host='here',
                                      vm_state='error', task_state=None)
        self.error = self.patch('recovery.notifications.close_unrescue')
        self.patch('recovery.guests.exists', lambda *args: False)
        self.fault = self.patch(
            'recovery.compute_utils.add_instance_fault_from_exc')

    def _recover(self, vm_state, task_state):
        def read(*args):
            if self.fresh is None:
                raise nova_exception.InstanceNotFound(
                    instance_id=uuids.instance)
            return self.fresh

        def unrescue(context, instance):
            with operation.Unrescue.of_this_thread(instance.uuid).turn():
                self.fail('It has no turn')

        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.Instance.get_by_uuid', read))
        self.manager.driver.unrescue = unrescue
        instance = objects.Instance(
            mock.Mock(), uuid=uuids.instance, host='here', vm_state=vm_state,
            task_state=task_state, system_metadata={})
        recovery.recover(self.manager, mock.Mock(), instance)
        self.assertNotIn('Traceback', self.log.output)
        self.assertNotIn('failed', self.log.output)
        self.fault.assert_not_called()

    def _error(self, kind):
        """What the event and the notification end with, the same."""
        call = recovery.events.end.call_args
        self.assertIsInstance(call.args[3], kind)
        return call.args[3]

    def test_rescue_reset(self):
        self._recover('active', 'rescuing')
        self.assertEqual(self._error(exception.TaskEnded),
                         recovery.notifications.close.call_args.args[4])

    def test_rescue_deleted(self):
        self.fresh = None
        self._recover('active', 'rescuing')
        self.assertEqual(self._error(nova_exception.InstanceNotFound),
                         recovery.notifications.close.call_args.args[4])

    def test_rescue_elsewhere(self):
        """The last event may be that of the other host."""
        self.fresh.host = 'there'
        self._recover('active', 'rescuing')
        recovery.events.end.assert_not_called()

    def test_unrescue_reset(self):
        self._recover('rescued', 'unrescuing')
        self.assertEqual(self._error(exception.TaskEnded),
                         self.error.call_args.args[3])

    def test_unrescue_deleted(self):
        self.fresh = None
        self._recover('rescued', 'unrescuing')
        self.assertEqual(self._error(nova_exception.InstanceNotFound),
                         self.error.call_args.args[3])


class FailedUnrescueTest(RecoveryTestCase):

    def test_notified_of(self):
        self.patch('recovery.guests.exists', lambda *args: False)
        self.patch('recovery.compute_utils.add_instance_fault_from_exc')
        error = Exception('gone')
        self.manager.driver.unrescue.side_effect = error
        instance = objects.Instance(
            uuid=uuids.instance, vm_state='rescued', task_state='unrescuing',
            system_metadata={})
        context = mock.Mock()
        recovery.recover(self.manager, context, instance)
        recovery.notifications.close_unrescue.assert_called_once_with(
            self.manager, context, instance, error)
        self.assertEqual(('rescued', None),
                         (instance.vm_state, instance.task_state))


class SavedDomainTest(RecoveryTestCase):

    def test_cannot_be_removed(self):
        """The rescue is finished all the same, with all that belongs to it."""
        self.patch('operation.Rescue.take_turn')
        self.patch('recovery.guests.is_running', lambda *args: True)
        self.patch('recovery.guests.is_in_rescue', lambda *args: True)
        self.patch('recovery.rescue_files.stock_domain_path',
                   lambda instance: '/')
        instance = objects.Instance(
            uuid=uuids.instance, vm_state='active', task_state='rescuing',
            system_metadata={})
        instance_metadata.record_rescue(instance, uuids.image, None, None,
                                        instance_metadata.LEGACY, True)
        recovery.recover(self.manager, mock.Mock(), instance)
        self.assertEqual(('rescued', None),
                         (instance.vm_state, instance.task_state))
        recovery.events.end.assert_called_once()
        self.assertIsNone(recovery.notifications.close.call_args.args[4])


class UnrescuedGuestTest(RecoveryTestCase):
    """Only a guest that runs on its own disks is its user's."""

    def setUp(self):
        super().setUp()
        self.patch('recovery.guests.exists', lambda *args: True)
        self.patch('recovery.guests.is_in_rescue', lambda *args: False)
        self.patch('recovery.unrescue_operation.Unrescue.take_turn')
        self.finish = self.patch('recovery.hard_reboot.HardReboot.finish')

    def _is_finished(self, state, leaves_off=False):
        """Whether only the end of its unrescue is done."""
        self.patch('recovery.guests.state', lambda *args: state)
        self.patch('recovery.unrescue_operation.instance_metadata.'
                   'state_after_unrescue',
                   lambda instance: 'stopped' if leaves_off else 'active')
        instance = objects.Instance(
            uuid=uuids.instance, vm_state='rescued', task_state='unrescuing',
            system_metadata={})
        recovery.recover(self.manager, mock.Mock(), instance)
        self.assertNotEqual(self.finish.called,
                            self.manager.driver.unrescue.called)
        return self.finish.called

    def test_running(self):
        self.assertTrue(self._is_finished(power_state.RUNNING))

    def test_not_yet_resumed(self):
        """It is paused while its network is plugged."""
        self.assertFalse(self._is_finished(power_state.PAUSED))

    def test_left_off(self):
        """Its shares may still be mounted."""
        self.assertFalse(self._is_finished(power_state.SHUTDOWN, True))


class HostRebootTest(testtools.TestCase):

    def test_by_what_was_saved_last(self):
        with open('/proc/stat') as file:
            booted_at = next(int(line.split()[1]) for line in file
                             if line.startswith('btime'))
        for seconds, expected in ((-60, True), (60, False)):
            instance = objects.Instance(
                updated_at=datetime.datetime.fromtimestamp(
                    booted_at + seconds, datetime.timezone.utc))
            self.assertEqual(expected,
                             recovery._was_host_rebooted(instance))


class HostRebootRollBackTest(RecoveryTestCase):
    """Nova decides whether a guest is started when its host boots."""

    def setUp(self):
        super().setUp()
        self.saved = os.path.join(self.useFixture(fixtures.TempDir()).path,
                                  'unrescue.xml')
        self.patch('recovery.rescue_files.stock_domain_path',
                   lambda instance: self.saved)
        self.patch('recovery.rescue_files.remove_all')
        self.restore = self.patch('recovery.rescue_files.restore_stock_domain')
        self.reboot = self.patch('recovery.hard_reboot.HardReboot')
        self.patch('recovery.guests.exists', lambda *args: False)

    def _roll_back(self, year):
        recovery.roll_back(self.manager, None, objects.Instance(
            uuid=uuids.instance, vm_state='active', system_metadata={},
            image_ref='', flavor=objects.Flavor(extra_specs={}),
            updated_at=datetime.datetime(year, 1, 1,
                                         tzinfo=datetime.timezone.utc)))

    def test_saved_domain(self):
        with open(self.saved, 'w'):
            pass
        self._roll_back(2000)
        self.assertFalse(self.restore.call_args.kwargs['start'])
        self.reboot.assert_not_called()

    def test_saved_domain_that_is_empty(self):
        """Nova does not sync it before a power loss."""
        with open(self.saved, 'w'):
            pass
        self.restore.side_effect = ValueError('no domain')
        self._roll_back(2000)
        self.assertTrue(self.reboot.call_args.kwargs['leave_off'])

    def test_no_saved_domain(self):
        self._roll_back(2000)
        self.assertTrue(self.reboot.call_args.kwargs['leave_off'])

    def test_only_nova_compute_was_restarted(self):
        with open(self.saved, 'w'):
            pass
        self._roll_back(3000)
        self.assertFalse(self.reboot.call_args.kwargs['leave_off'])
        self.restore.assert_not_called()
