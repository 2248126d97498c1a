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

"""What the commands of OpenStackClient do with the plugin."""

import argparse
from importlib import metadata
import tempfile
from unittest import mock

from keystoneauth1 import exceptions as ks_exc
from osc_lib import exceptions

from nova_rescue_ext.osc import hooks
from nova_rescue_ext.osc import wait
from tests.unit.osc import base

_EVENTS = base.URL + '/servers/web/os-instance-actions/req-1'


class HookTestCase(base.CommandTestCase):

    def setUp(self):
        super().setUp()
        patcher = mock.patch.object(wait, '_SECONDS', 0)
        patcher.start()
        self.addCleanup(patcher.stop)

    def run_command(self, hook_class, version='', action='rescue',
                    arguments=(), exit_status=0, **others):
        """Run a command of OpenStackClient, which asks for an action.

        :param others: arguments that the command has itself
        """
        command = self.command(version)
        command.take_action = lambda parsed_args: self.compute.post(
            'servers/web/action', json={action: None})
        hook = hook_class(command)
        parser = argparse.ArgumentParser()
        hook.get_parser(parser)
        parsed = parser.parse_args(arguments, argparse.Namespace(**others))
        parsed = hook.before(parsed)
        command.take_action(parsed)
        self.assertEqual(exit_status, hook.after(parsed, 0))
        return parsed

    def fails_with(self, words, *args, **kwargs):
        self.assertRaisesRegex(exceptions.CommandError, words,
                               self.run_command, *args, **kwargs)


class InteractiveTest(HookTestCase):
    """One session for all commands of a process."""

    def test_nothing_stays(self):
        self.server({})
        self.answer({})
        for version in ('1.1', '1.3'):
            self.run_command(hooks.Unrescue, version, wait=False)
        self.assertEqual(
            [version % number for number in ('1.1', '1.3') for version in (
                'compute-rescue %s', 'compute 2.95, compute-rescue %s')],
            self.asked())
        self.compute.post('servers/web/action', json={'os-stop': None})
        self.assertEqual(['compute 2.95'], self.asked()[4:])

    def test_command_that_fails(self):
        self.server({})
        self.answer({}, status=409)
        self.assertRaises(ks_exc.Conflict, self.run_command, hooks.Unrescue,
                          '1.1', wait=False)
        self.compute.get('servers/web')
        self.assertEqual('compute 2.95', self.asked()[-1])


class InRescueTest(HookTestCase):
    """Commands whose requests are no actions, with the version as well."""

    def setUp(self):
        super().setUp()
        self.http.post(base.URL + '/servers/web/os-interface', json={})
        self.http.delete(base.URL + '/servers/web/os-interface/port')
        self.http.post(base.URL + '/servers/web/os-volume_attachments',
                       json={})

    def change(self, version='1.4'):
        command = self.command(version)

        def change(parsed_args):
            self.compute.post('servers/web/os-interface', json={})
            self.compute.delete('/servers/web/os-interface/port')
            self.compute.post('servers/web/os-volume_attachments', json={})

        command.take_action = change
        parsed = hooks.InRescue(command).before(argparse.Namespace())
        command.take_action(parsed)

    def test_ports_and_volumes(self):
        self.server({})
        self.change()
        self.assertEqual(
            ['compute-rescue 1.4', 'compute 2.95, compute-rescue 1.4'] * 3,
            self.asked())

    def test_no_version(self):
        self.change('')
        self.assertEqual(['compute 2.95'] * 3, self.asked())

    def test_cloud_without_compute_rescue(self):
        """As an action it fails before it changes anything."""
        self.server({}, headers=base.STOCK)
        self.assertRaisesRegex(exceptions.CommandError, 'does not offer',
                               self.change)
        self.assertEqual(
            ['GET'], [sent.method for sent in self.http.request_history])

    def test_commands(self):
        found = metadata.distribution('nova-rescue-ext').entry_points
        for command in ('add_fixed_ip', *(
                '%s_%s' % (verb, what) for verb in ('add', 'remove')
                for what in ('volume', 'port', 'network'))):
            (hook,) = found.select(group='openstack.cli.server_' + command)
            self.assertIs(hooks.InRescue, hook.load())


class RescueTest(HookTestCase):

    def rescue(self, version='1.1', arguments=(), password=None,
               exit_status=0):
        self.run_command(hooks.Rescue, version, arguments=arguments,
                         password=password, exit_status=exit_status)

    def test_password(self):
        self.server({})
        self.answer({'adminPass': 'q2k8'})
        self.rescue()
        self.assertEqual('Password: q2k8\n', self.stdout.getvalue())

    def test_password_of_the_user(self):
        self.server({})
        self.answer({'adminPass': 'mine'})
        self.rescue(password='mine')
        self.assertEqual('', self.stdout.getvalue())

    def test_no_password(self):
        """[api] enable_instance_password = False"""
        self.server({})
        self.answer({})
        self.rescue()
        self.assertEqual('', self.stdout.getvalue())

    def test_no_version_no_output(self):
        self.server({})
        self.answer({'adminPass': 'q2k8'})
        self.rescue(version='')
        self.assertEqual('', self.stdout.getvalue())
        self.assertNotIn('compute-rescue', ''.join(filter(
            None, self.asked())))

    def test_wait(self):
        self.server({}, {'OS-EXT-STS:task_state': 'rescuing'},
                    {'OS-EXT-STS:task_state': 'rescuing'},
                    {'status': 'RESCUE'})
        self.answer({'adminPass': 'q2k8'})
        self.rescue(arguments=['--wait'])
        self.assertEqual(5, len(self.asked()))

    def test_timeout(self):
        self.server({})
        self.answer({'adminPass': 'q2k8'})
        self.rescue('1.4', ['--timeout', '600'])
        self.assertEqual({'rescue': {'timeout': 600}},
                         self.http.last_request.json())

    def test_key_and_user_data(self):
        self.server({})
        self.answer({'adminPass': 'q2k8'})
        with tempfile.NamedTemporaryFile() as user_data:
            user_data.write(b'#!/bin/sh')
            user_data.flush()
            self.rescue('1.4', ['--key-name', 'mine', '--user-data',
                                user_data.name])
        self.assertEqual({'rescue': {
            'key_name': 'mine', 'user_data': 'IyEvYmluL3No'}},
            self.http.last_request.json())

    def test_user_data_that_cannot_be_read(self):
        self.fails_with('/no/such cannot be read: No such file', hooks.Rescue,
                        '1.4', password=None,
                        arguments=['--user-data', '/no/such'])
        self.assertEqual([], self.asked())

    def test_timeout_without_the_version(self):
        for version in ('', '1.3'):
            self.fails_with('1.4 or greater is required for --timeout',
                            hooks.Rescue, version, password=None,
                            arguments=['--timeout', '600'])
        self.assertEqual([], self.asked())

    def wait_for_line(self, *states, exit_status=0, after='RESCUE'):
        """With the states of the ready line, one after the other."""
        servers = [{'status': 'RESCUE', 'rescue_session': {
            'ready_line': state}} for state in states]
        self.server({}, *servers, {'status': after})
        self.answer({'adminPass': 'q2k8'})
        self.rescue('1.4', ['--wait'], exit_status=exit_status)
        self.assertEqual(2 + len(states), len(self.asked()))

    def test_wait_for_line(self):
        self.wait_for_line('waiting', 'waiting', 'seen')
        self.assertEqual('', self.stderr.getvalue())

    def test_wait_for_line_that_is_not_seen(self):
        self.wait_for_line('waiting', 'not_seen', exit_status=3)
        self.assertIn('web is in rescue, but its console has not shown',
                      self.stderr.getvalue())

    def test_wait_for_line_while_the_cell_is_down(self):
        """Nova shows what it knows without the cell."""
        away = {'status': 'RESCUE'}
        for servers in ([{'rescue_session': None}, away],
                        [{}, {'status': 'RESCUE', 'rescue_session': {
                            'ready_line': 'waiting'}}, away]):
            self.server(*servers, {'status': 'RESCUE', 'rescue_session': {
                'ready_line': 'not_seen'}})
            self.answer({'adminPass': 'q2k8'})
            self.rescue('1.4', ['--wait'], exit_status=3)

    def test_no_line_to_wait_for(self):
        self.wait_for_line(None)

    def test_unrescued_while_waiting_for_line(self):
        self.assertRaisesRegex(
            exceptions.CommandError, 'no longer in rescue. It is ACTIVE',
            self.wait_for_line, 'waiting', after='ACTIVE')

    def test_wait_without_a_version(self):
        self.server({'status': 'RESCUE'}, headers=base.STOCK)
        self.answer({'adminPass': 'q2k8'}, headers=base.STOCK)
        self.rescue('', ['--wait'])
        self.assertNotIn('compute-rescue', ''.join(filter(
            None, self.asked())))

    def test_wait_without_the_server_before(self):
        """Reading it fails, the request and the wait do not."""
        self.http.get(base.URL + '/servers/web', [
            {'status_code': 503, 'headers': base.OPTED_IN},
            {'json': {'server': {'id': 'web', 'status': 'RESCUE',
                                 'OS-EXT-STS:task_state': None}},
             'headers': base.OPTED_IN}])
        self.answer({'adminPass': 'q2k8'})
        self.rescue(arguments=['--wait'])

    def test_wait_while_the_cell_is_down(self):
        self.http.get(base.URL + '/servers/web', [
            {'json': {'server': server}, 'headers': base.OPTED_IN}
            for server in ({'id': 'web'}, {'id': 'web', 'status': 'UNKNOWN'},
                           {'id': 'web', 'status': 'RESCUE',
                            'OS-EXT-STS:task_state': None})])
        self.answer({'adminPass': 'q2k8'})
        self.rescue(arguments=['--wait'])
        self.assertEqual(4, len(self.asked()))

    def failed(self, events, server=None):
        self.server({}, server or {})
        self.answer({'adminPass': 'q2k8'})
        self.http.get(_EVENTS, **events)
        return self.fails_with

    def test_reason_in_the_event(self):
        self.failed({'json': {'instanceAction': {'events': [
            {'details': 'inner'}, {'details': 'No space left on device'}]}}})(
            'not rescued, and is ACTIVE. No space left', hooks.Rescue, '1.1',
            arguments=['--wait'], password=None)

    def test_reason_that_users_may_not_see(self):
        self.failed({'json': {'instanceAction': {'events': [
            {'details': None}]}}})(
            'does not tell you why.* req-1', hooks.Rescue, '1.1',
            arguments=['--wait'], password=None)

    def test_reason_in_the_fault(self):
        self.failed({'status_code': 403}, {
            'status': 'ERROR', 'fault': {'message': 'broken'}})(
            'is ERROR. broken', hooks.Rescue, '1.1', arguments=['--wait'],
            password=None)

    def test_actions_that_users_may_not_see(self):
        self.failed({'status_code': 403})(
            'does not tell you why', hooks.Rescue, '1.1',
            arguments=['--wait'], password=None)

    def test_deleted_meanwhile(self):
        self.http.get(base.URL + '/servers/web', [
            {'json': {'server': {'id': 'web'}}, 'headers': base.OPTED_IN},
            {'status_code': 404, 'headers': base.OPTED_IN}])
        self.answer({})
        self.fails_with('has been deleted', hooks.Rescue, '1.1',
                        arguments=['--wait'], password=None)


class UnrescueTest(HookTestCase):

    def test_wait(self):
        for status in ('ACTIVE', 'SHUTOFF'):
            self.server({'status': 'RESCUE'},
                        {'status': 'RESCUE',
                         'OS-EXT-STS:task_state': 'unrescuing'},
                        {'status': status})
            self.answer()
            self.run_command(hooks.Unrescue, '1.1', 'unrescue', ['--wait'])

    def test_failed(self):
        self.http.get(_EVENTS, status_code=403)
        for status in ('RESCUE', 'ERROR'):
            self.server({'status': 'RESCUE'}, {'status': status})
            self.answer()
            self.fails_with('not unrescued, and is ' + status, hooks.Unrescue,
                            '1.1', 'unrescue', ['--wait'])


class MigrateTest(HookTestCase):

    def test_wait(self):
        """In rescue before and after."""
        self.server({'status': 'RESCUE'},
                    {'status': 'RESCUE',
                     'OS-EXT-STS:task_state': 'migrating'},
                    {'status': 'RESCUE', 'hostId': 'two'})
        self.answer()
        parsed = self.run_command(
            hooks.Migrate, '1.3', 'os-migrateLive', wait=True,
            live_migration=True)
        self.assertFalse(parsed.wait)  # or it would wait for ACTIVE
        self.assertEqual('Complete\n', self.stdout.getvalue())

    def test_failed(self):
        self.http.get(_EVENTS, json={'instanceAction': {'events': [
            {'details': 'No valid host was found.'}]}})
        self.server({'status': 'RESCUE'})
        self.answer()
        self.fails_with('not migrated, and is RESCUE. No valid host',
                        hooks.Migrate, '1.3', 'os-migrateLive', wait=True,
                        live_migration=True)

    def test_moved_and_broken(self):
        self.http.get(_EVENTS, status_code=403)
        self.server({'status': 'RESCUE'}, {
            'status': 'ERROR', 'hostId': 'two', 'fault': {'message': 'bad'}})
        self.answer()
        self.fails_with('not migrated, and is ERROR. bad', hooks.Migrate,
                        '1.3', 'os-migrateLive', wait=True,
                        live_migration=True)

    def test_without_the_server_before(self):
        """Whether it has moved cannot be told."""
        self.http.get(base.URL + '/servers/web', [
            {'status_code': 503, 'headers': base.OPTED_IN},
            {'json': {'server': {'id': 'web', 'status': 'RESCUE',
                                 'hostId': 'two',
                                 'OS-EXT-STS:task_state': None}},
             'headers': base.OPTED_IN}])
        self.answer()
        self.fails_with('not known whether it has moved. It is RESCUE',
                        hooks.Migrate, '1.3', 'os-migrateLive', wait=True,
                        live_migration=True)

    def test_left_alone(self):
        """Without a version, and in a cold migration."""
        self.server({})
        self.answer()
        for version, live in (('', True), ('1.3', False)):
            parsed = self.run_command(
                hooks.Migrate, version, 'migrate', wait=True,
                live_migration=live)
            self.assertTrue(parsed.wait)
        self.assertEqual('', self.stdout.getvalue())


class RebootTest(HookTestCase):

    def reboot(self, version='1.4', wait=True):
        return self.run_command(hooks.Reboot, version, 'reboot', wait=wait)

    def test_wait(self):
        """A server in rescue does not become ACTIVE."""
        self.server({'status': 'RESCUE'},
                    {'OS-EXT-STS:task_state': 'rebooting'},
                    {'status': 'RESCUE', 'OS-EXT-STS:power_state': 1})
        self.answer(None)
        self.assertFalse(self.reboot().wait)
        self.assertEqual('Complete\n', self.stdout.getvalue())

    def test_failed(self):
        self.server({'status': 'RESCUE'},
                    {'status': 'RESCUE', 'OS-EXT-STS:power_state': 4,
                     'fault': {'message': 'No space left'}})
        self.answer(None)
        self.assertRaisesRegex(
            exceptions.CommandError,
            'not rebooted, and is RESCUE. No space left', self.reboot)

    def test_error(self):
        self.server({'status': 'RESCUE'}, {
            'status': 'ERROR', 'OS-EXT-STS:power_state': 1,
            'fault': {'message': 'bad'}})
        self.answer(None)
        self.assertRaisesRegex(exceptions.CommandError,
                               'not rebooted, and is ERROR. bad', self.reboot)

    def test_left_to_the_command(self):
        self.server({})
        self.answer(None)
        self.assertTrue(self.reboot(version='').wait)
        self.assertFalse(self.reboot(wait=False).wait)
        self.assertEqual('', self.stdout.getvalue())


class RebuildTest(HookTestCase):

    def test_version(self):
        self.server({})
        self.answer({})
        self.run_command(hooks.Rebuild, '1.2', 'rebuild')
        self.assertEqual('compute 2.95, compute-rescue 1.2', self.asked()[-1])
