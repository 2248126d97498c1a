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

"""What fails in the lab: each is aimed at a server, begins, and ends."""

import contextlib
import os
import signal

from tests.lab.cloud import hypervisor
from tests.lab.cloud import nova
from tests.lab.cloud import process
from tests.lab.cloud import settings


class Fault:
    """What fails.

    :cvar seconds: how long it lasts
    """

    seconds = 5

    def prepare(self):
        """Called before the server is made."""

    def aim(self, server):
        """Called before what the fault is to break begins."""

    def begin(self):
        raise NotImplementedError

    def end(self):
        pass

    def clean_up(self):
        """Called once the server is gone."""


def _side(server, destination):
    return server.other_host if destination else server.host


class Kill(Fault):
    """kill -9 of a service; it is started again five seconds later."""

    def __init__(self, name, on_host=False, destination=False):
        self.name = self.service = name
        self.on_host = on_host
        self.destination = destination

    def aim(self, server):
        if self.on_host:
            host = _side(server, self.destination)
            self.service = f'{self.name}-{host}'

    def begin(self):
        process.kill(self.service)

    def end(self):
        process.restart(self.service)
        if self.name in settings.PORTS:
            process.wait_port(self.name)


class KillQemu(Fault):
    """kill -9 of the server's own QEMU, which nobody starts again."""

    # nova-compute takes a guest that ended for stopped after 15.
    seconds = 20

    def __init__(self, destination=False):
        self.destination = destination

    def aim(self, server):
        self.server_id = server.id
        self.host = _side(server, self.destination)

    def begin(self):
        for guest in hypervisor.guests(self.server_id):
            if guest.host == self.host:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(guest.pid, signal.SIGKILL)


class Freeze(Fault):
    """A service that is there and does not answer."""

    def __init__(self, name):
        self.name = name

    def begin(self):
        process.kill(self.name, signal.SIGSTOP)

    def end(self):
        process.kill(self.name, signal.SIGCONT)


class Unplug(Fault):
    """A host's only network cable is pulled."""

    def __init__(self, destination=False):
        self.destination = destination

    def aim(self, server):
        self.cable = hypervisor.cable(_side(server, self.destination))

    def begin(self):
        hypervisor.ip('link', 'set', self.cable, 'down')

    def end(self):
        hypervisor.ip('link', 'set', self.cable, 'up')


class FillDisk(Fault):
    """No byte more fits where the hosts keep local disks.

    Each has a file system in memory there while the story lasts, which is
    made as small as what it holds: the machine's own disk is never full.
    """

    # Until what needs the disk has failed.
    seconds = 30

    def prepare(self):
        for host in settings.HYPERVISORS:
            process.run('mount', '-t', 'tmpfs', '-o', 'size=8g', 'tmpfs',
                        nova.INSTANCES, host=host)

    def begin(self):
        for host in settings.HYPERVISORS:
            process.wait_for(lambda: self._shrink(host),
                             f'the end of writing on {host}', 10)

    def end(self):
        for host in settings.HYPERVISORS:
            self._resize(host, '8g')

    def clean_up(self):
        for host in settings.HYPERVISORS:
            process.run('umount', '--lazy', nova.INSTANCES, host=host)

    def _shrink(self, host):
        """... unless something was written meanwhile."""
        used = process.run('df', '--output=used', nova.INSTANCES,
                           host=host).split()[-1]
        try:
            # A size of zero would be no limit.
            self._resize(host, f'{int(used) + 4}k')
        except process.LabError:
            return False
        return True

    @staticmethod
    def _resize(host, size):
        process.run('mount', '-o', f'remount,size={size}', nova.INSTANCES,
                    host=host)


ALL = {
    'nova_compute': Kill('nova-compute', on_host=True),
    'nova_compute_destination': Kill('nova-compute', on_host=True,
                                     destination=True),
    'libvirtd': Kill('libvirtd', on_host=True),
    'libvirtd_destination': Kill('libvirtd', on_host=True,
                                 destination=True),
    'qemu': KillQemu(),
    'qemu_destination': KillQemu(destination=True),
    'conductor': Kill('nova-conductor-cell1'),
    'super_conductor': Kill('nova-conductor'),
    'nova_api': Kill('nova-api'),
    'mariadb': Kill('mariadb'),
    'rabbit': Kill('rabbit'),
    'glance': Kill('glance'),
    'ceph': Freeze('ceph-osd'),
    'network': Unplug(),
    'network_destination': Unplug(destination=True),
    'full_disk': FillDisk(),
}
