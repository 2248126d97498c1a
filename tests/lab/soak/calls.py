# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#     http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""What owners and operators ask for, at random moments."""

from tests.lab import base

VERSION = base.MIGRATE


def _action(name, arguments=None, as_admin=False):
    def call(server):
        server.action(name, arguments, VERSION,
                      server.story.admin if as_admin else None)

    return call


def _rescue(image):
    return lambda server: server.ask_rescue(image, VERSION)


def _rebuild(server):
    """Of one that never booted; any other would lose its disks."""
    shown = server.show_as_admin()
    if (shown['status'] in ('ERROR', 'BUILD')
            and not shown['OS-SRV-USG:launched_at']):
        server.action('rebuild', {}, VERSION)


def _migrate(server):
    """Only in rescue: any other migration is stock Nova's."""
    if server.status == 'RESCUE':
        server.ask_live_migrate(VERSION)


def _look(server):
    server.show(VERSION)
    server.story.get('/servers/detail', VERSION)


def _abort(server):
    for migration in server.story.get(
            f'/servers/{server.id}/migrations', VERSION,
            who=server.story.admin)['migrations']:
        server.story.delete(
            f'/servers/{server.id}/migrations/{migration["id"]}', VERSION,
            who=server.story.admin)


ALL = {
    'look': _look,
    'rescue_legacy': _rescue('rescue'),
    'rescue_stable': _rescue('rescue-stable'),
    'unrescue': _action('unrescue'),
    'migrate': _migrate,
    'migrate_active': lambda server: server.ask_live_migrate(VERSION),
    'abort': _abort,
    'stop': _action('os-stop'),
    'start': _action('os-start'),
    'reboot_soft': _action('reboot', {'type': 'SOFT'}),
    'reboot_hard': _action('reboot', {'type': 'HARD'}),
    'rebuild': _rebuild,
    'delete': lambda server: server.ask_delete(),
    'reset_active': _action('os-resetState', {'state': 'active'}, True),
    'reset_error': _action('os-resetState', {'state': 'error'}, True),
}
