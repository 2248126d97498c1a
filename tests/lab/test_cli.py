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

"""The openstack command line, as a user would type it."""

import json

from tests.lab import base
from tests.lab.commands import manage
from tests.lab.commands import openstack
from tests.lab.commands import opted_in


class CommandLine(base.LabTest):

    def test_rescue_and_unrescue(self):
        server, before = self.boot()
        openstack('server', 'rescue', '--image',
                  self.image('rescue-stable'), server.id)
        server.wait_for('RESCUE')
        self.assertDisksInPlace(before, server.wait_for_guest('rescue'))
        shown = json.loads(openstack('server', 'show', server.id, '-f',
                                     'json'))
        self.assertEqual('RESCUE', shown['status'])
        openstack('server', 'unrescue', server.id)
        server.wait_for('ACTIVE')
        after = server.wait_for_guest('base', after=before.boot_id)
        self.assertDisksInPlace(before, after)


class OptingIn(base.LabTest):
    """The plugin of the openstack command, and nothing else."""

    @base.with_package
    def test_version(self):
        self.assertIn('max_version', openstack(
            'compute', 'rescue', 'version', 'show', '-f', 'json'))

    @base.with_package
    def test_boot_from_volume(self):
        server, before = self.boot_from_volume()
        self.assertIn('Password: ', opted_in(
            '1.1', 'server', 'rescue', '--wait', '--image',
            self.image('rescue'), server.id))
        self.assertDisksInPlace(before, server.wait_for_guest('rescue'))
        opted_in('1.1', 'server', 'unrescue', '--wait', server.id)
        after = server.wait_for_guest('base', after=before.boot_id)
        self.assertDisksInPlace(before, after)

    @base.with_package
    def test_live_migration_in_rescue(self):
        self.get('/servers', base.MIGRATE)
        server, before = self.boot(flavor='lab-disks')
        server.rescue('rescue-stable', base.MIGRATE)
        source = server.host
        self.assertIn('Complete', opted_in(
            '1.3', 'server', 'migrate', '--live-migration', '--wait',
            server.id))
        self.assertNotEqual(source, server.host)
        opted_in('1.1', 'server', 'unrescue', '--wait', server.id)
        after = server.wait_for_guest('base', after=before.boot_id)
        self.assertDisksInPlace(before, after)

    @base.with_package
    def test_rebuild_of_a_server_that_never_booted(self):
        self.get('/servers', base.REBUILD)
        self.switch_hosts('disabled')
        self.addCleanup(self.switch_hosts, 'enabled')
        server = self.ask_boot()
        server.wait_for('ERROR')
        self.switch_hosts('enabled')
        rebuilt = json.loads(openstack(
            'compute', 'rescue', 'rebuild', '--wait', '-f', 'json',
            server.id))
        self.assertEqual((server.id, 'ACTIVE'),
                         (rebuilt['id'], rebuilt['status']))


class Operator(base.LabTest):

    @base.with_package
    def test_migrate_rescued(self):
        self.get('/servers', base.MIGRATE)
        server, before = self.boot(flavor='lab-disks')
        server.rescue('rescue-stable', base.MIGRATE)
        source = server.host
        self.assertIn(server.id, manage('migrate-rescued', source,
                                        '--dry-run'))
        self.assertIn('1 moved', manage('migrate-rescued', source))
        self.assertNotEqual(source, server.host)
        self.assertDisksInPlace(before, server.unrescue(base.MIGRATE))

    @base.with_package
    def test_rebuild_failed(self):
        self.get('/servers', base.REBUILD)
        self.switch_hosts('disabled')
        self.addCleanup(self.switch_hosts, 'enabled')
        server = self.ask_boot()
        server.wait_for('ERROR')
        self.switch_hosts('enabled')
        output = manage('rebuild-failed', '--failed-before',
                        '2100-01-01T00:00:00')
        self.assertIn('1 ACTIVE', output)
        self.assertIn(server.id, output)
        server.wait_for_guest('base')
