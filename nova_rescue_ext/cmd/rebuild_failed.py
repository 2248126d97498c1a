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
import itertools
import sys
import time
import typing

from oslo_utils import timeutils

from nova_rescue_ext import microversion

PAGE = 200
_EXTRA_SPEC = 'aggregate_instance_extra_specs:'
_TENANTS = 'filter_tenant_id'


class NoAggregate(Exception):
    """There is not exactly one host aggregate of that name."""


class Aggregate(typing.NamedTuple):
    """The hosts that capacity was added to."""

    zones: set  # names
    metadata: dict

    def takes(self, server):
        """Whether the scheduler may choose a host of it for a server.

        By the requested zone and by what the metadata says, as Nova's filters
        read it.
        """
        from nova.scheduler.filters import extra_specs_ops

        zone = server.get('OS-EXT-AZ:availability_zone')
        tenants = {tenant.strip() for key, value in self.metadata.items()
                   if key.startswith(_TENANTS) for tenant in value.split(',')}
        wanted = {key[len(_EXTRA_SPEC):]: value for key, value
                  in server['flavor'].get('extra_specs', {}).items()
                  if key.startswith(_EXTRA_SPEC)}
        return (
            (not zone or zone in self.zones)
            and (not tenants or server['tenant_id'] in tenants)
            and all(extra_specs_ops.match(self.metadata.get(key, ''), value)
                    for key, value in wanted.items()))


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
            page = self._get(query + marker)['servers']
            for server in page:
                if server.get('OS-SRV-USG:launched_at'):
                    continue
                # Older Nova lists servers of cell0 without their fault.
                yield (server if 'fault' in server
                       else self.show(server['id']) or server)
            if not page:
                return
            marker = '&marker=' + page[-1]['id']

    def aggregate(self, name):
        """An aggregate, with the zones of its hosts.

        :param name: of the aggregate, or its id
        :returns: an Aggregate
        :raises: NoAggregate
        """
        found = [aggregate for aggregate in self._get(
            '/os-aggregates')['aggregates']
            if name in (aggregate['name'], str(aggregate['id']))]
        if len(found) != 1:
            raise NoAggregate('There are %d host aggregates called %s.' % (
                len(found), name))
        hosts, metadata = set(found[0]['hosts']), found[0]['metadata']
        zones = self._get('/os-availability-zone/detail')[
            'availabilityZoneInfo']
        return Aggregate(
            {zone['zoneName'] for zone in zones
             if hosts & set(zone['hosts'] or ())}, metadata)

    def _get(self, url):
        response = self._adapter.get(url, headers=self._headers)
        response.raise_for_status()
        return response.json()

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
        return None if response.ok else _words(response)


def _words(response):
    """The reason of a refusal, without Nova's JSON around it."""
    try:
        fault, = response.json().values()
        return fault['message']
    except (ValueError, TypeError, KeyError, AttributeError):
        return response.text  # of a proxy, perhaps


def reason(server):
    """Why a server failed, in words."""
    return server.get('fault', {}).get('message', '')


def matches(server, filters, before, aggregate=None):
    """Whether a server is one that the operator means.

    :param filters: the arguments of the command
    :param before: it failed before, a datetime in UTC
    :param aggregate: an Aggregate that may take it
    """
    failed_at = timeutils.normalize_time(
        timeutils.parse_isotime(server['updated']))
    return (
        failed_at < before
        and timeutils.is_older_than(failed_at, filters.older_than)
        and (not filters.reason or filters.reason in reason(server))
        and filters.flavor in (None, server['flavor'].get('original_name'))
        and filters.availability_zone in (
            None, server.get('OS-EXT-AZ:availability_zone'))
        and (aggregate is None or aggregate.takes(server)))


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
    """A progress bar, or a line for each where nothing can draw one."""
    try:
        from rich import console
        from rich import progress
    except ImportError:
        done = itertools.count(1)
        yield lambda: print('%d of %d' % (next(done), total), file=sys.stderr)
        return
    with progress.Progress(console=console.Console(stderr=True)) as bar:
        task = bar.add_task('Rebuilding', total=total)
        yield lambda: bar.advance(task)
