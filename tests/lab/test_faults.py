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

"""kill -9, and worse, in the middle of what the package does.

After each: the server is there, no byte is lost, and it is in a state that
can be left, as the table says. What happened is written to a
table (doc/source/contributor/lab-faults.rst) when LAB_FAULTS_TABLE=1.
"""

import itertools
import os
import time

from tests.lab import base
from tests.lab.cloud import nova
from tests.lab.cloud import process
from tests.lab.cloud import settings
from tests.lab import fault_table
from tests.lab import faults

_TABLE = settings.CHECKOUT / 'doc/source/contributor/lab-faults.rst'
_ONE_HOST = ('nova_compute', 'libvirtd', 'qemu', 'conductor',
             'super_conductor', 'nova_api', 'mariadb', 'rabbit', 'glance',
             'ceph', 'network', 'full_disk')
STAGES = {
    'rescue': _ONE_HOST,
    'unrescue': _ONE_HOST,
    'migration': (
        'nova_compute', 'nova_compute_destination', 'libvirtd',
        'libvirtd_destination', 'qemu', 'qemu_destination', 'conductor',
        'super_conductor', 'mariadb', 'rabbit', 'network',
        'network_destination'),
    'rebuild': ('nova_api', 'conductor', 'super_conductor', 'mariadb',
                'rabbit'),
}
# What the cloud has to offer for a stage, where stock Nova is not enough.
VERSIONS = {'migration': base.MIGRATE, 'rebuild': base.REBUILD}
_DELETED = 'delete'
# After the call was accepted: before and while the host works on it.
MOMENTS = {'at_once': 0, 'later': 1.5}


class Faults(base.LabTest):

    def setUp(self):
        super().setUp()
        self.addCleanup(self._wait_for_cloud)

    def _wait_for_cloud(self):
        """The next story finds all services as they should be."""
        def are_up():
            try:
                services = list(self.admin.compute.services())
            except Exception:
                return False
            return all(service.state == 'up' for service in services)
        process.wait_for(are_up, 'all services of Nova', 300, 2)

    def _tell(self, stage, fault_name, moment):
        fault = faults.ALL[fault_name]
        self._prepare(fault)
        server, before, ask = getattr(self, f'_before_{stage}')(fault_name)
        outcome = ['lost', '-', 'no']
        self.addCleanup(_note, stage, fault_name, moment, outcome)
        fault.aim(server)
        ask()
        time.sleep(MOMENTS[moment])
        fault.begin()
        time.sleep(fault.seconds)
        fault.end()
        self._wait_for_cloud()
        status, task = self._settle(server)
        outcome[0] = f'{status}, {task}' if task else status
        outcome[1] = self._leave(server, status, task)
        if outcome[1] == _DELETED:
            # It never had a byte to lose.
            return
        after = server.wait_for_guest('base')
        if before:
            self.assertDisksInPlace(before, after)
        outcome[2] = 'yes'
        # Nothing of this is in the way of the next rescue.
        self.assertDisksInPlace(after, server.rescue('rescue-stable'))

    def _prepare(self, fault):
        fault.prepare()
        self.addCleanup(fault.clean_up)
        self.addCleanup(self._take_away)

    # -- a server, what its guest saw, and what the fault comes into

    def _before_rescue(self, fault):
        server, before = (self.boot_from_volume() if fault == 'ceph'
                          else self.boot())
        return server, before, lambda: server.ask_rescue(
            'rescue-stable', self._version())

    def _before_unrescue(self, fault):
        server, before, _ = self._before_rescue(fault)
        server.rescue('rescue-stable', self._version())
        return server, before, lambda: server.action(
            'unrescue', None, self._version())

    def _before_migration(self, fault):
        """The rescue system does not have the server's own disk."""
        server, before = self.boot()
        server.rescue('rescue', base.MIGRATE)
        return server, before, lambda: server.ask_live_migrate(base.MIGRATE)

    def _before_rebuild(self, fault):
        """There was no host for the server."""
        self.switch_hosts('disabled')
        self.addCleanup(self.switch_hosts, 'enabled')
        server = self.ask_boot()
        server.wait_for('ERROR')
        self.switch_hosts('enabled')
        return server, None, lambda: self._rebuild(server)

    @staticmethod
    def _rebuild(server):
        server.action('rebuild', {}, base.REBUILD)

    def _version(self):
        return base.RESCUE if self.is_with_package() else base.STOCK

    @staticmethod
    def _settle(server):
        """Wait for a state of rest; return it, or what it is stuck in."""
        state = None
        for _ in process.wait_steps(base.PATIENCE, 1):
            try:
                shown = server.show_as_admin()
            except base.Refused:
                # The services find each other again.
                continue
            state = shown['status'], shown['OS-EXT-STS:task_state']
            if state[0] != 'BUILD' and state[1] is None:
                break
        return state

    def _leave(self, server, status, task=None):
        """Leave a state as the owner can; return what it took."""
        if status == 'BUILD':
            return self._leave_build(server)
        if task:
            return self._leave_task(server)
        if status == 'RESCUE':
            server.unrescue()
            return 'unrescue'
        if status == 'SHUTOFF':
            server.start()
            return 'start'
        shown = server.show_as_admin()
        if status == 'ACTIVE' and shown['OS-EXT-STS:power_state'] == 1:
            return 'nothing'
        if shown['OS-EXT-SRV-ATTR:host'] is None:
            self._rebuild(server)
            server.wait_for('ACTIVE')
            return 'rebuild'
        server.action('reboot', {'type': 'HARD'})
        server.wait_for('ACTIVE')
        return 'hard reboot'

    def _leave_task(self, server):
        """What only the operator can: no service works on it any more."""
        server.action('os-resetState', {'state': 'error'}, who=self.admin)
        return 'reset state, ' + self._leave(server, 'ERROR')

    def _leave_build(self, server):
        """... as here; one that a host may have a guest of is not built."""
        process.run(settings.VENV / 'bin/nova-rescue-ext-manage',
                    'rebuild-interrupted', '--config-file', nova.CONF,
                    '--older-than', '1')
        if server.status == 'BUILD':
            server.action('os-resetState', {'state': 'error'},
                          who=self.admin)
            self.assertRefused(409, 'is still assigned to', self._rebuild,
                               server)
            server.delete()
            return _DELETED
        self._rebuild(server)
        server.wait_for('ACTIVE')
        return 'rebuild-interrupted, rebuild'


def _add(stage, fault, moment):
    def test(self):
        self._tell(stage, fault, moment)

    if stage in VERSIONS:
        test = base.with_version(VERSIONS[stage])(test)
    test.__doc__ = f'{fault} fails in {stage}, {moment}'
    setattr(Faults, f'test_{stage}_{fault}_{moment}', test)


for _stage, _names in STAGES.items():
    for _fault, _moment in itertools.product(_names, MOMENTS):
        _add(_stage, _fault, _moment)


def _note(stage, fault, moment, outcome):
    """Write an outcome to the table, if this run is to do so."""
    if os.environ.get('LAB_FAULTS_TABLE') == '1':
        fault_table.note(
            _TABLE, str(settings.Shape.current()),
            [word.replace('_', ' ') for word in (stage, fault, moment)],
            outcome)
