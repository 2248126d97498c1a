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

"""Servers that UEFI boots: they have variables to lose, too.

Their guest writes one into the firmware's memory at its first boot.
"""

from tests.lab import base


class Uefi(base.LabTest):

    def boot_uefi(self, **more):
        server, report = self.boot('base-uefi', 'lab-uefi', **more)
        self.assertIn('OVMF', server.domain_xml())
        self.assertRegex(report.variable, '^[0-9a-f-]{36}$')
        return server, report

    def assertKept(self, before, after):
        self.assertDisksInPlace(before, after)
        self.assertEqual(before.variable, after.variable)

    def test_boot(self):
        server, before = self.boot_uefi()
        server.stop()
        self.assertKept(before, server.start())

    def test_stable(self):
        server, before = self.boot_uefi()
        self.assertKept(before, server.rescue('rescue-uefi'))
        self.assertKept(before, server.unrescue())

    def test_legacy(self):
        server, before = self.boot_uefi()
        during = server.rescue('rescue-uefi-legacy')
        self.assertDisksKept(before, during)
        self.assertEqual(before.variable, during.variable)
        self.assertKept(before, server.unrescue())

    def test_rescue_image_is_bios(self):
        server, before = self.boot_uefi()
        during = server.rescue('rescue')
        self.assertDisksKept(before, during)
        self.assertIsNone(during.variable)
        self.assertKept(before, server.unrescue())

    @base.with_package
    def test_migration_is_refused_if_rescue_image_is_bios(self):
        """The variables would stay behind."""
        server, before = self.boot_uefi()
        server.rescue('rescue', base.MIGRATE)
        host = server.host
        server.ask_live_migrate(base.MIGRATE)
        server.wait_for_migration_to_be('error', 'failed')
        self.assertIn('UEFI', server.last_fault())
        server.wait_for('RESCUE', host=host)
        self.assertKept(before, server.unrescue(base.MIGRATE))

    def _tell_of_migration(self, image):
        server, before = self.boot_uefi()
        server.rescue(image, base.MIGRATE)
        server.live_migrate(base.MIGRATE, status='RESCUE')
        self.assertKept(before, server.unrescue(base.MIGRATE))

    @base.with_package
    def test_migration_legacy(self):
        self._tell_of_migration('rescue-uefi-legacy')

    @base.with_package
    def test_migration_stable(self):
        self._tell_of_migration('rescue-uefi')
