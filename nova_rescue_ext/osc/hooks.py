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

"""What is added to commands that OpenStackClient has.

Hooks of cliff, which loads them by the name of the command.
"""

from __future__ import annotations

import argparse
import base64
import pathlib
import typing

from cliff import hooks
from osc_lib import exceptions

from nova_rescue_ext.cmd import compute_api
from nova_rescue_ext import microversion
from nova_rescue_ext.osc import plugin
from nova_rescue_ext.osc import requests
from nova_rescue_ext.osc import wait


# Of nova.compute.power_state.
_RUNNING = 1

# The exit status if a server is in rescue, but not known to be ready.
NOT_READY = 3


class _Hook(hooks.CommandHook):
    """Adds the version that the user chose to each request."""

    _requests: requests.Requests

    def get_parser(self,
                   parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        return parser

    def get_epilog(self) -> str:
        return ('With nova-rescue-ext, --os-compute-rescue-api-version sets '
                'the version of compute-rescue that the command requests.')

    def before(self, parsed_args: argparse.Namespace) -> argparse.Namespace:
        self._requests = requests.Requests(
            self._clients.session, self._version(),
            self._parameters(parsed_args))
        take_action = self.cmd.take_action

        def observed(parsed_args: argparse.Namespace) -> typing.Any:
            with self._requests:
                return take_action(parsed_args)

        # after() is not called if the command fails.
        self.cmd.take_action = observed  # type: ignore[method-assign]
        return parsed_args

    def after(self, parsed_args: argparse.Namespace, return_code: int) -> int:
        return return_code

    def _parameters(self,
                    parsed_args: argparse.Namespace) -> dict[str, typing.Any]:
        """Parameters of the action that the command has no options for."""
        return {}

    @property
    def _clients(self) -> typing.Any:
        return plugin.clients(self.cmd.app)

    def _version(self) -> str | None:
        return plugin.chosen_version(self.cmd.app)

    def _wait(self, has_failed: typing.Callable[[dict[str, typing.Any]], bool],
              what: str) -> dict[str, typing.Any]:
        """Wait for the end of the action.

        :param has_failed: tells by the server afterwards, a dict
        :param what: what should have happened, for example 'rescued'
        :returns: the server afterwards, a dict
        :raises: CommandError if it has not
        """
        client = self._client()
        server_id, answer = self._requests.server_id, self._requests.answer
        if server_id is None or answer is None:
            raise exceptions.CommandError(
                'The command has sent no request to wait for.')
        server = wait.until_done(client, server_id)
        if has_failed(server):
            raise wait.failure(client, server, answer, what)
        return server

    def _client(self) -> compute_api.Client:
        return compute_api.Client(
            self._clients.compute_rescue, wait.COMPUTE_VERSION,
            self._version())


class _WaitingHook(_Hook):
    """Adds ``--wait`` to a command that has no such option."""

    _wait_help = ''
    _what = ''  # what should have happened

    def get_parser(self,
                   parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        parser.add_argument('--wait', action='store_true',
                            help=self._wait_help)
        return parser

    def after(self, parsed_args: argparse.Namespace, return_code: int) -> int:
        if parsed_args.wait:
            server = self._wait(self._has_failed, self._what)
            return self._after_wait(server) or return_code
        return return_code

    @staticmethod
    def _has_failed(server: dict[str, typing.Any]) -> bool:
        raise NotImplementedError

    def _after_wait(self, server: dict[str, typing.Any]) -> int:
        """What is to be waited for when the action has succeeded.

        :returns: the exit status
        """
        return 0


def _read_base64(path: str | None) -> str | None:
    if path is None:
        return None
    try:
        return base64.b64encode(pathlib.Path(path).read_bytes()).decode()
    except OSError as exc:
        raise exceptions.CommandError('%s cannot be read: %s'
                                      % (path, exc.strerror))


class Rescue(_WaitingHook):
    """``server rescue``: prints the password, and can wait or be limited."""

    _wait_help = (
        'Wait until the server is in rescue; if it fails, say why. With '
        '--os-compute-rescue-api-version 1.4 or greater, and an image with '
        'os_rescue_ready_line, also until the console has shown that line: '
        'exit status %d if it has not' % NOT_READY)
    _what = 'rescued'

    def get_parser(self,
                   parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
        parser.add_argument(
            '--timeout', metavar='<seconds>', type=int,
            help='Unrescue the server after this time, to its state before '
                 '(needs --os-compute-rescue-api-version 1.4 or greater)')
        parser.add_argument(
            '--key-name', metavar='<key-name>',
            help='Key pair of yours for the rescue system (likewise)')
        parser.add_argument(
            '--user-data', metavar='<file>',
            help='File of user data for the rescue system (likewise)')
        return super().get_parser(parser)

    def _parameters(self,
                    parsed_args: argparse.Namespace) -> dict[str, typing.Any]:
        parameters = {name: value for name, value in (
            ('timeout', parsed_args.timeout),
            ('key_name', parsed_args.key_name),
            ('user_data', _read_base64(parsed_args.user_data)))
            if value is not None}
        if parameters:
            options = ', '.join('--' + name.replace('_', '-')
                                for name in parameters)
            plugin.needed_version(self.cmd.app, microversion.RESCUE_SESSION,
                                  'for %s' % options, is_chosen=True)
        return parameters

    def after(self, parsed_args: argparse.Namespace, return_code: int) -> int:
        # Without a version the command prints nothing, as before.
        answer = self._requests.answer
        if answer is not None and self._version() and not parsed_args.password:
            password = answer.json().get('adminPass')
            if password:
                self.cmd.app.stdout.write('Password: %s\n' % password)
                self.cmd.app.stdout.flush()
        return super().after(parsed_args, return_code)

    @staticmethod
    def _has_failed(server: dict[str, typing.Any]) -> bool:
        return server['status'] != 'RESCUE'

    def _after_wait(self, server: dict[str, typing.Any]) -> int:
        is_shown = 'rescue_session' in (self._requests.server or {})
        if wait.until_ready(self._client(), server, is_shown) is not False:
            return 0
        self.cmd.app.stderr.write(
            'Server %(id)s is in rescue, but its console has not shown that '
            'the rescue system is ready. It may be all the same; "openstack '
            'console log show %(id)s" may tell.\n' % {'id': server['id']})
        return NOT_READY


class Unrescue(_WaitingHook):
    """``server unrescue``: can wait."""

    _wait_help = ('Wait until the server is no longer in rescue; if it fails, '
                  'say why')
    _what = 'unrescued'

    @staticmethod
    def _has_failed(server: dict[str, typing.Any]) -> bool:
        return server['status'] in ('RESCUE', 'ERROR')


class Migrate(_Hook):
    """``server migrate``: the command itself waits only for ACTIVE."""

    _waits = False

    def before(self, parsed_args: argparse.Namespace) -> argparse.Namespace:
        self._waits = (parsed_args.wait and parsed_args.live_migration
                       and self._version() is not None)
        if self._waits:
            parsed_args.wait = False
        return super().before(parsed_args)

    def after(self, parsed_args: argparse.Namespace, return_code: int) -> int:
        if self._waits:
            self._wait(self._has_failed, 'migrated')
            self.cmd.app.stdout.write('Complete\n')
        return return_code

    def _has_failed(self, server: dict[str, typing.Any]) -> bool:
        before = self._requests.server
        if before is None:
            raise exceptions.CommandError(
                'Server %s could not be read before its migration, so it is '
                'not known whether it has moved. It is %s. Its migrations '
                'tell: openstack server migration list --server %s' % (
                    server['id'], server['status'], server['id']))
        return (server['hostId'] == before['hostId']
                or server['status'] == 'ERROR' != before['status'])


class Reboot(_Hook):
    """``server reboot``: the command itself waits only for ACTIVE."""

    _waits = False

    def before(self, parsed_args: argparse.Namespace) -> argparse.Namespace:
        self._waits = parsed_args.wait and self._version() is not None
        if self._waits:
            parsed_args.wait = False
        return super().before(parsed_args)

    def after(self, parsed_args: argparse.Namespace, return_code: int) -> int:
        if self._waits:
            self._wait(self._has_failed, 'rebooted')
            self.cmd.app.stdout.write('Complete\n')
        return return_code

    @staticmethod
    def _has_failed(server: dict[str, typing.Any]) -> bool:
        return (server['status'] == 'ERROR'
                or server['OS-EXT-STS:power_state'] != _RUNNING)


class InRescue(_Hook):
    """What a server accepts in rescue, too."""


class Rebuild(_Hook):
    """``server rebuild``, also of a server that never booted."""
