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

"""Rebuild of a server that never booted."""

from __future__ import annotations

import typing

from tempest.common import waiters
from tempest import config
from tempest.lib.common.utils import data_utils
from tempest.lib.common.utils import test_utils
from tempest.lib import decorators
from tempest.lib import exceptions

from nova_rescue_ext import microversion
from nova_rescue_ext.tempest_plugin.tests import base

CONF = config.CONF


class RebuildNeverBootedTest(base.TestCase):
    """No host is found, and then there is one.

    Both in one server group with anti-affinity, and on the same host: the
    second has no room until the first is gone. Nobody else in the cloud
    notices, and it does not matter how many hosts there are.
    """

    version = microversion.REBUILD_NEVER_BOOTED

    @classmethod
    def setup_clients(cls) -> None:
        super().setup_clients()
        cls.groups = cls.os_admin.server_groups_client

    def _boot_two(self) -> tuple[str, str]:
        """Create two servers as an administrator, who may name a host.

        :returns: the id of the one that runs, and of the one that failed
        """
        group = self.groups.create_server_group(
            name=data_utils.rand_name('anti-affinity'),
            policy='anti-affinity')['server_group']
        self.addCleanup(test_utils.call_and_ignore_notfound_exc,
                        self.groups.delete_server_group, group['id'])
        running = self._create(group)
        self.wait_for_admin('ACTIVE', running)
        failed = self._create(group, host=self.host(running))
        waiters.wait_for_server_status(
            self.admin_servers_client, failed, 'ERROR', raise_on_error=False)
        return running, failed

    def _create(self, group: dict[str, typing.Any],
                **kwargs: typing.Any) -> str:
        if CONF.service_available.neutron:
            kwargs['networks'] = 'auto'
            network = self.get_tenant_network('admin')
            if network:
                kwargs['networks'] = [{'uuid': network['id']}]
        else:
            kwargs['networks'] = 'none'
        server_id = self.admin_servers_client.create_server(
            name=data_utils.rand_name('never-booted'),
            flavorRef=CONF.compute.flavor_ref,
            imageRef=CONF.compute.image_ref,
            scheduler_hints={'group': group['id']},
            **kwargs)['server']['id']
        self.addCleanup(waiters.wait_for_server_termination,
                        self.admin_servers_client, server_id)
        self.addCleanup(test_utils.call_and_ignore_notfound_exc,
                        self.admin_servers_client.delete_server, server_id)
        return server_id

    def wait_for_admin(self, status: str, server_id: str) -> None:
        waiters.wait_for_server_status(self.admin_servers_client, server_id,
                                       status)

    @decorators.idempotent_id('a5c8e2f7-1b64-4d39-9e0c-7f3a6b8d2c11')
    def test_rebuild(self) -> None:
        running, failed = self._boot_two()
        before = self.admin_servers_client.show_server(failed)['server']
        self.assertIn('No valid host', before['fault']['message'])
        host = self.host(running)
        self.admin_servers_client.delete_server(running)
        waiters.wait_for_server_termination(self.admin_servers_client,
                                            running)
        self.admin_opted_in.rebuild_never_booted(failed)
        self.wait_for_admin('ACTIVE', failed)
        after = self.admin_servers_client.show_server(failed)['server']
        for name in ('id', 'name', 'created', 'image', 'flavor'):
            self.assertEqual(before[name], after[name])
        self.assertEqual(host, self.host(failed))

    @decorators.idempotent_id('c0d4b6a9-8e21-4f75-a3b8-2d9f1e7c5a12')
    def test_fails_again(self) -> None:
        """It is as before, and can be rebuilt again."""
        _running, failed = self._boot_two()
        for _number in range(2):
            self.admin_opted_in.rebuild_never_booted(failed)
            waiters.wait_for_server_status(
                self.admin_servers_client, failed, 'ERROR',
                raise_on_error=False)

    @decorators.attr(type=['negative'])
    @decorators.idempotent_id('8f3b5d7e-6a19-4c82-b4e0-1c7a9d2f6e13')
    def test_without_a_version(self) -> None:
        """Who does not opt in has the Nova underneath."""
        _running, failed = self._boot_two()
        self.assertRaises(
            exceptions.Conflict, self.admin_servers_client.rebuild_server,
            failed, CONF.compute.image_ref)
