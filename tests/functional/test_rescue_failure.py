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


"""A failed rescue costs nothing, and one that was interrupted is not stuck."""

import datetime
import glob
import itertools
import os
import pkgutil
import struct
import time
from unittest import mock

import fixtures
from nova.compute import utils as compute_utils
from nova import objects
from nova.virt import images
from nova.virt.libvirt import utils as libvirt_utils

from nova_rescue_ext import instance_metadata
from tests.functional import base

DRIVER = 'nova.virt.libvirt.driver.LibvirtDriver.'
GUEST = 'nova.virt.libvirt.guest.Guest.'
MANAGER = 'nova.compute.manager.ComputeManager.'


# What a dotted name stands for.
resolve = pkgutil.resolve_name


def wait_until(condition):
    """Wait until a function returns true; the test's time-out ends it."""
    while not condition():
        time.sleep(0.1)


class Injected(Exception):
    """The failure that a test asked for."""


class Killed(BaseException):
    """The end of nova-compute, which no handler of errors gets to see."""


class RescueHostTestCase(base.RescueTestCase):
    """What happens on the host, where casts are casts."""

    CAST_AS_CALL = False

    def setUp(self):
        super().setUp()
        self.driver = self.computes['compute1'].driver
        self.image = self.create_image()

    def create_server(self):
        return self._create_server(image_uuid=self.IMAGE, networks='none')

    def instance(self, server):
        return objects.Instance.get_by_uuid(self.context, server['id'])

    def directory(self, server):
        return libvirt_utils.get_instance_path(self.instance(server))

    def is_running(self, server):
        return self.driver._host.get_guest(
            self.instance(server)).is_active()

    def disk_names(self, server):
        guest = self.driver._host.get_guest(self.instance(server))
        return [os.path.basename(disk.source_path)
                for disk in guest.get_all_disks()]

    def leave_rescue_files(self, server):
        for name in ('disk.rescue', 'kernel.rescue'):
            path = os.path.join(self.directory(server), name)
            with open(path, 'w') as file:
                file.write('x')

    def rescue_files(self, server):
        """What a rescue leaves on the host until the unrescue."""
        return sorted(
            os.path.basename(path)
            for pattern in ('*.rescue', 'unrescue.xml')
            for path in glob.glob(os.path.join(self.directory(server),
                                               pattern)))

    def phases(self, action='rescue'):
        """The phases of rescues, or unrescues, that were notified of."""
        return [notification['event_type'].rpartition('.')[2]
                for notification in self.notifier.versioned_notifications
                if notification['event_type'].startswith(
                    'instance.%s.' % action)]

    def rescue_opted_in(self, server):
        with self.opted_in():
            response = self.rescue(server, self.image)
        self.assertEqual(200, response.status_code, response.text)


class OrderTest(RescueHostTestCase):
    """The guest stays up until the rescue disk is ready."""

    def _events(self, server):
        events = []
        running = self.is_running

        def prepare(*args, **kwargs):
            events.append('prepare, guest %s' % (
                'up' if running(server) else 'down'))
            return False, False

        def shutdown(*args, **kwargs):
            events.append('shut down, guest %s' % (
                'up' if running(server) else 'down'))
            return True

        self.patch(DRIVER + '_create_image', prepare)
        self.patch(DRIVER + '_clean_shutdown', shutdown)
        self.assert_rescued(server, self.rescue(server, self.image))
        self.assertTrue(running(server))
        return events

    def test_prepared_before_the_guest_goes_down(self):
        """Always: only the down time gets shorter."""
        self.assertEqual(['prepare, guest up', 'shut down, guest up'],
                         self._events(self.create_server()))

    def test_volumes(self):
        """A failure to connect them disconnects them."""
        server = self.create_bfv_server()
        states = []
        connect = resolve(DRIVER + '_connect_volume')

        def connect_and_note(*args, **kwargs):
            states.append(self.is_running(server))
            return connect(*args, **kwargs)

        self.patch(DRIVER + '_connect_volume', connect_and_note)
        with self.opted_in():
            self.assert_rescued(server, self.rescue(server, self.image))
        self.assertEqual([0], states)

    def test_server_with_shares(self):
        """Powering off unmounts its shares, so that it comes first."""
        server = self.create_server()
        self.patch('nova_rescue_ext.host.guests.has_shares',
                   lambda instance: True)
        self.assertEqual(['shut down, guest up', 'prepare, guest down'],
                         self._events(server))


class FailureTestCase(RescueHostTestCase):

    def assert_as_before(self, server, reason='Injected'):
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None,
                     'status': server['status']})
        event = self._wait_for_action_fail_completion(
            server, 'rescue', 'compute_rescue_instance')
        self.assertEqual('Error', event['result'])
        fault = objects.InstanceFault.get_latest_for_instance(
            self.context, server['id'])
        self.assertIn(reason, fault.message)
        self.assertEqual(server['status'] == 'ACTIVE',
                         self.is_running(server))
        self.assertEqual(['disk'], self.disk_names(server))
        self.assertEqual([], self.rescue_files(server))
        self.assertEqual({}, {
            key: value for key, value
            in self.instance(server).system_metadata.items()
            if key in ('rescue_ext_image_id', 'rescue_ext_mode')})

    def failing(self, name, times=1, passed=0):
        """Let a function of Nova fail, the first few times.

        :param name: its dotted name
        :param times: how often
        :param passed: how many calls come before that, and pass
        :returns: a fixture
        """
        calls = itertools.count()
        inner = resolve(name)

        def fail(*args, **kwargs):
            if passed <= next(calls) < passed + times:
                raise Injected('Injected into %s' % name)
            return inner(*args, **kwargs)

        return fixtures.MonkeyPatch(name, fail)


class FailureTest(FailureTestCase):
    """Whatever fails, the server is as it was, and says why."""

    def _fail(self, name, times=1):
        self.useFixture(self.failing(name, times))

    def _test(self, name, stopped=False):
        server = self.create_server()
        if stopped:
            self.api.post_server_action(server['id'], {'os-stop': None})
            server = self._wait_for_state_change(server, 'SHUTOFF')
        self.leave_rescue_files(server)  # of an earlier one
        self._fail(name)
        self.rescue_opted_in(server)
        self.assert_as_before(server)

    def test_domain_cannot_be_read(self):
        self._test(DRIVER + '_get_existing_domain_xml')

    def test_download_or_conversion(self):
        self._test(DRIVER + '_create_image')

    def test_domain_cannot_be_made(self):
        self._test(DRIVER + '_get_guest_xml')

    def test_power_off(self):
        self._test(DRIVER + '_clean_shutdown')

    def test_destroy(self):
        self._test(GUEST + 'poweroff')

    def test_define(self):
        self._test('nova.virt.libvirt.host.Host.write_instance_config')

    def test_config_drive(self):
        self._test(DRIVER + '_create_configdrive')

    def test_start(self):
        self._test(GUEST + 'launch')

    def test_power_state_at_the_end(self):
        """It is not saved as rescued years ago."""
        self._test(MANAGER + '_get_power_state')

    def test_answer_to_the_record_is_lost(self):
        """The record, which was saved, does not stay."""
        save = objects.Instance.save
        lost = []

        def lose(itself, *args, **kwargs):
            before = dict(itself._orig_system_metadata)
            save(itself, *args, **kwargs)
            if 'rescue_ext_mode' in itself.system_metadata and not lost:
                lost.append(itself)
                # It has raised before it could forget the changes.
                itself._orig_system_metadata = before
                raise Injected('Injected into save')

        server = self.create_server()
        with mock.patch.object(objects.Instance, 'save', lose):
            self.rescue_opted_in(server)
            self.assert_as_before(server)

    def test_start_of_a_stopped_server(self):
        self._test(GUEST + 'launch', stopped=True)

    def test_download_for_a_stopped_server(self):
        self._test(DRIVER + '_create_image', stopped=True)

    def test_volume(self):
        """It is connected again: Nova has disconnected it."""
        server = self.create_bfv_server()
        connect = resolve(DRIVER + '_connect_volume')
        connected = []

        def note(*args, **kwargs):
            connected.append(args)
            return connect(*args, **kwargs)

        self.patch(DRIVER + '_connect_volume', note)
        self._fail(DRIVER + '_connect_volume')
        self.rescue_opted_in(server)
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'ACTIVE'})
        self._wait_for_action_fail_completion(
            server, 'rescue', 'compute_rescue_instance')
        self.assertTrue(self.is_running(server))
        self.assertEqual([], self.rescue_files(server))
        self.assertEqual(1, len(connected))

    def test_what_a_user_is_told(self):
        """The reason, if a policy lets the user see details."""
        server = self.create_server()
        self._fail(DRIVER + '_create_image')
        self.rescue_opted_in(server)
        self.assert_as_before(server)
        self.assertNotIn('fault', self.api.get_server(server['id']))
        action, = [action for action
                   in self.api.get_instance_actions(server['id'])
                   if action['action'] == 'rescue']
        self.assertEqual('Error', action['message'])
        event = self._event_of(server, action)
        self.assertEqual('Error', event['result'])
        self.assertNotIn('details', event)
        self.assertNotIn('traceback', event)
        self.policy.set_rules({
            'os_compute_api:os-instance-actions:events:details':
            'rule:project_reader_or_admin'}, overwrite=False)
        event = self._event_of(server, action)
        self.assertIn('Injected into', event['details'])
        self.assertNotIn('traceback', event)

    def _event_of(self, server, action):
        event, = self.api.api_get('/servers/%s/os-instance-actions/%s' % (
            server['id'], action['request_id'])).body[
                'instanceAction']['events']
        return event

    def test_the_way_back_fails_too(self):
        """Only then the server goes to ERROR."""
        server = self.create_server()
        self._fail(GUEST + 'launch', times=2)
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'ERROR')

    def test_what_others_are_told(self):
        """The start of the rescue is closed."""
        server = self.create_server()
        self._fail(DRIVER + '_create_image')
        self.rescue_opted_in(server)
        self.assert_as_before(server)
        self.assertEqual(['start', 'error'], self.phases())

    def test_then_a_rescue_succeeds(self):
        server = self.create_server()
        self._fail(GUEST + 'launch')
        self.rescue_opted_in(server)
        self.assert_as_before(server)
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'RESCUE')

    def test_server_in_error_stays_so(self):
        server = self.create_server()
        instance = self.instance(server)
        instance.vm_state = 'error'
        instance.save()
        self._fail(DRIVER + '_create_image')
        self.rescue_opted_in(server)
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'ERROR'})
        self.assertTrue(self.is_running(server))


class ContentTest(RescueHostTestCase):
    """A rescue image whose content is not what its format says."""

    # The header of a qcow2 file, with a backing file of the host.
    BACKING_FILE = b'/etc/shadow'
    CONTENT = struct.pack('>4sIQIIQ', b'QFI\xfb', 3, 512, len(BACKING_FILE),
                          16, 1 << 30).ljust(512, b'\0') + BACKING_FILE

    def _test(self, disk_format, reason):
        server = self.create_server()
        self.image = self.create_image(disk_format=disk_format)

        def download(itself, context, image_id, dest_path, *args, **kwargs):
            with open(dest_path, 'wb') as file:
                file.write(self.CONTENT.ljust(1 << 20, b'\0'))

        def fetch(itself, context, *args, **kwargs):
            images.fetch_to_raw(context, self.image, os.path.join(
                self.directory(server), 'disk.rescue'))

        self.patch('nova.image.glance.API.download', download)
        # What the double of the functional tests leaves out.
        self.patch(DRIVER + '_create_image', fetch)
        self.rescue_opted_in(server)
        event = self._wait_for_action_fail_completion(
            server, 'rescue', 'compute_rescue_instance')
        self.assertEqual('Error', event['result'])
        fault = objects.InstanceFault.get_latest_for_instance(
            self.context, server['id'])
        self.assertRegex(fault.message, reason)
        self.assertTrue(self.is_running(server))
        self.assertEqual([], self.rescue_files(server))

    def test_qcow2_that_is_called_raw(self):
        self._test('raw', 'unacceptable')

    def test_qcow2_with_a_backing_file(self):
        # Nova 29 has the same words for all that it does not accept.
        self._test('qcow2', 'safety check|not in a supported format')


class LeftoversTest(RescueHostTestCase):
    """A rescue never sees a file of an earlier one.

    Hazard: files-of-an-earlier-rescue.
    """

    def test_removed_first(self):
        server = self.create_server()
        self.leave_rescue_files(server)
        seen = []
        self.patch(DRIVER + '_create_image', lambda *args, **kwargs: (
            seen.extend(self.rescue_files(server)), (False, False))[1])
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'RESCUE')
        self.assertEqual(['unrescue.xml'], seen)


class MachineTypeTest(RescueHostTestCase):
    """The rescue image's machine type does not become the server's (17)."""

    def test_kept(self):
        server = self.create_server()
        before = self.instance(server).system_metadata[
            'image_hw_machine_type']
        self.image = self.create_image({'hw_machine_type': 'q35'})
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'RESCUE')
        self.assertNotEqual('q35', before)
        self.assertEqual(before, self.instance(server).system_metadata[
            'image_hw_machine_type'])


class RestartTestCase(RescueHostTestCase):

    def setUp(self):
        super().setUp()
        end = compute_utils.EventReporter.__exit__

        def end_unless_killed(reporter, exc_type, *exc_info):
            return (None if exc_type is Killed
                    else end(reporter, exc_type, *exc_info))

        self.patch('nova.compute.utils.EventReporter.__exit__',
                   end_unless_killed)

    def set(self, server, **values):
        instance = self.instance(server)
        for name, value in values.items():
            setattr(instance, name, value)
        instance.save()
        return instance

    def restart(self):
        self.restart_compute_service('compute1')
        self.driver = self.computes['compute1'].driver

    def kill_at(self, name):
        """Let nova-compute go no further than a function of Nova."""
        self.killed = False

        def kill(*args, **kwargs):
            self.killed = True
            raise Killed(name)

        return fixtures.MonkeyPatch(name, kill)

    def wait_until_killed(self):
        while not self.killed:  # the time-out of the test ends it
            time.sleep(0.1)

    def assert_rolled_back(self, server, status='ACTIVE'):
        server = self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': status})
        self.assertEqual([], self.rescue_files(server))
        self.assertEqual(status == 'ACTIVE', self.is_running(server))
        fault = objects.InstanceFault.get_latest_for_instance(
            self.context, server['id'])
        self.assertIn('nova-compute was restarted', fault.message)


class RestartTest(RestartTestCase):
    """nova-compute is killed in the middle (hazard: restart-in-rescue)."""

    def _interrupted(self, server, saved_domain=True):
        """As a nova-compute that was killed in a rescue leaves it."""
        guest = self.driver._host.get_guest(self.instance(server))
        if saved_domain:
            with open(os.path.join(self.directory(server),
                                   'unrescue.xml'), 'w') as file:
                file.write(guest.get_xml_desc())
        self.leave_rescue_files(server)
        self.set(server, task_state='rescuing')
        return guest

    def test_before_anything(self):
        server = self.create_server()
        self._interrupted(server, saved_domain=False)
        self.restart()
        self.assert_rolled_back(server)

    def test_shares_were_unmounted(self):
        """The guest goes down first, before anything is recorded."""
        server = self.create_server()
        self.patch('nova_rescue_ext.host.guests.has_shares',
                   lambda instance: True)
        self._interrupted(server, saved_domain=False).poweroff()
        self.restart()
        self.assert_rolled_back(server)

    def test_while_the_disk_was_prepared(self):
        """The guest was not touched, and is not now."""
        server = self.create_server()
        guest = self._interrupted(server)
        before = guest.id
        self.restart()
        self.assert_rolled_back(server)
        self.assertEqual(before, self.driver._host.get_guest(
            self.instance(server)).id)

    def test_while_the_guest_was_down(self):
        server = self.create_server()
        before = self.instance(server).system_metadata[
            'image_hw_machine_type']
        self._interrupted(server).poweroff()
        self.restart()
        self.assert_rolled_back(server)
        # Not what libvirt made of it in the saved domain.
        self.assertEqual(before, self.instance(server).system_metadata[
            'image_hw_machine_type'])

    def test_of_a_stopped_server(self):
        server = self.create_server()
        self.api.post_server_action(server['id'], {'os-stop': None})
        self._wait_for_state_change(server, 'SHUTOFF')
        self._interrupted(server)
        self.restart()
        self.assert_rolled_back(server, status='SHUTOFF')

    def test_after_the_rescue_guest_was_started(self):
        server = self.create_server()
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'RESCUE')
        self.set(server, vm_state='active', task_state='rescuing')
        self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'RESCUE'})

    def test_in_unrescue(self):
        server = self.create_server()
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'RESCUE')
        self.set(server, task_state='unrescuing')
        self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'ACTIVE'})
        self.assertEqual([], self.rescue_files(server))

    def test_unrescue_fails_again(self):
        """Not stuck: the server is in rescue, and can be unrescued."""
        server = self.create_server()
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'RESCUE')
        self.set(server, task_state='unrescuing')

        def fail(*args, **kwargs):
            raise Injected('Injected')

        with fixtures.MonkeyPatch(DRIVER + 'unrescue', fail):
            self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'RESCUE'})
        # Nova hard reboots no server in rescue.
        self.assertIn('The server stays rescued: unrescue it.',
                      self.stdlog.logger.output)
        self.api.post_server_action(server['id'], {'unrescue': None})
        self._wait_for_state_change(server, 'ACTIVE')


class ChangedMeanwhileTest(RestartTestCase):
    """Somebody else is at the server while it is brought back."""

    def setUp(self):
        super().setUp()
        self.looked_at = []
        look = resolve(MANAGER + '_get_power_state')

        def record(manager, instance):
            self.looked_at.append(instance.uuid)
            return look(manager, instance)

        self.patch(MANAGER + '_get_power_state', record)

    def _restart(self, task_state, way, change):
        """Bring two servers back; the first is changed at the end of it.

        :param task_state: the task of both
        :param way: the dotted name of what brings a server back
        :param change: a function that changes the first
        :returns: the first
        """
        first, other = servers = [self.create_server() for _ in range(2)]
        for server in servers:
            if task_state == 'unrescuing':
                self.rescue_opted_in(server)
                self._wait_for_state_change(server, 'RESCUE')
            self.set(server, task_state=task_state)
        bring_back = resolve(way)

        def bring_back_and_change(host, context, instance):
            bring_back(host, context, instance)
            if instance.uuid == first['id']:
                change(first)

        del self.looked_at[:]
        with fixtures.MonkeyPatch(way, bring_back_and_change):
            self.restart()
        self._wait_for_server_parameter(
            other, {'OS-EXT-STS:task_state': None, 'status': 'ACTIVE'})
        return first

    def _rescuing(self, change):
        return self._restart(
            'rescuing', 'nova_rescue_ext.rescue.recovery.roll_back',
            change)

    def _destroy(self, server):
        self.instance(server).destroy()

    def test_deleted(self):
        server = self._rescuing(self._destroy)
        self.assertNotIn(server['id'], self.looked_at)
        self.assertIn('was deleted while', self.stdlog.logger.output)

    def test_deleted_in_unrescue(self):
        server = self._restart('unrescuing', DRIVER + 'unrescue',
                               self._destroy)
        self.assertNotIn(server['id'], self.looked_at)

    def test_being_deleted(self):
        """Nova goes on with it, as always when it is started."""
        server = self._rescuing(
            lambda server: self.set(server, task_state='deleting'))
        self._wait_until_deleted(server)

    def test_reset(self):
        """What an operator has set is not overwritten."""
        server = self._restart(
            'unrescuing', DRIVER + 'unrescue',
            lambda server: self.set(server, vm_state='error',
                                    task_state=None))
        self.assertEqual('ERROR', self.api.get_server(server['id'])['status'])
        self.assertIn('The server stays error, with task None',
                      self.stdlog.logger.output)


class KilledTest(RestartTestCase):
    """The same, with what is in the database at that moment."""

    def _rescue_and_kill(self, server, name):
        with self.kill_at(name):
            self.rescue_opted_in(server)
            self.wait_until_killed()
            self.assertEqual('rescuing', self.instance(server).task_state)

    def _test_rolled_back(self, name):
        server = self.create_server()
        self._rescue_and_kill(server, name)
        self.restart()
        self.assert_rolled_back(server)
        self.assertEqual([], [
            key for key in self.instance(server).system_metadata
            if key.startswith('rescue_ext_')])

    def test_before_the_disk_is_prepared(self):
        self._test_rolled_back(DRIVER + '_create_image')

    def test_before_the_guest_is_destroyed(self):
        self._test_rolled_back(GUEST + 'poweroff')

    def test_before_the_rescue_guest_is_started(self):
        self._test_rolled_back(GUEST + 'launch')
        self.assertEqual(['start', 'error'], self.phases())

    def test_event_of_what_is_rolled_back(self):
        server = self.create_server()
        self._rescue_and_kill(server, DRIVER + '_create_image')
        self.restart()
        self.assert_rolled_back(server)
        self._wait_for_instance_action_event(
            server, 'rescue', 'compute_rescue_instance', 'Error')

    def test_the_way_back_fails(self):
        """The server says so, and the rescue has an end all the same."""
        server = self.create_server()
        self._rescue_and_kill(server, GUEST + 'launch')
        with self._failing(DRIVER + '_hard_reboot'):
            self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'ERROR'})
        self._wait_for_instance_action_event(
            server, 'rescue', 'compute_rescue_instance', 'Error')
        self.assertEqual(['start', 'error'], self.phases())
        fault = objects.InstanceFault.get_latest_for_instance(
            self.context, server['id'])
        self.assertIn('Hard reboot it', fault.message)
        self._reboot_server(server, hard=True)
        self.assertEqual([], self.rescue_files(server))

    def _failing(self, name):
        def fail(*args, **kwargs):
            raise Injected('Injected')

        return fixtures.MonkeyPatch(name, fail)

    def test_files_that_cannot_be_removed(self):
        """They cost nothing else."""
        server = self.create_server()
        self._rescue_and_kill(server, GUEST + 'launch')
        with self._failing('nova_rescue_ext.host.rescue_files.remove'):
            self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'ACTIVE'})
        self.assertTrue(self.is_running(server))
        self.assertEqual(['start', 'error'], self.phases())

    def test_server_in_error_whose_guest_ran(self):
        """It runs again, and the server is in ERROR as before."""
        server = self.create_server()
        self.set(server, vm_state='error')
        self._rescue_and_kill(server, GUEST + 'launch')
        self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'ERROR'})
        self.assertTrue(self.is_running(server))
        self.assertEqual(['disk'], self.disk_names(server))

    def test_before_the_rescue_is_saved(self):
        """The rescue guest runs: its record is that of any rescue."""
        server = self.create_server()
        instance = self.instance(server)
        launched_at = instance.launched_at - datetime.timedelta(seconds=2)
        instance.launched_at = launched_at
        instance.save()
        self._rescue_and_kill(server,
                              'nova.compute.utils.notify_usage_exists')
        self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'RESCUE'})
        # From which rescue_timeout counts, in whole seconds.
        self.assertLess(launched_at, self.instance(server).launched_at)
        self._wait_for_instance_action_event(
            server, 'rescue', 'compute_rescue_instance', 'Success')
        self.assertEqual(['start', 'end'], self.phases())
        recorded = instance_metadata.rescue_of(self.instance(server))
        self.assertIsNotNone(recorded.since)
        self.assertEqual(
            instance_metadata.RescueRecord(self.image, None, None, 'legacy',
                                           'active', 'running'),
            recorded._replace(since=None))
        self.assertEqual([], self.rescue_files(server))

    def test_of_a_stopped_server(self):
        server = self.create_server()
        self.api.post_server_action(server['id'], {'os-stop': None})
        self._wait_for_state_change(server, 'SHUTOFF')
        self._rescue_and_kill(server,
                              'nova.compute.utils.notify_usage_exists')
        self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'RESCUE'})
        with self.opted_in():
            self.api.post_server_action(server['id'], {'unrescue': None})
        self._wait_for_state_change(server, 'SHUTOFF')

    def test_kernel_of_the_server(self):
        """That of the rescue image is not saved as the server's."""
        kernel = self.create_image()
        self.image = self.create_image({'kernel_id': kernel})
        server = self.create_server()
        before = self.instance(server).kernel_id
        self._rescue_and_kill(server, DRIVER + '_create_image')
        instance = self.instance(server)
        self.assertEqual(before, instance.kernel_id)
        self.assertEqual(kernel,
                         instance.system_metadata['rescue_ext_kernel_id'])


class KilledInUnrescueTest(RestartTestCase):
    """It is finished when nova-compute is started again."""

    def _kill(self, name):
        server = self.create_server()
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'RESCUE')
        self.leave_rescue_files(server)
        with self.kill_at(name):
            self.api.post_server_action(server['id'], {'unrescue': None})
            self.wait_until_killed()
        self.assertEqual('unrescuing', self.instance(server).task_state)
        return server

    def _guest_id(self, server):
        return self.driver._host.get_guest(self.instance(server)).id

    def _test(self, name, guest_stays=False):
        server = self._kill(name)
        before = self._guest_id(server) if guest_stays else None
        self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'ACTIVE'})
        self.assertTrue(self.is_running(server))
        self.assertEqual([], self.rescue_files(server))
        self.assertEqual(['disk'], self.disk_names(server))
        self.assertEqual([], [
            key for key in self.instance(server).system_metadata
            if key.startswith('rescue_ext_')])
        self._wait_for_instance_action_event(
            server, 'unrescue', 'compute_unrescue_instance', 'Success')
        self.assertEqual(['start', 'end'], self.phases('unrescue'))
        if guest_stays:
            self.assertEqual(before, self._guest_id(server))

    def test_fails_again(self):
        """Its event has an end all the same."""
        def fail(*args, **kwargs):
            raise Injected('Injected')

        server = self._kill(GUEST + 'poweroff')
        with fixtures.MonkeyPatch(DRIVER + 'unrescue', fail):
            self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'RESCUE'})
        self._wait_for_instance_action_event(
            server, 'unrescue', 'compute_unrescue_instance', 'Error')

    def test_before_the_rescue_guest_is_destroyed(self):
        self._test(GUEST + 'poweroff')

    def test_before_the_domain_is_made(self):
        self._test(DRIVER + '_get_guest_xml')

    def test_before_the_guest_is_started(self):
        self._test(GUEST + 'launch')

    def test_before_the_files_are_removed(self):
        """Its user may have begun to work with the guest."""
        self._test('nova_rescue_ext.host.rescue_files.remove',
                   guest_stays=True)

    def test_before_it_is_saved(self):
        self._test(MANAGER + '_get_power_state', guest_stays=True)


class HostBootTest(RescueHostTestCase):
    """A host that reboots brings a rescued server up in rescue."""

    def _boot_host(self, server):
        self.driver._host.get_guest(self.instance(server)).poweroff()
        self.flags(resume_guests_state_on_host_boot=True)
        self.restart_compute_service('compute1')
        self.driver = self.computes['compute1'].driver

    def _names(self, server):
        guest = self.driver._host.get_guest(self.instance(server))
        return [os.path.basename(disk.source_path or '')
                for disk in guest.get_all_disks()]

    def test_in_rescue(self):
        server = self.create_server()
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'RESCUE')
        before = self._names(server)
        self.assertIn('disk.rescue', before)
        self._boot_host(server)
        self.assertTrue(self.is_running(server))
        self.assertEqual(before, self._names(server))

    def test_not_in_rescue(self):
        server = self.create_server()
        self._boot_host(server)
        self.assertTrue(self.is_running(server))
        self.assertEqual(['disk'], self._names(server))
