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


"""The quota of a server's project, when it is rebuilt (issue, point 6)."""

from nova import exception
from nova.limit import local as local_limit
from nova.limit import placement as placement_limits
from nova import objects
from oslo_limit import fixture as limit_fixture

from tests.functional import rebuild_base


class QuotaTest(rebuild_base.RebuildTestCase):
    """By the server's project, in each of Nova's ways."""

    def set_quota(self, **limits):
        self.admin_api.update_quota(dict(limits, force=True),
                                    project_id=self.api.project_id)

    def test_at_the_limit(self):
        server = self.create_failed()
        self.set_quota(instances=1, cores=1, ram=512)
        self.add_capacity()
        self.rebuilt(server)

    def test_over_the_limit(self):
        server = self.create_failed()
        for limits in ({'instances': 0}, {'instances': 1, 'cores': 0},
                       {'cores': 1, 'ram': 100}):
            self.set_quota(**limits)
            self.assert_refused(403, self.rebuild(server), 'uota')
            self.assert_untouched(server)

    def test_networks_of_a_refused_rebuild(self):
        """They are forgotten: the server is as it was."""
        server = self.create_failed(networks=[{'port': self.PORT}])
        self.set_quota(cores=0)
        self.assert_refused(403, self.rebuild(server, networks='none'))
        self.set_quota(cores=1)
        self.add_capacity()
        self.rebuilt(server)
        self.assertEqual([self.PORT], self.ports_of(server))

    def test_ports(self):
        """Of the server's project, whoever calls."""
        server = self.create_failed(networks=[{'uuid': self.NETWORK}])
        asked = []

        def show_quota(project_id):
            asked.append(project_id)
            return {'quota': {'port': 3}}

        # The project has three.
        self.patch('nova.tests.fixtures.NeutronFixture.show_quota',
                   staticmethod(show_quota))
        self.patch('nova.tests.fixtures.NeutronFixture.list_ports',
                   lambda itself, *args, **params: {'ports': [
                       {}] * 3 if 'tenant_id' in params else []})
        for api in (self.api, self.admin_of('other')):
            self.assert_refused(403, self.rebuild(server, api=api))
            self.assert_untouched(server)
        self.assertEqual([server['tenant_id']] * 2, asked)

    def test_quota_of_the_servers_project(self):
        server = self.create_failed()
        self.set_quota(cores=0)
        self.assert_refused(403, self.rebuild(
            server, api=self.admin_of('other')))
        self.assert_untouched(server)

    def test_quota_of_the_servers_user(self):
        server = self.create_failed()
        self.admin_api.update_quota(
            {'cores': 0, 'force': True}, project_id=server['tenant_id'],
            user_id=server['user_id'])
        self.assert_refused(403, self.rebuild(
            server, api=self.admin_of('other')))
        self.assert_untouched(server)


class PlacementQuotaTest(QuotaTest):
    """Cores and memory are counted in placement."""

    def setUp(self):
        super().setUp()
        self.flags(count_usage_from_placement=True, group='quota')

    def test_failed_server_has_no_cores_yet(self):
        server = self.create_failed()
        self.add_capacity()
        self.create()
        self.set_quota(cores=1)
        self.assert_refused(403, self.rebuild(server))
        self.set_quota(cores=2)
        self.rebuilt(server)

    def test_leaked_allocation_is_not_counted(self):
        @classmethod
        def fail(cls, context, host):
            raise exception.HostMappingNotFound(name=host)

        mapped = self.patch('nova.objects.HostMapping.get_by_host', fail)
        self.add_capacity()
        server = self.create()
        self.assertEqual(1, len(self.allocations(server)))
        mapped.stop()
        self.set_quota(cores=1, ram=512)
        self.rebuilt(server)


class UnifiedLimitsTest(rebuild_base.RebuildTestCase):
    """Limits in Keystone."""

    def setUp(self):
        self.flags(driver='nova.quota.UnifiedLimitsDriver', group='quota')
        super().setUp()
        self.limits = self.useFixture(limit_fixture.LimitFixture({
            local_limit.SERVER_METADATA_ITEMS: 128,
            local_limit.INJECTED_FILES: 5,
            local_limit.INJECTED_FILES_CONTENT: 10240,
            local_limit.INJECTED_FILES_PATH: 255,
            local_limit.KEY_PAIRS: 100,
            local_limit.SERVER_GROUPS: 10,
            local_limit.SERVER_GROUP_MEMBERS: 10,
            'servers': 2, 'class:VCPU': 4, 'class:MEMORY_MB': 4096,
            'class:DISK_GB': 50}, {}))

    def test_at_the_limit(self):
        server = self.create_failed()
        self.limits.reglimits.update({
            'servers': 1, 'class:VCPU': 1, 'class:MEMORY_MB': 512})
        self.add_capacity()
        self.rebuilt(server)

    def test_over_the_limit(self):
        server = self.create_failed()
        other = self.create_failed()
        for limits in ({'servers': 1}, {'class:MEMORY_MB': 100}):
            before = dict(self.limits.reglimits)
            self.limits.reglimits.update(limits)
            self.assert_refused(403, self.rebuild(server), *limits)
            self.limits.reglimits.update(before)
        self.api.delete_server(other['id'])
        self._wait_until_deleted(other)
        self.assert_untouched(server)

    def test_disk_on_a_volume_is_not_counted(self):
        self.admin_api.post_flavor({'flavor': {
            'id': 'disk', 'name': 'disk', 'vcpus': 1, 'ram': 512,
            'disk': 2}})
        server = self.create_failed(flavorRef='disk', bdms=[{
            'boot_index': 0, 'uuid': self.VOLUME, 'source_type': 'volume',
            'destination_type': 'volume'}])
        self.limits.reglimits['class:DISK_GB'] = 1
        self.failed_again(server)

    def test_what_ports_request_is_counted(self):
        if not hasattr(placement_limits,
                       'enforce_num_instances_and_resources'):
            self.skipTest('Nova 34 is the first that counts it')
        server = self.create_failed()
        self.limits.reglimits['class:CUSTOM_A'] = 1
        group = objects.RequestGroup(resources={'CUSTOM_A': 2},
                                     requester_id='port')
        self.patch('nova.network.neutron.API.create_resource_requests',
                   lambda *args, **kwargs: (None, [group], None))
        self.assert_refused(403, self.rebuild(server), 'CUSTOM_A')

    def test_limits_of_the_servers_project(self):
        server = self.create_failed()
        self.limits.projlimits[self.api.project_id] = {'class:MEMORY_MB': 100}
        self.assert_refused(403, self.rebuild(
            server, api=self.admin_of('other')), 'class:MEMORY_MB')
        self.limits.projlimits.clear()
        self.limits.projlimits['other'] = {'class:MEMORY_MB': 100}
        self.add_capacity()
        self.rebuilt(server, api=self.admin_of('other'))
