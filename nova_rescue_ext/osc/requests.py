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

"""The requests that a command of OpenStackClient makes of the compute API.

OpenStackClient reached Nova through novaclient, then through one and then
through another attribute for openstacksdk. All of them end in one session of
keystoneauth, and it is there that the version is added.
"""

from __future__ import annotations

import re
import typing

from osc_lib import exceptions

from nova_rescue_ext import microversion

if typing.TYPE_CHECKING:
    from keystoneauth1 import session as ks_session
    import requests

_HEADER = 'OpenStack-API-Version'
_SERVER_ACTION = re.compile(r'/?servers/([^/]+)/action')
# What else changes a server: its ports and volumes.
_PART_OF_SERVER = re.compile(
    r'/?servers/([^/]+)/os-(?:interface|volume_attachments)(?:/[^/]+)?')
# Of the arguments of a request, those that say where it goes.
_DESTINATION = ('endpoint_filter', 'endpoint_override', 'auth', 'user_agent',
                'client_name', 'client_version', 'connect_retries', 'logger')

_Arguments = dict[str, typing.Any]


class Requests:
    """Adds the version to requests, and remembers the action asked for.

    A context manager, which does so while it is entered: in the interactive
    mode of OpenStackClient all commands share one session.

    :param session: the keystoneauth session of the command
    :param version: of compute-rescue, as text; None to add none
    :param parameters: of the action, in addition to those of the command

    :ivar server_id: the server that is changed; None before that
    :ivar server: the server as it was before that, a dict; None without a
        version, or if it could not be read
    :ivar answer: the response to the action
    """

    def __init__(self, session: ks_session.Session, version: str | None,
                 parameters: _Arguments | None = None) -> None:
        self._session = session
        self._version = version
        self._parameters = parameters or {}
        self.server_id: str | None = None
        self.server: dict[str, typing.Any] | None = None
        self.answer: requests.Response | None = None

    def __enter__(self) -> Requests:
        self._send = self._session.request
        self._session.request = self._request  # type: ignore
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._session.request = self._send  # type: ignore

    def _request(self, url: str, method: str,
                 **kwargs: typing.Any) -> requests.Response:
        destination = kwargs.get('endpoint_filter') or {}
        if destination.get('service_type') != 'compute':
            return self._send(url, method, **kwargs)
        action = method == 'POST' and _SERVER_ACTION.fullmatch(url)
        change = action or method != 'GET' and _PART_OF_SERVER.fullmatch(url)
        if change:
            self.server_id = change[1]
            if self._version:
                self.server = self._show(change[1], kwargs)
        if action:
            kwargs = self._with_parameters(kwargs)
        response = self._send(url, method, **self._opted_in(kwargs))
        if action:
            self.answer = response
        return response

    def _show(self, server_id: str,
              arguments: _Arguments) -> dict[str, typing.Any] | None:
        """Read a server where a request is about to go.

        :raises: CommandError if the cloud does not know of compute-rescue,
            which would go unnoticed otherwise
        """
        arguments = {name: value for name, value in arguments.items()
                     if name in _DESTINATION}
        response = self._send(
            '/servers/' + server_id, 'GET', raise_exc=False,
            **self._opted_in(dict(arguments, headers={
                'Accept': 'application/json'})))
        if not _is_opted_in(response):
            raise exceptions.CommandError(
                'The cloud does not offer compute-rescue. For the behavior '
                'of its Nova leave out --os-compute-rescue-api-version, '
                'OS_COMPUTE_RESCUE_API_VERSION and '
                'compute_rescue_api_version in clouds.yaml.')
        return response.json()['server'] if response.ok else None

    def _with_parameters(self, arguments: _Arguments) -> _Arguments:
        if not self._parameters:
            return arguments
        ((action, parameters),) = arguments['json'].items()
        return dict(arguments, json={
            action: {**(parameters or {}), **self._parameters}})

    def _opted_in(self, arguments: _Arguments) -> _Arguments:
        """The arguments of a request, with the version among the headers."""
        if not self._version:
            return arguments
        headers = dict(arguments.get('headers') or {})
        name = next((name for name in headers
                     if name.lower() == _HEADER.lower()), _HEADER)
        versions = headers.get(name)
        if versions is None and arguments.get('microversion'):
            versions = 'compute %s' % arguments['microversion']
        if microversion.SERVICE_TYPE not in (versions or ''):
            # keystoneauth does not replace a header.
            headers[name] = ', '.join(filter(None, (
                versions, '%s %s' % (microversion.SERVICE_TYPE,
                                     self._version))))
        return dict(arguments, headers=headers)


def _is_opted_in(response: requests.Response) -> bool:
    """Whether a response may come from a Nova that has the package.

    One of a proxy or of Keystone's middleware has no version header at all.
    """
    versions = response.headers.get(_HEADER)
    return not versions or microversion.SERVICE_TYPE in versions
