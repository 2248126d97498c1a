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


"""What operators do about failed builds."""

import contextlib
import io

from oslo_serialization import jsonutils

from nova_rescue_ext.cmd import manage
from tests.functional import rebuild_base


class Adapter:
    """The compute API as keystoneauth gives it."""

    def __init__(self, api):
        self._api = api

    def get(self, url, headers):
        self._api.microversion = headers['OpenStack-API-Version'].replace(
            'compute ', '', 1)
        return self._api.api_request(url)

    def post(self, url, json, headers):
        return self._api.api_request(
            url, method='POST', body=jsonutils.dumps(json),
            headers={'Content-Type': 'application/json'})


class ManageTest(rebuild_base.RebuildTestCase):

    def run_command(self, *argv):
        arguments = manage._parser().parse_args(argv)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            if arguments.action is manage.rebuild_interrupted:
                code = arguments.action(arguments)
            else:
                code = arguments.action(
                    arguments, connect=lambda cloud: Adapter(self.admin_api))
        return code, output.getvalue()

    def test_rebuild_failed(self):
        servers = [self.create_failed(name=name)['id']
                   for name in ('one', 'two')]
        self.add_capacity()
        booted = self.create()
        self.admin_api.post_server_action(
            booted['id'], {'os-resetState': {'state': 'error'}})
        code, output = self.run_command(
            'rebuild-failed', '--rate', '6000', '--failed-before',
            '2100-01-01T00:00:00')
        self.assertEqual(0, code, output)
        self.assertIn('2 ACTIVE', output)
        self.assertNotIn(booted['id'], output)
        for server_id in servers:
            self.assertEqual('ACTIVE', self.api.get_server(server_id)[
                'status'])

    def test_rebuild_failed_dry_run(self):
        server = self.create_failed()
        code, output = self.run_command(
            'rebuild-failed', '--dry-run', '--failed-before',
            '2100-01-01T00:00:00')
        self.assertEqual(0, code)
        self.assertIn(server['id'], output)
        self.assertIn('No valid host', output)
        self.assert_untouched(self.api.get_server(server['id']))

    def test_rebuild_failed_again_and_refused(self):
        failing = self.create_failed()
        locked = self.create_failed(bdms=[{
            'boot_index': 0, 'source_type': 'image', 'volume_size': 1,
            'uuid': self.IMAGE, 'destination_type': 'volume'}])
        self.admin_api.project_id = 'other'
        self.admin_api.auth_result = None
        code, output = self.run_command(
            'rebuild-failed', '--rate', '6000', '--failed-before',
            '2100-01-01T00:00:00')
        self.assertEqual(1, code)
        self.assertIn('1 ERROR, 1 refused', output)
        for server in (failing, locked):
            self.assertIn(server['id'], output)

    def test_rebuild_failed_filters(self):
        server = self.create_failed()
        everything = ['rebuild-failed', '--dry-run',
                      '--failed-before', '2100-01-01T00:00:00']
        for passing in ([], ['--reason', 'No valid'],
                        ['--flavor', 'm1.tiny'],
                        ['--project', server['tenant_id']]):
            self.assertIn(server['id'], self.run_command(
                *everything, *passing)[1], passing)
        for failing in (['--reason', 'other'], ['--flavor', 'other'],
                        ['--project', 'other'], ['--older-than', '99'],
                        ['--availability-zone', 'other'], ['--limit', '0'],
                        ['--failed-before', '2000-01-01T00:00:00']):
            self.assertNotIn(server['id'], self.run_command(
                *everything, *failing)[1], failing)

    def test_rebuild_interrupted(self):
        server = self.create_failed()
        with self.killed('nova_rescue_ext.rebuild.api._destroy_row'):
            self.assertRaises(rebuild_base.Killed, self.rebuild, server)
        command = ['rebuild-interrupted', '--older-than', '0']
        code, output = self.run_command(*command, '--dry-run')
        self.assertIn(server['id'], output)
        self.assertEqual('BUILD', self.api.get_server(server['id'])['status'])
        code, output = self.run_command(*command)
        self.assertEqual(0, code)
        self.assertIn('1 undone', output)
        self.assertEqual('ERROR', self.api.get_server(server['id'])['status'])
        self.assertIn('0 undone', self.run_command(*command)[1])
