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

"""Rescue as stock Nova does it: with and without the package the same."""

from tests.lab import base


class Rescue(base.LabTest):

    def test_legacy(self):
        """Without hw_rescue_*: the rescue disk takes the root's place."""
        server, before = self.boot()
        during = server.rescue('rescue')
        self.assertDisksKept(before, during)
        (root,) = during.marks.values()
        self.assertEqual('vdb', root.name)
        self.assertEqual('vda', during.labelled('LAB-RESCUE')[0].name)
        after = server.unrescue()
        self.assertDisksInPlace(before, after)
        self.assertEqual(len(before.disks), len(after.disks))

    def test_stable(self):
        """With hw_rescue_*: every disk stays, the rescue disk is added."""
        server, before = self.boot(flavor='lab-disks', config_drive=True)
        during = server.rescue('rescue-stable')
        self.assertDisksInPlace(before, during)
        (rescue,) = during.labelled('LAB-RESCUE')
        self.assertEqual(during.disks[-1], rescue)
        self.assertEqual(server.id, during.config_drive['uuid'])
        after = server.unrescue()
        self.assertDisksInPlace(before, after)

    def test_stable_qcow2(self):
        server, before = self.boot()
        self.assertDisksInPlace(before, server.rescue('rescue-qcow2'))
        self.assertDisksInPlace(before, server.unrescue())

    def test_cdrom(self):
        server, before = self.boot()
        during = server.rescue('rescue-iso')
        self.assertDisksInPlace(before, during)
        self.assertEqual('sr0', during.labelled('LAB-RESCUE')[0].name)
        self.assertDisksInPlace(before, server.unrescue())

    def test_usb(self):
        server, before = self.boot()
        during = server.rescue('rescue-usb')
        self.assertDisksInPlace(before, during)
        self.assertEqual('sda', during.labelled('LAB-RESCUE')[0].name)
        self.assertDisksInPlace(before, server.unrescue())

    def test_q35_cdrom(self):
        server, before = self.boot('base-q35')
        self.assertDisksInPlace(before, server.rescue('rescue-iso-sata'))
        self.assertDisksInPlace(before, server.unrescue())

    def test_twice(self):
        """A second rescue has nothing of the first."""
        server, before = self.boot()
        server.rescue('rescue-stable')
        server.unrescue()
        during = server.rescue('rescue-iso')
        self.assertEqual('sr0', during.labelled('LAB-RESCUE')[0].name)
        self.assertEqual(1, len(during.labelled('LAB-RESCUE')))
        self.assertDisksInPlace(before, server.unrescue())

    def test_stable_from_volume(self):
        """Stock rescues BFV servers with an image that has both."""
        server, before = self.boot_from_volume()
        during = server.rescue('rescue-stable')
        self.assertDisksInPlace(before, during)
        self.assertDisksInPlace(before, server.unrescue())

    def test_refused_from_volume(self):
        """... and with no other, nor without any."""
        server, before = self.boot_from_volume()
        for image in ('rescue', None):
            with self.subTest(image=image):
                self.assertRefused(400, 'Cannot rescue a volume-backed',
                                   server.ask_rescue, image)
        self.assertEqual('ACTIVE', server.status)
        self.assertDisksInPlace(before, server.report())
