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


"""Single conditions of the live migration of rescued servers."""

import os
import time

from lxml import etree
from nova.tests.fixtures import libvirt
from nova.virt.libvirt import driver as libvirt_driver
from oslo_utils import units

from nova_rescue_ext import capabilities
from tests.functional import test_live_migration


class DetailsTest(test_live_migration.RefusalTestCase):

    def test_required_trait_of_the_destination(self):
        specs = []
        name = ('nova.scheduler.client.query.SchedulerQueryClient.'
                'select_destinations')
        from nova.scheduler.client import query

        select = query.SchedulerQueryClient.select_destinations

        def record(itself, context, spec, *args, **kwargs):
            specs.append(set(spec.request_level_params.root_required))
            return select(itself, context, spec, *args, **kwargs)

        self.patch(name, record)
        self.migrate()
        self.assertIn(capabilities.TRAIT_LIVE_MIGRATE_RESCUED, specs[-1])

    def test_tunnelled(self):
        """QEMU would copy each disk that it can write."""
        driver = self.computes['compute1'].driver
        driver._block_migration_flags |= (
            libvirt_driver.libvirt.VIR_MIGRATE_TUNNELLED)
        self.refused_by_host('live_migration_tunnelled')

    def test_stateless_uefi(self):
        """It has no variables that could be lost."""
        self.change_instance(image_hw_firmware_type='uefi',
                             image_hw_firmware_stateless='true')
        self.migrate()

    def test_space_for_what_qemu_copies(self):
        with open(self.path(self.server['id'], 'compute1', 'disk'),
                  'wb') as file:
            file.write(os.urandom(units.Mi))
        self.patch('nova_rescue_ext.live_migration.manifest.free_bytes',
                   lambda directory: units.Mi // 2)
        self.refused_by_host('the destination, which has only 524288')

    def test_libvirt_answers_after_its_job_has_ended(self):
        """Else the source's directory would be kept."""
        copy_and_start = self._copy_and_start

        def answer_late(domain, params):
            copy_and_start(domain, params)
            time.sleep(2)

        self._copy_and_start = answer_late
        # Its double of libvirt has not what a domain says of its end.
        self.patch('nova.tests.fixtures.libvirt.Domain.state',
                   lambda domain: [domain._state, 4])
        self.migrate()

    def test_base_of_no_known_format(self):
        path = self.path(self.server['id'], 'compute1')
        self.qemu_img('create', '-u', '-f', 'qcow2', '-F', 'raw', '-b',
                      os.path.join(self.cache(), 'ephemeral_1_default'),
                      os.path.join(path, 'disk.eph0'), '64K')
        with open(os.path.join(path, 'disk.eph0'), 'r+b') as file:
            header = file.read(4096)
            file.seek(header.index(b'\xe2\x79\x2a\xca'))
            file.write(b'\x12\x34\x56\x78')  # an extension that nobody knows
        os.unlink(os.path.join(path, 'disk.info'))
        self.flags(images_type='qcow2', group='libvirt')
        self.use_format('raw')
        self.refused_by_host('has an unknown format')

    def cache(self):
        return os.path.join(
            test_live_migration.migration_base.base.CONF.instances_path,
            '_base')


class BlockVolumeTest(test_live_migration.LiveMigrationTestCase):
    """Volumes that the host has as block devices."""

    def test(self):
        """QEMU would write over a volume what it reads from it."""
        volume = self.cinder.IMAGE_BACKED_VOL
        self.api.post_server_volume(self.server['id'], {
            'volumeAttachment': {'volumeId': volume}})
        self._wait_for_volume_attach(self.server['id'], volume)
        self.rescue_now(hw_rescue_device='disk', hw_rescue_bus='virtio')
        self.put_raw_disks('disk', 'disk.rescue')
        target, = (target for target, _, _, _, name
                   in self.domains.disks(self.server) if name == volume)
        describe = libvirt.Domain.XMLDesc

        def describe_block(itself, flags):
            domain = etree.fromstring(describe(itself, flags))
            for disk in domain.findall('devices/disk'):
                if disk.findtext('serial') == volume:
                    disk.set('type', 'block')
                    disk.find('source').attrib.clear()
                    disk.find('source').set('dev', '/dev/sdz')
            return etree.tostring(domain, encoding='unicode')

        self.patch('nova.tests.fixtures.libvirt.Domain.XMLDesc',
                   describe_block)
        self.migrate()
        self.assertNotIn(target, self.migrations[0]['migrate_disks'])
        self.assertEqual(2, len(self.migrations[0]['migrate_disks']))


class QueuesTest(test_live_migration.RefusalTestCase):

    def boot(self):
        return self._create_server(
            host='compute1', flavor_id=self._create_flavor(vcpu=2, disk=1),
            networks=[{'port': self.neutron.port_1['id']}])

    def test(self):
        self.change_instance(image_hw_vif_multiqueue_enabled='true')
        self.refused_by_host('number of queues')
