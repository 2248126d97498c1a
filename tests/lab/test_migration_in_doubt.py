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

"""Live migration of rescued servers when something comes in between."""

import contextlib
import signal

from tests.lab import base
from tests.lab.cloud import hypervisor
from tests.lab.cloud import process
from tests.lab import evidence


class MigrationInDoubt(base.LabTest):

    def setUp(self):
        super().setUp()
        if not self.is_with_package():
            self.skipTest('the lab is up without the package (EXT=0)')
        self.get('/servers', base.MIGRATE)

    def _rescued(self, volume=False):
        """A server in a legacy rescue, what its guest saw, its disks."""
        server, before = self.boot(flavor='lab-disks', config_drive=True)
        if volume:
            self.attached = self.volume()
            server.attach(self.attached)
            server.stop()
            before = server.start()
        server.stop()
        sums = evidence.disk_sums(server)
        server.start()
        server.rescue('rescue', base.MIGRATE)
        return server, before, sums

    def _end(self, server, before, sums, host):
        """All is as after any migration to this host."""
        server.wait_for('RESCUE', host=host)
        self.assertEqual(sums, evidence.disk_sums(server))
        self.assertEqual([], list(server.folder.parent.glob('rescue_ext_*')))
        self.assertDisksInPlace(before, server.unrescue(base.MIGRATE))
        self.assertEqual([], evidence.rescue_leftovers(server))

    @contextlib.contextmanager
    def _stopped(self, service):
        """A service that is there and does not answer."""
        process.kill(service, signal.SIGSTOP)
        try:
            yield
        finally:
            process.kill(service, signal.SIGCONT)

    def _wait_for_services(self):
        process.wait_for(
            lambda: all(service.state == 'up' for service
                        in self.admin.compute.services()),
            'all services of Nova', base.PATIENCE, 2)

    def test_copy_that_outlives_its_call(self):
        """The source has given up; a second attempt to the same host."""
        server, before, sums = self._rescued()
        destination = server.other_host
        with hypervisor.slow(destination, '4mbit'):
            server.ask_live_migrate(base.MIGRATE, destination)
            server.wait_for_migration_to_be('preparing')
            with self._stopped(f'nova-compute-{destination}'):
                server.wait_for_migration_to_be('error', 'failed')
                server.wait_for('RESCUE')
        self._wait_for_services()
        server.live_migrate(base.MIGRATE, destination, status='RESCUE')
        self._end(server, before, sums, destination)

    def test_rotated_console_logs(self):
        """A tenant fills them; nobody but root may read them."""
        server, before, sums = self._rescued()
        for name in ('console.log.0', 'console.log.1'):
            (server.folder / name).write_text('a tenant says much')
            (server.folder / name).chmod(0)
        server.live_migrate(base.MIGRATE, status='RESCUE')
        self.assertEqual([], list(server.folder.glob('console.log.*')))
        self._end(server, before, sums, server.host)

    def test_nova_compute_ends_while_the_guest_moves(self):
        """It ends by itself, with one attachment, where the guest is."""
        server, before, sums = self._rescued(volume=True)
        source, destination = server.host, server.other_host
        with hypervisor.slow(destination, '40mbit'):
            server.ask_live_migrate(base.MIGRATE)
            server.wait_for_migration_to_be('running')
            process.kill(f'nova-compute-{source}')
            process.restart(f'nova-compute-{source}')
        host = server.wait_for('RESCUE')['OS-EXT-SRV-ATTR:host']
        self.assertEqual([host], [
            attachment['host_name'] for attachment
            in self.admin.block_storage.get_volume(self.attached).attachments])
        # What is left on the other host is the operator's to look at.
        process.run('rm', '-rf', self._folder_on(
            source if host == destination else destination, server))
        server.live_migrate(base.MIGRATE, status='RESCUE')
        self._end(server, before, sums, server.host)

    @staticmethod
    def _folder_on(host, server):
        return base.settings.DATA / host / 'instances' / server.id

    def test_neutron_is_away_after_the_move(self):
        server, before, sums = self._rescued()
        destination, domain = server.other_host, server.domain
        with hypervisor.slow(destination, '40mbit'):
            server.ask_live_migrate(base.MIGRATE)
            server.wait_for_migration_to_be('running')
            process.kill('neutron')
        try:
            process.wait_for(
                lambda: domain in hypervisor.virsh(
                    destination, 'list', '--state-running', '--name').split(),
                'the guest on the destination', base.PATIENCE, 1)
        finally:
            process.restart('neutron')
            process.wait_port('neutron')
        self._end(server, before, sums, destination)
