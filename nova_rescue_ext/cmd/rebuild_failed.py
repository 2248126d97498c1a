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


"""Rebuild servers that never booted, as a client of the compute API.

An operator's rights never become a user's: Nova's policies, locks and quotas
decide, as for everybody.
"""

import contextlib
import time
import typing

from oslo_utils import timeutils

from nova_rescue_ext import microversion

PAGE = 200


class Result(typing.NamedTuple):
    """What became of a server."""

    server_id: str
    state: str  # a status of the server, or 'refused'
    reason: str


def connect(cloud):
    """An adapter for the compute API of a cloud.

    :param cloud: a name in clouds.yaml, or None for the environment
    """
    import openstack  # takes a second

    return openstack.connect(cloud=cloud).compute


class Client:
    """The few calls that are needed.

    :param adapter: a keystoneauth adapter for the compute API
    :param compute_version: microversion of the compute API, as text
    """

    def __init__(self, adapter, compute_version):
        self._adapter = adapter
        self._headers = {'OpenStack-API-Version': 'compute %s, %s %s' % (
            compute_version, microversion.SERVICE_TYPE,
            microversion.REBUILD_NEVER_BOOTED)}

    def list_failed(self, project_id=None):
        """Yield the servers that never booted."""
        query = '/servers/detail?all_tenants=1&status=ERROR&limit=%d' % PAGE
        if project_id:
            query += '&project_id=' + project_id
        marker = ''
        while True:
            page = self._adapter.get(
                query + marker, headers=self._headers).json()['servers']
            yield from (server for server in page
                        if not server.get('OS-SRV-USG:launched_at'))
            if not page:
                return
            marker = '&marker=' + page[-1]['id']

    def show(self, server_id):
        """A server, or None if it was deleted."""
        response = self._adapter.get('/servers/' + server_id,
                                     headers=self._headers)
        return response.json()['server'] if response.ok else None

    def rebuild(self, server_id):
        """Ask for a rebuild.

        :returns: the reason of a refusal, or None
        """
        response = self._adapter.post(
            '/servers/%s/action' % server_id, json={'rebuild': {}},
            headers=self._headers)
        return None if response.ok else response.text


def reason(server):
    """Why a server failed, in words."""
    return server.get('fault', {}).get('message', '')


def matches(server, filters, before):
    """Whether a server is one that the operator means.

    :param filters: the arguments of the command
    :param before: it failed before, a datetime in UTC
    """
    failed_at = timeutils.normalize_time(
        timeutils.parse_isotime(server['updated']))
    return (
        failed_at < before
        and timeutils.is_older_than(failed_at, filters.older_than)
        and (not filters.reason or filters.reason in reason(server))
        and filters.flavor in (None, server['flavor'].get('original_name'))
        and filters.availability_zone in (
            None, server.get('OS-EXT-AZ:availability_zone')))


def rebuild_all(client, servers, rate, timeout):
    """Rebuild servers and wait for what becomes of them.

    :param rate: at most so many a minute
    :param timeout: seconds to wait after the last request
    :returns: a list of Result
    """
    results, waiting = [], []
    with _progress(len(servers)) as advance:
        for server in servers:
            refusal = client.rebuild(server['id'])
            if refusal:
                results.append(Result(server['id'], 'refused', refusal))
                advance()
            else:
                waiting.append(server['id'])
            time.sleep(60.0 / rate)
        watch = timeutils.StopWatch(timeout)
        watch.start()
        while waiting and not watch.expired():
            for server_id in list(waiting):
                server = client.show(server_id)
                if server and server['status'] == 'BUILD':
                    continue
                waiting.remove(server_id)
                results.append(_result(server_id, server))
                advance()
            if waiting:
                time.sleep(1)
    return results + [Result(server_id, 'BUILD', 'still being built')
                      for server_id in waiting]


def _result(server_id, server):
    if server is None:
        return Result(server_id, 'deleted', '')
    return Result(server_id, server['status'], reason(server))


@contextlib.contextmanager
def _progress(total):
    """A progress bar, where there is something to draw it with."""
    try:
        from rich import progress
    except ImportError:
        yield lambda: None
        return
    with progress.Progress() as bar:
        task = bar.add_task('Rebuilding', total=total)
        yield lambda: bar.advance(task)
