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
import os
import pathlib
import re
import tempfile

from tests.lab import base
from tests.lab.cloud import process
from tests.lab.cloud import resources
from tests.lab.cloud import settings
from tests.lab.commands import opted_in
from tests.lab import evidence

# Stories may be told side by side, and all key pairs are alice's.
_KEY = f'story-{os.getpid()}'
_OWN_KEY = f'own-{os.getpid()}'
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

    def _tell(self, rescue_image, layout, disks, **more):
        server, before = self.boot(**more)
        self.assertIsNone(before.config_drive)
        key = self._make_key(_KEY)
        password, during = self._rescue(server, rescue_image,
                                        *self._options(_KEY))
        self.assertLetsIn(during, password, {_KEY: key}, _USER_DATA)
        rescue = self._show(server)
        self.assertEqual((layout, _KEY),
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
        key = self._make_key(_KEY)
        password, during = self._rescue(server, 'rescue',
                                        *self._options(_KEY))
        self.assertLetsIn(during, password, {_KEY: key}, _USER_DATA)
        rescue = self._show(server)
        self.assertEqual(self.root_volume(server),
                         rescue['disks'][0]['serial'])
        self.assertFoundBySerials(before, during, rescue, {'root': 'vda'})
        self.assertAsBefore(server, before, self._unrescue(server))

    def _tell_of_own_config_drive(self, image):
        own = self._make_key(_OWN_KEY)
        key = self._make_key(_KEY)
        server, before = self.boot(
            config_drive=True, key_name=_OWN_KEY,
            user_data='IyEvYmluL3NoCmVjaG8gb3duCg==')
        own_user_data = '#!/bin/sh\necho own\n'
        own_password = before.config_drive['admin_pass']
        self.assertLetsIn(before, own_password, {_OWN_KEY: own}, own_user_data)

        password, during = self._rescue(server, image)
        self.assertLetsIn(during, password, {_OWN_KEY: own}, None)
        after = self._unrescue(server)
        self.assertLetsIn(after, own_password, {_OWN_KEY: own}, own_user_data)

        password, during = self._rescue(server, image,
                                        *self._options(_KEY))
        self.assertLetsIn(during, password, {_KEY: key}, _USER_DATA)
        after = self._unrescue(server)
        self.assertLetsIn(after, own_password, {_OWN_KEY: own}, own_user_data)
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
        self._make_key(_KEY)
        _, during = self._rescue(
            server, 'rescue', '--timeout', '60', *self._options(_KEY))
        until = self._show(server)['until']
        server.live_migrate(base.SESSION, status=('RESCUE', 'ACTIVE'))
        destination = server.host
        if server.status == 'RESCUE':
            self.assertEqual(until, self._show(server)['until'])
        server.wait_for('ACTIVE', host=destination)
        after = server.wait_for_guest('base', after=during.boot_id)
        self.assertAsBefore(server, before, after)


class Ready(_Session):
    """The line that an image names, and the console shows or does not."""

    def _image(self, line):
        return self.make_image(like='rescue-stable', hw_rescue_device='disk',
                               hw_rescue_bus='virtio',
                               os_rescue_ready_line=line)

    @base.with_package
    def test_seen(self):
        """When the command returns, the rescue system is there."""
        server, before = self.boot()
        alice('server', 'rescue', '--wait', '--image',
              self._image('LAB ready role=rescue'), server.id)
        during = server.report()
        self.assertTrue(during.is_ready, during)
        self.assertEqual('rescue', during.role)
        self.assertEqual('seen', self._show(server)['ready_line'])
        self.assertAsBefore(server, before, self._unrescue(server))

    @base.with_package
    def test_unrescued_meanwhile(self):
        """Whoever waits is told, and nobody looks any further."""
        server, before = self.boot()
        image = self._image('no guest says so')
        server.rescue(image, base.SESSION)
        self.assertEqual('waiting', self._show(server)['ready_line'])
        self.assertAsBefore(server, before, server.unrescue(base.SESSION))
        server.rescue('rescue-stable', base.SESSION)
        self.assertIsNone(self._show(server)['ready_line'])


class AtWork(_Session):
    """What users do with a server that stays in rescue meanwhile."""

    def _rescued(self, image):
        """A server in rescue, and what its guests told before and during."""
        server, before = self.boot(flavor='lab-disks')
        self._key = self._make_key(_KEY)
        self._password, during = self._rescue(server, image,
                                              *self._options(_KEY))
        return server, before, during

    def _after_boot(self, server, during, more=0):
        """The rescue system has booted once more.

        :param more: how many disks it has more than before
        """
        after = server.wait_for_guest('rescue', after=during.boot_id)
        self.assertEqual('RESCUE', server.status)
        self.assertLetsIn(after, self._password, {_KEY: self._key},
                          _USER_DATA)
        self.assertDisksInPlace(during, after)
        self.assertEqual(len(during.disks) + more, len(after.disks), after)
        return after

    def _reboot(self, server, kind, during, more=0):
        alice('server', 'reboot', f'--{kind}', '--wait', server.id)
        return self._after_boot(server, during, more)

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

    def _attach(self, server, volume):
        alice('server', 'add', 'volume', server.id, volume)
        self.wait_for_volume(volume, 'in-use')

    def _detach(self, server, volume):
        alice('server', 'remove', 'volume', server.id, volume)
        self.wait_for_volume(volume, 'available')
        self.assertNotIn(volume, server.domain_xml())

    def _tell_of_volumes(self, image):
        """One that stays, one that was there before, and one that goes."""
        server, before = self.boot(flavor='lab-disks')
        old, kept, gone = self.volume(), self.volume(), self.volume()
        server.attach(old)
        self._key = self._make_key(_KEY)
        self._password, during = self._rescue(server, image,
                                              *self._options(_KEY))
        self._attach(server, kept)
        self._attach(server, gone)
        during = self._reboot(server, 'soft', during, more=2)
        self.assertEqual({kept, gone}, {
            volume for volume in (kept, gone) if during.numbered(volume)})

        self._detach(server, gone)
        self._detach(server, old)
        has_old = image == 'rescue-stable'
        during = self._reboot(server, 'hard', during,
                              more=-2 if has_old else -1)
        during.numbered(kept)

        after = self._unrescue(server)
        self.assertAsBefore(server, before, after)
        # The base guest has put its mark on it, and finds it there again.
        marked = after.numbered(kept)
        self.assertEqual(len(before.disks) + 1, len(after.disks), after)
        server.stop()
        self.assertEqual(marked, server.start().numbered(kept))

    @base.with_package
    def test_volumes_stable(self):
        self._tell_of_volumes('rescue-stable')

    @base.with_package
    def test_volumes_legacy(self):
        self._tell_of_volumes('rescue')

    def _tell_of_power(self, image):
        """The rescue system is off, on, and off again at the unrescue."""
        server, before, during = self._rescued(image)
        volume = self.volume()
        self._power(server, 'stop', 4)
        self._attach(server, volume)
        self._power(server, 'start', 1)
        during = self._after_boot(server, during, more=1)
        during.numbered(volume)
        self._power(server, 'stop', 4)
        after = self._unrescue(server)
        self.assertAsBefore(server, before, after)
        after.numbered(volume)

    def _power(self, server, what, state):
        """Stop or start the server, which stays in rescue."""
        alice('server', what, server.id)
        process.wait_for(
            lambda: self._power_state(server) == (None, state),
            f'the end of {what} of {server.id}', base.PATIENCE, 1)
        self.assertEqual('RESCUE', server.status)

    def _power_state(self, server):
        shown = server.show()
        return shown['OS-EXT-STS:task_state'], shown['OS-EXT-STS:power_state']

    @base.with_package
    def test_power_stable(self):
        self._tell_of_power('rescue-stable')

    @base.with_package
    def test_power_legacy(self):
        self._tell_of_power('rescue')


class LogIn(_Session):
    """Nothing but the openstack command and an SSH key."""

    def _server(self):
        made = json.loads(alice(
            'server', 'create', '--image', 'base-ssh', '--flavor', 'lab',
            '--network', 'lab', '--wait', '-f', 'json', 'locked-out'))
        server = base.Server(self, made['id'])
        self._servers.append(server)
        shown = json.loads(alice('server', 'show', '-f', 'json', server.id))
        (self._address,) = shown['addresses']['lab']
        self.assertFalse(shown['config_drive'])
        return server

    def _volume(self):
        made = json.loads(alice('volume', 'create', '--size', '1', '-f',
                                'json', 'copies'))
        self._volumes.append(made['id'])
        self.wait_for_volume(made['id'], 'available')
        return made['id']

    def _ssh(self, script):
        """Log in with the key, and run a script; wait for the sshd."""
        command = [
            'ssh', '-i', self._folder / _KEY, '-o', 'BatchMode=yes',
            '-o', 'IdentitiesOnly=yes', '-o', 'StrictHostKeyChecking=no',
            '-o', 'UserKnownHostsFile=/dev/null', '-o', 'LogLevel=ERROR',
            '-o', 'ConnectTimeout=10', f'root@{self._address}', script]
        for _ in process.wait_steps(base.PATIENCE, 1):
            try:
                return process.run(*command).strip()
            except process.LabError as exc:
                # 255: ssh itself has failed. The rescue system may be about
                # to boot.
                if ' exited with 255:' not in str(exc):
                    raise
                failure = exc
        raise failure

    def _mount(self, serial, folder):
        return self._ssh(f"""
            disk=/dev/disk/by-id/virtio-{serial[:20]}
            until [ -e $disk ]; do sleep 1; done
            mkdir -p {folder} && mount -t vfat $disk {folder}""")

    def _sums(self, *paths):
        """The different checksums of files."""
        found = self._ssh(f'sha256sum {" ".join(paths)}')
        return {line.split()[0] for line in found.splitlines()}

    def _migrate(self, server):
        """What the operator does meanwhile."""
        host = server.host
        server.note_migrations()
        self.assertIn('Complete', opted_in(
            '1.3', 'server', 'migrate', '--live-migration', '--wait',
            server.id))
        self.assertNotEqual(host, server.host)
        self.assertEqual('RESCUE', server.status)
        # The agent of Neutron 29.0 does not hear that the source's binding
        # was deleted. It takes the port for one that migrates, and does not
        # plug it at the server's next start.
        server.wait_for_migration()
        (port,) = json.loads(alice('port', 'list', '--server', server.id,
                                   '-f', 'json'))
        alice('port', 'set', '--description', 'moved', port['ID'])

    @base.with_package
    @base.with_network
    def test_repair_and_copy(self):
        server = self._server()
        key = self._make_key(_KEY)
        alice('server', 'rescue', '--wait', '--image', 'rescue-ssh',
              '--key-name', _KEY, server.id)
        rescue = self._show(server)
        self.assertEqual(('seen', 'stable'),
                         (rescue['ready_line'], rescue['layout']))
        (root,) = (disk['serial'] for disk in rescue['disks']
                   if disk['role'] == 'root')

        # Repair: the server itself lets its owner in from now on.
        self._mount(root, '/mnt/root')
        self._ssh(f"""
            cd /mnt/root && echo {self._address} >address &&
            echo '{key.strip()}' >authorized_keys &&
            dd if=/dev/urandom of=data bs=1M count=1 2>/dev/null &&
            cd / && umount /mnt/root""")
        for options in ((), ('--hard',)):
            alice('server', 'reboot', '--wait', *options, server.id)
            self._mount(root, '/mnt/root')
            self._ssh('umount /mnt/root')

        volume = self._volume()
        alice('server', 'add', 'volume', server.id, volume)
        self._ssh(f"""
            disk=/dev/disk/by-id/virtio-{volume[:20]}
            until [ -e $disk ]; do sleep 1; done; mkdosfs $disk""")
        self._mount(root, '/mnt/root')
        self._mount(volume, '/mnt/volume')
        wanted = self._sums('/mnt/root/data')
        self._ssh("""
            sh -c 'n=0; until [ -e /enough ] || [ $n = 60 ]; do
                n=$((n + 1)); cp /mnt/root/data /mnt/volume/copy$n && sync &&
                echo $n >/copied; sleep 1
            done; >/done' >/copy.log 2>&1 &
            until [ -e /copied ]; do
                [ ! -s /copy.log ] || { cat /copy.log >&2; exit 1; }
                sleep 1
            done""")
        self._migrate(server)
        before = int(self._ssh('cat /copied'))
        self._ssh(f"""
            until [ $(cat /copied) -gt {before} ] || [ -e /done ]; do
                sleep 1
            done; >/enough; until [ -e /done ]; do sleep 1; done
            umount /mnt/root /mnt/volume""")
        copies = int(self._ssh('cat /copied'))
        self.assertGreater(copies, 1)

        alice('server', 'unrescue', '--wait', server.id)
        attached = json.loads(alice('server', 'volume', 'list', '-f', 'json',
                                    server.id))
        self.assertEqual([volume], [each['Volume ID'] for each in attached])
        self.assertEqual(wanted, self._sums('/own/data'))
        self._mount(volume, '/mnt/volume')
        self.assertEqual(wanted, self._sums(*(
            f'/mnt/volume/copy{number}' for number in range(1, copies + 1))))
        self.assertEqual([], evidence.rescue_leftovers(server))
        self.assertEqual([], [*server.folder.glob('disk.config*')])
