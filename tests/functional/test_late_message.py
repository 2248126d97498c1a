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


"""A message that comes when a restart has ended the task of its server."""

import contextlib
import threading
import time

import fixtures
from nova.compute import rpcapi
from nova import utils

from nova_rescue_ext import instance_metadata
from tests.functional import test_rescue_failure

DRIVER = test_rescue_failure.DRIVER


class LateMessageTestCase(test_rescue_failure.RestartTestCase):

    def hold_back(self, action, server):
        """Ask for an action whose message stays in its queue.

        :returns: a function that delivers the message
        """
        name = action + '_instance'
        cast = getattr(rpcapi.ComputeAPI, name)
        held = []
        with fixtures.MonkeyPatch(
                'nova.compute.rpcapi.ComputeAPI.' + name,
                lambda *args, **kwargs: held.append((args, kwargs))):
            if action == 'rescue':
                self.rescue_opted_in(server)
            else:
                self.api.post_server_action(server['id'], {'unrescue': None})
        self.assertEqual(action[:-1] + 'ing',
                         self.instance(server).task_state)
        (args, kwargs), = held
        return lambda: cast(*args, **kwargs)

    def wait_for_event(self, server, action, result):
        return self._wait_for_instance_action_event(
            server, action, 'compute_%s_instance' % action, result)

    def guest_id(self, server):
        return self.driver._host.get_guest(self.instance(server)).id

    def state(self, server):
        """All that is saved of the server."""
        instance = self.instance(server)
        return (instance.vm_state, instance.task_state, instance.updated_at,
                instance.system_metadata)

    def assert_nothing_done(self, server, action, deliver, result='error'):
        """The message changes neither the guest nor what is saved."""
        before = self.guest_id(server), self.state(server)
        deliver()
        self.wait_for_event(server, action, result)
        self.assertEqual(before, (self.guest_id(server),
                                  self.state(server)))


class RescueTest(LateMessageTestCase):

    def test_after_a_restart(self):
        server = self.create_server()
        deliver = self.hold_back('rescue', server)
        self.restart()
        self.assert_rolled_back(server)
        self.assert_nothing_done(server, 'rescue', deliver)
        self.assert_rolled_back(server)
        self.assertEqual(['disk'], self.disk_names(server))
        self.assertIn('The message to rescue the server arrived when the '
                      'server was no longer rescuing',
                      self.stdlog.logger.output)
        self.assertIn('the server stays active. If it is still wanted, rescue '
                      'the server again', self.stdlog.logger.output)
        self.rescue_opted_in(server)
        self._wait_for_state_change(server, 'RESCUE')

    def test_reason(self):
        server = self.create_server()
        deliver = self.hold_back('rescue', server)
        self.restart()
        deliver()
        self.wait_for_event(server, 'rescue', 'error')
        self.policy.set_rules({
            'os_compute_api:os-instance-actions:events:details':
            'rule:project_reader_or_admin'}, overwrite=False)
        action = self.api.get_instance_actions(server['id'])[0]
        event, = self.api.api_get('/servers/%s/os-instance-actions/%s' % (
            server['id'], action['request_id'])).body[
                'instanceAction']['events']
        self.assertIn('did not rescue the server: its task had',
                      event['details'])

    def test_the_server_was_deleted(self):
        server = self.create_server()
        deliver = self.hold_back('rescue', server)
        self.restart()
        self._delete_server(server)
        calls = []
        self.patch(DRIVER + 'rescue',
                   lambda *args, **kwargs: calls.append(args))
        deliver()
        self.wait_until_logged('arrived after the server had been deleted')
        self.assertEqual([], calls)

    def wait_until_logged(self, line):
        while line not in self.stdlog.logger.output:  # the test's time-out
            time.sleep(0.1)

    def test_doubled(self):
        """What was done stays done, in the event, too."""
        server = self.create_server()
        deliver = self.hold_back('rescue', server)
        deliver()
        self._wait_for_state_change(server, 'RESCUE')
        self.wait_for_event(server, 'rescue', 'success')
        deliver()
        self.wait_until_logged('arrived after that had ended')
        with utils.synchronized('rescue_ext-' + server['id'])(
                contextlib.nullcontext)():
            pass
        action, = [action for action
                   in self.api.get_instance_actions(server['id'])
                   if action['action'] == 'rescue']
        self.assertIsNone(action['message'])
        event, = self.api.api_get('/servers/%s/os-instance-actions/%s' % (
            server['id'], action['request_id'])).body[
                'instanceAction']['events']
        self.assertEqual('Success', event['result'])

    def test_two_messages_at_once(self):
        """One rescue for one task, whichever message it is."""
        server = self.create_server()
        first = self.hold_back('rescue', server)
        self.restart()
        self.assert_rolled_back(server)
        second = self.hold_back('rescue', server)
        both, calls = threading.Event(), []

        def meet(*args, **kwargs):
            calls.append(args)
            if len(calls) > 1:
                both.set()
            both.wait(2)
            return False, False

        self.patch(DRIVER + '_create_image', meet)
        first()
        second()
        self._wait_for_state_change(server, 'RESCUE')
        self.wait_for_event(server, 'rescue', 'error')
        self.wait_for_event(server, 'rescue', 'success')
        self.assertEqual(1, len(calls))
        self.assertIn('disk.rescue', self.disk_names(server))


class UnrescueTest(LateMessageTestCase):

    def setUp(self):
        super().setUp()
        self.server = self.create_server()
        self.rescue_opted_in(self.server)
        self._wait_for_state_change(self.server, 'RESCUE')

    def _restart_failing(self):
        def fail(*args, **kwargs):
            raise test_rescue_failure.Injected('Injected')

        with fixtures.MonkeyPatch(DRIVER + 'unrescue', fail):
            self.restart()

    def test_after_a_restart_that_unrescued(self):
        """What was asked for has been done."""
        deliver = self.hold_back('unrescue', self.server)
        self.restart()
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assert_nothing_done(self.server, 'unrescue', deliver, 'success')
        self.assertEqual(['disk'], self.disk_names(self.server))

    def test_after_a_restart_that_could_not_unrescue(self):
        deliver = self.hold_back('unrescue', self.server)
        self._restart_failing()
        self.assert_nothing_done(self.server, 'unrescue', deliver)
        self._wait_for_state_change(self.server, 'RESCUE')
        self.assertIn('The server stays rescued: unrescue it',
                      self.stdlog.logger.output)
        self.api.post_server_action(self.server['id'], {'unrescue': None})
        self._wait_for_state_change(self.server, 'ACTIVE')

    def test_after_the_state_was_reset(self):
        """It says nothing of the guest, which is that of the rescue."""
        deliver = self.hold_back('unrescue', self.server)
        self.set(self.server, vm_state='active', task_state=None)
        self.assert_nothing_done(self.server, 'unrescue', deliver)

    def test_of_the_timeout(self):
        """rescue_timeout asks without a user."""
        self.flags(rescue_timeout=1)
        instance = self.instance(self.server)
        instance.launched_at = instance.launched_at.replace(year=2020)
        instance_metadata.complete_record(instance)
        instance.save()
        self.computes['compute1'].manager._poll_rescued_instances(
            self.context)
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.assertEqual(['disk'], self.disk_names(self.server))
