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

"""Live migration of a server in rescue."""

from __future__ import annotations

import typing

from tempest import config
from tempest.lib import decorators
from tempest.lib import exceptions

from nova_rescue_ext import microversion
from nova_rescue_ext.tempest_plugin.tests import base

if typing.TYPE_CHECKING:
    from tempest.lib.services.compute import servers_client

CONF = config.CONF


class LiveMigrationTest(base.TestCase):

    version = microversion.LIVE_MIGRATE_RESCUED

    @classmethod
    def skip_checks(cls) -> None:
        super().skip_checks()
        if not CONF.compute_feature_enabled.live_migration:
            raise cls.skipException(
                '[compute-feature-enabled] live_migration')
        if CONF.compute.min_compute_nodes < 2:
            raise cls.skipException('[compute] min_compute_nodes')

    def _migrate(self, client: servers_client.ServersClient,
                 server_id: str) -> None:
        client.live_migrate_server(server_id, host=None,
                                   block_migration='auto')

    def _test_migration(self, server_id: str) -> None:
        """To another host, and unrescued there."""
        self.rescue(server_id, self.rescue_image())
        source = self.host(server_id)
        disks = self.disks(server_id)
        self._migrate(self.admin_opted_in, server_id)
        self.wait_for('RESCUE', server_id)
        self.assertNotEqual(source, self.host(server_id))
        self.assertEqual(disks, self.disks(server_id))
        self.unrescue(server_id)
        self.assertNotEqual(source, self.host(server_id))

    @decorators.idempotent_id('e1f7c3b9-5a42-4d08-9c6e-3b7d8a2f4c08')
    def test_migration(self) -> None:
        self._test_migration(self.boot())

    @decorators.idempotent_id('7b2e9d4c-8f16-4a53-b0d7-6c5e1f3a9d09')
    def test_migration_from_volume(self) -> None:
        self._test_migration(self.boot_from_volume())

    @decorators.attr(type=['negative'])
    @decorators.idempotent_id('3d6f1a8e-4c97-4b25-8e0a-9f2b7c5d1e10')
    def test_without_a_version(self) -> None:
        """Who does not opt in has the Nova underneath."""
        server_id = self.boot()
        self.rescue(server_id, self.rescue_image())
        self.assertRaises(exceptions.Conflict, self._migrate,
                          self.admin_servers_client, server_id)
