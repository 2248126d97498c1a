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


"""Which servers an operator means."""

import unittest

from nova_rescue_ext.cmd import rebuild_failed

_SPEC = 'aggregate_instance_extra_specs:'


class AggregateTest(unittest.TestCase):
    """The scheduler may choose a host of an aggregate for a server."""

    def takes(self, metadata=None, zone='', extra_specs=None):
        return rebuild_failed.Aggregate({'one'}, metadata or {}).takes({
            'tenant_id': 'mine', 'OS-EXT-AZ:availability_zone': zone,
            'flavor': {'extra_specs': extra_specs or {}}})

    def test_zone(self):
        self.assertEqual([True, True, True, False], [
            self.takes(zone=zone) for zone in (None, '', 'one', 'other')])

    def test_tenants(self):
        self.assertEqual([True, True, False], [
            self.takes(metadata) for metadata in (
                {'filter_tenant_id': 'a, mine'},
                {'filter_tenant_id': 'a', 'filter_tenant_id2': 'mine'},
                {'filter_tenant_id': 'mines'})])

    def test_extra_specs(self):
        self.assertEqual([True, False, False, True, True], [
            self.takes(metadata, extra_specs=specs) for metadata, specs in (
                ({'ssd': 'yes'}, {_SPEC + 'ssd': 'yes'}),
                ({'ssd': 'no'}, {_SPEC + 'ssd': 'yes'}),
                ({}, {_SPEC + 'ssd': 'yes'}),
                ({'size': '9'}, {_SPEC + 'size': '>= 5'}),
                ({}, {'hw:cpu_policy': 'dedicated'}))])

    def test_flavor_without_extra_specs(self):
        """Policies may hide them."""
        self.assertTrue(rebuild_failed.Aggregate({'one'}, {}).takes(
            {'tenant_id': 'mine', 'flavor': {}}))
