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


"""The compute API, as the commands of ``nova-rescue-ext-manage`` use it.

The commands bypass nothing: Nova's policies and the quota of the server's
project apply, as to every caller.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import typing

from keystoneauth1 import exceptions as ks_exc
import microversion_parse
import prettytable

from nova_rescue_ext import microversion

if typing.TYPE_CHECKING:
    from keystoneauth1 import adapter
    import requests

PAGE = 200

# A server as the compute API shows it.
Server = dict[str, typing.Any]

# While nova-api or its proxy restarts, requests that only read are repeated
# for half a minute.
_PATIENCE = {'connect_retries': 6, 'status_code_retries': 6,
             'retriable_status_codes': [502, 503, 504]}


class Refused(Exception):
    """The compute API refuses a request that reads, in its words."""


class CellDown(Refused):
    """The database of a server's cell does not answer, so little is known."""

    def __init__(self, server_id: str) -> None:
        super().__init__(
            'The state of server %s is not known, as the database of its cell '
            'does not answer.' % server_id)


# What a request that reads raises if there is no answer.
UNREADABLE = (Refused, ks_exc.ClientException)


class Result(typing.NamedTuple):
    """What became of a server."""

    server_id: str
    state: str
    reason: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments by which a command finds the API, and servers there."""
    parser.add_argument('--os-cloud', metavar='NAME',
                        help='cloud in clouds.yaml (default: from the '
                             'environment, as for openstack)')
    parser.add_argument('--compute-version', default='2.94',
                        metavar='VERSION', help='microversion of the compute '
                                                'API (default 2.94)')
    parser.add_argument('--project', metavar='ID',
                        help='only servers of this project')


def positive(number: type[int] | type[float]) -> typing.Callable[[str], float]:
    """The type of an argument that is more than zero.

    :param number: int or float
    """
    def parse(text: str) -> float:
        try:
            value = number(text)
        except ValueError:
            value = None
        if value is None or not 0 < value < float('inf'):  # NaN is not
            raise argparse.ArgumentTypeError(
                '%s is not a positive number' % text)
        return value

    return parse


def connect(cloud: str | None) -> adapter.Adapter:
    """An adapter for the compute API of a cloud.

    :param cloud: a name in clouds.yaml, or None for the environment
    :raises: SystemExit if there is no such cloud; keystoneauth1's
        ClientException
    """
    import openstack  # takes a second
    from openstack import exceptions

    try:
        return openstack.connect(cloud=cloud).compute
    except exceptions.SDKException as exc:
        sys.exit(str(exc))


class Client:
    """The few calls that are needed.

    :param adapter: a keystoneauth adapter for the compute API
    :param compute_version: microversion of the compute API, as text
    :param rescue_version: version of compute-rescue; None for what the cloud
        takes for its default
    """

    def __init__(
            self, adapter: adapter.Adapter, compute_version: str,
            rescue_version: microversion_parse.Version | str | None) -> None:
        self._adapter = adapter
        versions = 'compute %s' % compute_version
        if rescue_version:
            versions += ', %s %s' % (microversion.SERVICE_TYPE,
                                     rescue_version)
        self._headers = {'OpenStack-API-Version': versions}

    def list_servers(self, **filters: typing.Any) -> typing.Iterator[Server]:
        """Yield the servers of all projects that match, with details."""
        filters = {name: value for name, value in filters.items() if value}
        query = dict(filters, all_tenants=1, limit=PAGE)
        while True:
            page = self.get('/servers/detail', query)['servers']
            yield from page
            if not page:
                return
            query['marker'] = page[-1]['id']

    def get(
            self, url: str,
            query: dict[str, typing.Any] | None = None
    ) -> dict[str, typing.Any]:
        """Read a resource of the API.

        :param url: below the endpoint of the compute API
        :param query: parameters of the query, or None
        :returns: the JSON of the response
        :raises: Refused; keystoneauth1's NotFound, ClientException
        """
        try:
            response = self._adapter.get(url, params=query, raise_exc=True,
                                         headers=self._headers, **_PATIENCE)
        except (ks_exc.Forbidden, ks_exc.BadRequest,
                ks_exc.NotAcceptable) as exc:
            raise Refused('The compute API refuses GET %s: %s' % (
                url, str(exc) if exc.response is None
                else words(exc.response)))
        try:
            return response.json()
        except ValueError:  # for example of a proxy
            raise Refused('The compute API answers GET %s without JSON.'
                          % url)

    def check_version(self, version: microversion_parse.Version) -> None:
        """Check that the compute API has a version of compute-rescue.

        :param version: of nova_rescue_ext.microversion
        :raises: Refused; keystoneauth1's ClientException
        """
        document = self._adapter.get('/', raise_exc=True,
                                     **_PATIENCE).json()
        offered = document.get('version', {}).get('compute_rescue', {}).get(
            'version')
        if (not offered or microversion_parse.parse_version_string(offered)
                < version):
            raise Refused(
                'The compute API has no compute-rescue %s, but %s. Switch '
                'nova-rescue-ext on in nova-api.' % (
                    version, offered or 'none'))

    def show(self, server_id: str) -> Server | None:
        """A server, or None if it was deleted.

        :raises: CellDown; keystoneauth1's ClientException
        """
        try:
            server = self.get('/servers/' + server_id)['server']
        except ks_exc.NotFound:
            return None
        # From 2.69 on the response has what the API's own database knows.
        if 'OS-EXT-STS:task_state' not in server:
            raise CellDown(server_id)
        return server

    def act(self, server_id: str, action: str,
            parameters: dict[str, typing.Any] | None) -> str | None:
        """Request an action.

        :param server_id: the UUID of the server
        :param action: its name in the API
        :param parameters: those of the action
        :returns: the reason if it is refused, else None
        """
        try:
            response = self.request_action(server_id, action, parameters)
        except ks_exc.ClientException as exc:
            return str(exc)
        return None if response.ok else words(response)

    def request_action(
            self, server_id: str, action: str,
            parameters: dict[str, typing.Any] | None) -> requests.Response:
        """Request an action.

        :param server_id: the UUID of the server
        :param action: its name in the API
        :param parameters: those of the action
        :returns: the response, even if it is a refusal
        :raises: keystoneauth1's ClientException if there is no response
        """
        return self._adapter.post(
            '/servers/%s/action' % server_id, json={action: parameters},
            headers=self._headers, raise_exc=False)

    def why(self, server_id: str, request_id: str) -> str:
        """Why an action on a server has failed, in words.

        :param request_id: that of the request for the action
        :returns: '' if the cloud does not say; by default it does so only to
            administrators, and from version 2.84 of the compute API
        """
        try:
            events = self.get('/servers/%s/os-instance-actions/%s' % (
                server_id, request_id))['instanceAction'].get('events', [])
        except (ks_exc.HttpError, Refused):
            return ''
        details = [event['details'] for event in events
                   if event.get('details')]
        # The newest is first. The oldest is the one that contains the others.
        return details[-1] if details else ''


def words(response: requests.Response) -> str:
    """The reason of a refusal, without Nova's JSON around it."""
    try:
        fault, = response.json().values()
        return fault['message']
    except (ValueError, TypeError, KeyError, AttributeError):
        # For example of a proxy, and maybe empty.
        return response.text or 'HTTP %d' % response.status_code


def reason(server: Server) -> str:
    """Why a server failed, in words."""
    return server.get('fault', {}).get('message', '')


def table(columns: list[str],
          rows: typing.Iterable[list[typing.Any]]) -> prettytable.PrettyTable:
    """A table for people."""
    result = prettytable.PrettyTable(columns)
    result.align = 'l'
    for row in rows:
        result.add_row(row)
    return result


def report(results: list[Result], wanted: str) -> int:
    """Print what became of servers.

    :param results: a list of Result
    :param wanted: the state that all should be in
    :returns: the exit code: 0, or 1 if one is not
    """
    print(table(['Server', 'Result', 'Reason'], [
        [result.server_id, result.state, result.reason]
        for result in results]))
    states = [result.state for result in results]
    print(', '.join('%d %s' % (states.count(state), state)
                    for state in sorted(set(states))))
    return int(any(state != wanted for state in states))


@contextlib.contextmanager
def progress(label: str,
             total: int) -> typing.Iterator[typing.Callable[[], None]]:
    """A progress bar, or a line for each where nothing can draw one."""
    try:
        from rich import console
        from rich import progress as rich_progress
    except ImportError:
        done = itertools.count(1)
        yield lambda: print('%d of %d' % (next(done), total), file=sys.stderr)
        return
    with rich_progress.Progress(
            console=console.Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total)
        yield lambda: bar.advance(task)
