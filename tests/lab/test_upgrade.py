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

"""The package is switched on and off while servers are in rescue."""

from tests.lab import base
from tests.lab.cloud import nova
from tests.lab.cloud import process
from tests.lab.cloud import settings
from tests.lab import evidence


class Upgrade(base.LabTest):

    def setUp(self):
        super().setUp()
        if not self.is_with_package():
            self.skipTest('the lab is up without the package (EXT=0)')
        self.addCleanup(self._back)

    def _back(self):
        """Whatever a story did, the lab is as it was before it."""
        nova.switch_package(True)

    def test_rescued_by_stock_and_unrescued_by_package(self):
        nova.switch_package(False)
        stories = [(*self.boot(), 'rescue'),
                   (*self.boot(), 'rescue-stable'),
                   (*self.boot_from_volume(), 'rescue-stable')]
        for server, _, image in stories:
            server.rescue(image)
        nova.switch_package(True)
        for server, before, image in stories:
            with self.subTest(image=image):
                self.assertDisksInPlace(before, server.unrescue(base.RESCUE))
                self.assertEqual([], evidence.rescue_leftovers(server))

    def test_machine_type_that_stock_overwrote(self):
        """Stock Nova takes the rescue image's for the server's."""
        nova.switch_package(False)
        server, before = self.boot()
        q35 = self.make_image(like='rescue', hw_machine_type='q35')
        server.rescue(q35)
        self.assertMachine('q35', server)
        nova.switch_package(True)
        self.assertDisksInPlace(before, server.unrescue())
        self.assertMachine('i440fx', server)
        server.stop()
        self.assertDisksInPlace(before, server.start())
        self.assertMachine('i440fx', server)

    def test_rescued_by_stock_and_never_unrescued_by_package(self):
        """Stock Nova's file of the domain is kept for stock Nova."""
        nova.switch_package(False)
        server, before = self.boot()
        server.rescue('rescue-stable')
        nova.switch_package(True)
        nova.switch_package(False)
        self.assertDisksInPlace(before, server.unrescue())

    def test_rescued_by_package_and_left_to_stock(self):
        """Unrescue fails then, and a hard reboot repairs that."""
        stories = [(*self.boot(), 'rescue'),
                   (*self.boot(), 'rescue-stable'),
                   (*self.boot_from_volume(), 'rescue')]
        for server, _, image in stories:
            server.rescue(image, base.RESCUE)
        nova.switch_package(False)
        for server, before, image in stories:
            with self.subTest(image=image):
                self.assertEqual('RESCUE', server.status)
                server.action('unrescue')
                server.wait_for('ERROR')
                server.action('reboot', {'type': 'HARD'})
                server.wait_for('ACTIVE')
                self.assertDisksInPlace(before, server.wait_for_guest('base'))

    def test_rescued_once_it_is_on_again(self):
        """What a failed unrescue left is not in the next rescue's way."""
        server, before = self.boot()
        server.rescue('rescue', base.RESCUE)
        nova.switch_package(False)
        server.action('unrescue')
        server.wait_for('ERROR')
        server.action('reboot', {'type': 'HARD'})
        server.wait_for('ACTIVE')
        server.wait_for_guest('base')
        nova.switch_package(True)
        self.assertDisksInPlace(
            before, server.rescue('rescue-stable', base.RESCUE))
        self.assertDisksInPlace(before, server.unrescue(base.RESCUE))
        self.assertEqual([], evidence.rescue_leftovers(server))

    def test_hosts_are_switched_on_last(self):
        """A rescue is refused before that, and the server is not touched."""
        server, before = self.boot_from_volume()
        nova.switch_package(False, hosts_only=True)
        self.assertRefused(400, 'compute-rescue', server.ask_rescue,
                           'rescue', base.RESCUE)
        self.assertEqual('ACTIVE', server.status)
        nova.switch_package(True, hosts_only=True)
        self.assertDisksInPlace(before, server.rescue('rescue', base.RESCUE))
        self.assertDisksInPlace(before, server.unrescue(base.RESCUE))

    def test_clients_that_go_on_sending_the_header(self):
        server, before = self.boot_from_volume()
        nova.switch_package(False)
        self.assertRefused(400, 'Cannot rescue a volume-backed',
                           server.ask_rescue, 'rescue', base.RESCUE)
        self.assertEqual(before.boot_id, server.report().boot_id)

    def test_check_with_a_server_in_rescue(self):
        server, _ = self.boot()
        server.rescue('rescue', base.RESCUE)
        self.assertIn('Success', self._check())
        nova.switch_package(False)
        with self.assertRaisesRegex(process.LabError,
                                    '(?s)exited with 1.*does not switch'):
            self._check()

    @staticmethod
    def _check():
        return process.run(
            settings.VENV / 'bin/nova-rescue-ext-status', '--config-file',
            nova.CONF, 'upgrade', 'check')

    def assertMachine(self, machine, server):
        self.assertRegex(server.domain_xml(), f"machine='[^']*{machine}")
