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

"""Live migration, of servers that run and of servers that are rescued."""

import itertools

from tests.lab import base
from tests.lab.cloud import hypervisor
from tests.lab.cloud import settings
from tests.lab import evidence


class LiveMigration(base.LabTest):

    def test_active(self):
        server, before = self.boot()
        source = server.folder
        server.live_migrate()
        self.assertAlive(server)
        if settings.Shape.current().profile != 'shared':
            self.assertFalse(source.exists(), source)
        server.stop()
        self.assertDisksInPlace(before, server.start())

    def test_active_from_volume(self):
        server, before = self.boot_from_volume()
        server.live_migrate()
        self.assertAlive(server)
        server.stop()
        self.assertDisksInPlace(before, server.start())

    def test_there_and_back(self):
        server, before = self.boot()
        server.live_migrate()
        server.live_migrate()
        self.assertAlive(server)
        server.stop()
        self.assertDisksInPlace(before, server.start())

    def test_rescued_is_refused_by_stock(self):
        server, before = self.boot()
        server.rescue('rescue-stable')
        self.assertRefused(409, 'while it is in vm_state rescued',
                           server.live_migrate)
        self.assertDisksInPlace(before, server.unrescue())

    def assertAlive(self, server):
        """The console begins there; the guest goes on."""
        first = server.report_after_move().ticks
        base.process.wait_for(
            lambda: server.report_after_move().ticks > first,
            f'a tick of the guest of {server.id}', base.PATIENCE, 1)


class LiveMigrationOfRescued(base.LabTest):
    """The matrix: a method for each mode and each kind of disk."""

    RESCUE_IMAGES = {'legacy': 'rescue', 'stable': 'rescue-stable',
                     'cdrom': 'rescue-iso'}
    # What the server has: (how it is booted, rescue image if a special one)
    SERVERS = {
        'root': {},
        'config_drive': {'config_drive': True},
        'ephemeral_and_swap': {'flavor': 'lab-disks'},
        'volume': {'volume': True},
        'kernel': {'image': 'base-kernel'},
        'from_volume': {'from_volume': True},
    }

    def _make(self, from_volume=False, volume=False, **more):
        if from_volume:
            server, report = self.boot_from_volume(**more)
        else:
            server, report = self.boot(**more)
        if volume:
            # Marked, as all disks are, by a guest that boots with it.
            server.attach(self.volume())
            server.stop()
            report = server.start()
        server.stop()
        return server, report

    def _tell(self, mode, kind):
        # A cloud that does not have it says so before anything is built.
        self.get('/servers', base.MIGRATE)
        server, before = self._make(**self.SERVERS[kind])
        image = self.RESCUE_IMAGES[mode]
        if kind == 'kernel':
            image += '-kernel'
        sums = evidence.disk_sums(server)
        server.start()
        source = server.folder
        server.rescue(image, base.MIGRATE)
        server.live_migrate(base.MIGRATE, status='RESCUE')
        self.assertEqual(sums, evidence.disk_sums(server))
        if settings.Shape.current().profile != 'shared':
            self.assertFalse(source.exists(), source)
        after = server.unrescue(base.MIGRATE)
        self.assertDisksInPlace(before, after)
        self.assertEqual([], evidence.rescue_leftovers(server))


def _add(mode, kind):
    @base.with_package
    def test(self):
        self._tell(mode, kind)

    test.__doc__ = f'{mode} rescue of a server with {kind}'
    setattr(LiveMigrationOfRescued, f'test_{mode}_{kind}', test)


for _mode, _kind in itertools.product(
        LiveMigrationOfRescued.RESCUE_IMAGES, LiveMigrationOfRescued.SERVERS):
    if (_mode, _kind) != ('cdrom', 'kernel'):
        _add(_mode, _kind)


class LiveMigrationOfRescuedAtWork(base.LabTest):
    """What happens to a rescued server before, during and after a move."""

    def setUp(self):
        super().setUp()
        if self.is_with_package():
            # A cloud that does not have it says so at once.
            self.get('/servers', base.MIGRATE)

    def _tell_of_twice(self, image):
        server, before = self.boot(flavor='lab-disks', config_drive=True)
        server.stop()
        sums = evidence.disk_sums(server)
        server.start()
        server.rescue(image, base.MIGRATE)
        for _ in range(4):
            server.live_migrate(base.MIGRATE, status='RESCUE')
            self.assertEqual(sums, evidence.disk_sums(server))
        self.assertDisksInPlace(before, server.unrescue(base.MIGRATE))
        self.assertEqual([], evidence.rescue_leftovers(server))

    @base.with_package
    def test_there_and_back_twice_legacy(self):
        self._tell_of_twice('rescue')

    @base.with_package
    def test_there_and_back_twice_stable(self):
        self._tell_of_twice('rescue-stable')

    @base.with_package
    def test_there_and_back_twice_cdrom(self):
        self._tell_of_twice('rescue-iso')

    def _tell_of_writer(self, image, flavor='lab', **more):
        """The rescue guest writes block after block while it moves."""
        server, before = self.boot(flavor=flavor, config_drive=True,
                                   metadata={'labwrite': 'yes'}, **more)
        server.rescue(image, base.MIGRATE)
        synced = self._wait_for_blocks(server.report, more_than=0)
        server.live_migrate(base.MIGRATE, status='RESCUE')
        # It goes on with it there.
        synced = self._wait_for_blocks(server.report_after_move, synced)
        synced = self._wait_for_blocks(server.report_after_move, synced)
        after = server.unrescue(base.MIGRATE)
        self.assertDisksInPlace(before, after)
        self.assertNotEqual({}, after.blocks)
        for mark, (count, last) in after.blocks.items():
            self.assertEqual(count, last, f'{mark}: blocks are missing')
            self.assertGreaterEqual(last, synced, f'{mark}: the last ones')
        return before, after

    def _wait_for_blocks(self, report, more_than):
        """Wait until a block after this one is on the disks."""
        def number():
            synced = report().synced
            return synced > more_than and synced
        return base.process.wait_for(number, f'a block after {more_than}',
                                     base.PATIENCE, 1)

    @base.with_package
    def test_writer_legacy(self):
        """It has the server's root disk, and no other."""
        _, after = self._tell_of_writer('rescue', 'lab-disks')
        self.assertEqual(1, len(after.blocks))

    @base.with_package
    def test_writer_stable(self):
        before, after = self._tell_of_writer('rescue-stable', 'lab-disks')
        self.assertEqual(set(before.marks), set(after.blocks))

    @base.with_package
    def test_writer_cdrom(self):
        before, after = self._tell_of_writer('rescue-iso', 'lab-disks')
        self.assertEqual(set(before.marks), set(after.blocks))

    @base.with_package
    def test_delete_meanwhile(self):
        """Nova would leave disks and allocations on the other host."""
        server, _ = self.boot(flavor='lab-disks', config_drive=True)
        server.rescue('rescue-stable', base.MIGRATE)
        domain, destination = server.domain, server.other_host
        with hypervisor.slow(destination, '40mbit'):
            server.ask_live_migrate(base.MIGRATE)
            server.wait_for_migration_to_be('running')
            self.assertRefused(409, 'migrat', server.ask_delete)
        server.wait_for_migration()
        server.wait_for('RESCUE', host=destination)
        server.delete()
        self.assertEqual([], evidence.traces(server.id, domain))
