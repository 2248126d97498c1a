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

"""Hypervisors that differ: one is not upgraded yet.

The controllers have Nova 34 and the package.
"""

import unittest

from tests.lab import base
from tests.lab.cloud import install
from tests.lab.cloud import keystone
from tests.lab.cloud import logs
from tests.lab.cloud import nova
from tests.lab.cloud import resources
from tests.lab.cloud import settings
from tests.lab import evidence

OLDER, NEWER = settings.HYPERVISORS


def _switch(test_class, host, *args, **kwargs):
    """Another Nova on a host, for all stories of a class.

    :returns: what nova-compute has logged since
    """
    begin = logs.positions()
    test_class.addClassCleanup(nova.switch_host, host)
    nova.switch_host(host, *args, **kwargs)
    return ''.join(logs.lines_since(begin, f'nova-compute-{host}'))


class HostOnNova33(base.LabTest):
    """The older host has Nova 33. Both hosts have the package."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        venv = settings.older_venv('33')
        if not (venv / 'installed').exists():
            raise unittest.SkipTest(
                'Nova 33 is not installed: make lab-install OLDER=33')
        if not cls.is_with_package():
            raise unittest.SkipTest('the lab is up without the package')
        install.install_wheel(venv)
        log = _switch(cls, OLDER, venv=venv)
        if 'is active on Nova 33.' not in log:
            raise base.WentWrong('The package is not active on Nova 33.')

    def _rescued_on(self, host, image, volume=False, **more):
        """A server in rescue, what its guest saw, and its disks."""
        with self.only_on(host):
            server, before = (self.boot_from_volume() if volume
                              else self.boot(**more))
        self.assertEqual(host, server.host)
        server.stop()
        sums = evidence.disk_sums(server)
        server.start()
        server.rescue(image, base.MIGRATE)
        return server, before, sums

    def _move(self, server, sums):
        source, folder = server.host, server.folder
        server.live_migrate(base.MIGRATE, status='RESCUE')
        self.assertNotEqual(source, server.host)
        self.assertEqual(sums, evidence.disk_sums(server))
        if settings.Shape.current().profile != 'shared':
            self.assertFalse(folder.exists(), folder)

    def _unrescue(self, server, before):
        self.assertDisksInPlace(before, server.unrescue(base.MIGRATE))
        self.assertEqual([], evidence.rescue_leftovers(server))

    def _tell_of_both_ways(self, host, image, **more):
        """There and back, and there again to be unrescued there."""
        server, before, sums = self._rescued_on(host, image, **more)
        self._move(server, sums)
        self._move(server, sums)
        self._unrescue(server, before)
        server.rescue(image, base.MIGRATE)
        self._move(server, sums)
        self._unrescue(server, before)

    def test_legacy_from_the_older(self):
        self._tell_of_both_ways(OLDER, 'rescue', flavor='lab-disks',
                                config_drive=True)

    def test_stable_from_the_newer(self):
        self._tell_of_both_ways(NEWER, 'rescue-stable', flavor='lab-disks')

    def test_from_volume(self):
        self._tell_of_both_ways(OLDER, 'rescue', volume=True)

    def test_host_that_the_scheduler_chooses(self):
        server, before, sums = self._rescued_on(NEWER, 'rescue-stable')
        server.ask_live_migrate(base.MIGRATE, base.ANY_HOST)
        server.wait_for_migration()
        server.wait_for('RESCUE', host=OLDER)
        self.assertEqual(sums, evidence.disk_sums(server))
        self._unrescue(server, before)


class HostWithoutThePackage(base.LabTest):
    """The older host has Nova 34 as well, but not the package."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        if not cls.is_with_package():
            raise unittest.SkipTest('the lab is up without the package')
        cls.bob = keystone.connect(resources.MANAGER, resources.PROJECT)
        _switch(cls, OLDER, ext=False)

    def _rescued_on(self, host):
        with self.only_on(host):
            server, before = self.boot(flavor='lab-disks')
        self.assertEqual(host, server.host)
        return server, before, server.rescue('rescue-stable', base.MIGRATE)

    def _assert_untouched(self, server, during, host):
        shown = server.wait_for('RESCUE', host=host)
        self.assertIsNone(shown['OS-EXT-STS:task_state'])
        self.assertEqual(during.boot_id, server.report().boot_id)

    def _migrate_as_manager(self, server):
        """One who may not name a host, and is told of none."""
        server.action('os-migrateLive',
                      {'host': None, 'block_migration': 'auto'},
                      base.MIGRATE, who=self.bob)

    def _assert_says(self, words, text):
        """... and not where that is."""
        self.assertRegex(text, words)
        for host in settings.HYPERVISORS:
            self.assertNotIn(host, text)

    def test_is_the_destination(self):
        server, before, during = self._rescued_on(NEWER)
        self.assertRefused(
            400, f'The destination compute node {OLDER} does not support',
            server.ask_live_migrate, base.MIGRATE, OLDER)
        self._assert_untouched(server, during, NEWER)
        self.assertDisksInPlace(before, server.unrescue(base.MIGRATE))

    def test_is_the_only_destination(self):
        """Only the scheduler finds that out, after the answer."""
        server, before, during = self._rescued_on(NEWER)
        for ask in (lambda: server.ask_live_migrate(base.MIGRATE,
                                                    base.ANY_HOST),
                    lambda: self._migrate_as_manager(server)):
            server.note_migrations()
            ask()
            server.wait_for_migration_to_be('error', 'failed')
            self._assert_untouched(server, during, NEWER)
            self._assert_says('No destination compute node supports',
                              server.last_fault())
        self.assertDisksInPlace(before, server.unrescue(base.MIGRATE))

    def test_is_the_source(self):
        server, before, during = self._rescued_on(OLDER)
        self.assertRefused(
            400, f'The source compute node {OLDER} does not support',
            server.ask_live_migrate, base.MIGRATE, NEWER)
        refused = self.assertRefused(400, 'The source compute node does not',
                                     self._migrate_as_manager, server)
        self._assert_says('upgrade it, or unrescue', refused.words)
        self._assert_untouched(server, during, OLDER)
        self.assertDisksInPlace(before, server.unrescue(base.MIGRATE))

    def test_rescue_that_only_the_package_can(self):
        with self.only_on(OLDER):
            server, before = self.boot_from_volume()
        refused = self.assertRefused(400, 'compute-rescue', server.ask_rescue,
                                     'rescue', base.RESCUE)
        self._assert_says('ask the operator to upgrade', refused.words)
        self.assertRefused(
            400, f'its compute node {OLDER} does not serve', server.action,
            'rescue', {'rescue_image_ref': self.image('rescue')},
            base.RESCUE, self.admin)
        self.assertEqual('ACTIVE', server.status)
        self.assertEqual(before.boot_id, server.report().boot_id)

    def test_until_it_is_upgraded(self):
        """The refusal says to upgrade it; that is enough."""
        server, before, _ = self._rescued_on(NEWER)
        self.assertRefused(400, 'does not support', server.ask_live_migrate,
                           base.MIGRATE, OLDER)
        self.addCleanup(nova.switch_host, OLDER, ext=False)
        nova.switch_host(OLDER)
        server.live_migrate(base.MIGRATE, OLDER, status='RESCUE')
        self.assertDisksInPlace(before, server.unrescue(base.MIGRATE))
