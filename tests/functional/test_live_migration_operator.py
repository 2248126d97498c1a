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


"""An operator drains a host on which servers are in rescue."""

from unittest import mock

from keystoneauth1 import exceptions as ks_exc
from nova import exception

from nova_rescue_ext.cmd import compute_api
from nova_rescue_ext.cmd import migrate_rescued
from nova_rescue_ext.live_migration import destination
from tests.functional import operator_base
from tests.functional import test_live_migration


class MigrateRescuedTest(operator_base.OperatorMixin,
                         test_live_migration.LiveMigrationTestCase):

    def setUp(self):
        super().setUp()
        self.serve_clouds(self.api.project_id)
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue')
        self.patch('nova_rescue_ext.cmd.migrate_rescued._SECONDS', 0.05)

    def drain(self, *argv, host='compute1'):
        return self.run_command('migrate-rescued', host, '--os-cloud',
                                self.api.project_id, *argv)

    def rescue_another(self):
        other = self.boot()
        self.assert_rescued(other, self.rescue(other, self.rescue_image))
        self.put_raw_disks('disk', 'disk.rescue', server=other)
        return other

    def methods(self):
        """Those of the requests about single servers, in their order."""
        return [request['REQUEST_METHOD'] for request in self.requests
                if '/servers/' in request['PATH_INFO']
                and not request['PATH_INFO'].endswith('/detail')]

    def test_all(self):
        active, other = self.boot(), self.rescue_another()
        code, output = self.drain()
        self.assertEqual(0, code, output)
        self.assertIn('2 moved', output)
        for server in (self.server, other):
            self.assertRegex(output, server['id'] + r' \| moved +\| to comp')
            self.assert_migrated(server)
        self.assertNotIn(active['id'], output)
        self.assertEqual('compute1', self.api.get_server(active['id'])[
            'OS-EXT-SRV-ATTR:host'])
        self.assertRegex(self.stderr.getvalue(), '100%|2 of 2')
        # One after the other; each request opts in.
        self.assertEqual(['GET', 'POST', 'GET'], self.methods()[:3])
        self.assertEqual(2, self.methods().count('POST'))
        self.assertEqual({'compute 2.94, compute-rescue 1.3'}, {
            request['HTTP_OPENSTACK_API_VERSION']
            for request in self.requests
            if '/servers' in request['PATH_INFO']})

    def test_at_once(self):
        self.rescue_another()
        self.assertEqual(0, self.drain('--at-once', '2')[0])
        self.assertEqual(['GET', 'POST', 'GET', 'POST', 'GET'],
                         self.methods()[:5])

    def test_at_once_that_is_no_number(self):
        for number in ('0', '-1', '1.5', 'all'):
            for option in ('--at-once', '--limit'):
                self.assertRaises(SystemExit, self.drain, option, number)

    def test_dry_run(self):
        code, output = self.drain('--dry-run')
        self.assertEqual(0, code)
        self.assertIn(self.server['id'], output)
        self.assertEqual([], self.methods())
        self.assert_in_rescue_on(self.server, 'compute1')

    def test_which(self):
        self.assertNotIn(self.server['id'], self.drain(host='compute2')[1])
        for filters, found in ((('--project', 'other'), False),
                               (('--project', self.server['tenant_id']), True),
                               (('--limit', '1'), True)):
            output = self.drain('--dry-run', *filters)[1]
            self.assertEqual(found, self.server['id'] in output, filters)

    def test_one_that_cannot_be_moved(self):
        with mock.patch.object(
                destination, 'check',
                side_effect=exception.MigrationPreCheckError(
                    reason='no room')):
            code, output = self.drain()
        self.assertEqual(1, code)
        self.assertIn('1 stayed', output)
        self.assertRegex(
            output, r'\| stayed \| No valid host.*no room.*compute2')
        self.assert_in_rescue_on(self.server, 'compute1')

    def test_refused(self):
        self.forget_package('compute2')
        code, output = self.drain('--to', 'compute2')
        self.assertEqual(1, code)
        self.assertIn('1 refused', output)
        self.assertIn('| The destination compute node compute2 does', output)
        self.assert_in_rescue_on(self.server, 'compute1')

    def set_migrating(self):
        instance = self.instance(self.server)
        instance.task_state = 'migrating'
        instance.save()

    def test_still_under_way(self):
        """It is not asked for again; the command waits for it."""
        self.set_migrating()
        code, output = self.drain('--timeout', '0.1')
        self.assertEqual(1, code)
        self.assertIn('1 migrating', output)
        self.assertNotIn('POST', self.methods())

    def test_deleted_meanwhile(self):
        self.set_migrating()
        self.patch('nova_rescue_ext.cmd.migrate_rescued.time', mock.Mock(
            sleep=lambda seconds: self.instance(self.server).destroy()))
        code, output = self.drain()
        self.assertEqual(1, code)
        self.assertIn('1 deleted', output)

    def test_changed_since_the_list_was_made(self):
        """Each server is looked at again before it is asked for."""
        moved, unrescued, deleted = (self.rescue_another() for _ in range(3))

        def change(servers, *args):
            for server in (moved, unrescued, deleted):
                instance = self.instance(server)
                if server is moved:
                    instance.host = 'compute2'
                elif server is unrescued:
                    instance.vm_state = 'active'
                else:
                    instance.destroy()
                    continue
                instance.save()
            return migrate_all(servers, *args)

        migrate_all = migrate_rescued._migrate_all
        self.patch('nova_rescue_ext.cmd.migrate_rescued._migrate_all', change)
        code, output = self.drain()
        self.assertEqual(1, code)
        for state in ('2 moved', '1 skipped', '1 deleted'):
            self.assertIn(state, output)
        self.assertEqual(1, self.methods().count('POST'))
        self.assertIn('no longer in rescue: ACTIVE', output)

    def test_moved_and_in_error(self):
        begin = migrate_rescued._begin

        def fail(*args):
            result = begin(*args)
            self.wait_for_migration(self.server, 'completed')
            instance = self.instance(self.server)
            instance.vm_state, instance.task_state = 'error', None
            instance.save()
            return result

        self.patch('nova_rescue_ext.cmd.migrate_rescued._begin', fail)
        code, output = self.drain()
        self.assertEqual(1, code)
        self.assertIn('1 error', output)
        self.assertRegex(output, r'\| error +\| on compute2')

    def test_api_is_restarted(self):
        """Whoever reads asks again."""
        self.failures = ['503 Service Unavailable', '502 Bad Gateway']
        code, output = self.drain()
        self.assertEqual(0, code, output)
        self.assert_migrated(self.server)

    def test_api_is_restarted_when_it_is_asked_to_migrate(self):
        """That is not asked again by itself: it may have been done."""
        act = compute_api.Client.act

        def fail_and_act(*args):
            self.failures = ['503 Service Unavailable']
            return act(*args)

        self.patch('nova_rescue_ext.cmd.compute_api.Client.act', fail_and_act)
        code, output = self.drain()
        self.assertEqual(1, code)
        self.assertRegex(output, r'\| refused \| HTTP 503')
        self.assertEqual(1, self.methods().count('POST'))
        self.assert_in_rescue_on(self.server, 'compute1')

    def test_the_answer_is_lost(self):
        """It has been asked for all the same, and is waited for."""
        act = compute_api.Client.act
        self.patch('nova_rescue_ext.cmd.compute_api.Client.act',
                   lambda *args: act(*args) or 'HTTP 504')
        code, output = self.drain()
        self.assertEqual(0, code, output)
        self.assertIn('1 moved', output)
        self.assert_migrated(self.server)

    def fail_to_read(self, path, server, when=lambda: True):
        """nova-api answers 500 to the first GET of something."""
        get, failed = compute_api.Client.get, []

        def fail(client, url, query=None):
            if url == path % server['id'] and not failed and when():
                failed.append(url)
                raise ks_exc.InternalServerError('out of order')
            return get(client, url, query)

        self.patch('nova_rescue_ext.cmd.compute_api.Client.get', fail)

    def assert_others_go_on(self, server, other, reason):
        """Of one the end is not known, the other one moves."""
        code, output = self.drain()
        self.assertEqual(1, code, output)
        self.assertRegex(output, r'%s \| unknown \| run the command again: '
                         '%s' % (server['id'], reason))
        self.assertRegex(output, other['id'] + r' \| moved')
        self.assertIn('1 moved, 1 unknown', output)
        self.assert_migrated(other)

    def test_one_cannot_be_read_before_it_is_asked(self):
        other = self.rescue_another()
        self.fail_to_read('/servers/%s', self.server)
        self.assert_others_go_on(self.server, other, 'out of order')
        self.assertEqual(1, self.methods().count('POST'))
        self.assertEqual(0, self.drain()[0])
        self.assert_migrated(self.server)

    def test_one_cannot_be_read_while_it_migrates(self):
        other = self.rescue_another()
        self.fail_to_read('/servers/%s', self.server, lambda: any(
            request['REQUEST_METHOD'] == 'POST'
            and self.server['id'] in request['PATH_INFO']
            for request in self.requests))
        self.assert_others_go_on(self.server, other, 'out of order')
        self.assert_migrated(self.server)

    def test_an_answer_of_a_proxy(self):
        other = self.rescue_another()
        self.failures = []
        show, answers = compute_api.Client.show, []

        def fail_once(client, server_id):
            if server_id == self.server['id'] and not answers:
                answers.append(server_id)
                self.failures = ['200 OK']  # with an empty body
            return show(client, server_id)

        self.patch('nova_rescue_ext.cmd.compute_api.Client.show', fail_once)
        self.assert_others_go_on(self.server, other,
                                 '.* without JSON')

    def test_why_one_has_stayed_cannot_be_read(self):
        self.fail_to_read('/servers/%s/os-instance-actions', self.server)
        with mock.patch.object(
                destination, 'check',
                side_effect=exception.MigrationPreCheckError(
                    reason='no room')):
            code, output = self.drain()
        self.assertEqual(1, code)
        self.assertIn('1 stayed', output)

    def test_no_such_cloud(self):
        error = self.assertRaises(
            SystemExit, self.run_command, 'migrate-rescued', 'compute1',
            '--os-cloud', 'none')
        self.assertIn('Cloud none was not found', str(error))

    def test_api_is_gone(self):
        self.patch('nova_rescue_ext.cmd.compute_api._PATIENCE', {})
        self.failures = ['503 Service Unavailable']
        error = self.assertRaises(SystemExit, self.drain)
        self.assertIn('cannot be reached', str(error))
        self.assertIn('run it again', str(error))
