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


"""DELETE of a server that is in rescue and migrates.

Hazard: delete-in-migration.
"""

import os

import ddt
from nova import objects
from oslo_serialization import jsonutils

from nova_rescue_ext import exception as ext_exception
from tests.functional import test_live_migration_api

# Each way to delete a server, as DeleteTestCase.delete() knows it.
DELETE = 'delete'
SOFT_DELETE = 'soft delete'
FORCE_DELETE = 'forceDelete'


class DeleteTestCase(test_live_migration_api.MeanwhileTestCase):

    def delete(self, way, version='1.0', client=None):
        """Ask for a deletion; the response is returned."""
        client = client or self.api
        path = '/servers/%s' % self.server['id']
        if way == SOFT_DELETE:
            self.flags(reclaim_instance_interval=3600)
        with self.opted_in(version, api=client):
            if way != FORCE_DELETE:
                return client.api_request(path, method='DELETE')
            return client.api_request(
                path + '/action', method='POST',
                headers={'Content-Type': 'application/json'},
                body=jsonutils.dumps({'forceDelete': None}))

    def assert_deleted(self, way, response):
        self.assertEqual(202 if way == FORCE_DELETE else 204,
                         response.status_code, response.text)
        if way == SOFT_DELETE:
            self._wait_for_state_change(self.server, 'SOFT_DELETED')
        else:
            self._wait_until_deleted(self.server)

    def set_task_state(self, task_state='migrating', begun=True):
        """As in the middle of a migration, or after one that got lost.

        :param begun: whether there is a migration
        """
        instance = self.instance(self.server)
        if begun:
            objects.Migration(
                self.context, instance_uuid=instance.uuid, status='accepted',
                migration_type='live-migration',
                source_compute='compute1').create()
        instance.task_state = task_state
        instance.save()


@ddt.ddt
class MigratingTest(DeleteTestCase):

    def assert_refused_meanwhile(self, *asked):
        """Refused, and the migration is not the worse for it."""
        answers = []
        self.in_the_middle(
            lambda: answers.extend(self.delete(*one) for one in asked),
            domain_job=False)
        self.assert_migrated(self.server)
        self.assertEqual([], self.problems)
        self.assertEqual(len(asked), len(answers))
        for answer in answers:
            self.assertEqual(409, answer.status_code, answer.text)
            self.assertIn('is being live-migrated. Wait until the migration '
                          'has ended, or have it aborted', answer.text)
        self.assertNotIn('delete', [
            action['action'] for action
            in self.api.get_instance_actions(self.server['id'])])
        self.assert_files(self.server, 'disk', 'disk.rescue', 'disk.eph0')

    @ddt.data(DELETE, SOFT_DELETE, FORCE_DELETE)
    def test_refused(self, way):
        """For every caller; it can be deleted when it has moved."""
        self.assert_refused_meanwhile((way,), (way, '1.3'))
        self.assert_deleted(way, self.delete(way))
        if way != SOFT_DELETE:
            self.assertFalse(os.path.exists(
                self.path(self.server['id'], 'compute2')))

    def test_while_pages_are_copied(self):
        """The guest runs on the destination already (post-copy)."""
        self.set_task_state()
        migration, = objects.MigrationList.get_by_filters(
            self.context, {'instance_uuid': self.server['id']})
        migration.status = 'running (post-copy)'
        migration.save()
        self.assertEqual(409, self.delete(DELETE).status_code)

    def test_while_it_is_rolled_back(self):
        """Nova says that it has ended before that."""
        self.set_task_state()
        migration, = objects.MigrationList.get_by_filters(
            self.context, {'instance_uuid': self.server['id']})
        migration.status = 'error'
        migration.save()
        self.assertEqual(409, self.delete(DELETE).status_code)
        self.flags(long_rpc_timeout=0)
        self.assert_deleted(DELETE, self.delete(DELETE))

    def test_looked_up_before_the_migration_was_asked_for(self):
        instance = self.instance(self.server)
        self.set_task_state()
        compute_api = self.computes['compute1'].manager.compute_api
        for delete in (compute_api.delete, compute_api.soft_delete,
                       compute_api.force_delete):
            self.assertRaises(ext_exception.RescuedServerMigrates, delete,
                              self.context, instance)
        self.assertEqual('migrating', self.instance(self.server).task_state)

    @ddt.data(DELETE, SOFT_DELETE, FORCE_DELETE)
    def test_locked(self, way):
        """Nova's own answer comes first."""
        self.api.post_server_action(self.server['id'], {'lock': None})
        self.set_task_state()
        self.policy.set_rules({'os_compute_api:os-deferred-delete:force': '@'},
                              overwrite=False)
        answer = self.delete(way, client=self.api_fixture.api)
        self.assertEqual(409, answer.status_code, answer.text)
        self.assertIn('is locked', answer.text)
        answer = self.delete(way)  # an administrator may
        self.assertEqual(409, answer.status_code, answer.text)
        self.assertIn('is being live-migrated', answer.text)


@ddt.ddt
class SourceIsDownTest(DeleteTestCase):
    """Nobody else would ever let the owner have it deleted."""

    def setUp(self):
        super().setUp()
        # Nova's doubles do not know what it sends for this forceDelete.
        self.patch('nova.rpc.LegacyValidatingNotifier.fatal', False)
        self.set_task_state()
        self.service = objects.Service.get_by_compute_host(
            self.context, 'compute1')

    @ddt.data(DELETE, SOFT_DELETE, FORCE_DELETE)
    def test_down(self, way):
        """Nova does not distinguish then."""
        self.api.put_service_force_down(self.service.uuid, True)
        response = self.delete(way)
        self.assertIn(response.status_code, (202, 204), response.text)
        self._wait_until_deleted(self.server)

    def test_gone(self):
        self.service.destroy()
        self.assert_deleted(DELETE, self.delete(DELETE))

    def test_reset(self):
        """What an operator does about a task that is stuck."""
        self.assertEqual(409, self.delete(DELETE).status_code)
        self.api.post_server_action(
            self.server['id'], {'os-resetState': {'state': 'active'}})
        self.assert_deleted(DELETE, self.delete(DELETE))


@ddt.ddt
class StockTest(DeleteTestCase):

    @ddt.data(DELETE, SOFT_DELETE, FORCE_DELETE)
    def test_rescued(self, way):
        self.assert_deleted(way, self.delete(way))

    @ddt.data(DELETE, SOFT_DELETE, FORCE_DELETE)
    def test_active_and_migrating(self, way):
        self.unrescue(self.server)
        self.set_task_state()
        self.assert_deleted(way, self.delete(way))
