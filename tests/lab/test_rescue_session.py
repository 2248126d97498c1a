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

"""How a user gets into a rescue system, and for how long (1.4).

Told by the openstack command line, and by what the rescue system finds.
"""

import json
import pathlib
import re
import tempfile

from tests.lab import base
from tests.lab.cloud import process
from tests.lab.cloud import resources
from tests.lab.cloud import settings
from tests.lab.commands import opted_in
from tests.lab import evidence

_USER_DATA = '#cloud-config\nruncmd: [["echo", "für diese Rettung"]]\n'


def alice(*argv):
    return opted_in('1.4', '--os-username', resources.USER,
                    '--os-project-name', resources.PROJECT, *argv)


class _Session(base.LabTest):
    """What alice types, and what her rescue system tells."""

    def setUp(self):
        super().setUp()
        if self.is_with_package():
            # A cloud that does not have it says so at once.
            self.get('/servers', base.SESSION)
        self._folder = pathlib.Path(self.enterContext(
            tempfile.TemporaryDirectory(dir=settings.TMP)))

    def _make_key(self, name):
        """A key pair of alice's; returns the public key."""
        path = self._folder / name
        process.run('ssh-keygen', '-q', '-t', 'ed25519', '-N', '', '-C', name,
                    '-f', path)
        public = path.with_suffix('.pub')
        alice('keypair', 'create', '--public-key', public, name)
        self.addCleanup(alice, 'keypair', 'delete', name)
        return public.read_text()

    def _rescue(self, server, image, *options):
        """Rescue, and wait; return the password and the guest's report."""
        answer = alice('server', 'rescue', '--wait', '--image',
                       self.image(image), *options, server.id)
        return (re.fullmatch(r'Password: (\S+)', answer.strip())[1],
                server.wait_for_guest('rescue'))

    def _options(self, key_name):
        user_data = self._folder / 'user-data'
        user_data.write_text(_USER_DATA)
        return '--key-name', key_name, '--user-data', user_data

    def _unrescue(self, server):
        alice('server', 'unrescue', '--wait', server.id)
        return server.wait_for_guest('base')

    def _show(self, server):
        return json.loads(alice('compute', 'rescue', 'show', '-f', 'json',
                                server.id))

    def assertLetsIn(self, report, password, keys, user_data):
        """The rescue system has found all that it needs, and no more."""
        self.assertIsNotNone(report.config_drive, report)
        self.assertEqual(
            (password, keys),
            (report.config_drive['admin_pass'],
             report.config_drive.get('public_keys', {})))
        self.assertEqual(user_data, report.user_data)

    def assertFoundBySerials(self, before, during, rescue, disks):
        """Each disk that the API tells of is the one that the guest has.

        :param disks: {role: the name of the disk before the rescue}
        """
        marks = {disk.name: disk.mark for disk in before.disks}
        self.assertEqual(
            {role: marks[name] for role, name in disks.items()},
            {told['role']: during.numbered(told['serial']).mark
             for told in rescue['disks']}, during)

    def assertAsBefore(self, server, before, after):
        """A server without a config drive, and nothing of the rescue."""
        self.assertDisksInPlace(before, after)
        self.assertIsNone(after.config_drive)
        self.assertEqual([], evidence.rescue_leftovers(server))
        self.assertEqual([], [*server.folder.glob('disk.config*')])


class RescueSession(_Session):

    def _tell(self, image, layout, disks, **more):
        server, before = self.boot(**more)
        self.assertIsNone(before.config_drive)
        key = self._make_key('story')
        password, during = self._rescue(server, image,
                                        *self._options('story'))
        self.assertLetsIn(during, password, {'story': key}, _USER_DATA)
        rescue = self._show(server)
        self.assertEqual((layout, 'story'),
                         (rescue['layout'], rescue['key_name']))
        self.assertFoundBySerials(before, during, rescue, disks)
        self.assertAsBefore(server, before, self._unrescue(server))

    @base.with_package
    def test_stable(self):
        self._tell('rescue-stable', 'stable', {
            'root': 'vda', 'ephemeral': 'vdb', 'swap': 'vdc'},
            flavor='lab-disks')

    @base.with_package
    def test_legacy(self):
        """Of the server's disks the rescue system has only the root."""
        self._tell('rescue', 'legacy', {'root': 'vda'}, flavor='lab-disks')

    @base.with_package
    def test_cdrom(self):
        self._tell('rescue-iso', 'stable', {'root': 'vda'})

    @base.with_package
    def test_scsi(self):
        self._tell('rescue-stable', 'stable', {'root': 'sda'},
                   image='base-scsi')

    @base.with_package
    def test_from_volume(self):
        server, before = self.boot_from_volume()
        key = self._make_key('story')
        password, during = self._rescue(server, 'rescue',
                                        *self._options('story'))
        self.assertLetsIn(during, password, {'story': key}, _USER_DATA)
        rescue = self._show(server)
        self.assertEqual(self.root_volume(server),
                         rescue['disks'][0]['serial'])
        self.assertFoundBySerials(before, during, rescue, {'volume': 'vda'})
        self.assertAsBefore(server, before, self._unrescue(server))

    def _tell_of_own_config_drive(self, image):
        own = self._make_key('own')
        key = self._make_key('story')
        server, before = self.boot(
            config_drive=True, key_name='own',
            user_data='IyEvYmluL3NoCmVjaG8gb3duCg==')
        own_user_data = '#!/bin/sh\necho own\n'
        own_password = before.config_drive['admin_pass']
        self.assertLetsIn(before, own_password, {'own': own}, own_user_data)

        password, during = self._rescue(server, image)
        self.assertLetsIn(during, password, {'own': own}, None)
        after = self._unrescue(server)
        self.assertLetsIn(after, own_password, {'own': own}, own_user_data)

        password, during = self._rescue(server, image,
                                        *self._options('story'))
        self.assertLetsIn(during, password, {'story': key}, _USER_DATA)
        after = self._unrescue(server)
        self.assertLetsIn(after, own_password, {'own': own}, own_user_data)
        self.assertDisksInPlace(before, after)

    @base.with_package
    def test_own_config_drive_stable(self):
        self._tell_of_own_config_drive('rescue-stable')

    @base.with_package
    def test_own_config_drive_legacy(self):
        self._tell_of_own_config_drive('rescue')

    @base.with_package
    def test_timeout(self):
        """The server is off afterwards, as it was before."""
        server, before = self.boot()
        server.stop()
        self._rescue(server, 'rescue-stable', '--timeout', '60')
        self.assertIsNotNone(self._show(server)['until'])
        server.wait_for('SHUTOFF')
        self.assertAsBefore(server, before, server.start())

    @base.with_package
    def test_timeout_after_migration(self):
        server, before = self.boot(flavor='lab-disks')
        self._make_key('story')
        _, during = self._rescue(
            server, 'rescue', '--timeout', '60', *self._options('story'))
        until = self._show(server)['until']
        server.live_migrate(base.SESSION, status=('RESCUE', 'ACTIVE'))
        destination = server.host
        if server.status == 'RESCUE':
            self.assertEqual(until, self._show(server)['until'])
        server.wait_for('ACTIVE', host=destination)
        after = server.wait_for_guest('base', after=during.boot_id)
        self.assertAsBefore(server, before, after)


class AtWork(_Session):
    """What users do with a server that stays in rescue meanwhile."""

    def _rescued(self, image):
        """A server in rescue, and what its guests told before and during."""
        server, before = self.boot(flavor='lab-disks')
        self._key = self._make_key('story')
        self._password, during = self._rescue(server, image,
                                              *self._options('story'))
        return server, before, during

    def _reboot(self, server, kind, during):
        alice('server', 'reboot', f'--{kind}', '--wait', server.id)
        self.assertEqual('RESCUE', server.status)
        after = server.wait_for_guest('rescue', after=during.boot_id)
        self.assertLetsIn(after, self._password, {'story': self._key},
                          _USER_DATA)
        self.assertDisksInPlace(during, after)
        self.assertEqual(len(during.disks), len(after.disks))
        return after

    @base.with_package
    def test_reboot_stable(self):
        server, before, during = self._rescued('rescue-stable')
        for kind in ('soft', 'hard'):
            during = self._reboot(server, kind, during)
        self.assertAsBefore(server, before, self._unrescue(server))

    @base.with_package
    def test_reboot_after_migration_legacy(self):
        server, before, during = self._rescued('rescue')
        server.live_migrate(base.SESSION, status='RESCUE')
        for kind in ('hard', 'soft'):
            during = self._reboot(server, kind, during)
        self.assertAsBefore(server, before, self._unrescue(server))
