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


"""Unrescue of a server that was stopped before its rescue."""

import contextlib
import os
from unittest import mock

import fixtures
from nova import context as nova_context
from nova import exception
from nova.tests.functional.api import client
from nova.virt.libvirt import guest

from nova_rescue_ext import instance_metadata
from tests.functional import test_rescue_failure
from tests.functional import test_unrescue

DRIVER = 'nova.virt.libvirt.driver.LibvirtDriver.'


class Starts(fixtures.Fixture):
    """The disks of every guest that is started.

    :ivar disks: a list of lists of names of files
    """

    def _setUp(self):
        self.disks = []
        launch = guest.Guest.launch

        def record(itself, pause=False):
            self.disks.append([os.path.basename(disk.source_path or '')
                               for disk in itself.get_all_disks()])
            return launch(itself, pause)

        self.useFixture(fixtures.MonkeyPatch(
            'nova.virt.libvirt.guest.Guest.launch', record))


class StoppedTestCase(test_unrescue.UnrescueTestCase):

    def setUp(self):
        super().setUp()
        self.manager = self.computes['compute1'].manager

    def stop(self):
        self.api.post_server_action(self.server['id'], {'os-stop': None})
        self.server = self._wait_for_state_change(self.server, 'SHUTOFF')

    def stop_and_rescue(self, version='1.1', **properties):
        self.stop()
        with self.opted_in(version):
            self.rescue_now(**properties)

    def unrescue_opted_in(self, version='1.1'):
        with self.opted_in(version):
            self.api.post_server_action(self.server['id'],
                                        {'unrescue': None})

    def guest_runs(self):
        return self.computes['compute1'].driver._host.get_guest(
            self.instance()).is_active()

    def assert_stopped(self):
        server = self._wait_for_server_parameter(
            self.server, {'status': 'SHUTOFF', 'OS-EXT-STS:task_state': None})
        self.assertEqual('stopped', server['OS-EXT-STS:vm_state'])
        self.assertEqual(4, server['OS-EXT-STS:power_state'])
        self.assertFalse(self.guest_runs())
        self.assertFalse([key for key in self.instance().system_metadata
                          if key.startswith('rescue_ext_goes')])

    def assert_active(self):
        self._wait_for_server_parameter(
            self.server, {'status': 'ACTIVE', 'OS-EXT-STS:task_state': None})
        self.assertTrue(self.guest_runs())


class StoppedTest(StoppedTestCase):

    def test_is_stopped_again(self):
        before = self.domains.disks(self.server)
        self.stop_and_rescue()
        starts = self.useFixture(Starts())
        self.unrescue_opted_in()
        self.assert_stopped()
        self.assertEqual([], starts.disks)
        self.assertEqual(before, self.domains.disks(self.server))
        self.assertIsNone(instance_metadata.rescue_of(self.instance()))

    def test_stable_devices(self):
        before = self.domains.disks(self.server)
        self.stop_and_rescue(hw_rescue_device='disk')
        self.unrescue_opted_in()
        self.assert_stopped()
        self.assertEqual(before, self.domains.disks(self.server))

    def test_boot_from_volume(self):
        self.server = self.create_bfv_server()
        before = self.domains.disks(self.server)
        self.stop_and_rescue()
        with mock.patch(DRIVER + '_connect_volume') as connect, \
                mock.patch(DRIVER + '_disconnect_volume') as disconnect:
            self.unrescue_opted_in()
        self.assert_stopped()
        # As a stop leaves them.
        self.assertEqual((1, 1), (connect.call_count,
                                  disconnect.call_count))
        self.assertEqual(before, self.domains.disks(self.server))

    def test_libvirt_does_not_tell_whether_it_runs(self):
        """What is left off is not taken for ACTIVE."""
        self.stop_and_rescue()
        get_info = self.manager.driver.get_info

        def fail_at_the_end(instance, *args, **kwargs):
            if instance.vm_state == 'active':
                raise exception.InternalError('Injected')
            return get_info(instance, *args, **kwargs)

        with mock.patch.object(self.manager.driver, 'get_info',
                               fail_at_the_end):
            # Casts are calls in these tests.
            with contextlib.suppress(client.OpenStackApiException):
                self.unrescue_opted_in()
            self._wait_for_server_parameter(
                self.server, {'OS-EXT-STS:task_state': None,
                              'status': 'SHUTOFF'})

    def test_can_be_started(self):
        before = self.domains.disks(self.server)
        self.stop_and_rescue()
        self.unrescue_opted_in()
        self.assert_stopped()
        self.api.post_server_action(self.server['id'], {'os-start': None})
        self.assert_active()
        self.assertEqual(before, self.domains.disks(self.server))

    def test_was_active_the_next_time(self):
        self.stop_and_rescue()
        self.unrescue_opted_in()
        self.assert_stopped()
        self.api.post_server_action(self.server['id'], {'os-start': None})
        self.assert_active()
        with self.opted_in():
            self.rescue_now()
        self.unrescue_opted_in()
        self.assert_active()

    def test_not_before_1_1(self):
        self.stop_and_rescue()
        self.unrescue_opted_in('1.0')
        self.assert_active()

    def test_the_version_of_the_unrescue_counts(self):
        self.stop_and_rescue('1.0')
        self.unrescue_opted_in()
        self.assert_stopped()

    def test_active_before(self):
        with self.opted_in():
            self.rescue_now()
        self.unrescue_opted_in()
        self.assert_active()

    def test_record_without_the_state(self):
        """Of a rescue before the package kept it."""
        self.stop_and_rescue()
        instance = self.instance()
        del instance.system_metadata['rescue_ext_vm_state']
        instance.save()
        self.unrescue_opted_in()
        self.assert_active()

    def test_an_earlier_request_does_not_count(self):
        self.stop_and_rescue()
        instance = self.instance()
        instance_metadata.request_previous_state(instance, True)
        instance.save()
        self.unrescue_opted_in('1.0')
        self.assert_active()

    def test_what_others_are_told(self):
        self.stop_and_rescue()
        self.notifier.reset()
        self.unrescue_opted_in()
        self.assert_stopped()
        told = [(notification['event_type'],
                 notification['payload']['nova_object.data']['state'])
                for notification in self.notifier.versioned_notifications
                if 'unrescue' in notification['event_type']]
        self.assertEqual([('instance.unrescue.start', 'rescued'),
                          ('instance.unrescue.end', 'stopped')], told)
        self._wait_for_instance_action_event(
            self.server, 'unrescue', 'compute_unrescue_instance', 'Success')

    def test_on_another_host(self):
        """As after a live migration: nothing of it is kept on the host."""
        before = self.domains.disks(self.server)
        self.stop_and_rescue()
        self.start_compute('compute2')
        instance = self.instance()
        instance.host = 'compute2'
        instance.save()
        starts = self.useFixture(Starts())
        self.unrescue_opted_in()
        self._wait_for_state_change(self.server, 'SHUTOFF')
        self.assertEqual([], starts.disks)
        self.assertEqual(before, self.domains.disks(self.server))
        self.assertFalse(self.computes['compute2'].driver._host.get_guest(
            self.instance()).is_active())

    def test_powered_off_like_a_stop(self):
        """Which releases serial consoles and shares."""
        self.stop_and_rescue()
        with mock.patch.object(self.manager, '_power_off_instance') as off:
            self.unrescue_opted_in()
        off.assert_called_once()
        self.assertFalse(off.call_args.kwargs['clean_shutdown'])

    def test_power_sync_leaves_it(self):
        self.stop_and_rescue()
        self.unrescue_opted_in()
        self.assert_stopped()
        with mock.patch.object(self.manager.compute_api, 'stop') as stop, \
                mock.patch.object(self.manager.compute_api,
                                  'force_stop') as force_stop:
            self.manager._query_driver_power_state_and_sync(
                self.context, self.instance())
        stop.assert_not_called()
        force_stop.assert_not_called()
        self.assert_stopped()

    def test_failure(self):
        """In ERROR, and off; it can be stopped, or booted hard."""
        self.stop_and_rescue()
        starts = self.useFixture(Starts())
        with mock.patch(DRIVER + '_create_guest',
                        side_effect=OSError('broken')):
            self.assertRaises(client.OpenStackApiException,
                              self.unrescue_opted_in)
        self._wait_for_state_change(self.server, 'ERROR')
        self.assertEqual([], starts.disks)
        self._reboot_server(self.server, hard=True)
        self.assert_active()


class RescueTimeoutTestCase(StoppedTestCase):
    """A rescue that nova-compute ends has no caller to name a version."""

    def time_out(self):
        self.stop_and_rescue()
        instance = self.instance()
        instance.launched_at = instance.launched_at.replace(year=2000)
        instance_metadata.complete_record(instance)
        instance.save()
        self.flags(rescue_timeout=60)
        self.manager._poll_rescued_instances(
            nova_context.get_admin_context())


class RescueTimeoutTest(RescueTimeoutTestCase):

    def test_active(self):
        self.time_out()
        self.assert_active()


class RescueTimeoutDefaultVersionTest(RescueTimeoutTestCase):

    OPTIONS = {'default_api_version': 'latest'}

    def test_active(self):
        """Nobody has named a version."""
        self.time_out()
        self.assert_active()

    def test_client_that_names_no_version(self):
        """It waits for an ACTIVE server."""
        self.stop()
        self.rescue_now()
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self.assert_active()

    def test_client_that_names_the_version(self):
        self.stop_and_rescue()
        self.unrescue_opted_in()
        self.assert_stopped()

    def test_legacy_api(self):
        """It has no versions, and stays as it is."""
        self.stop_and_rescue()
        self.api.base_url = self.api.base_url.replace('/v2.1', '/v2')
        self.api.microversion = None
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self.assert_active()


class RestartTest(test_rescue_failure.RestartTestCase):
    """nova-compute is restarted in the middle."""

    def rescued(self):
        server = self.create_server()
        self.api.post_server_action(server['id'], {'os-stop': None})
        self._wait_for_state_change(server, 'SHUTOFF')
        self.rescue_opted_in(server)
        return self._wait_for_state_change(server, 'RESCUE')

    def interrupt_unrescue(self, server):
        instance = self.instance(server)
        instance_metadata.request_previous_state(instance, True)
        instance.task_state = 'unrescuing'
        instance.save()

    def test_in_unrescue(self):
        server = self.rescued()
        self.interrupt_unrescue(server)
        starts = self.useFixture(Starts())
        self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'SHUTOFF'})
        self.assertEqual([], starts.disks)
        self.assertFalse(self.is_running(server))
        self.assertEqual([], self.rescue_files(server))

    def test_in_unrescue_where_guests_are_resumed(self):
        server = self.rescued()
        self.interrupt_unrescue(server)
        self.flags(resume_guests_state_on_host_boot=True)
        starts = self.useFixture(Starts())
        self.restart()
        self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': 'SHUTOFF'})
        self.assertEqual([], starts.disks)

    def test_rescue_that_is_rolled_back(self):
        """From the database, as the saved domain is gone."""
        server = self.rescued()
        self.set(server, vm_state='stopped', task_state='rescuing')
        self.driver._host.get_guest(self.instance(server)).poweroff()
        starts = self.useFixture(Starts())
        self.restart()
        self.assert_rolled_back(server, status='SHUTOFF')
        self.assertEqual([], starts.disks)
