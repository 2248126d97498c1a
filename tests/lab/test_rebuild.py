# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Rebuild of servers that never booted (compute-rescue 1.2)."""

from tests.lab import base


class RebuildNeverBooted(base.LabTest):

    def setUp(self):
        super().setUp()
        # Nowhere to go, and so to cell0.
        self.switch_hosts('disabled')
        self.addCleanup(self.switch_hosts, 'enabled')

    def test_stock_refuses(self):
        server = self.ask_boot()
        server.wait_for('ERROR')
        self.switch_hosts('enabled')
        self.assertRefused(
            409, "invalid state for 'rebuild'", server.action,
            'rebuild', {'imageRef': self.image('base')})

    @base.with_package
    def test_after_capacity_was_added(self):
        self.get('/servers', base.REBUILD)
        server = self.ask_boot(config_drive=True, description='mine',
                               metadata={'purpose': 'story'})
        server.wait_for('ERROR')
        self.switch_hosts('enabled')
        server.action('rebuild', {}, base.REBUILD)
        after = server.wait_for('ACTIVE')
        self.assertEqual(('mine', {'purpose': 'story'}),
                         (after['description'], after['metadata']))
        report = server.wait_for_guest('base')
        self.assertEqual(server.id, report.config_drive['uuid'])

    @base.with_package
    def test_fails_again_and_again(self):
        self.get('/servers', base.REBUILD)
        server = self.ask_boot()
        server.wait_for('ERROR')
        server.action('rebuild', {}, base.REBUILD)
        server.wait_for('ERROR')
        self.switch_hosts('enabled')
        server.action('rebuild', {}, base.REBUILD)
        server.wait_for('ACTIVE')
        server.wait_for_guest('base')
