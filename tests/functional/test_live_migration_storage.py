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


"""Live migration of rescued servers with every storage that Nova has.

The rows of the matrix in doc/source/admin/live-migration.rst. A server has
all of config drive, ephemeral disk, swap, volume and kernel at once.
"""

import os
import sys
from unittest import mock

import ddt
from lxml import etree
from nova import objects
from nova.tests.fixtures import libvirt
from nova.virt.libvirt import imagebackend
from nova.virt.libvirt import imagecache
from oslo_concurrency import processutils
from oslo_serialization import jsonutils
from oslo_utils import units

from nova_rescue_ext.live_migration import checks
from nova_rescue_ext.live_migration import domain
from tests.functional import migration_base
from tests.functional import qcow2
from tests.functional import test_live_migration

# nova.virt.libvirt's own: Nova's fixture replaces it.
_real_backend = imagebackend.Backend.backend

LEGACY = {}
STABLE = {'hw_rescue_device': 'disk', 'hw_rescue_bus': 'virtio'}
STABLE_CDROM = {'hw_rescue_device': 'cdrom', 'hw_rescue_bus': 'scsi'}


class StorageTestCase(test_live_migration.LiveMigrationTestCase):

    # Of a server with everything, on the host.
    OWN = ['disk', 'disk.eph0', 'disk.swap', 'disk.config']
    RESCUE = ['disk.rescue', 'disk.config.rescue', 'kernel.rescue']
    HAS_CONFIG_DRIVE = True
    VERSION = '1.3'

    def boot(self):
        flavor = self._create_flavor(
            disk=1, ephemeral=1, swap=64)
        body = self._build_server(flavor_id=flavor, networks='none',
                                  host='compute1')
        body['config_drive'] = self.HAS_CONFIG_DRIVE
        server = self.api.post_server({'server': self.change_request(body)})
        server = self._wait_for_state_change(server, 'ACTIVE')
        self.attach(server, self.cinder.IMAGE_WITH_TRAITS_BACKED_VOL)
        return server

    def change_request(self, body):
        return body

    def attach(self, server, volume):
        self.api.post_server_volume(
            server['id'], {'volumeAttachment': {'volumeId': volume}})
        self._wait_for_volume_attach(server['id'], volume)

    def rescue_with_kernel(self, properties):
        patch = mock.patch.object(domain, 'Files',
                                  test_live_migration.FilesWithKernel)
        patch.start()
        self.addCleanup(patch.stop)
        with self.opted_in(self.VERSION):
            self.rescue_now(**properties)

    def copied_by_qemu(self):
        """Names of the files that QEMU was told to copy."""
        targets = self.migrations[0].get('migrate_disks', ())
        return {name for target, _, _, _, name in self.rescue_disks
                if target in targets}

    def migrate(self, *args, **kwargs):
        before = self.attachments()
        super().migrate(*args, **kwargs)
        self.assertEqual(before, self.attachments())

    def unrescue(self, server):
        before = self.attachments()
        super().unrescue(server)
        self.assertEqual(before, self.attachments())

    def migrate_and_unrescue(self):
        self.rescue_disks = self.domains.disks(self.server)
        self.migrate()
        self.assert_files(self.server, *self.OWN, *self.RESCUE)
        self.unrescue(self.server)
        self.assert_files(self.server, *self.OWN)

    def attachments(self):
        return {attachment['volumeId'] for attachment in self.api.api_get(
            '/servers/%s/os-volume_attachments' % self.server['id']
        ).body['volumeAttachments']}


@ddt.ddt
class BlockRawTest(StorageTestCase):

    @ddt.data('iso9660', 'vfat')
    def test_legacy(self, config_drive):
        self.flags(config_drive_format=config_drive)
        self.rescue_with_kernel(LEGACY)
        self.put_raw_disks(*self.OWN, *self.RESCUE)
        self.migrate_and_unrescue()
        self.assertEqual(
            {'disk', 'disk.rescue'} | ({'disk.config.rescue'}
                                       if config_drive == 'vfat' else set()),
            self.copied_by_qemu())

    @ddt.data('iso9660', 'vfat')
    def test_stable(self, config_drive):
        self.flags(config_drive_format=config_drive)
        self.rescue_with_kernel(STABLE)
        self.put_raw_disks(*self.OWN, *self.RESCUE)
        self.migrate_and_unrescue()
        self.assertEqual(
            {'disk', 'disk.rescue', 'disk.eph0', 'disk.swap'}
            | ({'disk.config.rescue'} if config_drive == 'vfat' else set()),
            self.copied_by_qemu())

    def test_stable_cdrom(self):
        self.rescue_with_kernel(STABLE_CDROM)
        self.put_raw_disks(*self.OWN, *self.RESCUE)
        self.migrate_and_unrescue()
        self.assertEqual({'disk', 'disk.eph0', 'disk.swap'},
                         self.copied_by_qemu())


@ddt.ddt
class ConfigDriveOfRescueTest(StorageTestCase):
    """The server itself has none."""

    OWN = ['disk', 'disk.eph0', 'disk.swap']
    HAS_CONFIG_DRIVE = False
    VERSION = '1.4'

    @ddt.data(LEGACY, STABLE)
    def test(self, properties):
        self.rescue_with_kernel(properties)
        self.put_raw_disks(*self.OWN, *self.RESCUE)
        self.migrate_and_unrescue()
        self.assertNotIn('disk.config.rescue', self.copied_by_qemu())


@ddt.ddt
class SharedTest(StorageTestCase):

    SHARED = True

    @ddt.data(LEGACY, STABLE, STABLE_CDROM)
    def test(self, properties):
        self.rescue_with_kernel(properties)
        self.put_raw_disks(*self.OWN, *self.RESCUE)
        self.migrate_and_unrescue()
        self.assertEqual(set(), self.copied_by_qemu())


@ddt.ddt
class BlockQcow2Test(qcow2.Qcow2Mixin, StorageTestCase):
    """Real qcow2 files, on bases in the image cache."""

    def setUp(self):
        self.show_qcow2_to_libvirt()
        super().setUp()
        self.flags(images_type='qcow2', group='libvirt')
        self.fetched = {}
        self.patch('nova.virt.libvirt.utils.fetch_image', self._fetch)
        self.patch('nova.virt.libvirt.driver.LibvirtDriver._create_ephemeral',
                   lambda *args, **kwargs: None)
        self.patch('nova.virt.libvirt.driver.LibvirtDriver._create_swap',
                   lambda *args, **kwargs: None)

    def _fetch(self, context, target, image_id, *args, **kwargs):
        self.fetched[os.path.basename(target)] = image_id

    def put_disks(self, *ephemeral):
        path = self.path(self.server['id'], 'compute1')
        self.put_files(self.server, 'disk.config', 'disk.config.rescue',
                       'kernel.rescue')
        self.put_qcow2('disk', imagecache.get_cache_fname(self.IMAGE))
        self.put_qcow2('disk.rescue',
                       imagecache.get_cache_fname(self.rescue_image))
        self.put_qcow2('disk.swap', 'swap_64')
        for name in ephemeral:
            self.put_qcow2(name, 'ephemeral_1_default')
        with open(os.path.join(path, 'disk.info'), 'w') as file:
            file.write(jsonutils.dumps({
                os.path.join(path, name): 'qcow2' for name in (
                    'disk', 'disk.rescue', 'disk.swap', *ephemeral)}))

    def assert_content(self, *names, host='compute2'):
        for name in names:
            path = self.path(self.server['id'], host, name)
            self.qemu_img('convert', '-O', 'raw', path, path + '.raw')
            with open(path + '.raw', 'rb') as file:
                self.assertEqual(self.content(name), file.read(), name)
            os.unlink(path + '.raw')

    def assert_images(self):
        """Each base was fetched as the image that it is of.

        Hazard: wrong-backing-image.
        """
        self.assertEqual(
            {imagecache.get_cache_fname(image): image for image
             in (self.IMAGE, self.rescue_image)}, self.fetched)

    def test_legacy(self):
        self.rescue_with_kernel(LEGACY)
        self.put_disks('disk.eph0')
        self.migrate()
        self.assert_images()
        self.assert_content('disk', 'disk.rescue', 'disk.eph0', 'disk.swap')
        self.assert_files(self.server, 'disk.config', 'disk.config.rescue',
                          'kernel.rescue')
        self.unrescue(self.server)
        self.assert_content('disk', 'disk.eph0', 'disk.swap')

    @ddt.data(STABLE, STABLE_CDROM)
    def test_stable(self, properties):
        """QEMU writes over the base that the source has.

        Hazard: disks-not-in-the-domain.
        """
        self.rescue_with_kernel(properties)
        self.put_disks('disk.eph0')
        self.before_migration = lambda: self.assert_independent(
            'disk.eph0', 'disk.swap')
        self.migrate()
        self.assert_images()
        self.assert_content('disk', 'disk.rescue', 'disk.eph0', 'disk.swap')
        self.unrescue(self.server)
        self.assert_content('disk', 'disk.eph0', 'disk.swap')

    @ddt.data(LEGACY, STABLE, STABLE_CDROM)
    def test_there_and_back_twice(self, properties):
        """After the first, these disks have no base.

        Hazard: disks-without-a-base.
        """
        self.rescue_with_kernel(properties)
        self.put_disks('disk.eph0')
        hosts = ['compute1', 'compute2']
        for _ in range(4):
            self.migrate(*hosts)
            self.assert_content('disk', 'disk.rescue', 'disk.eph0',
                                'disk.swap', host=hosts[1])
            for name in ('disk.eph0', 'disk.swap'):
                self.assertIsNone(self.base_of(self.path(
                    self.server['id'], hosts[1], name)))
            hosts.reverse()
        self.unrescue(self.server)
        self.assert_content('disk', 'disk.eph0', 'disk.swap',
                            host='compute1')

    @ddt.data(LEGACY, STABLE)
    def test_root_disk_without_a_base(self, properties):
        """As after unshelve, if the server's image is gone."""
        self.rescue_with_kernel(properties)
        self.put_disks('disk.eph0')
        path = self.path(self.server['id'], 'compute1', 'disk')
        self.qemu_img('convert', '-O', 'qcow2', path, path + '.flat')
        os.rename(path + '.flat', path)
        self.migrate()
        self.assert_content('disk', 'disk.rescue', 'disk.eph0', 'disk.swap')
        self.unrescue(self.server)
        self.assert_content('disk', 'disk.eph0', 'disk.swap')

    def rescue_with_big_base(self, properties, written):
        """An ephemeral disk whose base has 1 GiB, of which little is used."""
        self.rescue_with_kernel(properties)
        self.put_disks('disk.eph0')
        base = self.base_of(self.path(self.server['id'], 'compute1',
                                      'disk.eph0'))
        with open(base, 'wb') as file:
            file.write(os.urandom(written))
            file.truncate(units.Gi)

    @ddt.data(LEGACY, STABLE)
    def test_holes_are_neither_copied_nor_counted(self, properties):
        self.rescue_with_big_base(properties, 65536)
        copied = {}
        copy = self._copy_image

        def copy_image(src, dest, host=None, compression=True, **kwargs):
            copy(src, dest, host, **kwargs)
            if host and os.path.isfile(src):
                copied[os.path.basename(src)] = (
                    os.path.getsize(src) < 16 * units.Mi, compression)

        self.patch('nova.virt.libvirt.utils.copy_image', copy_image)
        self.before_migration = lambda: self.patch(
            'tests.functional.test_live_migration_storage.BlockQcow2Test.'
            'copy_disk', lambda *args: None)
        free = 'nova_rescue_ext.live_migration.manifest.free_bytes'
        with mock.patch(free, return_value=64 * units.Mi):
            self.migrate()
        # Compressed as in a cold migration: not if it is qcow2.
        self.assertEqual({'disk.eph0': (True, False),
                          'disk.swap': (True, False)}, copied)

    @ddt.data(LEGACY, STABLE)
    def test_a_base_is_counted(self, properties):
        self.rescue_with_big_base(properties, 32 * units.Mi)
        free = 'nova_rescue_ext.live_migration.manifest.free_bytes'
        with mock.patch(free, return_value=16 * units.Mi):
            self.refused_by_host('the source, which has only 16777216')
        self.flags(reserved_host_disk_mb=40)
        with mock.patch(free, return_value=64 * units.Mi):
            self.refused_by_host('the source, which has only 25165824')
        self.flags(reserved_host_disk_mb=0)
        instances = self.path('', 'compute2')

        def free_bytes(directory):
            return (16 if directory.rstrip('/') == instances.rstrip('/')
                    else 64) * units.Mi

        with mock.patch(free, free_bytes):
            self.refused_by_host('bytes on the destination, which has')

    def test_what_it_costs(self):
        """No qemu-img but for the bases, one connection for small files."""
        self.rescue_with_kernel(LEGACY)
        self.put_disks()
        os.unlink(self.path(self.server['id'], 'compute1', 'disk.swap'))
        started, reads, written = [], [], []
        execute = processutils.execute

        def record(*args, **kwargs):
            if getattr(migration_base._here, 'host', None) == 'compute1':
                started.append(args)
            return execute(*args, **kwargs)

        self.patch('oslo_concurrency.processutils.execute', record)
        get = objects.Instance.get_by_uuid

        def count(context, uuid, *args, **kwargs):
            frame = sys._getframe(1)
            if 'nova_rescue_ext' in frame.f_code.co_filename:
                reads.append(os.path.basename(frame.f_code.co_filename))
            return get(context, uuid, *args, **kwargs)

        counted = mock.patch.object(objects.Instance, 'get_by_uuid', count)
        counted.start()
        self.addCleanup(counted.stop)
        save = objects.Migration.save

        def save_migration(itself):
            if 'disk_total' in itself.obj_what_changed():
                written.append(itself.disk_total)
            save(itself)

        self.patch('nova.objects.migration.Migration.save', save_migration)
        self.migrate()
        self.assertEqual([], started)
        self.assertEqual([migration_base.FOLDER], self.connections)
        self.assertEqual([], written)
        # Whether the request still counts, and once more when it has its
        # migration; whether that may begin, when it begins, when the guest
        # begins to move, and when it has moved; on the other side, before
        # Nova's attachments, before Nova prepares it and before the record.
        self.assertEqual(
            ['compute.py'] + ['conductor.py'] * 2 + ['destination.py'] * 3
            + ['source.py'] * 3, sorted(reads))

    def test_the_image_cache_of_a_host_without_the_package(self):
        """Chosen by a nova-conductor without it, too.

        Hazard: unchecked-destination.
        """
        self.rescue_with_kernel(LEGACY)
        self.put_disks('disk.eph0')
        for name, stock in (
                ('live_migration.conductor._check_node', lambda *args: None),
                ('instance_metadata.with_checked_destination',
                 lambda instance, host, attempt: instance.obj_clone()),
                ('live_migration.destination.check', lambda *args: None),
                ('live_migration.destination.Arrival.fetch',
                 lambda itself: None),
                ('live_migration.destination.Arrival.place',
                 lambda itself: None),
                ('live_migration.libvirt._image_behind',
                 lambda filename, image_id, *others: image_id)):
            self.patch('nova_rescue_ext.' + name, stock)
        self.assert_fails()
        self.assertEqual({}, self.fetched)

    def assert_independent(self, *names):
        self.assert_content(*names)
        for name in names:
            self.assertNotIn('backing', self.qemu_img('info', self.path(
                self.server['id'], 'compute2', name)))


@ddt.ddt
class RbdTest(StorageTestCase):
    """Disks in Ceph; on the host is what Nova keeps there, too."""

    OWN = ['disk.config']  # as before Nova imported it into Ceph
    RESCUE = ['kernel.rescue']

    def setUp(self):
        self.patch('nova.storage.rbd_utils.RBDDriver', mock.Mock())
        from nova.storage import rbd_utils

        self.rbd = rbd_utils.RBDDriver.return_value
        self.rbd.get_mon_addrs.return_value = (['10.0.0.1'], ['6789'])
        self.rbd.size.return_value = units.Gi
        self.rbd.exists.return_value = False  # of an earlier rescue
        self.rbd.rbd_user, self.rbd.pool = 'nova', 'vms'
        self.rbd.ceph_conf = ''
        self.flags(images_type='rbd', rbd_secret_uuid='secret',
                   group='libvirt')
        super().setUp()

    def boot(self):
        self.patch('nova.virt.libvirt.imagebackend.Backend.backend',
                   _real_backend)
        self.patch('nova.virt.libvirt.imagebackend.Rbd.exists',
                   lambda *args: True)
        return super().boot()

    @ddt.data(LEGACY, STABLE, STABLE_CDROM)
    def test(self, properties):
        self.rescue_with_kernel(properties)
        self.put_files(self.server, *self.OWN, *self.RESCUE)
        self.rbd.reset_mock()
        self.migrate()
        self.assertNotIn('migrate_disks', self.migrations[0])
        self.assertFalse(self.rbd.cleanup_volumes.called)
        self.assert_files(self.server, *self.OWN, *self.RESCUE)
        self.unrescue(self.server)
        self.assert_files(self.server, *self.OWN)
        # Only the volumes of the rescue go, on the destination.
        (call,) = self.rbd.cleanup_volumes.mock_calls
        removed = call.args[0]
        self.assertTrue(removed(self.server['id'] + '_disk.rescue'))
        self.assertFalse(removed(self.server['id'] + '_disk'))

    def test_nothing_to_copy_needs_no_connection(self):
        self.rescue_with_kernel(LEGACY)
        for name in self.files():
            os.unlink(self.path(self.server['id'], 'compute1', name))
        self.patch('nova.virt.libvirt.utils.copy_image',
                   mock.Mock(side_effect=OSError('no ssh')))
        self.migrate()

    def test_the_directory_is_kept_without_proof(self):
        """Whatever else would have Nova delete it."""
        self.flags(ensure_libvirt_rbd_instance_dir_cleanup=True,
                   group='workarounds')
        self.rescue_with_kernel(LEGACY)
        self.put_files(self.server, *self.OWN, *self.RESCUE)
        self.patch('nova_rescue_ext.live_migration.source.Migration.'
                   'may_delete_source', lambda itself: False)
        self.assertEqual(202, self.ask_migration(self.server).status_code)
        self.assert_migrated(self.server)
        self.assert_files(self.server, *self.OWN, *self.RESCUE,
                          host='compute1')
        self.assertIn('is kept', self.stdlog.logger.output)

    def test_other_images_type(self):
        """Hazard: differing-images-type."""
        self.rescue_with_kernel(LEGACY)
        self.put_files(self.server, *self.OWN, *self.RESCUE)
        self.rbd.reset_mock()
        check = checks._check_images_type

        def differ(migrate_data):
            migrate_data.image_type = 'qcow2'
            check(migrate_data)

        with mock.patch.object(checks, '_check_images_type', differ):
            response = self.ask_migration(self.server, compute='2.30')
        self.assertEqual(400, response.status_code, response.text)
        self.assertIn('images_type is rbd on the source and qcow2',
                      response.text)
        self.assertFalse(self.rbd.cleanup_volumes.called)


@ddt.ddt
class BfvTest(StorageTestCase):

    OWN = ['disk.eph0', 'disk.swap', 'disk.config']

    def change_request(self, body):
        body.pop('imageRef')
        body['block_device_mapping_v2'] = [
            {'boot_index': 0, 'uuid': self.VOLUME, 'source_type': 'volume',
             'destination_type': 'volume'}]
        return body

    @ddt.data(LEGACY, STABLE, STABLE_CDROM)
    def test(self, properties):
        """Its devices are always stable (spec: bfv-rescue)."""
        self.rescue_with_kernel(properties)
        self.put_raw_disks(*self.OWN, *self.RESCUE)
        self.migrate_and_unrescue()
        self.assertNotIn('disk', self.files('compute2'))
        self.assertEqual(
            {'disk.eph0', 'disk.swap'}
            | (set() if properties is STABLE_CDROM else {'disk.rescue'}),
            self.copied_by_qemu())

    def test_no_block_migration(self):
        """The rescue disk is on the host (hazard: root-on-a-volume)."""
        self.rescue_with_kernel(LEGACY)
        self.put_raw_disks(*self.OWN, *self.RESCUE)
        response = self.ask_migration(self.server, compute='2.30',
                                      block_migration=False)
        self.assertEqual(400, response.status_code, response.text)
        self.assertIn('storage', response.text)
        self.assert_in_rescue_on(self.server, 'compute1')


class ResetTestCase(StorageTestCase):
    """Somebody has set the state of a rescued server to active.

    Hazard: state-reset.
    """

    def reset(self, properties):
        self.rescue_with_kernel(properties)
        self.put_raw_disks(*self.OWN, *self.RESCUE)
        self.act({'os-resetState': {'state': 'active'}})
        self._wait_for_state_change(self.server, 'ACTIVE')

    def act(self, body, microversion='2.30'):
        """Ask without an opt-in; the response is returned."""
        with mock.patch.object(self.api, 'microversion', microversion):
            return self.api.api_request(
                '/servers/%s/action' % self.server['id'], method='POST',
                headers={'Content-Type': 'application/json'},
                body=jsonutils.dumps(body))

    def ask(self, host=None, microversion='2.30'):
        parameters = {'host': host, 'block_migration': 'auto'}
        if host:
            parameters['force'] = True
        return self.act({'os-migrateLive': parameters}, microversion)

    def assert_on(self, host):
        self.wait_until(lambda: self.api.get_server(
            self.server['id'])['OS-EXT-STS:task_state'] is None)
        after = self.api.get_server(self.server['id'])
        self.assertEqual(('ACTIVE', host), (
            after['status'], after['OS-EXT-SRV-ATTR:host']))

    def assert_nothing_moves(self):
        files = self.files()
        for host in ('compute2', None):
            response = self.ask(host)
            if response.status_code == 202:  # services stop when it has ended
                self.wait_for_migration(self.server, 'completed', 'error',
                                        'failed')
            self.assertEqual(400, response.status_code, response.text)
            if host:
                self.assertIn('the server is active, but runs a rescue system',
                              response.text)
                self.assertIn('Hard reboot it', response.text)
            self.assert_on('compute1')
        self.assertEqual([], self.migrations)
        self.assertEqual(files, self.files())
        self.assert_files(self.server, *self.OWN, host='compute1')


@ddt.ddt
class ResetTest(ResetTestCase):

    @ddt.data(LEGACY, STABLE, STABLE_CDROM)
    def test(self, properties):
        self.reset(properties)
        self.assert_nothing_moves()

    def test_a_hard_reboot_is_the_way_out(self):
        self.reset(LEGACY)
        self.act({'reboot': {'type': 'HARD'}})
        self._wait_for_state_change(self.server, 'ACTIVE')
        self.put_raw_disks(*self.OWN)
        self.assertEqual(202, self.ask('compute2').status_code)
        self.wait_for_migration(self.server, 'completed')
        self.assert_on('compute2')
        self.assert_files(self.server, 'disk', 'disk.eph0', 'disk.swap')

    def test_in_ceph(self):
        """There the disk of a rescue is no path."""
        self.reset(LEGACY)
        describe = libvirt.Domain.XMLDesc

        def describe_in_ceph(itself, flags):
            domain = etree.fromstring(describe(itself, flags))
            for source in domain.findall('devices/disk/source'):
                path = source.attrib.pop('file', 'volume')
                source.set('protocol', 'rbd')
                source.set('name', 'vms/' + os.path.basename(path))
            return etree.tostring(domain, encoding='unicode')

        self.patch('nova.tests.fixtures.libvirt.Domain.XMLDesc',
                   describe_in_ceph)
        self.assert_nothing_moves()


class SharedResetTest(ResetTestCase):

    SHARED = True

    def test(self):
        """It would run on the other host, and nobody know what it is."""
        self.reset(LEGACY)
        self.assert_nothing_moves()


class OrdinaryTest(ResetTestCase):

    def test_a_domain_that_is_gone(self):
        """Nova's own check has the word."""
        self.reset(LEGACY)
        driver = self.computes['compute1'].driver
        driver._host.get_guest(self.instance(
            self.server))._domain.undefine()
        asked = []
        self.patch('nova.virt.libvirt.driver.LibvirtDriver.'
                   '_check_shared_storage_test_file',
                   lambda *args, **kwargs: asked.append(args))
        self.ask('compute2')
        self.assertEqual(1, len(asked))
        self.assertEqual([], self.migrations)


class HardwareTest(test_live_migration.RefusalTestCase):

    def boot(self):
        return self._create_server(
            host='compute1',
            networks=[{'port': self.neutron.port_1['id']}])

    def test_interfaces_are_the_same(self):
        self.migrate()
        self.assert_books_are_right()
        self.unrescue(self.server)
        self.assert_books_are_right()

    def assert_books_are_right(self):
        bindings = self.neutron._port_bindings[self.neutron.port_1['id']]
        self.assertEqual({'compute2'}, set(bindings))
        self.assertEqual('ACTIVE', bindings['compute2']['status'])
        allocations = self.placement.get(
            '/allocations/%s' % self.server['id']).body['allocations']
        self.assertEqual({self.compute_rp_uuids['compute2']},
                         set(allocations))

    def test_another_model_of_interface(self):
        """Hazard: vif-model."""
        self.change_instance(image_hw_vif_model='e1000')
        self.refused_by_host('network interface ', 'hw_vif_model')
