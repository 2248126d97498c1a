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


"""Rescue and unrescue while others act on the server."""

import contextlib
import threading

import fixtures
from nova import context as nova_context
from nova import exception
from nova import objects
from nova import utils
from oslo_serialization import jsonutils

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.rescue import operation
from tests.functional import test_rescue_failure

DRIVER = test_rescue_failure.DRIVER
GUEST = test_rescue_failure.GUEST
MANAGER = test_rescue_failure.MANAGER


class Gate:
    """A function of Nova that waits until somebody else has acted.

    :param name: its dotted name
    :param passed: how many calls come before, and pass
    :param error: what it raises when it is let go
    """

    TIMEOUT = 60

    def __init__(self, name, passed=0, error=None):
        self._inner = test_rescue_failure.resolve(name)
        self._passed = passed
        self._error = error
        self._reached = threading.Event()
        self._open = threading.Event()
        self.patch = fixtures.MonkeyPatch(name, self._call)

    def _call(self, *args, **kwargs):
        self._passed -= 1
        if self._passed == -1:
            self._reached.set()
            if not self._open.wait(self.TIMEOUT):
                raise AssertionError('nobody opened the gate')
            if self._error:
                raise self._error
        return self._inner(*args, **kwargs)

    def wait(self):
        """Return when the function waits."""
        if not self._reached.wait(self.TIMEOUT):
            raise AssertionError('nothing came to the gate')

    def open(self):
        """Let the function go on."""
        self._open.set()

    @contextlib.contextmanager
    def held(self):
        """In here, the function waits; it goes on afterwards."""
        self.wait()
        try:
            yield
        finally:
            self.open()


class RaceTestCase(test_rescue_failure.RestartTestCase):

    def setUp(self):
        super().setUp()
        self.server = self.create_server()

    def gate(self, name, **options):
        gate = Gate(name, **options)
        self.useFixture(gate.patch)
        return gate

    def record(self, name):
        """The calls of a function of Nova.

        :returns: a list of the arguments of each
        """
        calls, inner = [], test_rescue_failure.resolve(name)

        def call(*args, **kwargs):
            calls.append(args)
            return inner(*args, **kwargs)

        self.patch(name, call)
        return calls

    def rescued(self):
        self.rescue_opted_in(self.server)
        self._wait_for_state_change(self.server, 'RESCUE')

    def unrescue(self):
        self.api.post_server_action(self.server['id'], {'unrescue': None})

    def reset(self, vm_state='active'):
        self.set(self.server, vm_state=vm_state, task_state=None)

    def wait_for_end(self, action='rescue', result='error'):
        self._wait_for_instance_action_event(
            self.server, action, 'compute_%s_instance' % action, result)

    def has_domain(self):
        try:
            self.driver._host.get_guest(self.deleted_instance())
        except exception.InstanceNotFound:
            return False
        return True

    def deleted_instance(self):
        return objects.Instance.get_by_uuid(
            nova_context.get_admin_context(read_deleted='yes'),
            self.server['id'])


class DeletedTest(RaceTestCase):
    """A DELETE comes while the server is rescued."""

    def test_during_the_download(self):
        """It destroys at once, and is no part of the rescue."""
        shutdowns = self.record(DRIVER + '_clean_shutdown')
        launches = self.record(GUEST + 'launch')
        gate = self.gate(DRIVER + '_create_image')
        self.rescue_opted_in(self.server)
        with gate.held():
            self.api.delete_server(self.server['id'])
            self._wait_until_deleted(self.server)
        self.wait_until_logged('Error trying to Rescue Instance')
        self.assertEqual(([], []), (shutdowns, launches))
        self.assertFalse(self.has_domain())

    def wait_until_logged(self, line):
        test_rescue_failure.wait_until(
            lambda: line in self.stdlog.logger.output)

    def test_in_the_middle_when_the_download_fails(self):
        """The guest is not started after its volumes are disconnected."""
        launches = self.record(GUEST + 'launch')
        download = self.gate(DRIVER + '_create_image',
                             error=test_rescue_failure.Injected('Injected'))
        self.rescue_opted_in(self.server)
        destroyed = self.gate(MANAGER + '_cleanup_volumes')
        with download.held():
            self.api.delete_server(self.server['id'])
            with destroyed.held():
                pass
            self._wait_until_deleted(self.server)
        self.wait_until_logged('Error trying to Rescue Instance')
        self.assertEqual([], launches)
        self.assertFalse(self.has_domain())

    def test_fails_during_the_download(self):
        """The server is in ERROR, as in stock."""
        gate = self.gate(DRIVER + '_create_image')
        self.rescue_opted_in(self.server)
        with gate.held():
            with self.failing(DRIVER + 'destroy'):
                self.api.delete_server(self.server['id'])
                self._wait_for_state_change(self.server, 'ERROR')
        self.wait_for_end()
        self.assertEqual('ERROR', self.api.get_server(
            self.server['id'])['status'])

    def failing(self, name):
        def fail(*args, **kwargs):
            raise test_rescue_failure.Injected('Injected into %s' % name)

        return fixtures.MonkeyPatch(name, fail)

    def test_after_the_check_of_the_message(self):
        """It comes before anything of the rescue has begun."""
        gate = self.gate(DRIVER + '_get_existing_domain_xml')
        launches = self.record(GUEST + 'launch')
        self.rescue_opted_in(self.server)
        with gate.held():
            self.api.delete_server(self.server['id'])
            self._wait_until_deleted(self.server)
        self.wait_until_logged('Error trying to Rescue Instance')
        self.assertEqual([], launches)
        self.assertFalse(self.has_domain())
        self.assertFalse(test_rescue_failure.os.path.exists(
            self._instance_path(self.deleted_instance())))

    def test_waits_while_the_guests_are_switched(self):
        """And then destroys the rescue guest."""
        gate = self.gate(GUEST + 'launch')
        destroyed = self.record(DRIVER + 'destroy')
        self.rescue_opted_in(self.server)
        with gate.held():
            self.api.delete_server(self.server['id'])
            self._wait_for_server_parameter(
                self.server, {'OS-EXT-STS:task_state': 'deleting'})
            self.assertEqual([], destroyed)
        self._wait_until_deleted(self.server)
        self.assertFalse(self.has_domain())


class ResetTest(RaceTestCase):
    """An operator resets the state of a server while it is rescued."""

    def test_before_the_guest_is_touched(self):
        gate = self.gate(DRIVER + '_create_image')
        before = self.driver._host.get_guest(self.instance(self.server)).id
        self.rescue_opted_in(self.server)
        with gate.held():
            self.reset()
        self.wait_for_end()
        self.assertEqual(before, self.driver._host.get_guest(
            self.instance(self.server)).id)
        self.assertEqual([], self.rescue_files(self.server))
        self.assertEqual('ACTIVE', self.api.get_server(
            self.server['id'])['status'])

    def test_while_the_rescue_guest_is_started(self):
        """What runs is what the API says."""
        gate = self.gate('nova.compute.utils.notify_usage_exists')
        self.rescue_opted_in(self.server)
        with gate.held():
            self.assertIn('disk.rescue', self.disk_names(self.server))
            self.reset()
        self.wait_for_end()
        # What comes last, after the end of the event.
        test_rescue_failure.wait_until(
            lambda: not self.rescue_files(self.server))
        self.assertEqual(['disk'], self.disk_names(self.server))
        self.assertTrue(self.is_running(self.server))
        self.assertEqual([], self.rescue_files(self.server))
        instance = self.instance(self.server)
        self.assertEqual(('active', None),
                         (instance.vm_state, instance.task_state))
        self.assertNotIn(instance_metadata.MODE, instance.system_metadata)
        self.assertIn('was reset to active during its rescue',
                      self.stdlog.logger.output)

    def test_roll_back_after_another_task_has_begun(self):
        """It holds the lock, and starts nothing."""
        gate = self.gate('nova.compute.utils.notify_usage_exists',
                         error=test_rescue_failure.Injected('Injected'))
        self.rescue_opted_in(self.server)
        with gate.held():
            self.set(self.server, vm_state='active', task_state='powering-off')
            launches = self.record(GUEST + 'launch')
        self.wait_for_end()
        self.assertEqual([], launches)
        self.assertEqual('powering-off',
                         self.instance(self.server).task_state)
        self.assertIn('Hard reboot the server', self.stdlog.logger.output)

    def test_roll_back_waits_for_the_lock(self):
        gate = self.gate('nova.compute.utils.notify_usage_exists',
                         error=test_rescue_failure.Injected('Injected'))
        waits, has_it = threading.Event(), threading.Event()
        lock = operation.Rescue._lock

        def note(rescue):
            waits.set()
            lock(rescue)
            has_it.set()

        self.rescue_opted_in(self.server)

        @utils.synchronized(self.server['id'])
        def act():
            gate.open()
            self.assertTrue(waits.wait(60))
            self.assertFalse(has_it.wait(0.5))
            self.assertIn('disk.rescue', self.disk_names(self.server))

        gate.wait()
        self.patch('nova_rescue_ext.rescue.operation.Rescue._lock', note)
        act()
        self.wait_for_end()
        self.assertEqual(['disk'], self.disk_names(self.server))


class ReplacedVolumeTest(RaceTestCase):
    """A volume is migrated during the download, which changes no task."""

    def test_is_not_connected(self):
        server = self.create_bfv_server()
        before = self.driver._host.get_guest(self.instance(server)).id
        gate = self.gate(DRIVER + '_create_image')
        self.rescue_opted_in(server)
        with gate.held():
            root, = objects.BlockDeviceMappingList.get_by_instance_uuid(
                self.context, server['id'])
            info = jsonutils.loads(root.connection_info)
            info['data'] = {'target_lun': 7}
            root.connection_info = jsonutils.dumps(info)
            root.save()
            connected = self.record(DRIVER + '_connect_volume')
        self._wait_for_instance_action_event(
            server, 'rescue', 'compute_rescue_instance', 'error')
        fault = objects.InstanceFault.get_latest_for_instance(
            self.context, server['id'])
        self.assertIn('was replaced while', fault.message)
        self.assertEqual([], connected)
        self.assertEqual(before, self.driver._host.get_guest(
            self.instance(server)).id)
        self.assertEqual([], self.rescue_files(server))


class SoftDeletedTest(RaceTestCase):
    """A soft delete does not wait for the lock: its guest stays off."""

    def setUp(self):
        super().setUp()
        self.flags(reclaim_instance_interval=3600)

    def soft_delete(self):
        self.api.delete_server(self.server['id'])
        self._wait_for_state_change(self.server, 'SOFT_DELETED')

    def assert_left_off(self):
        self.assertEqual(['disk'], self.disk_names(self.server))
        self.assertFalse(self.is_running(self.server))
        self.assertEqual([], self.rescue_files(self.server))
        instance = self.instance(self.server)
        self.assertEqual(('soft-delete', None),
                         (instance.vm_state, instance.task_state))

    def test_while_the_rescue_guest_is_started(self):
        gate = self.gate(GUEST + 'launch',
                         error=test_rescue_failure.Injected('Injected'))
        self.rescue_opted_in(self.server)
        with gate.held():
            self.soft_delete()
        self.wait_for_end()
        self.assert_left_off()

    def test_before_the_rescue_is_saved(self):
        gate = self.gate('nova.compute.utils.notify_usage_exists')
        self.rescue_opted_in(self.server)
        with gate.held():
            self.soft_delete()
        test_rescue_failure.wait_until(
            lambda: not self.rescue_files(self.server))
        self.assert_left_off()
        self.assertIn('was soft deleted during its rescue',
                      self.stdlog.logger.output)
        self.assertNotIn('was reset', self.stdlog.logger.output)

    def test_its_power_off_comes_too_early(self):
        """It found the guest off, and is not saved yet."""
        gate = self.gate('nova.compute.utils.notify_usage_exists')
        self.rescue_opted_in(self.server)
        with gate.held():
            self.set(self.server, task_state='soft-deleting')
        test_rescue_failure.wait_until(
            lambda: 'is being soft deleted' in self.stdlog.logger.output)
        test_rescue_failure.wait_until(
            lambda: not self.is_running(self.server))

    def test_in_an_unrescue(self):
        self.rescued()
        gate = self.gate(GUEST + 'launch')
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        with gate.held():
            self.soft_delete()
        self.wait_for_end('unrescue')
        self.assert_left_off()


class UnrescueTest(RaceTestCase):

    def setUp(self):
        super().setUp()
        self.rescued()

    def _unrescue_while(self, change):
        """Unrescue, while another holds the lock and changes the server."""
        waits = threading.Event()
        lock = operation.host_task.HostTask._lock

        def note(task):
            waits.set()
            return lock(task)

        self.patch('nova_rescue_ext.task.host_task.HostTask._lock', note)

        @utils.synchronized(self.server['id'])
        def act():
            self.unrescue()
            self.assertTrue(waits.wait(60))
            change()

        act()

    def test_deleted_while_it_waits_for_the_lock(self):
        """It gets neither its domain nor its directory back."""
        defined = self.record(
            'nova.virt.libvirt.host.Host.write_instance_config')
        instance = self.instance(self.server)

        def delete():
            manager = self.computes['compute1'].manager
            manager._delete_instance(
                self.context, self.instance(self.server),
                objects.BlockDeviceMappingList.get_by_instance_uuid(
                    self.context, instance.uuid))

        self._unrescue_while(delete)
        test_rescue_failure.wait_until(
            lambda: 'could not be found' in self.stdlog.logger.output)
        self.assertEqual([], defined)
        self.assertFalse(self.has_domain())

    def test_reset_while_it_waits_for_the_lock(self):
        before = self.driver._host.get_guest(self.instance(self.server)).id
        self._unrescue_while(lambda: self.reset('error'))
        self.wait_for_end('unrescue')
        self.assertEqual(before, self.driver._host.get_guest(
            self.instance(self.server)).id)
        instance = self.instance(self.server)
        self.assertEqual(('error', None),
                         (instance.vm_state, instance.task_state))

    def test_reset_to_error_as_it_is_asked_for(self):
        """The guest runs if the server is ACTIVE."""
        save = objects.Instance.save
        reset = self.reset

        def reset_first(instance, *args, **kwargs):
            if instance.task_state == 'unrescuing':
                self.useFixture(fixtures.MonkeyPatch(
                    'nova.objects.Instance.save', save))
                reset('error')
            return save(instance, *args, **kwargs)

        self.patch('nova.objects.Instance.save', reset_first)
        self.unrescue()
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertEqual(['disk'], self.disk_names(self.server))
        self.assertTrue(self.is_running(self.server))

    def test_the_next_hard_reboot_starts_the_guest(self):
        """What an unrescue wants ends with it: threads are used again."""
        manager = self.computes['compute1'].manager
        instance = self.instance(self.server)
        instance.system_metadata['rescue_ext_vm_state'] = 'stopped'
        instance_metadata.request_previous_state(instance, True)
        instance.task_state = 'unrescuing'
        instance.save()
        manager.unrescue_instance(self.context, instance)
        self.assertFalse(self.is_running(self.server))
        instance.task_state = 'rebooting_hard'
        instance.save()
        manager.reboot_instance(self.context, instance, None, 'HARD')
        self.assertTrue(self.is_running(self.server))


class SecondRescueTest(RaceTestCase):
    """A server whose guest is that of an earlier rescue is not rescued."""

    def setUp(self):
        super().setUp()
        self.rescued()

    def _assert_refused(self):
        files = self.rescue_files(self.server)
        before = self.driver._host.get_guest(self.instance(self.server)).id
        self.rescue_opted_in(self.server)
        self.wait_for_end()
        fault = objects.InstanceFault.get_latest_for_instance(
            self.context, self.server['id'])
        self.assertIn('Hard reboot it first', fault.message)
        self.assertEqual(files, self.rescue_files(self.server))
        self.assertEqual(before, self.driver._host.get_guest(
            self.instance(self.server)).id)
        self.assertTrue(self.is_running(self.server))

    def test_after_a_reset(self):
        self.leave_rescue_files(self.server)
        self.reset()
        self._assert_refused()
        self._wait_for_state_change(self.server, 'ACTIVE')

    def test_after_an_unrescue_that_failed_before_its_destroy(self):
        self.leave_rescue_files(self.server)

        def fail(*args, **kwargs):
            raise test_rescue_failure.Injected('Injected')

        with fixtures.MonkeyPatch(DRIVER + '_hard_reboot', fail):
            self.unrescue()
            self._wait_for_state_change(self.server, 'ERROR')
        self._assert_refused()
        self._wait_for_state_change(self.server, 'ERROR')
        # The way that the words name.
        self._reboot_server(self.server, hard=True)
        self.assertEqual(['disk'], self.disk_names(self.server))
        self.assertEqual([], self.rescue_files(self.server))

    def test_with_shares(self):
        """The guest does not even go down."""
        self.patch('nova_rescue_ext.host.guests.has_shares',
                   lambda instance: True)
        self.reset()
        self._assert_refused()
