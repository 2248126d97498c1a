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


"""An operator rebuilds a server of another project."""

import copy

from tests.functional import rebuild_base


class RightsTestCase(rebuild_base.RebuildTestCase):

    def setUp(self):
        super().setUp()
        self.operator = self.admin_of('other')
        self.add_capacity()

    def create_failed(self, **request):
        """By Nova's scheduler, as there is a host."""
        self.set_down('host1', True)
        server = super().create_failed(**request)
        self.set_down('host1', False)
        return server

    def assert_for_its_project(self, server, *words):
        """The operator is refused, its owner is not."""
        self.assert_refused(
            409, self.rebuild(server, api=self.operator), *words,
            'Have a user of that project rebuild the server')
        self.assert_untouched(server)
        self.rebuilt(server)


class NetworksTest(RightsTestCase):
    """Nova asks neutron and its own policy with the caller's rights."""

    def setUp(self):
        super().setUp()
        self.policies = []
        self.asked = []
        # Nova's double has no such call.
        self.neutron.list_rbac_policies = self.list_rbac_policies
        self.addCleanup(delattr, self.neutron, 'list_rbac_policies')

    def list_rbac_policies(self, **params):
        params.pop('is_admin', None)
        self.asked.append(params)
        return {'rbac_policies': self.policies}

    def change_network(self, **attributes):
        attributes = {key.replace('router_', 'router:'): value
                      for key, value in attributes.items()}
        network = dict(copy.deepcopy(self.neutron._networks[self.NETWORK]),
                       **attributes)
        before = self.neutron._networks
        self.neutron._networks = dict(before, **{self.NETWORK: network})
        self.addCleanup(setattr, self.neutron, '_networks', before)

    def change_owner(self):
        self.change_network(tenant_id='provider', project_id='provider')

    def test_own(self):
        server = self.create_failed(networks=[{'uuid': self.NETWORK}])
        self.rebuilt(server, api=self.operator)
        self.assertEqual(1, len(self.ports_of(server)))
        self.assertEqual([], self.asked)

    def assert_forbidden(self, server):
        """To the operator early, and by the policy to the owner."""
        self.assert_refused(409, self.rebuild(server, api=self.operator),
                            self.NETWORK)
        self.assert_untouched(server)
        self.failed_again(server)

    def test_external(self):
        server = self.create_failed(networks=[{'uuid': self.NETWORK}])
        self.change_network(router_external=True)
        self.assert_forbidden(server)

    def test_external_of_a_port(self):
        server = self.create_failed(networks=[{'port': self.PORT}])
        self.change_network(router_external=True)
        self.assert_forbidden(server)

    def test_external_and_shared(self):
        server = self.create_failed(networks=[{'uuid': self.NETWORK}])
        self.change_network(router_external=True, shared=True)
        self.rebuilt(server, api=self.operator)

    def test_external_that_nobody_named(self):
        server = self.create_failed(networks='auto')
        self.change_network(router_external=True)
        self.assert_refused(409, self.rebuild(server, api=self.operator),
                            self.NETWORK)
        self.assert_untouched(server)

    def test_external_in_the_request(self):
        server = self.create_failed()
        self.change_network(router_external=True)
        self.assert_refused(
            409, self.rebuild(server, api=self.operator,
                              networks=[{'uuid': self.NETWORK}]),
            self.NETWORK)
        self.assert_untouched(server)

    def test_of_another_project(self):
        server = self.create_failed(networks=[{'uuid': self.NETWORK}])
        self.change_owner()
        self.assert_for_its_project(server, self.NETWORK)
        self.assertEqual([{
            'object_type': 'network', 'object_id': self.NETWORK,
            'action': 'access_as_shared'}], self.asked)

    def test_shared_with_another_project(self):
        server = self.create_failed(networks=[{'uuid': self.NETWORK}])
        self.change_owner()
        self.policies = [{'target_tenant': 'a third'}]
        self.assert_for_its_project(server, self.NETWORK)

    def test_shared_with_the_project(self):
        self.change_owner()
        for target in ('*', self.api.project_id):
            server = self.create_failed(networks=[{'uuid': self.NETWORK}])
            self.policies = [{'target_tenant': 'a third'},
                             {'target_tenant': target}]
            self.rebuilt(server, api=self.operator)
            self.api.delete_server(server['id'])
            self._wait_until_deleted(server)

    def test_address_in_a_network_of_another_project(self):
        """Neutron would have refused it to the project."""
        server = self.create_failed(networks=[{
            'uuid': self.NETWORK, 'fixed_ip': '192.168.1.7'}])
        self.change_owner()
        self.policies = [{'target_tenant': '*'}]
        self.assert_refused(409, self.rebuild(server, api=self.operator),
                            'asks for an address in network', self.NETWORK)
        self.assert_untouched(server)
        self.rebuilt(server, api=self.operator,
                     networks=[{'uuid': self.NETWORK}])

    def test_port_on_a_network_of_another_project(self):
        """Somebody who might has made it for the project."""
        server = self.create_failed(networks=[{'port': self.PORT}])
        self.change_owner()
        self.rebuilt(server, api=self.operator)
        self.assertEqual([self.PORT], self.ports_of(server))

    def test_none(self):
        server = self.create_failed()
        self.change_network(router_external=True)
        self.rebuilt(server, api=self.operator)


class SecretsTest(RightsTestCase):
    """The key manager gives a secret to whoever makes it."""

    def create_failed(self, **extra_specs):
        self.admin_api.post_flavor({'flavor': {
            'id': 'secret', 'name': 'secret', 'vcpus': 1, 'ram': 512,
            'disk': 1}})
        self.admin_api.post_extra_spec('secret', {'extra_specs': {
            name.replace('_', ':', 1): value
            for name, value in extra_specs.items()}})
        return super().create_failed(flavorRef='secret')

    def assert_for_its_project(self, server):
        self.assert_refused(
            409, self.rebuild(server, api=self.operator),
            'The rebuild creates a secret',
            'Have a user of that project rebuild the server')
        self.assert_untouched(server)
        # Nova's double of a host has none of this.
        self.failed_again(server)

    def test_tpm(self):
        self.assert_for_its_project(self.create_failed(
            hw_tpm_version='2.0', hw_tpm_model='tpm-crb'))

    def test_encrypted_disk(self):
        self.assert_for_its_project(self.create_failed(
            hw_ephemeral_encryption='true',
            hw_ephemeral_encryption_format='luks'))

    def test_none(self):
        self.rebuilt(self.create_failed(hw_cpu_policy='shared'),
                     api=self.operator)
