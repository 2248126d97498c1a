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

"""Commands that OpenStackClient does not have: ``compute rescue ...``."""

from __future__ import annotations

import argparse
import typing

from osc_lib.cli import format_columns
from osc_lib.command import command
from osc_lib import exceptions

from nova_rescue_ext.cmd import compute_api
from nova_rescue_ext import microversion
from nova_rescue_ext.osc import plugin
from nova_rescue_ext.osc import wait

if typing.TYPE_CHECKING:
    import requests

# Names and values, as cliff shows them.
_Columns = tuple[tuple[str, ...], tuple[typing.Any, ...]]


class ShowVersion(command.ShowOne):
    _description = 'Show which versions of compute-rescue the cloud offers.'

    def take_action(self, parsed_args: argparse.Namespace) -> _Columns:
        adapter = plugin.clients(self.app).compute_rescue
        # Sent without a version, so the response has the default version,
        # unless that is the minimum.
        response = adapter.get('/', raise_exc=True)
        offered = response.json()['version'].get('compute_rescue')
        if not offered:
            raise exceptions.CommandError(
                'The cloud does not offer compute-rescue.')
        return (
            ('min_version', 'max_version', 'default_version',
             'chosen_version'),
            (offered['min_version'], offered['version'],
             _version_of(response) or offered['min_version'],
             plugin.chosen_version(self.app)))


def _version_of(response: requests.Response) -> str | None:
    """The version of compute-rescue that a response names, or None."""
    for versions in response.headers.get(
            'OpenStack-API-Version', '').split(','):
        service, _, version = versions.strip().partition(' ')
        if service == microversion.SERVICE_TYPE:
            return version
    return None


class ShowRescue(command.ShowOne):
    _description = (
        'Show the rescue of a server: since when, until when, with which '
        'image, and the serial numbers of the server\'s own disks.')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='<server>',
                            help='Server (name or ID)')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> _Columns:
        clients = plugin.clients(self.app)
        client = compute_api.Client(
            clients.compute_rescue, wait.COMPUTE_VERSION,
            plugin.needed_version(self.app, microversion.RESCUE_SESSION,
                                  'to show a rescue'))
        server_id = clients.sdk_connection.compute.find_server(
            parsed_args.server, ignore_missing=False).id
        server = client.get('/servers/' + server_id)['server']
        rescue = server.get('rescue_session')
        if not rescue:
            raise exceptions.CommandError(
                _why_not_shown(server) % (server['id'], server['status']))
        names = ('since', 'until', 'image_id', 'layout', 'key_name',
                 'ready_line')
        return ((*names, 'disks'),
                (*(rescue[name] for name in names),
                 format_columns.ListDictColumn(rescue['disks'])))


def _why_not_shown(server: dict[str, typing.Any]) -> str:
    if 'rescue_session' not in server:
        # A lost answer is neither yes nor no.
        return ('What is known of server %s is that it is %s: the cloud '
                'cannot read its rescue now. Try again later.')
    if server['status'] == 'RESCUE':
        return 'Server %s is no longer in rescue. It was %s until just now.'
    return 'Server %s is not in rescue. It is %s.'


class RebuildServer(command.ShowOne):
    _description = (
        'Rebuild a server that never booted. It keeps its UUID and everything '
        'that was requested when it was created. Unlike "server rebuild", it '
        'needs no further arguments.')

    def get_parser(self, prog_name: str) -> argparse.ArgumentParser:
        parser = super().get_parser(prog_name)
        parser.add_argument('server', metavar='<server>',
                            help='Server (name or ID)')
        parser.add_argument('--image', metavar='<image>',
                            help='Different image to build from (name or ID)')
        parser.add_argument('--password', metavar='<password>',
                            help='Admin password (default: a generated one)')
        parser.add_argument(
            '--network', metavar='<network-id>', action='append', default=[],
            help='Network to attach, for a server whose requested networks '
                 'Nova did not keep (repeat option for more)')
        parser.add_argument(
            '--port', metavar='<port-id>', action='append', default=[],
            help='Port to attach, likewise (repeat option for more)')
        parser.add_argument(
            '--security-group', metavar='<security-group>', action='append',
            default=[],
            help='Security group, name or ID, for a server of which one is '
                 'gone (repeat option for more)')
        parser.add_argument(
            '--without', metavar='<id>', action='append', default=[],
            help='ID of a volume, snapshot or image that is gone: the server '
                 'is built without its block device (repeat option for '
                 'more)')
        parser.add_argument(
            '--wait', action='store_true',
            help='Wait until the server is active; if it fails, say why')
        return parser

    def take_action(self, parsed_args: argparse.Namespace) -> _Columns:
        clients = plugin.clients(self.app)
        client = compute_api.Client(
            clients.compute_rescue, wait.COMPUTE_VERSION,
            plugin.needed_version(
                self.app, microversion.REBUILD_NEVER_BOOTED,
                'to rebuild a server that never booted'))
        server_id = clients.sdk_connection.compute.find_server(
            parsed_args.server, ignore_missing=False).id
        _check_never_booted(client.show(server_id))
        response = client.request_action(
            server_id, 'rebuild', self._parameters(parsed_args))
        if not response.ok:
            raise exceptions.CommandError(compute_api.words(response))
        server = response.json()['server']
        password = (None if parsed_args.password
                    else server.get('adminPass'))
        if parsed_args.wait:
            server = wait.until_done(client, server_id)
            if server['status'] != 'ACTIVE':
                raise wait.failure(client, server, response, 'built')
        return (('id', 'name', 'status', 'adminPass'),
                (server['id'], server['name'], server['status'], password))

    def _parameters(self,
                    parsed_args: argparse.Namespace) -> dict[str, typing.Any]:
        parameters: dict[str, typing.Any] = {}
        if parsed_args.image:
            parameters['imageRef'] = plugin.clients(self.app).image.find_image(
                parsed_args.image, ignore_missing=False).id
        if parsed_args.password:
            parameters['adminPass'] = parsed_args.password
        networks = ([{'uuid': network} for network in parsed_args.network]
                    + [{'port': port} for port in parsed_args.port])
        if networks:
            parameters['networks'] = networks
        if parsed_args.security_group:
            parameters['security_groups'] = [
                {'name': group} for group in parsed_args.security_group]
        if parsed_args.without:
            parameters['without_block_devices'] = parsed_args.without
        return parameters


def _check_never_booted(server: compute_api.Server | None) -> None:
    """Keep the disks of a server that has booted.

    With an image, Nova's own rebuild would overwrite them.

    :raises: CommandError
    """
    if server and server.get('OS-SRV-USG:launched_at'):
        raise exceptions.CommandError(
            'Server %s has booted, so it has disks that a rebuild would '
            'overwrite. If that is wanted, use "server rebuild".'
            % server['id'])
