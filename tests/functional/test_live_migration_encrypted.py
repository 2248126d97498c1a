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


"""Encrypted volumes in live migration of rescued servers.

Hazard: encrypted-volumes.

LUKS by QEMU: the key is a secret of libvirt, on each host.
"""

import typing
from unittest import mock
import uuid

import ddt
import fixtures
from lxml import etree
from nova.virt.libvirt import host as libvirt_host

from tests.functional import test_live_migration
from tests.functional import test_live_migration_storage as storage

HOST = 'nova.virt.libvirt.host.Host.'


class Secret(typing.NamedTuple):
    uuid: str

    def UUIDString(self):
        return self.uuid


class Secrets(fixtures.Fixture):
    """The secrets of volumes that libvirt knows, by host.

    :ivar deleted: a list of (host, id of the volume)
    """

    def _setUp(self):
        self._hosts = {}  # names of the hosts, by nova's Host
        self._volumes = {}
        self.deleted = []
        for name in ('find_secret', 'create_secret', 'delete_secret'):
            ours = getattr(self, name)
            theirs = getattr(libvirt_host.Host, name)
            self.useFixture(fixtures.MonkeyPatch(
                HOST + name, self._of_volumes(ours, theirs)))

    def _of_volumes(self, ours, theirs):
        def call(host, usage_type, usage_id, **kwargs):
            if usage_type != 'volume':
                return theirs(host, usage_type, usage_id, **kwargs)
            return ours(self._hosts[id(host)], usage_id)

        return call

    def add_host(self, name, driver):
        self._hosts[id(driver._host)] = name
        self._volumes[name] = set()

    def uuid(self, host, volume):
        return str(uuid.uuid5(uuid.UUID(volume), host))

    def find_secret(self, host, volume):
        if volume in self._volumes[host]:
            return Secret(self.uuid(host, volume))

    def create_secret(self, host, volume):
        self._volumes[host].add(volume)

    def delete_secret(self, host, volume):
        if volume in self._volumes[host]:
            self._volumes[host].remove(volume)
            self.deleted.append((host, volume))

    def hosts_of(self, volume):
        """The names of the hosts that have the key of a volume."""
        return {host for host, volumes in self._volumes.items()
                if volume in volumes}


class EncryptedTestCase(test_live_migration.LiveMigrationTestCase):

    ENCRYPTED = None  # the id of the volume
    DISKS = ['disk.rescue']

    def setUp(self):
        self.secrets = self.useFixture(Secrets())
        self.patch('os_brick.encryptors.get_encryption_metadata',
                   self._encryption)
        self.patch('nova.virt.libvirt.driver.key_manager.API', mock.Mock())
        from nova.virt.libvirt import driver

        driver.key_manager.API.return_value.get.return_value.get_encoded. \
            return_value = b'key'
        super().setUp()

    def start_compute(self, *args, **kwargs):
        host = super().start_compute(*args, **kwargs)
        self.secrets.add_host(host, self.computes[host].driver)
        return host

    def _encryption(self, context, volume_api, volume_id, connection_info):
        if volume_id == self.ENCRYPTED:
            return {'provider': 'luks', 'encryption_key_id': 'key',
                    'control_location': 'front-end', 'cipher': 'aes',
                    'key_size': 256}
        return {}

    def rescue_encrypted(self, properties):
        self.assert_on('compute1')
        with self.opted_in('1.3'):
            self.rescue_now(**properties)
        self.put_raw_disks(*self.DISKS)
        self.assert_on('compute1')

    def assert_on(self, *hosts):
        """Those hosts have the key, and no other."""
        self.assertEqual(set(hosts), self.secrets.hosts_of(self.ENCRYPTED))

    def secret_of_disk(self, domain):
        """The UUID of the secret by which a domain opens the volume."""
        for disk in etree.fromstring(domain).findall('devices/disk'):
            if disk.findtext('serial') == self.ENCRYPTED:
                return disk.find('.//encryption/secret').get('uuid')

    def check_migration(self, properties, in_rescue):
        """There, unrescue, and away with it."""
        self.rescue_encrypted(properties)
        self.before_migration = lambda: self.assert_on('compute1', 'compute2')
        self.migrate()
        self.assert_on('compute2')
        there = self.secrets.uuid('compute2', self.ENCRYPTED)
        self.assertEqual(
            there if in_rescue else None,
            self.secret_of_disk(self.migrations[0]['destination_xml']))
        self.secrets.deleted.clear()
        self.unrescue(self.server)
        self.assert_on('compute2')
        self.assertEqual([], self.secrets.deleted)
        self.assertEqual([there], [
            secret.get('uuid') for secret in self.domains.find(
                self.server, 'devices/disk//encryption/secret')])
        self.api.delete_server(self.server['id'])
        self._wait_until_deleted(self.server)
        self.assert_on()

    def check_rollback(self, properties):
        """As if the copies failed, which is after volumes are connected."""
        self.rescue_encrypted(properties)

        def fail(*args):
            self.assert_on('compute1', 'compute2')
            raise OSError('disk full')

        self.patch('nova_rescue_ext.live_migration.destination.Arrival.'
                   'place', fail)
        self.assert_fails()
        self.assert_cleaned('compute2')
        self.assert_on('compute1')
        self.assertNotIn(('compute1', self.ENCRYPTED), self.secrets.deleted)
        self.unrescue(self.server)
        self.assert_on('compute1')
        self.assertNotIn(('compute1', self.ENCRYPTED), self.secrets.deleted)


@ddt.ddt
class AttachedVolumeTest(EncryptedTestCase):

    DISKS = ['disk', 'disk.rescue']

    def boot(self):
        server = super().boot()
        self.ENCRYPTED = self.cinder.IMAGE_BACKED_VOL
        self.api.post_server_volume(server['id'], {
            'volumeAttachment': {'volumeId': self.ENCRYPTED}})
        self.notifier.wait_for_versioned_notifications(
            'instance.volume_attach.end')
        return server

    def test_legacy(self):
        """It is not in the rescue system, and must be there afterwards."""
        self.check_migration(storage.LEGACY, in_rescue=False)

    def test_stable(self):
        self.check_migration(storage.STABLE, in_rescue=True)

    @ddt.data(storage.LEGACY, storage.STABLE)
    def test_rollback(self, properties):
        self.check_rollback(properties)


@ddt.ddt
class RootVolumeTest(EncryptedTestCase):

    ENCRYPTED = EncryptedTestCase.VOLUME

    def boot(self):
        return self.create_bfv_server(host='compute1')

    @ddt.data(storage.LEGACY, storage.STABLE, storage.STABLE_CDROM)
    def test_migration(self, properties):
        self.check_migration(properties, in_rescue=True)

    @ddt.data(storage.LEGACY, storage.STABLE)
    def test_rollback(self, properties):
        self.check_rollback(properties)
