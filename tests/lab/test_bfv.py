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

"""Rescue of servers whose root disk is a volume (compute-rescue 1.1)."""

import uuid

from tests.lab import base


class RescueFromVolume(base.LabTest):

    @base.with_package
    def test_image_without_properties(self):
        server, before = self.boot_from_volume()
        during = server.rescue('rescue', base.RESCUE)
        self.assertDisksInPlace(before, during)
        self.assertEqual('vdb', during.labelled('LAB-RESCUE')[0].name)
        after = server.unrescue(base.RESCUE)
        self.assertDisksInPlace(before, after)
        self.assertEqual(len(before.disks), len(after.disks))

    @base.with_package
    def test_data_volume_and_config_drive_stay(self):
        server, _ = self.boot_from_volume(config_drive=True)
        server.attach(self.volume())
        server.stop()
        before = server.start()
        self.assertEqual(2, len(before.marks), before)
        during = server.rescue('rescue', base.RESCUE)
        self.assertDisksInPlace(before, during)
        self.assertEqual(server.id, during.config_drive['uuid'])
        self.assertDisksInPlace(before, server.unrescue(base.RESCUE))

    @base.with_package
    def test_without_image(self):
        """The image that the root volume was made from."""
        server, before = self.boot_from_volume()
        self._rescue_with_own_image(server, before)

    @base.with_package
    def test_without_image_from_existing_volume(self):
        """Only the volume knows its image: volume_image_metadata."""
        volume = self.volume(image_id=self.image('base'))
        server, before = self.boot_from_volume(volume=volume)
        self._rescue_with_own_image(server, before)

    def _rescue_with_own_image(self, server, before):
        during = server.rescue(None, base.RESCUE, role='base')
        self.assertDisksInPlace(before, during)
        # Root and rescue disk are twins but for the mark.
        self.assertEqual(2, len(during.labelled('LAB-BASE')), during)
        self.assertDisksInPlace(before, server.unrescue(base.RESCUE))

    @base.with_package
    def test_refused_without_a_record_of_an_image(self):
        volume = self.volume(image_id=self.image('base'))
        server, before = self.boot_from_volume(volume=volume)
        self.volume_action(volume, 'os-unset_image_metadata',
                           {'key': 'image_id'})
        self.assertRefused(400, 'no record of an image', server.ask_rescue,
                           None, base.RESCUE)
        self.assertUntouched(server, before)

    @base.with_package
    def test_refused_with_an_image_of_somebody_else(self):
        """Volume metadata are a claim; the answer tells nothing of it."""
        secret = self.make_image(like='rescue', who=self.admin,
                                 visibility='private')
        missing = str(uuid.uuid4())
        volume = self.volume(image_id=self.image('base'))
        server, before = self.boot_from_volume(volume=volume)
        words = []
        for claim in (secret, missing):
            self.volume_action(volume, 'os-set_image_metadata',
                               {'metadata': {'image_id': claim}})
            refused = self.assertRefused(
                400, 'Cannot|cannot', server.ask_rescue, None, base.RESCUE)
            words.append(refused.words.replace(claim, 'IMAGE'))
            # ... and the same when it is asked for directly.
            self.assertRefused(400, 'annot', server.ask_rescue, claim,
                               base.RESCUE)
        self.assertEqual(words[0], words[1])
        self.assertUntouched(server, before)

    def test_stock_below_the_versions(self):
        server, before = self.boot_from_volume()
        for version in ('compute 2.95', 'compute 2.1',
                        'compute 2.95, compute-rescue 1.0',
                        'compute 2.86, compute-rescue 1.1'):
            if 'rescue' in version and not self.is_with_package():
                continue
            with self.subTest(version=version):
                self.assertRefused(400, 'Cannot rescue a volume-backed',
                                   server.ask_rescue, 'rescue', version)
        self.assertUntouched(server, before)

    def assertUntouched(self, server, before):
        self.assertEqual('ACTIVE', server.status)
        self.assertEqual(before.boot_id, server.report().boot_id)
