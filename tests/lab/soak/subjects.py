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

"""The servers of the soak, and what must stay as it is of each."""

from tests.lab import base
from tests.lab.cloud import hypervisor
from tests.lab.cloud import keystone
from tests.lab.cloud import nova
from tests.lab.cloud import process
from tests.lab.cloud import resources
from tests.lab.cloud import settings
from tests.lab import evidence
from tests.lab.soak import calls

_RESCUE_IMAGES = {'RESCUE legacy': 'rescue', 'RESCUE stable': 'rescue-stable'}


class Subject(base.LabTest):
    """A server, with connections to the APIs of its own.

    :ivar server: the base.Server, None if it is yet to be made
    :ivar domain: the name of its domain, None before it has one
    :ivar report: what its guest has said, None before it boots
    :ivar sums: {disk or volume: sha256} then
    :ivar volumes: those that it had then
    :ivar resources: what it had in placement then
    """

    def __init__(self, kind):
        super().__init__('runTest')
        self.kind = kind
        self.setUpClass()
        # Each acts in a thread of its own.
        self.admin = keystone.connect()
        self.alice = keystone.connect(resources.USER, resources.PROJECT)
        self.setUp()
        self._begin_anew()

    def runTest(self):
        """So that unittest takes this for a test."""

    def id(self):
        return f'soak.{self.kind}'

    def _begin_anew(self):
        self.server = self.domain = self.report = self.resources = None
        self.sums, self.volumes = {}, []

    def bring_to(self, state):
        """Make the server, or bring it from where a round has left it.

        :param state: a state of plans.Act
        """
        if self.server is None:
            getattr(self, f'_make_{self.kind}')()
        if state == 'SHUTOFF':
            self.server.stop()
        elif state in _RESCUE_IMAGES:
            self.server.rescue(_RESCUE_IMAGES[state], calls.VERSION)

    def forget(self):
        """Delete the server, if there is one, and what was made for it."""
        self._take_away()
        self._begin_anew()

    # -- kinds

    def _make_disks(self):
        self.server, _ = self.boot(flavor='lab-disks', config_drive=True)
        self._note()

    def _make_plain(self):
        self.server, _ = self.boot()
        self._note()

    def _make_volume(self):
        self.server, _ = self.boot_from_volume(config_drive=True)
        # Marked, as all disks are, by a guest that boots with it.
        self.server.attach(self.volume())
        self.server.stop()
        self.server.start()
        self._note()

    def _make_unbuilt(self):
        self.switch_hosts('disabled')
        try:
            self.server = self.ask_boot()
            self.server.wait_for('ERROR')
        finally:
            self.switch_hosts('enabled')

    def _note(self):
        """Note what there is once the first guest is up."""
        self.shown()
        self.report = self.server.report()
        self.volumes = [each['id'] for each in self.server.show()[
            'os-extended-volumes:volumes_attached']]
        (self.resources,) = self.allocations().values()
        self.sums = self.content()

    # -- what there is

    def content(self):
        """{disk or volume: sha256 of all its bytes}."""
        return {**evidence.disk_sums(self.server),
                **{f'volume {volume}': evidence.volume_sum(volume)
                   for volume in self.volumes}}

    def shown(self):
        """What an administrator sees of it; None if it is gone."""
        try:
            shown = self.server.show_as_admin()
        except base.Refused as refused:
            if refused.status == 404:
                return None
            raise
        # In cell0 it has a name that another server in its cell may have.
        if shown['OS-EXT-SRV-ATTR:host']:
            self.domain = shown['OS-EXT-SRV-ATTR:instance_name']
        return shown

    def times_listed(self):
        return sum(each['id'] == self.server.id for each
                   in self.get('/servers')['servers'])

    def allocations(self, consumer=None):
        """{host: resources} in placement.

        :param consumer: a UUID, the server's if None
        """
        placement = self.admin.placement
        names = {each['uuid']: each['name'] for each in placement.get(
            '/resource_providers').json()['resource_providers']}
        allocations = placement.get(
            f'/allocations/{consumer or self.server.id}').json()
        return {names[provider]: allocation['resources'] for
                provider, allocation in allocations['allocations'].items()}

    def migrations(self):
        return self.get(f'/os-migrations?instance_uuid={self.server.id}',
                        who=self.admin)['migrations']

    def attachments(self, volume):
        """All of a volume, also those which are not connected yet."""
        response = self.admin.block_storage.get(
            f'/attachments?all_tenants=1&volume_id={volume}',
            microversion='3.27')
        return response.json()['attachments']

    def attached_to(self, volume):
        """[(server, host)] of a volume; None if it is gone."""
        found = self.admin.block_storage.find_volume(
            volume, all_projects=True)
        return found and [(each['server_id'], each['host_name'])
                          for each in found.attachments]

    def kept_volumes(self):
        """Those that must outlive the server."""
        return self._volumes

    # -- the ways out

    def leave(self, shown):
        """Leave a state as the owner can, until the server's guest is up.

        :param shown: what shown() has returned
        :returns: what it took
        :raises: base.Refused, base.WentWrong
        """
        if not shown['OS-SRV-USG:launched_at']:
            return self._leave_unbuilt()
        if shown['status'] == 'RESCUE':
            return self._unrescue()
        if shown['status'] == 'SHUTOFF':
            return self._leave_by('os-start', None)
        if shown['status'] == 'ACTIVE' and hypervisor.guests(self.server.id):
            return 'nothing'
        return self.reboot_hard()

    def reboot_hard(self):
        """The way out of everything; returns what it is called."""
        return self._leave_by('reboot', {'type': 'HARD'})

    def _unrescue(self):
        """One that was off before its rescue is off after it, too."""
        before = self.server.last_boot()
        self.server.action('unrescue', None, calls.VERSION)
        after = self.server.wait_for(('ACTIVE', 'SHUTOFF'))
        if after['status'] == 'SHUTOFF':
            self._leave_by('os-start', None)
            return 'unrescue, os-start'
        self.server.wait_for_guest('base', after=before)
        return 'unrescue'

    def _leave_by(self, action, arguments):
        before = self.server.last_boot()
        self.server.action(action, arguments, calls.VERSION)
        self.server.wait_for('ACTIVE')
        self.server.wait_for_guest('base', after=before)
        return action

    def _leave_unbuilt(self):
        took = 'rebuild'
        if self.server.status == 'BUILD':
            # The documented way, after a crash or without an answer.
            process.run(settings.VENV / 'bin/nova-rescue-ext-manage',
                        'rebuild-interrupted', '--config-file', nova.CONF,
                        '--older-than', '1')
            took = 'rebuild-interrupted, rebuild'
        if self.server.host:
            # It may have a guest there, and is not built again.
            self.server.delete()
            return 'delete'
        self.server.action('rebuild', {}, calls.VERSION)
        self.server.wait_for('ACTIVE')
        self.server.wait_for_guest('base')
        return took
