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


"""Live migration of rescued servers, from HTTP to the two hosts' files."""

import contextlib
import glob
import hashlib
import os
import subprocess
from unittest import mock

from lxml import etree
from nova import exception
from nova import objects
from nova.policies import migrate_server
from nova.tests.fixtures import libvirt
from nova.tests.functional.api import client
from oslo_serialization import jsonutils

from nova_rescue_ext import instance_metadata
from nova_rescue_ext.live_migration import destination
from nova_rescue_ext.live_migration import domain
from nova_rescue_ext.live_migration import manifest
from nova_rescue_ext.live_migration import periodic
from nova_rescue_ext.live_migration import source
from nova_rescue_ext.live_migration import staging
from tests.functional import migration_base


class LiveMigrationTestCase(migration_base.MigrationTestCase):

    def setUp(self):
        super().setUp()
        self.server = self.boot()

    def boot(self, **request):
        return self._create_server(host='compute1', networks='none',
                                   **request)

    def rescue_now(self, **properties):
        self.rescue_image = self.create_image(properties)
        self.assert_rescued(self.server, self.rescue(self.server,
                                                     self.rescue_image))

    def put_raw_disks(self, *names, server=None):
        """Write them, and what Nova writes for images_type raw."""
        server = server or self.server
        self.put_files(server, *names)
        path = self.path(server['id'], 'compute1')
        with open(os.path.join(path, 'disk.info'), 'w') as file:
            file.write(jsonutils.dumps({
                os.path.join(path, name): 'raw' for name in names}))

    def migrate(self, source='compute1', target='compute2', **parameters):
        response = self.ask_migration(self.server, **parameters)
        self.assertEqual(202, response.status_code, response.text)
        self.assert_migrated(self.server, target)
        self.assertEqual(
            self.SHARED,
            os.path.exists(self.path(self.server['id'], source)))

    def assert_fails(self, **parameters):
        """It fails, and the server is on its host as before."""
        files = self.files()
        response = self.ask_migration(self.server, **parameters)
        self.assertEqual(202, response.status_code, response.text)
        self.wait_for_migration(self.server, 'error', 'failed')
        self.assert_in_rescue_on(self.server, 'compute1')
        self.assertEqual([], self.migrations)
        self.assertEqual(files, self.files())

    def refused_by_api(self, *words, **parameters):
        """Refused in these words."""
        response = self.ask_migration(self.server, **parameters)
        if response.status_code == 202:  # services stop after it has ended
            self.wait_for_migration(self.server, 'completed', 'error',
                                    'failed')
        self.assertEqual(400, response.status_code, response.text)
        for word in words:
            self.assertIn(word, response.text)
        self.assert_in_rescue_on(self.server, 'compute1')

    def refused_by_host(self, *words):
        """The same where the destination is forced: no file is changed."""
        files = self.files()
        self.refused_by_api(*words, compute='2.30', host='compute2',
                            force=True)
        self.assertEqual(files, self.files())

    def forget_package(self, host):
        """As if the package had been removed from the host."""
        node = objects.ComputeNode.get_first_node_by_host_for_old_compat(
            self.context, host)
        node.stats = {}
        node.save()

    def files(self, host='compute1'):
        """Names of the files of the server on a host, but those on the way."""
        path = self.path(self.server['id'], host)
        return {name for name in os.listdir(path)
                if not staging.attempt_of(name)} if (
                    os.path.exists(path)) else None

    def qemu_img(self, *args):
        return subprocess.run(('qemu-img', *args), check=True,
                              capture_output=True, text=True).stdout

    def use_format(self, disk_format, *names):
        """libvirt says that disks have this format; all if none is named."""
        describe = libvirt.Domain.XMLDesc

        def describe_with_format(itself, flags):
            domain = etree.fromstring(describe(itself, flags))
            for disk in domain.findall('devices/disk'):
                name = os.path.basename(disk.find('source').get('file') or '')
                if not names or name in names:
                    disk.find('driver').set('type', disk_format)
            return etree.tostring(domain, encoding='unicode')

        self.patch('nova.tests.fixtures.libvirt.Domain.XMLDesc',
                   describe_with_format)

    def assert_cleaned(self, host):
        """The host removes what is there, when the cast comes."""
        self.wait_until(lambda: self.files(host) is None)

    def formats(self, host):
        """Names of the disks that are known to be raw on a host."""
        with open(self.path(self.server['id'], host, 'disk.info')) as file:
            formats = jsonutils.loads(file.read())
        self.assertEqual({'raw'}, set(formats.values()))
        return {os.path.basename(path) for path in formats}


class BlockMigrationTest(LiveMigrationTestCase):

    def test_legacy(self):
        before = self.domains.disks(self.server)
        self.rescue_now()
        files = ['disk', 'disk.rescue', 'disk.eph0', 'disk.swap',
                 'disk.config', 'kernel', 'kernel.rescue']
        self.put_raw_disks(*files, 'disk.eph0.rescue')
        with mock.patch.object(domain, 'Files', FilesWithKernel):
            self.migrate()
        self.assert_files(self.server, *files)
        self.assertEqual({'vda', 'vdb'},
                         set(self.migrations[0]['migrate_disks']))
        self.assertEqual(set(files) | {'disk.info'}, self.files('compute2'))
        self.assertEqual({name for name in files if 'disk' in name},
                         self.formats('compute2'))
        self.unrescue(self.server)
        self.assertEqual(before, self.domains.disks(self.server))
        self.assert_files(self.server, 'disk', 'disk.eph0', 'disk.swap',
                          'disk.config')

    def test_stable(self):
        self.rescue_now(hw_rescue_device='disk', hw_rescue_bus='virtio')
        self.put_raw_disks('disk', 'disk.rescue')
        self.migrate()
        self.assert_files(self.server, 'disk', 'disk.rescue')

    def test_kernel_and_ramdisk_of_the_server(self):
        """Nova 34 refuses to fetch a kernel for a migration."""
        instance = self.instance(self.server)
        instance.kernel_id = instance.ramdisk_id = self.IMAGE
        instance.save()
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue')
        self.put_files(self.server, 'kernel', 'ramdisk')
        self.patch('nova.virt.libvirt.utils.fetch_image', self._refuse_image)
        self.migrate()
        self.assert_files(self.server, 'kernel', 'ramdisk')

    def _refuse_image(self, context, target, image_id, *args, **kwargs):
        raise exception.ImageUnacceptable(image_id=image_id,
                                          reason='no safe disk')

    def test_rescue_disk_is_a_cdrom(self):
        self.rescue_now(hw_rescue_device='cdrom', hw_rescue_bus='scsi')
        self.put_raw_disks('disk', 'disk.rescue')
        self.migrate()
        self.assertEqual(['vda'], self.migrations[0]['migrate_disks'])
        self.assert_files(self.server, 'disk', 'disk.rescue')

    def test_there_and_back(self):
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')
        self.migrate()
        self.migrate('compute2', 'compute1')
        self.migrate()
        self.unrescue(self.server)
        self.assert_files(self.server, 'disk', 'disk.eph0')

    def test_a_volume_where_the_root_disk_is_in_rescue(self):
        """Both are vdb (hazard: device-name-collision)."""
        volume = self.cinder.IMAGE_BACKED_VOL
        self.api.post_server_volume(self.server['id'], {
            'volumeAttachment': {'volumeId': volume}})
        self._wait_for_volume_attach(self.server['id'], volume)
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue')
        self.migrate()
        self.assertEqual({'vda', 'vdb'},
                         set(self.migrations[0]['migrate_disks']))
        self.assert_files(self.server, 'disk', 'disk.rescue')
        self.assertEqual({'disk', 'disk.rescue'}, self.formats('compute2'))

    def test_named_host(self):
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')
        self.migrate(host='compute2')
        self.assert_files(self.server, 'disk.eph0')

    def test_the_copy_fails(self):
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')
        copy = self._copy_image

        def fail(src, dest, **kwargs):
            if 'eph0' in src:
                raise OSError('disk full')
            copy(src, dest, **kwargs)

        self.patch('nova.virt.libvirt.utils.copy_image', fail)
        self.assert_fails()
        self.assert_files(self.server, 'disk', 'disk.rescue', 'disk.eph0',
                          host='compute1')
        self.assert_cleaned('compute2')

    def test_a_copy_is_short(self):
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')
        copy = self._copy_image

        def truncate(src, dest, **kwargs):
            copy(src, dest, **kwargs)
            if 'eph0' in src:
                os.truncate(dest, 5)

        self.patch('nova.virt.libvirt.utils.copy_image', truncate)
        self.assert_fails()
        self.assert_cleaned('compute2')

    def test_the_destination_has_lost_the_package(self):
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')
        with mock.patch.object(destination.Arrival, 'place'):
            self.assert_fails()
        self.assert_files(self.server, 'disk', 'disk.eph0', host='compute1')

    def test_no_proof_after_the_guest_has_moved(self):
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')

        # As if libvirt's call had not ended yet.
        self.patch('nova_rescue_ext.live_migration.source._OPERATION_TIMEOUT',
                   0)
        self.patch('nova_rescue_ext.live_migration.source.Migration.'
                   'libvirt_moves_it', lambda itself:
                   contextlib.nullcontext())
        # Its double of libvirt has not what a domain says of its end.
        self.patch('nova.tests.fixtures.libvirt.Domain.state',
                   lambda domain: [domain._state, 4])
        self.assertEqual(202, self.ask_migration(self.server).status_code)
        self.assert_migrated(self.server)
        self.assert_files(self.server, 'disk', 'disk.eph0', host='compute1')
        self.assertIn('is kept', self.stdlog.logger.output)

    def test_nova_compute_was_restarted_before_it_began(self):
        """Nova takes the task from the server, and does it all the same."""
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')
        place = destination.Arrival.place

        def restart(itself):
            place(itself)
            fresh = self.instance(self.server)
            fresh.task_state = None
            fresh.save()

        with mock.patch.object(destination.Arrival, 'place', restart):
            self.assert_fails()
        self.assert_files(self.server, 'disk', 'disk.rescue', 'disk.eph0',
                          host='compute1')
        self.assert_cleaned('compute2')

    def _give_up_after(self, delete):
        """A restart takes the task; what follows is up to a function."""
        self.server = self._create_server(host='compute1', networks=[
            {'port': self.neutron.port_1['id']}])
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')
        remove = staging.remove

        def restart_and_delete(*args):
            remove(*args)
            if self.last_status(self.server) != 'running':
                return
            self.assertIn('disk.eph0', self.files('compute2'))
            fresh = self.instance(self.server)
            fresh.task_state = None
            fresh.save()
            delete(fresh)

        # Nova deletes what it knows of a server with the server.
        self.context.read_deleted = 'yes'
        with mock.patch.object(staging, 'remove', restart_and_delete):
            self.assertEqual(202,
                             self.ask_migration(self.server).status_code)
            self.wait_for_migration(self.server, 'failed')
        self.assert_cleaned('compute2')
        self.assertEqual([], self.migrations)

    def test_deleted_before_it_began(self):
        """The destination is cleaned also if the server is gone by then."""
        self._give_up_after(lambda instance: self._delete_server(self.server))
        migration, = objects.MigrationList.get_by_filters(
            self.context, {'instance_uuid': self.server['id']})
        self.context.read_deleted = 'no'
        self._run_periodics()
        for consumer in (self.server['id'], migration.uuid):
            self.assertEqual({}, self._get_allocations_by_server_uuid(
                consumer))

    def test_being_deleted_before_it_began(self):
        """Its row is there yet, its guest is not."""
        def begin(instance):
            instance.task_state = 'deleting'
            instance.save()
            guest = self.computes['compute1'].driver._host.get_guest(instance)
            guest.poweroff()
            guest.delete_configuration()

        self._give_up_after(begin)
        self.assertEqual('deleting', self.instance(self.server).task_state)

    def test_the_guest_dies_in_the_middle(self):
        """Nova would take it for moved, and delete its disks."""
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')
        self.before_migration = self._kill_guest
        # Its double of libvirt has not what a domain says of its end.
        self.patch('nova.tests.fixtures.libvirt.Domain.state',
                   lambda domain: [domain._state, 3])
        self.assert_fails()
        self.assert_files(self.server, 'disk', 'disk.rescue', 'disk.eph0',
                          host='compute1')
        self.assert_cleaned('compute2')
        self.unrescue(self.server)
        self.assert_files(self.server, 'disk', 'disk.eph0', host='compute1')

    def test_the_guest_dies_and_nobody_knows_where(self):
        """What may be the only copy is kept."""
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')
        self.before_migration = self._kill_guest
        self.patch('nova.tests.fixtures.libvirt.Domain.state',
                   lambda domain: [domain._state, 4])
        self.assertEqual(202, self.ask_migration(self.server).status_code)
        self.wait_until(lambda: (
            'is tried again every minute' in self.stdlog.logger.output
            and not source.is_at_work_on(self.server['id'])))
        self.assertIn('is kept', self.stdlog.logger.output)
        periodic.look(self.computes['compute1'].manager, self.context)
        self.wait_for_migration(self.server, 'completed', 'error')
        self.assert_files(self.server, 'disk', 'disk.eph0', host='compute1')

    def _kill_guest(self):
        driver = self.computes['compute1'].driver
        driver._host.get_guest(self.instance(self.server))._domain.destroy()
        raise libvirt.libvirtError('QEMU unexpectedly closed the monitor')

    def test_unrescue_and_timeout_meanwhile(self):
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue')
        answers = []

        def meanwhile():
            for action in ('unrescue', 'reboot', 'os-stop'):
                answers.append(self.api.api_request(
                    '/servers/%s/action' % self.server['id'], method='POST',
                    headers={'Content-Type': 'application/json'},
                    body=jsonutils.dumps(
                        {action: {'type': 'HARD'} if action == 'reboot'
                         else None})).status_code)
            self.flags(rescue_timeout=1)
            instance = self.instance(self.server)
            instance.launched_at = instance.launched_at.replace(year=2020)
            instance_metadata.complete_record(instance)
            instance.save()
            self.computes['compute1'].manager._poll_rescued_instances(
                self.context)

        self.before_migration = meanwhile
        self.migrate()
        self.assertEqual([409, 409, 409], answers)


class FilesWithKernel(domain.Files):
    """A rescue system that boots by its own kernel."""

    def __init__(self, domain, directory):
        super().__init__(domain, directory)
        self.readable.add('kernel.rescue')


class Qcow2Test(LiveMigrationTestCase):
    """Disks that are overlays: the destination has no such base, or another.

    Hazard: disks-not-in-the-domain.
    """

    CONTENT = b'written on the source'.ljust(65536)

    def put_overlay(self, name, base, base_format='raw'):
        """Write a disk, empty but for its base."""
        cache = os.path.join(migration_base.base.CONF.instances_path, '_base')
        os.makedirs(cache, exist_ok=True)
        base = os.path.join(cache, base)
        with open(base, 'wb') as file:
            file.write(self.CONTENT)
        disk = self.path(self.server['id'], 'compute1', name)
        self.qemu_img('create', '-f', 'qcow2', '-F', base_format, '-b', base,
                      disk)
        formats = self.path(self.server['id'], 'compute1', 'disk.info')
        with open(formats) as file:
            known = jsonutils.loads(file.read())
        with open(formats, 'w') as file:
            file.write(jsonutils.dumps(dict(known, **{disk: 'qcow2'})))
        # No host may use that of another.
        self.before_migration = lambda: os.truncate(base, 0)

    def assert_independent(self, name):
        carried = self.path(self.server['id'], 'compute2', name)
        self.assertNotIn('backing', self.qemu_img('info', carried))
        self.qemu_img('convert', '-O', 'raw', carried, carried + '.raw')
        with open(carried + '.raw', 'rb') as file:
            self.assertEqual(self.CONTENT, file.read())
        self.assertEqual([], glob.glob(carried + '.[bf]*'))

    def test_an_ephemeral_disk(self):
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue')
        self.put_overlay('disk.eph0', 'ephemeral_1_0706d66')
        self.migrate()
        self.assert_independent('disk.eph0')

    def test_a_cdrom(self):
        """The image behind it may be in no image service any more."""
        self.rescue_now(hw_rescue_device='cdrom', hw_rescue_bus='scsi')
        self.put_raw_disks('disk')
        self.put_overlay('disk.rescue', hashlib.sha1(
            self.rescue_image.encode()).hexdigest())
        self.migrate()
        self.assert_independent('disk.rescue')

    def test_a_base_outside_of_the_image_cache(self):
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue')
        self.put_overlay('disk.eph0', '../secret')
        self.refused_by_host('is not in the image cache')

    def test_an_ephemeral_disk_in_the_rescue_system(self):
        """QEMU writes over its base what is above it on the source."""
        flavor = self._create_flavor(disk=1, ephemeral=1)
        self.server = self.boot(flavor_id=flavor)
        self.rescue_now(hw_rescue_device='disk', hw_rescue_bus='virtio')
        self.put_raw_disks('disk', 'disk.rescue')
        self.put_overlay('disk.eph0', 'ephemeral_1_0706d66')
        self.use_format('qcow2', 'disk.eph0')
        self.before_migration = lambda: self.assert_independent('disk.eph0')
        self.migrate()
        self.assertIn('vdb', self.migrations[0]['migrate_disks'])


class SharedPathTest(LiveMigrationTestCase):

    SHARED = True

    def test_shared_instance_path(self):
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')
        self.put_files(self.server, 'unrescue.xml')
        self.migrate()
        self.assertNotIn('migrate_disks', self.migrations[0])
        self.assertNotIn('unrescue.xml', self.files('compute2'))
        self.unrescue(self.server)
        self.assert_files(self.server, 'disk', 'disk.eph0')


class RefusalTestCase(LiveMigrationTestCase):

    def setUp(self):
        super().setUp()
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue', 'disk.eph0')

    def change_instance(self, **system_metadata):
        instance = self.instance(self.server)
        instance.system_metadata.update(system_metadata)
        instance.save()


class RefusalTest(RefusalTestCase):

    def test_below_the_version(self):
        for version in ('1.0', '1.1'):
            response = self.ask_migration(self.server, version)
            self.assertEqual(409, response.status_code)
            self.assertIn('vm_state rescued', response.text)

    def test_source_without_the_package(self):
        self.forget_package('compute1')
        self.refused_by_api('source compute node compute1')

    def test_named_destination_without_the_package(self):
        self.forget_package('compute2')
        self.refused_by_api('destination compute node compute2',
                            host='compute2')

    def test_chosen_destination_without_the_package(self):
        """The trait outlives the package."""
        self.forget_package('compute2')
        self.assert_fails()

    def test_rescued_by_stock_nova(self):
        instance = self.instance(self.server)
        instance_metadata.forget_rescue(instance)
        instance.save()
        self.refused_by_host('before nova-rescue-ext was installed')

    def test_uefi_without_variables(self):
        self.change_instance(image_hw_firmware_type='uefi')
        self.refused_by_host('UEFI variables would be lost')

    def test_differing_images_types(self):
        with mock.patch('nova_rescue_ext.live_migration.checks.CONF') as conf:
            conf.libvirt.images_type = 'rbd'
            self.refused_by_host('images_type is rbd on the source')

    def test_lvm(self):
        with mock.patch('nova_rescue_ext.live_migration.checks.CONF') as conf:
            conf.libvirt.images_type = 'lvm'
            self.refused_by_host('disks on LVM')

    def test_another_number_of_serial_ports(self):
        self.flags(enabled=True, group='serial_console')
        self.change_instance(image_hw_serial_port_count='3')
        self.refused_by_host('serial ports and the server 3')

    def test_another_base(self):
        self.use_format('qcow2', 'disk')
        self.qemu_img('create', '-u', '-f', 'qcow2', '-F', 'raw', '-b',
                      'another', self.path(self.server['id'], 'compute1',
                                           'disk'), '64K')
        self.refused_by_host('is based on another')

    def test_an_error_in_the_check_is_a_refusal(self):
        """Hazard: error-for-a-refusal."""
        with mock.patch.object(manifest, 'build',
                               side_effect=OSError('read-only')):
            self.refused_by_host('read-only')
        with mock.patch.object(manifest, 'received',
                               side_effect=ValueError('no manifest')):
            self.refused_by_host('no manifest')

    def test_no_plain_file(self):
        os.mkdir(self.path(self.server['id'], 'compute1', 'disk.eph1'))
        self.refused_by_host('disk.eph1', 'is not a plain file')

    def test_the_source_cannot_be_read(self):
        self.patch('nova.virt.libvirt.utils.copy_image',
                   mock.Mock(side_effect=OSError('no ssh')))
        self.refused_by_host('cannot copy files from the source')

    def test_something_is_at_the_destination(self):
        """Hazard: occupied-destination."""
        self.put_files(self.server, 'disk', host='compute2')
        self.refused_by_host('exists on the destination')
        self.assert_files(self.server, 'disk', host='compute2')

    def test_no_space_at_the_destination(self):
        with mock.patch('os.statvfs', return_value=mock.Mock(
                f_bavail=1, f_frsize=4)):
            self.refused_by_host('the destination, which has only 4')
        self.assert_cleaned('compute2')

    def test_policy(self):
        self.policy.set_rules(
            {'rescue_ext:migrate_live:rescued': '!'}, overwrite=False)
        response = self.ask_migration(self.server)
        self.assertEqual(403, response.status_code, response.text)

    def test_manager_of_the_project(self):
        """By default as for other servers: since Nova 32, to no named host.

        Such a caller has no rights of an administrator.
        """
        api = self.as_manager()
        response = self.ask_migration(self.server, api=api, host='compute2')
        self.assertEqual(403, response.status_code, response.text)
        response = self.ask_migration(self.server, api=api)
        if 'os_compute_api:os-migrate-server:migrate_live:host' not in [
                rule.name for rule in migrate_server.list_rules()]:
            self.assertEqual(403, response.status_code, response.text)
            return
        self.assertEqual(202, response.status_code, response.text)
        self.assert_migrated(self.server)

    def as_manager(self):
        return client.TestOpenStackClient(
            'manager', self.api.base_url, project_id=self.api.project_id,
            roles=['manager', 'member', 'reader'])


class StateTest(LiveMigrationTestCase):

    def test_an_audit_in_the_middle_counts_the_migration(self):
        """Hazard: uncounted-migration."""
        self.rescue_now()
        self.put_raw_disks('disk', 'disk.rescue')
        tracked = []

        def audit():
            manager = self.computes['compute2'].manager
            manager.update_available_resource(self.context)
            tracked.extend(manager.rt.tracked_migrations)

        self.before_migration = audit
        self.migrate()
        self.assertEqual([self.server['id']], tracked)

    def test_one_that_migrates_does_not_stop_the_timeout_of_others(self):
        """Hazard: rescue-timeout."""
        other = self.boot()
        self.rescue_now()
        self.assert_rescued(other, self.rescue(other, self.rescue_image))
        for server in (self.server, other):
            instance = self.instance(server)
            instance.launched_at = instance.launched_at.replace(year=2020)
            instance_metadata.complete_record(instance)
            instance.save()
        instance = self.instance(self.server)
        instance.task_state = 'migrating'
        instance.save()
        self.flags(rescue_timeout=1)
        self.computes['compute1'].manager._poll_rescued_instances(
            self.context)
        self._wait_for_state_change(other, 'ACTIVE')
        self.assertRaises(exception.InstanceInvalidState,
                          self.unrescue_as_user)

    def unrescue_as_user(self):
        context = self.context.elevated()
        context.user_id = 'user'
        self.computes['compute1'].manager.compute_api.unrescue(
            context, self.instance(self.server))

    def test_the_image_cache_counts_the_rescue_image(self):
        """Hazard: image-cache."""
        self.rescue_now()
        manager = self.computes['compute1'].driver.image_cache_manager
        running = manager._list_running_instances(
            self.context, [self.instance(self.server)])
        self.assertIn(self.rescue_image, running['used_images'])
