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

"""What a guest of the lab sees without any rescue.

If one of these fails, look at the lab before you look at the package.
"""

from tests.lab import base


class Boot(base.LabTest):

    def test_from_image(self):
        server, report = self.boot()
        self.assertEqual('base', report.role)
        (root,) = report.disks
        self.assertEqual(('vda', 1 << 30), (root.name, root.size))
        self.assertIn(root.mark, server.console())

    def test_marks_stay(self):
        """Nothing but a mark's own bytes would pass for the mark."""
        server, before = self.boot()
        server.stop()
        after = server.start()
        self.assertNotEqual(before.boot_id, after.boot_id)
        self.assertDisksInPlace(before, after)
        self.assertNotIn('LAB marked', str(after))

    def test_from_volume(self):
        _, report = self.boot_from_volume()
        (root,) = report.disks
        self.assertEqual('vda', root.name)
        self.assertRegex(root.serial, '^[0-9a-f-]{20}$')

    def test_with_all_disks(self):
        """Ephemeral disk, swap, config drive and a volume."""
        server, before = self.boot(flavor='lab-disks', config_drive=True)
        self.assertEqual(3, len(before.marks), before)
        self.assertEqual(server.id, before.config_drive['uuid'])
        volume = self.volume()
        server.attach(volume)
        server.stop()
        after = server.start()
        self.assertDisksInPlace(before, after)
        self.assertEqual(4, len(after.marks), after)
        self.assertIn(volume[:20], [disk.serial for disk in after.disks])

    def test_q35(self):
        server, report = self.boot('base-q35')
        self.assertIn('q35', server.domain_xml())
        self.assertEqual('base', report.role)

    def test_scsi(self):
        _, report = self.boot('base-scsi')
        (root,) = report.disks
        self.assertEqual('sda', root.name)

    def test_own_kernel(self):
        server, report = self.boot('base-kernel')
        self.assertIn('<kernel>', server.domain_xml())
        self.assertEqual('base', report.role)
