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

"""Clients and servers that the tests share."""

from __future__ import annotations

import typing

from tempest.common import waiters
from tempest import config
from tempest.scenario import manager

from nova_rescue_ext import microversion
from nova_rescue_ext.tempest_plugin import clients

if typing.TYPE_CHECKING:
    from tempest import clients as tempest_clients

CONF = config.CONF


class TestCase(manager.ScenarioTest):
    """A test that needs a version of compute-rescue.

    :cvar version: the version of compute-rescue, set by subclasses
    :cvar opted_in: the client of a user, which names that version
    :cvar admin_opted_in: the same of an administrator
    """

    # The first in which a boot-from-volume server can be rescued.
    compute_min_microversion = '2.87'
    version = microversion.RESCUE

    @classmethod
    def skip_checks(cls) -> None:
        super().skip_checks()
        offered = CONF.compute_rescue.max_version
        if not offered or microversion.parse(offered) < cls.version:
            raise cls.skipException(
                '[compute_rescue] max_version is less than %s'
                % str(cls.version))
        if not CONF.compute_feature_enabled.rescue:
            raise cls.skipException('[compute-feature-enabled] rescue')

    @classmethod
    def setup_clients(cls) -> None:
        super().setup_clients()
        cls.opted_in = cls._client(cls.os_primary)
        cls.admin_opted_in = cls._client(cls.os_admin)
        cls.admin_servers_client = cls.os_admin.servers_client

    @classmethod
    def _client(cls, user: tempest_clients.Manager) -> clients.ServersClient:
        return clients.ServersClient(
            user.auth_provider, rescue_version=cls.version,
            enable_instance_password=(
                CONF.compute_feature_enabled.enable_instance_password),
            **config.service_client_config('compute'))

    def boot(self, **kwargs: typing.Any) -> str:
        """Create a server.

        :returns: its id
        """
        if not CONF.service_available.neutron:
            kwargs.setdefault('networks', 'none')
        return self.create_server(**kwargs)['id']

    def boot_from_volume(self) -> str:
        """Create a server whose root is a volume, made from an image.

        :returns: its id
        """
        if not CONF.service_available.cinder:
            raise self.skipException('There is no Cinder.')
        volume = self.create_volume_from_image()
        return self.boot(image_id='', block_device_mapping_v2=[{
            'uuid': volume['id'], 'source_type': 'volume', 'boot_index': 0,
            'destination_type': 'volume'}])

    def wait_for(self, status: str, server_id: str) -> None:
        """Wait until a server has a status and no task."""
        waiters.wait_for_server_status(self.servers_client, server_id, status)

    def rescue_image(self) -> str:
        """The id of an image without properties for a rescue."""
        return CONF.compute_rescue.rescue_image_ref or CONF.compute.image_ref

    def rescue(self, server_id: str, image_id: str | None = None,
               **kwargs: typing.Any) -> dict[str, typing.Any]:
        """Rescue a server, and wait until it is in rescue.

        :param kwargs: other parameters of the request
        :returns: the response
        """
        if image_id:
            kwargs['rescue_image_ref'] = image_id
        answer = self.opted_in.rescue_server(server_id, **kwargs)
        self.addCleanup(self._unrescue_if_left, server_id)
        self.wait_for('RESCUE', server_id)
        return answer

    def unrescue(self, server_id: str, status: str = 'ACTIVE') -> None:
        """Unrescue a server, and wait for its status."""
        self.opted_in.unrescue_server(server_id)
        self.wait_for(status, server_id)

    def _unrescue_if_left(self, server_id: str) -> None:
        # A volume cannot be detached in a rescue.
        server = self.servers_client.show_server(server_id)['server']
        if server['status'] == 'RESCUE':
            self.unrescue(server_id)

    def rescue_image_with(self, **properties: str) -> str:
        """Make an image of a server's, with properties for a rescue.

        :returns: its id
        """
        image_id: str = self.create_server_snapshot(
            self.servers_client.show_server(self.boot())['server'])['id']
        self.image_client.update_image(image_id, [
            {'add': '/' + name, 'value': value}
            for name, value in properties.items()])
        return image_id

    def disks(self, server_id: str) -> int:
        """How many disks the guest of a running server has."""
        return self.admin_servers_client.show_server_diagnostics(server_id)[
            'num_disks']

    def host(self, server_id: str) -> str:
        """The host that a server is on."""
        return self.admin_servers_client.show_server(server_id)['server'][
            'OS-EXT-SRV-ATTR:host']
