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

"""What Masakari and Watcher ask of a server in rescue, call by call.

doc/source/admin/masakari-and-watcher.rst tells operators what comes of it.
"""

from nova import objects
from oslo_serialization import jsonutils

from tests.functional import operator_base
from tests.functional import test_live_migration


class ServiceTestCase(test_live_migration.LiveMigrationTestCase):

    COMPUTE = ''  # the version of the compute API that the service names

    def setUp(self):
        super().setUp()
        self.disks = self.domains.disks(self.server)
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue')

    def act(self, action, parameters=None):
        """Ask for an action as the service does; the response is returned."""
        before = self.api.microversion
        self.api.microversion = self.COMPUTE
        try:
            return self.api.api_request(
                '/servers/%s/action' % self.server['id'], method='POST',
                headers={'Content-Type': 'application/json'},
                body=jsonutils.dumps({action: parameters}))
        finally:
            self.api.microversion = before

    def assert_done(self, action, parameters=None):
        response = self.act(action, parameters)
        self.assertIn(response.status_code, (200, 202), response.text)

    def servers_of(self, host):
        return [server['id'] for server in self.api.get_servers(
            search_opts={'all_tenants': 1, 'host': host})]

    def wait_for(self, **expected):
        return self._wait_for_server_parameter(self.server, expected)


class HostFailureTest(ServiceTestCase):
    """masakari-engine: EvacuateInstancesTask."""

    COMPUTE = '2.53'

    def force_down(self, down):
        service = objects.Service.get_by_compute_host(self.context,
                                                      'compute1')
        self.api.put_service_force_down(service.uuid, down)

    def find_host(self):
        """What nova-compute does first when it is started again."""
        manager = self.computes['compute1'].manager
        node = objects.ComputeNode.get_first_node_by_host_for_old_compat(
            self.context, 'compute1')
        with self.on_host('compute1'):
            manager._destroy_evacuated_instances(
                self.context, {node.uuid: node})

    def recover(self):
        """A server that is neither active, stopped nor in error."""
        self.assertEqual([self.server['id']], self.servers_of('compute1'))
        self.assert_done('lock')
        self.assert_done('os-resetState', {'state': 'error'})
        self.assert_done('evacuate', {})
        self.wait_for(**{
            'OS-EXT-STS:vm_state': 'active', 'OS-EXT-STS:task_state': None,
            'OS-EXT-SRV-ATTR:host': 'compute2'})
        self.assert_done('os-stop')
        self.wait_for(status='SHUTOFF')
        self.assert_done('unlock')

    def test_server_in_rescue(self):
        """It is evacuated out of its rescue, and stopped."""
        self.force_down(True)
        self.recover()
        self.assertEqual(self.disks, self.domains.disks(self.server))

    def test_rescue_after_it(self):
        self.force_down(True)
        self.recover()
        self.api.post_server_action(self.server['id'], {'os-start': None})
        self.wait_for(status='ACTIVE')
        self.rescue_now(hw_rescue_device='disk')
        self.unrescue(self.server)
        self.assertEqual(self.disks, self.domains.disks(self.server))

    def test_host_that_comes_back(self):
        """The guest of the rescue ends there."""
        self.force_down(True)
        self.recover()
        driver = self.computes['compute1'].driver
        self.assertEqual(1, driver.get_num_instances())
        self.find_host()
        self.assertEqual(0, driver.get_num_instances())

    def test_server_moved_before(self):
        """As "migrate-rescued" does before the host is down."""
        self.migrate()
        self.assertEqual([], self.servers_of('compute1'))


class HostMaintenanceTest(operator_base.OperatorMixin, ServiceTestCase):
    """Watcher: the strategy host_maintenance and the action migrate."""

    COMPUTE = '2.56'

    def test_server_in_rescue(self):
        """Watcher takes it for one that has to be migrated cold."""
        response = self.act('migrate', {'host': 'compute2'})
        self.assertEqual(409, response.status_code, response.text)
        self.assertIn('while it is in vm_state rescued', response.text)
        self.assert_in_rescue_on(self.server, 'compute1')

    def test_migrated_before_the_audit(self):
        self.serve_clouds(self.api.project_id)
        code, output = self.run_command('migrate-rescued', 'compute1',
                                        '--os-cloud', self.api.project_id)
        self.assertEqual(0, code, output)
        self.assertEqual([], self.servers_of('compute1'))


class DefaultVersionTest(ServiceTestCase):
    """Services that do not name a version, and a cloud that does."""

    COMPUTE = '2.56'
    OPTIONS = {'default_api_version': '1.3'}

    def test_live_migration(self):
        self.assert_done('os-migrateLive', {
            'host': 'compute2', 'block_migration': 'auto'})
        self.assert_migrated(self.server)

    def test_cold_migration(self):
        self.assertEqual(409, self.act('migrate', {
            'host': 'compute2'}).status_code)
