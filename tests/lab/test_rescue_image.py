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

"""Choosing, checking and losing nothing (compute-rescue 1.1)."""

import uuid

from tests.lab import base
from tests.lab.cloud import glance
from tests.lab import evidence


class RescueImage(base.LabTest):

    @staticmethod
    def _wait_for_rest(server):
        base.process.wait_for(
            lambda: server.show()['OS-EXT-STS:task_state'] is None,
            'the end of the rescue', base.PATIENCE, 0.5)

    @base.with_package
    def test_legacy_still_is(self):
        """An image without properties: the root's place, as in stock."""
        server, before = self.boot()
        during = server.rescue('rescue', base.RESCUE)
        self.assertDisksKept(before, during)
        self.assertEqual('vda', during.labelled('LAB-RESCUE')[0].name)
        self.assertDisksInPlace(before, server.unrescue(base.RESCUE))

    @base.with_package
    def test_one_property_is_enough(self):
        server, before = self.boot()
        for given in ({'hw_rescue_device': 'disk'},
                      {'hw_rescue_bus': 'virtio'}):
            with self.subTest(given=given):
                image = self.make_image(like='rescue', **given)
                during = server.rescue(image, base.RESCUE)
                self.assertDisksInPlace(before, during)
                self.assertDisksInPlace(before, server.unrescue())

    @base.with_package
    def test_bad_images_are_refused_before_anything(self):
        server, before = self.boot()
        bad = {
            'missing': str(uuid.uuid4()),
            'secret': self.make_image(b'x', who=self.admin,
                                      disk_format='raw',
                                      visibility='private'),
            'too big for the memory': self.make_image(
                b'x', disk_format='raw', min_ram=4096),
            'unknown device': self.make_image(
                b'x', disk_format='raw', hw_rescue_device='tape',
                hw_rescue_bus='virtio'),
            'a kernel': self.image('kernel'),
        }
        for what, image in bad.items():
            with self.subTest(what=what):
                self.assertRefused(400, 'annot', server.ask_rescue, image,
                                   base.RESCUE)
        self.assertEqual('ACTIVE', server.status)
        self.assertEqual(before.boot_id, server.report().boot_id)

    @base.with_package
    def test_image_that_is_not_what_it_says(self):
        """A failed rescue puts everything back; nothing is read by it."""
        server, before = self.boot()
        # Glance itself refuses what is worse, a qcow2 with a backing file.
        image = self.make_image(b'no qcow2'.ljust(65536, b'\0'),
                                disk_format='qcow2',
                                hw_rescue_device='disk',
                                hw_rescue_bus='virtio')
        server.ask_rescue(image, base.RESCUE)
        self._wait_for_rest(server)
        self.assertEqual('ACTIVE', server.status)
        self.assertRegex(server.last_fault(), '(?i)rescue')
        self.assertDisksInPlace(before, server.wait_for_guest('base'))
        self.assertEqual([], evidence.rescue_leftovers(server))
        # It can be rescued as if nothing had been.
        self.assertDisksInPlace(before, server.rescue('rescue-stable'))
        self.assertDisksInPlace(before, server.unrescue())

    @base.in_profiles('qcow2', 'raw', 'shared')
    @base.with_package
    def test_guest_runs_until_the_image_is_there(self):
        """A rescue that fails in the download never stops the guest."""
        server, before = self.boot()
        image = self.make_image(like='rescue')
        glance.lose_data(image)
        server.ask_rescue(image, base.RESCUE)
        self._wait_for_rest(server)
        self.assertEqual('ACTIVE', server.status)
        self.assertRegex(server.last_fault(), '(?i)rescue')
        self.assertEqual(before.boot_id, server.report().boot_id)
        self.assertEqual([], evidence.rescue_leftovers(server))

    @base.with_package
    def test_password_in_config_drive(self):
        server, before = self.boot(config_drive=True)
        during = server.rescue('rescue-stable', base.RESCUE,
                               password='the-new-one')
        self.assertEqual('the-new-one', during.config_drive['admin_pass'])

    @base.with_package
    def test_stopped_before_is_stopped_after(self):
        server, before = self.boot()
        server.stop()
        server.rescue('rescue-stable', base.RESCUE)
        server.action('unrescue', None, base.RESCUE)
        server.wait_for('SHUTOFF')
        self.assertDisksInPlace(before, server.start())

    @base.with_package
    def test_hardware_of_the_server(self):
        """What its image says since it was built does not count."""
        image = self.make_image(like='base')
        server, before = self.boot(image)
        self.alice.image.update_image(image, hw_machine_type='q35')
        # On a bus that q35 has not.
        during = server.rescue('rescue-iso', base.RESCUE)
        self.assertDisksInPlace(before, during)
        self.assertEqual('sr0', during.labelled('LAB-RESCUE')[0].name)
        self.assertDisksInPlace(before, server.unrescue(base.RESCUE))

    @base.with_package
    def test_kernel_takes_the_rescue_disk_for_its_root(self):
        server, before = self.boot()
        own = {'kernel_id': self.image('kernel'),
               'ramdisk_id': self.image('ramdisk')}
        for properties, name in (
                ({}, 'vda'), ({'hw_rescue_device': 'disk',
                               'hw_rescue_bus': 'virtio'}, 'vdb')):
            with self.subTest(properties=properties):
                during = server.rescue(
                    self.make_image(like='rescue', **own, **properties),
                    base.RESCUE)
                (rescue,) = during.labelled('LAB-RESCUE')
                self.assertEqual(name, rescue.name)
                self.assertIn(f'root=/dev/{name}', during.cmdline.split())
                self.assertDisksInPlace(before, server.unrescue())

    @base.with_package
    def test_kernel_with_the_command_line_of_its_image(self):
        server, before = self.boot()
        during = server.rescue(self.make_image(
            like='rescue', kernel_id=self.image('kernel'),
            ramdisk_id=self.image('ramdisk'), hw_rescue_device='disk',
            hw_rescue_bus='virtio',
            os_command_line='console=ttyS0 root=LABEL=LAB-RESCUE'),
            base.RESCUE)
        self.assertIn('root=LABEL=LAB-RESCUE', during.cmdline.split())
        self.assertDisksInPlace(before, server.unrescue())
