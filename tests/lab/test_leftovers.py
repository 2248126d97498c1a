# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""Removal of the package: what rescues have left, and Nova's own commands."""

import json

from tests.lab import base
from tests.lab.cloud import nova
from tests.lab.cloud import process
from tests.lab.cloud import settings
from tests.lab import evidence


class Leftovers(base.LabTest):
    """Stock Nova boots a rescue disk that it finds on the host."""

    def setUp(self):
        super().setUp()
        if not self.is_with_package():
            self.skipTest('the lab is up without the package (EXT=0)')
        self.addCleanup(nova.switch_package, True)

    def _look(self, server, *argv):
        """Run the command on a server's host, as its nova-compute.

        :returns: what it prints, and its exit code in a line at the end
        """
        command = ' '.join(str(word) for word in (
            settings.VENV / 'bin/nova-rescue-ext-manage', 'rescue-leftovers',
            '--config-file', nova.compute_conf(server.host), '--older-than 1',
            *argv))
        return process.run('sh', '-c', f'{command}; echo exit $?',
                           host=server.host)

    def _leave(self, server):
        """What an operator meets who switches the package off too early."""
        server.action('unrescue')
        server.wait_for('ERROR')
        server.action('reboot', {'type': 'HARD'})
        server.wait_for('ACTIVE')
        server.wait_for_guest('base')

    @base.in_profiles('qcow2', 'raw', 'shared')
    def test_removed(self):
        """But not what a server in rescue needs."""
        left, before = self.boot()
        left.rescue('rescue-stable', base.RESCUE)
        in_rescue, before_it = self.boot()
        nova.switch_package(False)
        in_rescue.rescue('rescue-stable')
        needed = evidence.rescue_leftovers(in_rescue)
        self._leave(left)
        self.assertIn('disk.rescue', evidence.rescue_leftovers(left))
        self.assertRegex(self._look(left),
                         f'{left.id} .*disk.rescue .*left over(?s:.*)exit 1')
        self.assertIn('disk.rescue', evidence.rescue_leftovers(left))
        output = self._look(left, '--remove')
        self.assertRegex(
            output, f'{left.id} .*disk.rescue .*removed(?s:.*)exit 0')
        self.assertNotIn(in_rescue.id, output)
        self.assertEqual([], evidence.rescue_leftovers(left))
        self._look(in_rescue, '--remove')
        self.assertEqual(needed, evidence.rescue_leftovers(in_rescue))
        # The image that is asked for boots, and no disk is changed.
        self.assertDisksInPlace(before, left.rescue('rescue-stable'))
        self.assertDisksInPlace(before, left.unrescue())
        self.assertDisksInPlace(before_it, in_rescue.unrescue())

    @base.in_profiles('qcow2', 'raw')
    def test_server_that_is_off(self):
        """It may be in rescue elsewhere, so its files stay."""
        server, _ = self.boot()
        server.rescue('rescue', base.RESCUE)
        nova.switch_package(False)
        self._leave(server)
        server.stop()
        self.assertRegex(self._look(server, '--remove'),
                         'the server is off(?s:.*)exit 1')
        self.assertIn('disk.rescue', evidence.rescue_leftovers(server))


class NovaManage(base.LabTest):

    @base.with_package
    def test_json(self):
        """Nova's commands write to standard output what stock ones do."""
        for host in settings.HYPERVISORS:
            connector = json.loads(process.run(
                settings.VENV / 'bin/nova-manage', '--config-file',
                nova.compute_conf(host), 'volume_attachment',
                'get_connector', '--json', host=host))
            self.assertEqual(host, connector['host'])
