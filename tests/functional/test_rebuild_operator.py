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

import os
import re
import time
from unittest import mock

import fixtures
from keystoneauth1 import exceptions as ks_exc
from oslo_db import exception as db_exc

from nova_rescue_ext import activation
from nova_rescue_ext.cmd import compute_api
from nova_rescue_ext.rebuild import recovery
from tests.functional import operator_base
from tests.functional import rebuild_base

FAR = '2100-01-01T00:00:00'


class ManageTest(operator_base.OperatorMixin, rebuild_base.RebuildTestCase):
    """The command is a client over HTTP, with a cloud of clouds.yaml."""

    def setUp(self):
        super().setUp()
        self.serve_clouds(self.api.project_id, 'other')
        # This process is configured already.
        self.patch('nova_rescue_ext.cmd.manage._start_as_nova',
                   lambda config_files: None)

    def rebuild_failed(self, *argv, project=None):
        return self.run_command(
            'rebuild-failed', '--os-cloud', project or self.api.project_id,
            '--rate', '6000', *argv)

    def test_rebuild_failed(self):
        servers = [self.create_failed(name=name)['id']
                   for name in ('one', 'two')]
        self.add_capacity()
        booted = self.create()
        self.admin_api.post_server_action(
            booted['id'], {'os-resetState': {'state': 'error'}})
        code, output = self.rebuild_failed('--failed-before', FAR)
        self.assertEqual(0, code, output)
        self.assertIn('2 ACTIVE', output)
        self.assertNotIn(booted['id'], output)
        for server_id in servers:
            self.assertEqual('ACTIVE', self.api.get_server(server_id)[
                'status'])

    def test_rebuild_failed_dry_run(self):
        server = self.create_failed()
        code, output = self.rebuild_failed('--dry-run', '--failed-before',
                                           FAR)
        self.assertEqual(0, code)
        self.assertIn(server['id'], output)
        self.assertIn('No valid host', output)
        self.assert_untouched(self.api.get_server(server['id']))

    def test_rebuild_failed_again_and_refused(self):
        failing = self.create_failed()
        locked = self.create_failed(bdms=[{
            'boot_index': 0, 'source_type': 'image', 'volume_size': 1,
            'uuid': self.IMAGE, 'destination_type': 'volume'}])
        code, output = self.rebuild_failed('--failed-before', FAR,
                                           project='other')
        self.assertEqual(1, code)
        self.assertIn('1 ERROR, 1 refused', output)
        # In words: Nova's JSON is for programs.
        self.assertIn('| The rebuild creates a volume', output)
        for server in (failing, locked):
            self.assertIn(server['id'], output)

    def test_rebuild_failed_filters(self):
        server = self.create_failed()
        everything = ['--dry-run', '--failed-before', FAR]
        for passing in ([], ['--reason', 'No valid'],
                        ['--flavor', 'm1.tiny'],
                        ['--project', server['tenant_id']]):
            self.assertIn(server['id'], self.rebuild_failed(
                *everything, *passing)[1], passing)
        for failing in (['--reason', 'other'], ['--flavor', 'other'],
                        ['--project', 'other'], ['--older-than', '99'],
                        ['--availability-zone', 'other'],
                        ['--failed-before', server['updated']],
                        ['--failed-before', '2000-01-01T00:00:00']):
            self.assertNotIn(server['id'], self.rebuild_failed(
                *everything, *failing)[1], failing)

    def test_locked_by_its_owner(self):
        """An administrator's request would pass."""
        server = self.create_failed()
        self.api.post_server_action(server['id'], {'lock': {}})
        self.assertNotIn(server['id'], self.rebuild_failed(
            '--failed-before', FAR)[1])

    def test_client(self):
        """What a deployment sees: each request opts in, with a token."""
        self.create_failed()
        self.assertEqual(1, self.rebuild_failed('--failed-before', FAR)[0])
        # A bar where rich is installed, as with newer Nova.
        self.assertRegex(self.stderr.getvalue(), '100%|1 of 1')
        requests = {(request['REQUEST_METHOD'],
                     request['HTTP_OPENSTACK_API_VERSION'],
                     request['HTTP_X_AUTH_TOKEN'])
                    for request in self.requests
                    if '/servers' in request['PATH_INFO']}
        version = 'compute 2.94, compute-rescue 1.2'
        self.assertEqual({('GET', version, 'a-token'),
                          ('POST', version, 'a-token')}, requests)

    def test_more_than_a_page(self):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.cmd.compute_api.PAGE', 1))
        servers = [self.create_failed()['id'] for _number in range(3)]
        _code, output = self.rebuild_failed('--dry-run', '--failed-before',
                                            FAR)
        for server_id in servers:
            self.assertIn(server_id, output)

    def test_resume(self):
        """Those that failed again are not tried again."""
        servers = [self.create_failed() for _number in range(3)]
        for server in servers:
            self.make_untouched_for(server, seconds=60)
        _code, output = self.rebuild_failed('--limit', '2')
        self.assertIn('2 ERROR', output)
        before = re.search('--failed-before (.*)', output).group(1)
        self.add_capacity()
        _code, output = self.rebuild_failed('--failed-before', before)
        self.assertIn('1 ACTIVE', output)
        self.assertEqual(
            ['ACTIVE', 'ERROR', 'ERROR'],
            sorted(server['status'] for server in self.api.get_servers()))

    def test_rate(self):
        for _number in range(2):
            self.create_failed()
        slept = []

        def sleep(seconds):
            slept.append(seconds)
            time.sleep(0.02)

        self.patch('nova_rescue_ext.cmd.rebuild_failed.time',
                   mock.Mock(sleep=sleep))
        self.rebuild_failed('--failed-before', FAR, '--rate', '30')
        # After each request, before the servers are waited for.
        self.assertEqual([2, 2], slept[:2])

    def test_still_being_built(self):
        server = self.create_failed()
        self.patch('nova.conductor.api.ComputeTaskAPI.'
                   'rebuild_instance_in_cell0', lambda *args: None)
        code, output = self.rebuild_failed('--failed-before', FAR,
                                           '--timeout', '0.1')
        self.assertEqual(1, code)
        self.assertIn('1 BUILD', output)
        self.api.delete_server(server['id'])

    def test_one_cannot_be_read_while_it_is_built(self):
        """It is asked about again, and the others are told of."""
        self.create_failed()
        show, failed = compute_api.Client.show, []

        def fail_once(client, server_id):
            if not failed:
                failed.append(server_id)
                raise ks_exc.InternalServerError('out of order')
            return show(client, server_id)

        self.patch('nova_rescue_ext.cmd.compute_api.Client.show', fail_once)
        self.add_capacity()
        code, output = self.rebuild_failed('--failed-before', FAR)
        self.assertEqual(1, len(failed))
        self.assertEqual(0, code, output)
        self.assertIn('1 ACTIVE', output)

    def test_deleted_while_it_is_built(self):
        self.create_failed()
        self.patch('nova.conductor.api.ComputeTaskAPI.'
                   'rebuild_instance_in_cell0', lambda *args: None)
        show = compute_api.Client.show

        def delete_and_show(client, server_id):
            self.api.delete_server(server_id)
            return show(client, server_id)

        self.patch('nova_rescue_ext.cmd.compute_api.Client.show',
                   delete_and_show)
        code, output = self.rebuild_failed('--failed-before', FAR)
        self.assertEqual(1, code)
        self.assertIn('1 deleted', output)

    def test_being_built_already(self):
        server = self.create_failed()
        self.patch('nova.conductor.api.ComputeTaskAPI.'
                   'rebuild_instance_in_cell0', lambda *args: None)
        self.rebuild(server)
        self.assertNotIn(server['id'], self.rebuild_failed(
            '--dry-run', '--failed-before', FAR)[1])
        self.api.delete_server(server['id'])

    def test_arguments_that_are_none(self):
        """Told before anything is asked, and with what would be right."""
        for arguments, words in (
                (['--rate', '0'], 'not a positive number'),
                (['--rate', '-1'], 'not a positive number'),
                (['--rate', 'nan'], 'not a positive number'),
                (['--rate', 'x'], 'not a positive number'),
                (['--limit', '-1'], 'not a positive number'),
                (['--limit', '0'], 'not a positive number'),
                (['--failed-before', 'noon'], 'such as 2026-')):
            self.assertRaises(SystemExit, self.rebuild_failed, *arguments)
            self.assertIn(words, self.stderr.getvalue())
        for version, words in (('2.8', 'at least 2.47'), ('x', 'as 2.94')):
            self.assert_exits(words, '--compute-version', version)
        self.assertEqual([], self.requests)

    def assert_exits(self, words, *argv):
        error = self.assertRaises(SystemExit, self.rebuild_failed, *argv)
        self.assertIn(words, str(error))

    def test_novas_words(self):
        self.assert_exits("Version 2.999 is not supported by the API",
                          '--compute-version', '2.999')
        self.policy.set_rules({
            'os_compute_api:servers:detail:get_all_tenants': '!'},
            overwrite=False)
        self.assert_exits("Policy doesn't allow")

    def test_package_is_off_in_nova_api(self):
        server = self.create_failed()
        activation.deactivate()
        self.assert_exits('Switch nova-rescue-ext on', '--failed-before', FAR)
        self.assertEqual(server['updated'], self.api.get_server(server['id'])[
            'updated'])
        self.assertNotIn('POST', {request['REQUEST_METHOD']
                                  for request in self.requests})

    def test_passwords(self):
        server = self.create_failed()
        path = os.path.join(self.useFixture(fixtures.TempDir()).path, 'file')
        self.assertIn('not kept', self.rebuild_failed(
            '--failed-before', FAR)[1])
        _code, output = self.rebuild_failed(
            '--failed-before', FAR, '--password-file', path)
        self.assertNotIn('not kept', output)
        self.assertEqual(0o600, os.stat(path).st_mode & 0o777)
        with open(path) as passwords:
            server_id, password = passwords.read().split()
        self.assertEqual((server['id'], 12), (server_id, len(password)))
        self.assert_exits('File exists', '--failed-before', FAR,
                          '--password-file', path)

    def test_interrupted(self):
        """By Ctrl-C: it says what was done."""
        for _number in range(3):
            self.create_failed()
        sleeps = []

        def sleep(seconds):
            sleeps.append(seconds)
            if len(sleeps) == 2:
                raise KeyboardInterrupt()

        self.patch('nova_rescue_ext.cmd.rebuild_failed.time',
                   mock.Mock(sleep=sleep))
        code, output = self.rebuild_failed('--failed-before', FAR)
        self.assertEqual(1, code)
        self.assertIn('2 BUILD, 1 not asked', output)

    def test_aggregate(self):
        """After capacity was added to some hosts."""
        self.add_capacity()
        rack = self.aggregate('rack', 'zone')
        anywhere = self.create_failed_for_lack_of_disk()
        there = self.create_failed_for_lack_of_disk(
            availability_zone='zone')
        elsewhere = self.create_failed_for_lack_of_disk()
        self.change_row(elsewhere, availability_zone='other')
        output = self.candidates('rack')
        for server, expected in ((anywhere, True), (there, True),
                                 (elsewhere, False)):
            self.assertEqual(expected, server['id'] in output)
        self.set_metadata(rack, filter_tenant_id2='somebody, else')
        self.assertNotIn(anywhere['id'], self.candidates(str(rack['id'])))
        self.set_metadata(rack, filter_tenant_id3=anywhere['tenant_id'])
        self.assertIn(anywhere['id'], self.candidates('rack'))

    def test_aggregate_by_flavor(self):
        rack = self.aggregate('rack')
        self.admin_api.post_extra_spec('1', {'extra_specs': {
            'aggregate_instance_extra_specs:ssd': '<or> yes <or> true'}})
        server = self.create_failed()
        self.assertNotIn(server['id'], self.candidates('rack'))
        self.set_metadata(rack, ssd='true')
        self.assertIn(server['id'], self.candidates('rack'))

    def test_aggregate_without_the_hosts_of_a_zone(self):
        self.add_capacity()
        self.aggregate('rack', 'zone')
        self.admin_api.post_aggregate({'aggregate': {
            'name': 'empty', 'availability_zone': 'zone'}})
        server = self.create_failed_for_lack_of_disk(
            availability_zone='zone')
        self.assertIn(server['id'], self.candidates('rack'))
        self.assertNotIn(server['id'], self.candidates('empty'))

    def test_unknown_aggregate(self):
        server = self.create_failed()
        code, output = self.rebuild_failed('--aggregate', 'none')
        self.assertEqual(1, code)
        self.assertIn('0 host aggregates called none', output)
        self.assert_untouched(server)

    def candidates(self, aggregate):
        code, output = self.rebuild_failed(
            '--dry-run', '--failed-before', FAR, '--aggregate', aggregate)
        self.assertEqual(0, code)
        return output

    def aggregate(self, name, zone=None):
        aggregate = self.admin_api.post_aggregate({'aggregate': {
            'name': name, 'availability_zone': zone}})
        for host in self.computes:
            self.admin_api.add_host_to_aggregate(aggregate['id'], host)
        return aggregate

    def set_metadata(self, aggregate, **metadata):
        self.admin_api.post_aggregate_action(
            aggregate['id'], {'set_metadata': {'metadata': metadata}})

    def create_failed_for_lack_of_disk(self, **request):
        if 'huge' not in {flavor['id'] for flavor in self.api.get_flavors()}:
            self.admin_api.post_flavor({'flavor': {
                'id': 'huge', 'name': 'huge', 'vcpus': 1, 'ram': 512,
                'disk': 1 << 30}})
        return self.create_failed(flavorRef='huge', **request)

    def test_rebuild_interrupted(self):
        server = self.create_failed()
        with self.killed('nova_rescue_ext.rebuild.api.Rebuild.destroy_row'):
            self.assertRaises(rebuild_base.Killed, self.rebuild, server)
        command = ['rebuild-interrupted', '--older-than', '0']
        code, output = self.run_command(*command, '--dry-run')
        self.assertIn(server['id'], output)
        self.assertEqual('BUILD', self.api.get_server(server['id'])['status'])
        code, output = self.run_command(*command)
        self.assertEqual(0, code)
        self.assertIn('1 finished or undone', output)
        self.assertEqual('ERROR', self.api.get_server(server['id'])['status'])
        self.assertIn('0 finished or undone', self.run_command(*command)[1])

    def test_rebuild_interrupted_with_a_cell_down(self):
        """One that cannot be decided keeps no other waiting."""
        servers = [self.create_failed() for _number in range(2)]
        for server in servers:
            with self.killed('nova_rescue_ext.rebuild.api.Rebuild.'
                             'destroy_row'):
                self.assertRaises(rebuild_base.Killed, self.rebuild, server)
        row = recovery._row

        def fail(context, cell, uuid):
            if uuid == servers[0]['id']:
                raise db_exc.DBConnectionError('the cell is down')
            return row(context, cell, uuid)

        down = self.patch('nova_rescue_ext.rebuild.recovery._row', fail)
        command = ['rebuild-interrupted', '--older-than', '0']
        code, output = self.run_command(*command)
        self.assertEqual(1, code)
        self.assertIn('cannot be decided', output)
        self.assertIn('1 finished or undone, 1 not', output)
        self.assertEqual(['BUILD', 'ERROR'], [
            self.api.get_server(server['id'])['status']
            for server in servers])
        down.stop()
        self.assertEqual(0, self.run_command(*command)[0])

    def test_burial_of_a_create_that_was_interrupted(self):
        """GET says ERROR, a list says BUILD, and nobody can rebuild it."""
        with self.killed('nova.objects.BuildRequest.destroy'):
            created = self.api.post_server({'server': {
                'name': 'web', 'flavorRef': '1', 'networks': 'none',
                'imageRef': self.IMAGE}})
        server = self.api.get_server(created['id'])
        self.assertEqual(('ERROR', ['BUILD']), (server['status'], [
            listed['status'] for listed in self.api.get_servers()]))
        self.assert_refused(409, self.rebuild(server), 'rebuild-interrupted')
        command = ['rebuild-interrupted', '--older-than']
        self.assertIn('0 finished', self.run_command(*command, '3600')[1])
        self.assertIn('1 finished', self.run_command(*command, '0')[1])
        self.assertEqual(['ERROR'], [
            listed['status'] for listed in self.api.get_servers()])
        self.add_capacity()
        self.rebuilt(server)
