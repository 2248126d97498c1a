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


"""``nova-rescue-ext-manage rebuild-release``: take a server off its host."""

from __future__ import annotations

import argparse

from nova_rescue_ext.cmd import compute_api


def add_parser(
        commands: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the command to those of the program."""
    parser = commands.add_parser(
        'rebuild-release',
        help='let a server be rebuilt that never booted but is still assigned '
             'to a host')
    parser.add_argument('server', metavar='SERVER', help='its UUID')
    parser.add_argument(
        '--host-is-gone', action='store_true',
        help='the host runs no guest of it and never will; needed if its '
             'nova-compute is down')
    parser.add_argument(
        '--no-guest', action='store_true',
        help='you have checked that the host has no guest of it; only for a '
             'host where the package is not active')
    parser.add_argument('--config-file', action='append', help='of Nova')
    parser.set_defaults(action=run, local=True)
    return parser


def run(arguments: argparse.Namespace) -> int:
    """Take a never-booted server off its host.

    :returns: the exit code, 0
    :raises: Refused
    """
    from nova import context as nova_context
    from nova import exception

    from nova_rescue_ext.rebuild import release

    try:
        host = release.release(nova_context.get_admin_context(),
                               arguments.server, arguments.host_is_gone,
                               arguments.no_guest)
    except exception.NovaException as exc:
        raise compute_api.Refused('Nothing was done: %s' % exc)
    print('The server is off host %s. Its owner can rebuild it.' % host)
    return 0
