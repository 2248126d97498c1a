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


"""``nova-rescue-ext-manage rebuild-failed``: servers that never booted."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import os
import sys
import time
import typing

from keystoneauth1 import exceptions as ks_exc
import microversion_parse
from oslo_utils import timeutils

from nova_rescue_ext.cmd import compute_api
from nova_rescue_ext.cmd import extra_specs
from nova_rescue_ext import microversion

_EXTRA_SPEC = 'aggregate_instance_extra_specs:'
_TENANTS = 'filter_tenant_id'
_OLDEST_COMPUTE_VERSION = microversion_parse.parse_version_string('2.47')


class NoAggregate(Exception):
    """There is not exactly one host aggregate of that name."""


class Aggregate(typing.NamedTuple):
    """The hosts that capacity was added to."""

    zones: set  # names
    metadata: dict

    def takes(self, server: compute_api.Server) -> bool:
        """Whether the scheduler may choose a host of it for a server.

        By the requested zone and by what the metadata says, as Nova's filters
        read it.
        """
        zone = server.get('OS-EXT-AZ:availability_zone')
        tenants = {tenant.strip() for key, value in self.metadata.items()
                   if key.startswith(_TENANTS) for tenant in value.split(',')}
        wanted = {key[len(_EXTRA_SPEC):]: value for key, value
                  in server['flavor'].get('extra_specs', {}).items()
                  if key.startswith(_EXTRA_SPEC)}
        return (
            (not zone or zone in self.zones)
            and (not tenants or server['tenant_id'] in tenants)
            and all(extra_specs.match(self.metadata.get(key, ''), value)
                    for key, value in wanted.items()))


def add_parser(
        commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command to those of the program."""
    parser = commands.add_parser(
        'rebuild-failed', help='rebuild servers that never booted')
    compute_api.add_arguments(parser)
    parser.add_argument('--reason', metavar='TEXT',
                        help='only servers whose fault contains this text, '
                             'or this reason (no_host, quota, ...)')
    parser.add_argument('--flavor', metavar='NAME',
                        help='only servers of this flavor')
    parser.add_argument('--aggregate', metavar='NAME',
                        help='only servers that may get a host of this host '
                             'aggregate (name or ID), for example after '
                             'adding capacity to it')
    parser.add_argument('--availability-zone', metavar='NAME',
                        help='only servers that were requested in this zone')
    parser.add_argument(
        '--older-than', type=int, default=0, metavar='SECONDS',
        help='only servers that failed at least SECONDS ago')
    parser.add_argument(
        '--failed-before', type=_time, metavar='TIME',
        help='only servers that failed before TIME (UTC, ISO 8601); to resume')
    parser.add_argument('--limit', type=compute_api.positive(int),
                        metavar='NUMBER',
                        help='at most this many servers')
    parser.add_argument(
        '--rate', type=compute_api.positive(float), default=60,
        metavar='NUMBER',
        help='at most this many requests per minute (default 60)')
    parser.add_argument(
        '--timeout', type=compute_api.positive(float), default=600,
        metavar='SECONDS',
        help='how long to wait for the last to be built (default 600)')
    parser.add_argument(
        '--password-file', metavar='PATH',
        help='write "server password" lines to this new file, which only you '
             'can read. Without it the new admin passwords are lost, and '
             'owners who need one have to set another')
    parser.set_defaults(action=run, local=False)
    return parser


def _time(text: str) -> datetime.datetime:
    try:
        return timeutils.normalize_time(timeutils.parse_isotime(text))
    except ValueError:
        raise argparse.ArgumentTypeError(
            '%s is not a time such as 2026-11-28T16:00:00Z (ISO 8601; UTC '
            'unless it says otherwise)' % text)


def run(arguments: argparse.Namespace) -> int:
    """Find servers that never booted, and rebuild them.

    :returns: the exit code: 0, or 1 if one was refused or failed again
    """
    _check_compute_version(arguments.compute_version)
    client = compute_api.Client(
        compute_api.connect(arguments.os_cloud), arguments.compute_version,
        microversion.REBUILD_NEVER_BOOTED)
    client.check_version(microversion.REBUILD_NEVER_BOOTED)
    before = arguments.failed_before or timeutils.utcnow()
    try:
        aggregate = arguments.aggregate and _aggregate(client,
                                                       arguments.aggregate)
    except NoAggregate as exc:
        print(exc)
        return 1
    servers = [server for server in _list_failed(client, arguments.project)
               if _matches(server, arguments, before, aggregate)]
    servers = servers[:arguments.limit]
    print(compute_api.table(
        ['Server', 'Name', 'Project', 'Flavor', 'Failed (UTC)', 'Reason'], [
            [server['id'], server['name'], server['tenant_id'],
             server['flavor'].get('original_name'), server['updated'],
             compute_api.reason(server)] for server in servers]))
    if arguments.dry_run or not servers:
        return 0
    print('If this is interrupted, resume with --failed-before %s'
          % before.isoformat(timespec='seconds'), flush=True)
    with _open_password_file(arguments.password_file) as passwords:
        results = _rebuild_all(client, servers, arguments.rate,
                               arguments.timeout, passwords)
    if not arguments.password_file:
        print('The new admin passwords were not kept: see --password-file.')
    return compute_api.report(results, 'ACTIVE')


def _check_compute_version(version: str) -> None:
    """Refuse versions that do not say what is asked about each server.

    :raises: Refused
    """
    try:
        number = microversion_parse.parse_version_string(version)
    except TypeError:
        raise compute_api.Refused(
            '--compute-version %s is not a version such as 2.94.' % version)
    # The flavor is shown since 2.47, whether a server is locked since 2.9.
    if number < _OLDEST_COMPUTE_VERSION:
        raise compute_api.Refused(
            '--compute-version has to be at least 2.%d: older ones do not say '
            'whether a server is locked, and what its flavor is.'
            % _OLDEST_COMPUTE_VERSION.minor)


def _open_password_file(
        path: str | None) -> typing.ContextManager[typing.TextIO | None]:
    """A new file that only its owner can read, or nothing.

    :raises: Refused
    """
    if not path:
        return contextlib.nullcontext()
    try:
        return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL,
                            0o600), 'w')
    except OSError as exc:
        raise compute_api.Refused('--password-file: %s' % exc)


def _list_failed(
        client: compute_api.Client,
        project_id: str | None) -> typing.Iterator[compute_api.Server]:
    """Yield the servers that never booted."""
    for server in client.list_servers(status='ERROR', project_id=project_id):
        if server.get('OS-SRV-USG:launched_at'):
            continue
        # Older Nova lists servers of cell0 without their fault.
        yield (server if 'fault' in server
               else client.show(server['id']) or server)


def _aggregate(client: compute_api.Client, name: str) -> Aggregate:
    """An aggregate, with the zones of its hosts.

    :param name: of the aggregate, or its id
    :returns: an Aggregate
    :raises: NoAggregate
    """
    found = [aggregate for aggregate
             in client.get('/os-aggregates')['aggregates']
             if name in (aggregate['name'], str(aggregate['id']))]
    if len(found) != 1:
        raise NoAggregate('There are %d host aggregates called %s.' % (
            len(found), name))
    hosts, metadata = set(found[0]['hosts']), found[0]['metadata']
    zones = client.get('/os-availability-zone/detail')[
        'availabilityZoneInfo']
    return Aggregate(
        {zone['zoneName'] for zone in zones
         if hosts & set(zone['hosts'] or ())}, metadata)


def _matches(server: compute_api.Server, filters: argparse.Namespace,
             before: datetime.datetime, aggregate: Aggregate | None) -> bool:
    """Whether a server is one that the operator means.

    :param filters: the arguments of the command
    :param before: it failed before, a datetime in UTC
    :param aggregate: an Aggregate that may take it, or None
    """
    failed_at = timeutils.normalize_time(
        timeutils.parse_isotime(server['updated']))
    return (
        failed_at < before
        and not server.get('locked')
        and timeutils.is_older_than(failed_at, filters.older_than)
        and (not filters.reason
             or filters.reason in compute_api.reason(server)
             or filters.reason == server.get('fault', {}).get('reason'))
        and filters.flavor in (None, server['flavor'].get('original_name'))
        and filters.availability_zone in (
            None, server.get('OS-EXT-AZ:availability_zone'))
        and (aggregate is None or aggregate.takes(server)))


def _rebuild_all(client: compute_api.Client, servers: list[compute_api.Server],
                 rate: float, timeout: float,
                 passwords: typing.TextIO | None) -> list[compute_api.Result]:
    """Rebuild servers and wait for what becomes of them.

    With Ctrl-C no further server is rebuilt or waited for.

    :param rate: at most so many a minute
    :param timeout: seconds to wait after the last request
    :param passwords: a file for the new admin passwords, or None
    :returns: a list of compute_api.Result
    """
    results = {server['id']: compute_api.Result(
        server['id'], 'not asked', 'interrupted') for server in servers}
    try:
        with compute_api.progress('Rebuilding', len(servers)) as advance:
            for server in servers:
                # First: an interrupted request may have been heard.
                results[server['id']] = compute_api.Result(
                    server['id'], 'BUILD', 'still being built')
                refusal = _rebuild(client, server['id'], passwords)
                if refusal is not None:
                    results[server['id']] = compute_api.Result(
                        server['id'], 'refused', refusal)
                    advance()
                time.sleep(60.0 / rate)
            _await(client, results, timeout, advance)
    except KeyboardInterrupt:
        print('Interrupted.', file=sys.stderr)
    return list(results.values())


def _rebuild(client: compute_api.Client, server_id: str,
             passwords: typing.TextIO | None) -> str | None:
    """Ask for a rebuild.

    :returns: the reason of a refusal, or None
    """
    try:
        response = client.request_action(server_id, 'rebuild', {})
    except ks_exc.ClientException as exc:
        return str(exc)
    if not response.ok:
        return compute_api.words(response)
    if passwords:
        passwords.write('%s %s\n' % (
            server_id, response.json()['server'].get('adminPass', '')))
        passwords.flush()
    return None


def _await(client: compute_api.Client, results: dict[str, compute_api.Result],
           timeout: float, advance: typing.Callable[[], None]) -> None:
    """Wait for servers that are being built, and note what becomes of them.

    :param results: server id -> Result; changed in place
    """
    watch = timeutils.StopWatch(timeout)
    watch.start()
    waiting = [result.server_id for result in results.values()
               if result.state == 'BUILD']
    while waiting and not watch.expired():
        for server_id in list(waiting):
            try:
                server = client.show(server_id)
            except compute_api.UNREADABLE as exc:
                results[server_id] = results[server_id]._replace(
                    reason=str(exc))
                continue
            if server and server['status'] == 'BUILD':
                continue
            waiting.remove(server_id)
            results[server_id] = _result(server_id, server)
            advance()
        if waiting:
            time.sleep(1)


def _result(server_id: str,
            server: compute_api.Server | None) -> compute_api.Result:
    if server is None:
        return compute_api.Result(server_id, 'deleted', '')
    return compute_api.Result(server_id, server['status'],
                              compute_api.reason(server))
