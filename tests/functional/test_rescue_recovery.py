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


"""What a restart of nova-compute finds in the middle is brought to its end."""

import contextlib
import datetime
import time

import fixtures
from nova import objects
from nova import utils
from oslo_utils.fixture import uuidsentinel as uuids

from tests.functional import test_late_message
from tests.functional import test_rescue_failure

DRIVER = test_rescue_failure.DRIVER
GUEST = test_rescue_failure.GUEST
MANAGER = test_rescue_failure.MANAGER

# The last that the manager asks for before it saves the end of a task.
POWER_STATE = MANAGER + '_get_power_state'


class RecoveryTestCase(test_late_message.LateMessageTestCase):

    def rescued(self):
        server = self.create_server()
        self.rescue_opted_in(server)
        return self._wait_for_state_change(server, 'RESCUE')

    def kill_in(self, action, server, name):
        """Let nova-compute end in a rescue or an unrescue."""
        with self.kill_at(name):
            if action == 'rescue':
                self.rescue_opted_in(server)
            else:
                self.api.post_server_action(server['id'], {action: None})
            self.wait_until_killed()

    def failing(self, name):
        def fail(*args, **kwargs):
            raise test_rescue_failure.Injected('Injected')

        return fixtures.MonkeyPatch(name, fail)

    def wait_for_status(self, server, status):
        return self._wait_for_server_parameter(
            server, {'OS-EXT-STS:task_state': None, 'status': status})

    def events(self, server, action):
        """The results of all events of an action, None while one is open."""
        [begun] = [one for one
                   in objects.InstanceActionList.get_by_instance_uuid(
                       self.context, server['id']) if one.action == action]
        return [event.result for event
                in objects.InstanceActionEventList.get_by_action(
                    self.context, begun.id)
                if event.event == 'compute_%s_instance' % action]

    def fault(self, server):
        return objects.InstanceFault.get_latest_for_instance(
            self.context, server['id']).message


class UnrescuedGuestTest(RecoveryTestCase):
    """Only a guest that runs on its own disks is its user's."""

    def _test(self, change):
        """Kill it before the end is saved: is the guest replaced?"""
        server = self.rescued()
        self.kill_in('unrescue', server, POWER_STATE)
        change(self.driver._host.get_guest(self.instance(server)))
        before = self.guest_id(server)
        self.restart()
        self.wait_for_status(server, 'ACTIVE')
        self.assertTrue(self.is_running(server))
        self.assertEqual([], self.rescue_files(server))
        self.assertEqual(['disk'], self.disk_names(server))
        self.assertNotEqual(before, self.guest_id(server))

    def test_not_yet_resumed(self):
        """It is paused while its network is plugged."""
        self._test(lambda guest: guest.pause())

    def test_host_was_rebooted(self):
        self._test(lambda guest: guest.poweroff())

    def test_shares(self):
        """They are active when the guest runs, and not before."""
        server = self.rescued()
        self.kill_in('unrescue', server, POWER_STATE)
        before = self.guest_id(server)
        share = objects.ShareMapping(
            self.context, uuid=uuids.mapping, instance_uuid=server['id'],
            share_id=uuids.share, status='inactive', tag='tag',
            export_location='host:/share', share_proto='NFS')
        share.create()
        self.restart()
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual(before, self.guest_id(server))
        share, = objects.ShareMappingList.get_by_instance_uuid(
            self.context, server['id'])
        self.assertEqual('active', share.status)

    def test_legacy_notification(self):
        server = self.rescued()
        self.kill_in('unrescue', server, POWER_STATE)
        self.restart()
        self.wait_for_status(server, 'ACTIVE')
        self.assertEqual(
            ['compute.instance.unrescue.start',
             'compute.instance.unrescue.end'],
            [notification.event_type
             for notification in self.notifier.notifications
             if '.unrescue.' in notification.event_type])


class UnknownGuestTest(RecoveryTestCase):

    def test_guest_that_cannot_be_looked_at(self):
        server = self.create_server()
        self.kill_in('rescue', server, GUEST + 'launch')
        with self.failing('nova_rescue_ext.host.guests.is_running'):
            self.restart()
        self.wait_for_status(server, 'ERROR')
        self.assertEqual(['Error'], self.events(server, 'rescue'))
        self.assertEqual(['start', 'error'], self.phases())


class DoubledMessageTest(RecoveryTestCase):
    """The message bus may deliver a message twice."""

    def deliver_late(self, server, deliver):
        before = self.state(server)
        deliver()
        self.wait_until_logged('The message to rescue the server arrived')
        with utils.synchronized('rescue_ext-' + server['id'])(
                contextlib.nullcontext)():
            pass
        self.assertEqual(before, self.state(server))

    def wait_until_logged(self, line):
        while line not in self.stdlog.logger.output:  # the test's time-out
            time.sleep(0.1)

    def test_rescue_that_failed(self):
        server = self.create_server()
        deliver = self.hold_back('rescue', server)
        with self.failing(DRIVER + '_create_image'):
            deliver()
            self.wait_for_event(server, 'rescue', 'error')
        self.wait_for_status(server, 'ACTIVE')
        self.deliver_late(server, deliver)
        self.assertEqual(['Error'], self.events(server, 'rescue'))

    def test_rescue_that_was_unrescued_since(self):
        server = self.create_server()
        deliver = self.hold_back('rescue', server)
        deliver()
        self.wait_for_status(server, 'RESCUE')
        self.api.post_server_action(server['id'], {'unrescue': None})
        self.wait_for_status(server, 'ACTIVE')
        self.deliver_late(server, deliver)
        self.assertEqual(['Success'], self.events(server, 'rescue'))


class HostRebootTest(RecoveryTestCase):
    """The operator says whether guests are started when a host boots."""

    def _reboot_host(self, server):
        """All that was saved of the server is older than that."""
        self.driver._host.get_guest(self.instance(server)).poweroff()
        self.set(server, updated_at=datetime.datetime(
            2000, 1, 1, tzinfo=datetime.timezone.utc))
        self.restart()

    def _test(self, name):
        server = self.create_server()
        self.kill_in('rescue', server, name)
        self._reboot_host(server)
        self._wait_for_server_parameter(server,
                                        {'OS-EXT-STS:task_state': None})
        self.assertEqual([], self.rescue_files(server))
        self.assertEqual(['disk'], self.disk_names(server))
        self.assertIn('nova-compute was restarted', self.fault(server))
        return self.is_running(server)

    def test_in_the_download(self):
        self.assertFalse(self._test(DRIVER + '_create_image'))

    def test_in_the_download_where_guests_are_resumed(self):
        self.flags(resume_guests_state_on_host_boot=True)
        self.assertTrue(self._test(DRIVER + '_create_image'))

    def test_when_the_guests_were_switched(self):
        self.assertFalse(self._test(GUEST + 'launch'))

    def test_when_the_guests_were_switched_where_guests_are_resumed(self):
        self.flags(resume_guests_state_on_host_boot=True)
        self.assertTrue(self._test(GUEST + 'launch'))
