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

from cliff import hooks

from nova_rescue_ext.cmd import compute_api
from nova_rescue_ext.osc import plugin
from nova_rescue_ext.osc import requests
from nova_rescue_ext.osc import wait


class _Hook(hooks.CommandHook):
    """Sends the version that the user chose with each request."""

    def get_parser(self, parser):
        return parser

    def get_epilog(self):
        return ('With nova-rescue-ext, --os-compute-rescue-api-version says '
                'which version of compute-rescue the command asks for.')

    def before(self, parsed_args):
        self._requests = requests.Requests(
            self.cmd.app.client_manager.session, self._version())
        return parsed_args

    def after(self, parsed_args, return_code):
        return return_code

    def _version(self):
        return plugin.chosen_version(self.cmd.app)

    def _wait(self, has_failed, what):
        """Wait for the end of the action.

        :param has_failed: tells from the server, a dict
        :param what: what should have happened, for example 'rescued'
        :raises: CommandError if it has not
        """
        client = compute_api.Client(
            self.cmd.app.client_manager.compute_rescue, wait.COMPUTE_VERSION,
            self._version())
        server = wait.until_done(client, self._requests.server['id'])
        if has_failed(server):
            raise wait.failure(client, server, self._requests.answer, what)


class Rescue(_Hook):
    """``server rescue``: the password, and an end to wait for."""

    def get_parser(self, parser):
        parser.add_argument(
            '--wait', action='store_true',
            help='Wait until the server is in rescue, and say why if it '
                 'fails')
        return parser

    def after(self, parsed_args, return_code):
        # Without a version the command prints what it always did: nothing.
        if self._version() and not parsed_args.password:
            password = self._requests.answer.json().get('adminPass')
            if password:
                self.cmd.app.stdout.write('Password: %s\n' % password)
                self.cmd.app.stdout.flush()
        if parsed_args.wait:
            self._wait(lambda server: server['status'] != 'RESCUE', 'rescued')
        return return_code


class Unrescue(_Hook):
    """``server unrescue``: an end to wait for."""

    def get_parser(self, parser):
        parser.add_argument(
            '--wait', action='store_true',
            help='Wait until the server has left its rescue, and say why if '
                 'it fails')
        return parser

    def after(self, parsed_args, return_code):
        if parsed_args.wait:
            self._wait(lambda server: server['status'] in ('RESCUE', 'ERROR'),
                       'unrescued')
        return return_code


class Migrate(_Hook):
    """``server migrate``: the command itself waits for ACTIVE only."""

    _waits = False

    def before(self, parsed_args):
        self._waits = (parsed_args.wait and parsed_args.live_migration
                       and self._version() is not None)
        if self._waits:
            parsed_args.wait = False
        return super().before(parsed_args)

    def after(self, parsed_args, return_code):
        if self._waits:
            before = self._requests.server
            self._wait(
                lambda server: server['hostId'] == before['hostId'],
                'migrated')
            self.cmd.app.stdout.write('Complete\n')
        return return_code


class Rebuild(_Hook):
    """``server rebuild``: also of a server that never booted."""
