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


"""``nova-rescue-ext-manage prepare-removal``: whether the package can go.

Stock Nova cannot end what the package has begun with some servers.
"""

from __future__ import annotations

import argparse
import typing

from keystoneauth1 import exceptions as ks_exc

from nova_rescue_ext.cmd import compute_api

_WAIT = 'Wait until it is done. If it does not end: '
_TASKS = {
    None: 'Unrescue it, or hard reboot it when the package is off.',
    'migrating': _WAIT + 'settle-migration.',
    'rescuing': _WAIT + 'restart nova-compute with the package still on.',
    'unrescuing': _WAIT + 'restart nova-compute with the package still on.',
}
_BUILD = ('It may be a rebuild. Wait until it is ACTIVE or ERROR. If it does '
          'not end: rebuild-interrupted.')


def add_parser(
        commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command to those of the program."""
    parser = commands.add_parser(
        'prepare-removal',
        help='list the servers that keep the package from being switched off')
    compute_api.add_arguments(parser)
    parser.set_defaults(action=run, local=False)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """List the servers that stock Nova could not handle.

    :returns: the exit code: 0, or 1 if there are any
    :raises: Refused; keystoneauth1's ClientException
    """
    client = compute_api.Client(
        compute_api.connect(arguments.os_cloud), arguments.compute_version,
        None)
    rows = [[server['id'], server['name'], server['tenant_id'],
             server.get('OS-EXT-SRV-ATTR:host') or '', server['status'],
             server['OS-EXT-STS:task_state'] or '', remedy]
            for server, remedy in _find(client, arguments.project)]
    print(compute_api.table(['Server', 'Name', 'Project', 'Host', 'Status',
                             'Task', 'What to do'], rows))
    unknown = _hosts_of_cells_that_are_down(client)
    if unknown:
        print('The servers of these hosts are not known, as the database of '
              'their cell does not answer: %s' % ', '.join(unknown))
    if rows or unknown:
        print('Leave the package on until this command ends with 0.')
        return 1
    print('The package can be switched off now. Then run '
          'nova-rescue-ext-manage rescue-leftovers on each compute host.')
    return 0


def _find(client: compute_api.Client, project: str | None
          ) -> typing.Iterator[tuple[compute_api.Server, str]]:
    """Yield the servers, each once, with what to do about them."""
    seen = set()
    for filters in ({'status': 'RESCUE'}, {'task_state': 'rescuing'},
                    {'task_state': 'unrescuing'}):
        for server in client.list_servers(project_id=project, **filters):
            if server['id'] not in seen:
                seen.add(server['id'])
                yield server, _TASKS.get(server['OS-EXT-STS:task_state'],
                                         'Wait until it is done.')
    for server in client.list_servers(project_id=project, status='BUILD'):
        if _may_be_a_rebuild(client, server['id']):
            yield server, _BUILD


def _may_be_a_rebuild(client: compute_api.Client, server_id: str) -> bool:
    """Whether a server that is being built may have failed to be built before.

    A new one has a single action. Until it is in a cell, Nova shows none.
    """
    try:
        actions = client.get('/servers/%s/os-instance-actions'
                             % server_id)['instanceActions']
    except ks_exc.NotFound:
        return True
    return len(actions) != 1


def _hosts_of_cells_that_are_down(client: compute_api.Client) -> list[str]:
    """The compute hosts whose servers are missing from lists."""
    services = client.get('/os-services', {'binary': 'nova-compute'})
    return sorted(service['host'] for service in services['services']
                  if service['status'] == 'UNKNOWN')
