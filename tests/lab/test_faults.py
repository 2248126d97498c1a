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

"""kill -9, and worse, in the middle of a rescue and of an unrescue.

After each: the server is there, no byte is lost, and it is in a state that
its owner can leave with a call of the API. What happened is written to a
table (doc/source/contributor/lab-faults.rst) when LAB_FAULTS_TABLE=1.
"""

import itertools
import os
import pathlib
import signal
import time

from tests.lab import base
from tests.lab.cloud import hypervisor
from tests.lab.cloud import process
from tests.lab.cloud import settings

_TABLE = settings.CHECKOUT / 'doc/source/contributor/lab-faults.rst'
_OUTCOMES = {}


class _Kill:
    """kill -9 of a service; it is started again five seconds later."""

    def __init__(self, name, on_host=False):
        self.name = name
        self.on_host = on_host

    def begin(self, server):
        self.service = (f'{self.name}-{server.host}' if self.on_host
                        else self.name)
        process.kill(self.service)

    def end(self, server):
        process.restart(self.service)
        if self.name in settings.PORTS:
            process.wait_port(self.name)


class _KillQemu:
    """kill -9 of the server's own QEMU, which nobody starts again."""

    def begin(self, server):
        name = f'guest={server.domain},'.encode()
        for path in pathlib.Path('/proc').glob('[0-9]*/cmdline'):
            try:
                if name in path.read_bytes():
                    os.kill(int(path.parent.name), signal.SIGKILL)
            except (FileNotFoundError, ProcessLookupError):
                pass

    def end(self, server):
        pass


class _Freeze:
    """A service that is there and does not answer."""

    def __init__(self, name):
        self.name = name

    def begin(self, server):
        process.kill(self.name, signal.SIGSTOP)

    def end(self, server):
        process.kill(self.name, signal.SIGCONT)


class _Unplug:
    """The host's only network cable is pulled for five seconds."""

    def begin(self, server):
        self.cable = hypervisor.cable(server.host)
        hypervisor.ip('link', 'set', self.cable, 'down')

    def end(self, server):
        hypervisor.ip('link', 'set', self.cable, 'up')


FAULTS = {
    'nova_compute': _Kill('nova-compute', on_host=True),
    'libvirtd': _Kill('libvirtd', on_host=True),
    'qemu': _KillQemu(),
    'conductor': _Kill('nova-conductor-cell1'),
    'super_conductor': _Kill('nova-conductor'),
    'nova_api': _Kill('nova-api'),
    'mariadb': _Kill('mariadb'),
    'rabbit': _Kill('rabbit'),
    'glance': _Kill('glance'),
    'ceph': _Freeze('ceph-osd'),
    'network': _Unplug(),
}
STAGES = ('rescue', 'unrescue')
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

    def _tell(self, stage, fault, moment):
        server, before = self.boot_from_volume() if fault == 'ceph' \
            else self.boot()
        outcome = ['lost', '-', 'no']
        _OUTCOMES[stage, fault, moment] = outcome
        if stage == 'unrescue':
            server.rescue('rescue-stable', self._version())
            server.action('unrescue', None, self._version())
        else:
            server.ask_rescue('rescue-stable', self._version())
        time.sleep(MOMENTS[moment])
        FAULTS[fault].begin(server)
        time.sleep(5)
        FAULTS[fault].end(server)
        self._wait_for_cloud()
        outcome[0] = status = self._settle(server)
        outcome[1] = self._leave(server, status)
        after = server.wait_for_guest('base')
        self.assertDisksInPlace(before, after)
        outcome[2] = 'yes'
        # Nothing of this rescue is in the way of the next.
        self.assertDisksInPlace(before, server.rescue('rescue-stable'))

    def _version(self):
        return base.RESCUE if self.is_with_package() else base.STOCK

    @staticmethod
    def _settle(server):
        """Wait for a state of rest and return it."""
        seen = []
        for _ in process.wait_steps(base.PATIENCE, 1):
            try:
                shown = server.show_as_admin()
            except base.Refused as refused:
                # The services find each other again.
                seen.append(str(refused))
                continue
            task = shown['OS-EXT-STS:task_state']
            if task is None:
                return shown['status']
            seen.append(f'{shown["status"]}/{task}')
        raise base.WentWrong(f'{server.id} is stuck: {seen[-1]}')

    @staticmethod
    def _leave(server, status):
        """Leave a state as the owner can; return what it took."""
        if status == 'RESCUE':
            server.unrescue()
            return 'unrescue'
        if status == 'SHUTOFF':
            server.start()
            return 'start'
        if status == 'ACTIVE':
            shown = server.show_as_admin()
            if shown['OS-EXT-STS:power_state'] == 1:
                return 'nothing'
        server.action('reboot', {'type': 'HARD'})
        server.wait_for('ACTIVE')
        return 'hard reboot'


def _add(stage, fault, moment):
    def test(self):
        self._tell(stage, fault, moment)

    test.__doc__ = f'{fault} fails in {stage}, {moment}'
    setattr(Faults, f'test_{stage}_{fault}_{moment}', test)


for _names in itertools.product(STAGES, FAULTS, MOMENTS):
    _add(*_names)


def tearDownModule():
    if os.environ.get('LAB_FAULTS_TABLE') == '1' and _OUTCOMES:
        _write_table()


def _write_table():
    shape = settings.Shape.current()
    lines = [
        'Faults and what became of the server', '=' * 36, '',
        f'Written by ``make lab-faults`` with ``{shape}``.', '',
        '.. list-table::', '   :header-rows: 1', '',
        '   * - During', '     - Fault', '     - When', '     - State after',
        '     - Left by', '     - Disks whole']
    for (stage, fault, moment), outcome in sorted(_OUTCOMES.items()):
        cells = [stage, fault.replace('_', '-'), moment.replace('_', ' '),
                 *outcome]
        lines.append(f'   * - {cells[0]}')
        lines += [f'     - {cell}' for cell in cells[1:]]
    _TABLE.parent.mkdir(parents=True, exist_ok=True)
    _TABLE.write_text('\n'.join(lines) + '\n')
