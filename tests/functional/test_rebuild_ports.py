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


"""Rebuild of servers with ports that request resources (issue, point 10)."""

from nova import context as nova_context
from nova import objects
from nova.tests.functional import test_servers_resource_request as nova_tests

from nova_rescue_ext.rebuild import spec_extras
from tests import fixtures as tests_fixtures
from tests.functional import base
from tests.functional import rebuild_base


class PortsTest(nova_tests.PortResourceRequestBasedSchedulingTestBase):
    """QoS on Open vSwitch and SR-IOV, on Nova's host with PCI devices."""

    def setUp(self):
        self.useFixture(tests_fixtures.InstalledApiPaste())
        self.useFixture(base.Activation(rebuild_quiet_period=0))
        super().setUp()
        self.context = nova_context.get_admin_context()
        self.api.microversion = '2.94, compute-rescue 1.2'
        self.ovs = self.neutron.port_with_resource_request['id']
        self.sriov = self.neutron.port_with_sriov_resource_request['id']

    rebuild = rebuild_base.RebuildTestCase.rebuild

    def set_down(self, down):
        self.api.put_service_force_down(self.compute1_service_id, down)

    def create_failed(self, *ports):
        self.set_down(True)
        server = self._create_server(
            flavor=self.flavor_with_group_policy,
            networks=[{'port': port} for port in ports])
        return self._wait_for_state_change(server, 'ERROR')

    def fail_again(self, server):
        response = self.rebuild(server)
        self.assertEqual(202, response.status_code, response.text)
        self._wait_for_state_change(server, 'ERROR')
        self._wait_for(lambda: 'rebuild' not in spec_extras.read(
            self.context, server['id']))
        self.assertEqual({}, self.allocations(server))

    def _wait_for(self, condition):
        rebuild_base.RebuildTestCase.await_true(self, condition)

    def rebuilt(self, server):
        self.set_down(False)
        response = self.rebuild(server)
        self.assertEqual(202, response.status_code, response.text)
        self._wait_for_state_change(server, 'ACTIVE')
        return self.allocations(server)

    def allocations(self, server):
        return self.placement.get('/allocations/%s' % server['id']).body[
            'allocations']

    def assert_allocated(self, allocations, *ports):
        """For the server and for each port once, as its binding says."""
        self.assertEqual(1 + len(ports), len(allocations))
        self.assertComputeAllocationMatchesFlavor(
            allocations, self.compute1_rp_uuid, self.flavor_with_group_policy)
        for port in ports:
            port = self.neutron.show_port(port)['port']
            self.assertPortMatchesAllocation(
                port, allocations, self.compute1_rp_uuid)
            providers = port['binding:profile']['allocation']
            self.assertIn(providers if isinstance(providers, str)
                          else set(providers.values()).pop(), allocations)

    def pci_requests(self, server):
        cell = self.cell_mappings['cell1']
        with nova_context.target_cell(self.context, cell) as context:
            instance = objects.Instance.get_by_uuid(
                context, server['id'], expected_attrs=['pci_requests',
                                                       'pci_devices'])
            return (len(instance.pci_requests.requests),
                    len(instance.pci_devices))

    def test_qos(self):
        server = self.create_failed(self.ovs)
        for _round in range(2):
            self.fail_again(server)
        self.assert_allocated(self.rebuilt(server), self.ovs)

    def test_sriov(self):
        server = self.create_failed(self.sriov)
        for _round in range(2):
            self.fail_again(server)
        self.assert_allocated(self.rebuilt(server), self.sriov)
        # Each round asks for it anew: it is not asked for twice.
        self.assertEqual((1, 1), self.pci_requests(server))

    def test_both(self):
        server = self.create_failed(self.ovs, self.sriov)
        self.assert_allocated(self.rebuilt(server), self.ovs, self.sriov)

    def test_qos_that_has_changed(self):
        """What the port requests now counts, not what it did at creation."""
        server = self.create_failed(self.ovs)
        request = self.neutron._ports[self.ovs]['resource_request']
        request['resources'] = {name: amount // 2 for name, amount
                                in request['resources'].items()}
        self.assert_allocated(self.rebuilt(server), self.ovs)

    def test_too_much_qos(self):
        server = self.create_failed(self.ovs)
        request = self.neutron._ports[self.ovs]['resource_request']
        enough = dict(request['resources'])
        request['resources'] = {name: 1 << 20 for name in enough}
        self.set_down(False)
        self.fail_again(server)
        request['resources'] = enough
        self.assert_allocated(self.rebuilt(server), self.ovs)
