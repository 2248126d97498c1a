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

"""A client of the servers API that names a version of compute-rescue."""

from __future__ import annotations

import json
import typing

import microversion_parse
from tempest.lib.services.compute import servers_client

from nova_rescue_ext import microversion


class ServersClient(servers_client.ServersClient):
    """Name a version of compute-rescue in each request.

    Tempest names that of compute in a header of its own.

    :param rescue_version: the version
    """

    def __init__(self, *args: typing.Any,
                 rescue_version: microversion_parse.Version | str,
                 **kwargs: typing.Any) -> None:
        super().__init__(*args, **kwargs)
        self._rescue_version = rescue_version

    def get_headers(self) -> dict[str, str]:
        return dict(super().get_headers(), **{
            'OpenStack-API-Version': '%s %s' % (
                microversion.SERVICE_TYPE, self._rescue_version)})

    def show_rescue(self, server_id: str) -> dict[str, typing.Any] | None:
        """Show the rescue of a server; Tempest's schema does not have it.

        :returns: None if the server is not in rescue
        """
        _response, body = self.get('servers/' + server_id)
        rescue: dict[str, typing.Any] | None = json.loads(body)['server'][
            'rescue_session']
        return rescue

    def attach_network(self, server_id: str, network_id: str) -> str:
        """Attach a new port of a network to a server.

        :returns: the ID of the port
        """
        _response, body = self.post(
            'servers/%s/os-interface' % server_id, json.dumps(
                {'interfaceAttachment': {'net_id': network_id}}))
        port_id: str = json.loads(body)['interfaceAttachment']['port_id']
        return port_id

    def detach_port(self, server_id: str, port_id: str) -> None:
        """Detach a port from a server."""
        self.delete('servers/%s/os-interface/%s' % (server_id, port_id))

    def rebuild_never_booted(self, server_id: str,
                             **kwargs: typing.Any) -> dict[str, typing.Any]:
        """Rebuild a server that never booted.

        :param kwargs: parameters of the request, all optional
        """
        schema = self.get_schema(self.schema_versions_info)
        return self.action(
            server_id, 'rebuild', schema.rebuild_server_with_admin_pass
            if self.enable_instance_password else schema.rebuild_server,
            **kwargs)
