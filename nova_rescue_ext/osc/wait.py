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

"""Wait for the end of what a server was asked to do."""

from __future__ import annotations

import contextlib
import time
import typing

from osc_lib import exceptions

from nova_rescue_ext.cmd import compute_api

if typing.TYPE_CHECKING:
    import requests

_SECONDS = 2
_WAITING = 'waiting'
# The first whose events have details.
COMPUTE_VERSION = '2.84'


def until_done(client: compute_api.Client,
               server_id: str) -> dict[str, typing.Any]:
    """Wait until a server has no task.

    :param client: a compute_api.Client
    :param server_id: the UUID of the server
    :returns: the server, a dict
    :raises: CommandError if it is deleted meanwhile; keystoneauth1's
        ClientException
    """
    while True:
        with contextlib.suppress(compute_api.CellDown):
            server = client.show(server_id)
            if server is None:
                raise exceptions.CommandError(
                    'Server %s has been deleted.' % server_id)
            # A build has no task at times.
            if (server['OS-EXT-STS:task_state'] is None
                    and server['status'] != 'BUILD'):
                return server
        time.sleep(_SECONDS)


def until_ready(client: compute_api.Client, server: dict[str, typing.Any],
                is_shown: bool) -> bool | None:
    """Wait until it is known whether a rescue system is ready.

    :param client: a compute_api.Client
    :param server: the server in rescue, a dict
    :param is_shown: whether the cloud shows rescues of servers, unless their
        cell does not answer
    :returns: whether the ready line was seen; None if nobody looks for it
    :raises: as until_done; CommandError if the rescue is ended meanwhile
    """
    while True:
        if 'rescue_session' in server or not is_shown:
            line = (server.get('rescue_session') or {}).get('ready_line')
            if line != _WAITING:
                return {'seen': True, 'not_seen': False}.get(line or '')
            is_shown = True
        time.sleep(_SECONDS)
        server = until_done(client, server['id'])
        if server['status'] != 'RESCUE':
            raise exceptions.CommandError(
                'Server %s is no longer in rescue. It is %s.'
                % (server['id'], server['status']))


def failure(client: compute_api.Client, server: dict[str, typing.Any],
            response: requests.Response, what: str) -> exceptions.CommandError:
    """The error to raise when an action has failed.

    :param client: a compute_api.Client
    :param server: the server after the action, a dict
    :param response: the response to the request for the action
    :param what: what has not happened, for example 'rescued'
    :returns: a CommandError with the reason
    """
    request_id = response.headers.get('x-openstack-request-id', '')
    reason = (compute_api.reason(server)
              or client.why(server['id'], request_id)
              or 'The cloud does not tell you why. Its operator can find out '
                 'with request ID %s.' % request_id)
    return exceptions.CommandError('Server %s was not %s, and is %s. %s' % (
        server['id'], what, server['status'], reason))
