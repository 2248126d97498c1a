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


"""The ports that a failed build has left with a server.

If Neutron is down when nova-compute cleans up, the ports that Nova made keep
the server as their device, and would be attached beside the new ones; those
that the owner named stay bound to it, and Nova would take them for in use.
"""

from __future__ import annotations

import typing

from nova import context as nova_context
from nova.network import neutron
from nova import objects

from nova_rescue_ext import exception


class LeftPorts:
    """The ports of the server's project that have it as their device.

    :param api: Nova's network API
    :param context: a RequestContext
    :param instance: the Instance
    :param named: ids of all ports that were ever named for the server, None if
        that was not kept: no port is deleted then
    :ivar named: IDs of those that were named in a request
    :ivar made_by_nova: ids of the others
    """

    def __init__(self, api: neutron.API,
                 context: nova_context.RequestContext,
                 instance: objects.Instance,
                 named: set[str] | None) -> None:
        self._network_api = api
        self._context = context
        self._instance = instance
        # A project can name any server as the device of its ports.
        left = [port['id'] for port in api.list_ports(
            context, device_id=instance.uuid)['ports']
            if instance.project_id in (port.get('project_id'),
                                       port.get('tenant_id'))]
        self.named = [port for port in left if named is None or port in named]
        self.made_by_nova = [port for port in left if port not in self.named]

    def of(self, networks: typing.Any) -> typing.Any:
        """The requested networks whose ports are bound to the server.

        :param networks: a NetworkRequestList, or None
        """
        return objects.NetworkRequestList(objects=[
            network for network in networks or ()
            if network.port_id and network.port_id in self.named])

    def not_of(self, networks: typing.Any) -> typing.Any:
        """The requested networks but for those of of().

        :param networks: a NetworkRequestList, or None
        """
        if not self.named or networks is None:
            return networks
        return objects.NetworkRequestList(objects=[
            network for network in networks
            if network.port_id not in self.named])

    def release(self, check: typing.Callable[[], None]) -> None:
        """Unbind those that were named, and delete the others.

        :param check: called when it was seen which are left; raises if they
            may be those of another attempt
        :raises: NeutronClientException; PortsNotReleased
        """
        if not self.named and not self.made_by_nova:
            return
        client = neutron.get_client(self._context)
        network_api = self._network_api
        # Their owner may have given one to another server meanwhile.
        left = {port['id'] for port in network_api.list_ports(
            self._context, device_id=self._instance.uuid)['ports']}
        check()
        network_api._unbind_ports(
            self._context, [port for port in self.named if port in left],
            client)
        network_api._delete_ports(
            client, self._instance,
            [port for port in self.made_by_nova if port in left],
            raise_if_fail=True)
        # Nova only logs that it fails to unbind one.
        if self.named and network_api.list_ports(
                self._context, device_id=self._instance.uuid,
                id=self.named)['ports']:
            raise exception.PortsNotReleased(ports=', '.join(self.named))
