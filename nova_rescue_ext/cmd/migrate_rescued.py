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


"""``nova-rescue-ext-manage migrate-rescued``: drain a host."""

from __future__ import annotations

import argparse
import time
import typing

from oslo_utils import timeutils

from nova_rescue_ext.cmd import compute_api
from nova_rescue_ext import microversion

_ACTION = 'live-migration'
_MIGRATING = 'migrating'
_RESCUE = 'RESCUE'
_SECONDS = 2


class _Running(typing.NamedTuple):
    """A server that migrates."""

    server_id: str
    watch: timeutils.StopWatch


def add_parser(
        commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command to those of the program."""
    parser = commands.add_parser(
        'migrate-rescued',
        help='live-migrate the servers in rescue away from a host')
    parser.add_argument('host', metavar='HOST', help='the host to drain')
    compute_api.add_arguments(parser)
    parser.add_argument('--to', metavar='HOST',
                        help='migrate all to this host (default: the '
                             'scheduler chooses)')
    parser.add_argument('--limit', type=compute_api.positive(int),
                        metavar='NUMBER', help='at most this many servers')
    parser.add_argument(
        '--at-once', type=compute_api.positive(int), default=1,
        metavar='NUMBER',
        help='at most this many at the same time (default 1, as many as a '
             'nova-compute runs by default)')
    parser.add_argument(
        '--timeout', type=compute_api.positive(float), default=3600,
        metavar='SECONDS', help='how long to wait for each (default 3600)')
    parser.set_defaults(action=run, local=False)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Migrate the servers in rescue of a host to others.

    :returns: the exit code: 0, or 1 if one has not moved
    """
    client = compute_api.Client(
        compute_api.connect(arguments.os_cloud), arguments.compute_version,
        microversion.LIVE_MIGRATE_RESCUED)
    servers = list(client.list_servers(
        status=_RESCUE, host=arguments.host,
        project_id=arguments.project))[:arguments.limit]
    print(compute_api.table(
        ['Server', 'Name', 'Project', 'Flavor', 'Task'], [
            [server['id'], server['name'], server['tenant_id'],
             server['flavor'].get('original_name'),
             server['OS-EXT-STS:task_state'] or ''] for server in servers]),
        flush=True)
    if arguments.dry_run or not servers:
        return 0
    return compute_api.report(
        _migrate_all(client, servers, arguments), 'moved')


def _migrate_all(client: compute_api.Client, servers: list[compute_api.Server],
                 arguments: argparse.Namespace) -> list[compute_api.Result]:
    """Migrate servers and wait for what becomes of them.

    :returns: a list of compute_api.Result
    """
    results: list[compute_api.Result] = []
    running: list[_Running] = []
    waiting = list(servers)
    with compute_api.progress('Migrating', len(servers)) as advance:
        while waiting or running:
            while waiting and len(running) < arguments.at_once:
                server = waiting.pop(0)
                result = _begin(client, server['id'], arguments)
                if result:
                    results.append(result)
                    advance()
                else:
                    watch = timeutils.StopWatch(arguments.timeout)
                    running.append(_Running(server['id'], watch.start()))
            for one in list(running):
                result = _result(client, one, arguments.host)
                if result:
                    running.remove(one)
                    results.append(result)
                    advance()
            if running:
                time.sleep(_SECONDS)
    return results


def _begin(client: compute_api.Client, server_id: str,
           arguments: argparse.Namespace) -> compute_api.Result | None:
    """Request a migration, unless one is still running.

    Hours may have passed since the servers were listed.

    :returns: a compute_api.Result if none is to be waited for, else None
    """
    try:
        return _try_to_begin(client, server_id, arguments)
    except compute_api.UNREADABLE as exc:
        return _unknown(server_id, exc)


def _try_to_begin(client: compute_api.Client, server_id: str,
                  arguments: argparse.Namespace) -> compute_api.Result | None:
    try:
        server = client.show(server_id)
    except compute_api.CellDown as exc:
        return compute_api.Result(server_id, 'skipped', str(exc))
    if server is None:
        return compute_api.Result(server_id, 'deleted', '')
    host = server['OS-EXT-SRV-ATTR:host']
    if host != arguments.host:
        return _moved(server)
    if server['OS-EXT-STS:task_state'] == _MIGRATING:
        return None
    if server['status'] != _RESCUE:
        return compute_api.Result(
            server_id, 'skipped', 'no longer in rescue: ' + server['status'])
    refusal = client.act(server_id, 'os-migrateLive', {
        'host': arguments.to, 'block_migration': 'auto'})
    if refusal is None:
        return None
    return _refused(client, server_id, arguments, refusal)


def _refused(client: compute_api.Client, server_id: str,
             arguments: argparse.Namespace,
             refusal: str) -> compute_api.Result | None:
    """What to say of a server whose request was not answered with yes.

    A lost response tells nothing.

    :returns: a compute_api.Result if its migration is not to be waited for,
        else None
    """
    try:
        server = client.show(server_id)
    except compute_api.CellDown:
        return None
    if server is not None:
        if server['OS-EXT-STS:task_state'] == _MIGRATING:
            return None
        if server['OS-EXT-SRV-ATTR:host'] != arguments.host:
            return _moved(server)
    return compute_api.Result(server_id, 'refused', refusal)


def _unknown(server_id: str, exc: Exception) -> compute_api.Result:
    """What to say of a server that cannot be read. The others go on."""
    return compute_api.Result(
        server_id, 'unknown', 'run the command again: %s' % exc)


def _moved(server: compute_api.Server) -> compute_api.Result:
    """What to say of a server that is on another host."""
    host = server['OS-EXT-SRV-ATTR:host']
    if server['status'] == 'ERROR':
        return compute_api.Result(server['id'], 'error', 'on %s: %s' % (
            host, compute_api.reason(server)))
    return compute_api.Result(server['id'], 'moved', 'to ' + host)


def _result(client: compute_api.Client, running: _Running,
            source: str) -> compute_api.Result | None:
    """What became of a server, or None as long as it migrates."""
    server_id = running.server_id
    try:
        server = client.show(server_id)
    except compute_api.CellDown as exc:
        if not running.watch.expired():
            return None
        return compute_api.Result(server_id, 'unknown', str(exc))
    except compute_api.UNREADABLE as exc:
        return _unknown(server_id, exc)
    if server is None:
        return compute_api.Result(server_id, 'deleted', '')
    if server['OS-EXT-STS:task_state'] == _MIGRATING:
        if not running.watch.expired():
            return None
        return compute_api.Result(
            server_id, _MIGRATING, 'still under way: run the command again')
    if server['OS-EXT-SRV-ATTR:host'] != source:
        return _moved(server)
    return compute_api.Result(
        server_id, 'error' if server['status'] == 'ERROR' else 'stayed',
        _reason(client, server_id))


def _reason(client: compute_api.Client, server_id: str) -> str:
    """Why the last migration of a server has failed, in words."""
    try:
        actions = client.get('/servers/%s/os-instance-actions' % server_id)
    except compute_api.UNREADABLE:
        return ''
    request_id = next(
        (action['request_id'] for action in actions['instanceActions']
         if action['action'] == _ACTION), None)
    return client.why(server_id, request_id) if request_id else ''
