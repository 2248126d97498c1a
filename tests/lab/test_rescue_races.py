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


"""Rescue and unrescue while others act on the server."""

import contextlib
import fcntl
import hashlib
import signal

from tests.lab import base
from tests.lab.cloud import glance
from tests.lab.cloud import hypervisor
from tests.lab.cloud import logs
from tests.lab.cloud import process
from tests.lab import evidence


class RescueRaces(base.LabTest):

    @contextlib.contextmanager
    def _in_download(self, server, image):
        """A rescue that downloads its image for as long as this lasts.

        Nova fetches no image while another process holds its lock.
        """
        name = 'nova-' + hashlib.sha1(image.encode()).hexdigest()
        with open(server.folder.parent / 'locks' / name, 'a') as lock:
            fcntl.lockf(lock, fcntl.LOCK_EX)
            server.ask_rescue(image, base.RESCUE)
            self._wait_for_line(server.host, server.id, 'Creating image(s)')
            yield

    def _wait_for_line(self, host, *words):
        process.wait_for(
            lambda: any(all(word in line for word in words)
                        for line in logs.lines_since(
                            self._log_positions, f'nova-compute-{host}')),
            f'{words} in the log', base.PATIENCE, 0.5)

    @contextlib.contextmanager
    def _frozen(self, host):
        """The messages to a host wait in their queue."""
        service = f'nova-compute-{host}'
        process.kill(service, signal.SIGSTOP)
        try:
            yield
        finally:
            process.kill(service, signal.SIGCONT)

    def _reset(self, server, state):
        server.action('os-resetState', {'state': state}, who=self.admin)

    def _hard_reboot(self, server):
        after = server.report().boot_id
        server.action('reboot', {'type': 'HARD'})
        server.wait_for('ACTIVE')
        return server.wait_for_guest('base', after=after)

    def _assert_no_trace(self, server, domain, host):
        self._wait_for_line(host, server.id,
                            'Error trying to Rescue Instance')
        self.assertEqual([], evidence.traces(server.id, domain))

    @base.in_profiles('qcow2', 'raw', 'rbd')
    @base.with_package
    def test_deleted_during_the_download(self):
        """A DELETE waits for nothing, and nothing comes back."""
        server, _ = self.boot()
        domain, host = server.domain, server.host
        with self._in_download(server, self.make_image(like='rescue')):
            server.delete()
        self._assert_no_trace(server, domain, host)

    @base.in_profiles('qcow2', 'raw')
    @base.with_package
    def test_deleted_during_a_download_that_fails(self):
        """The way back starts no guest."""
        server, _ = self.boot()
        domain, host = server.domain, server.host
        image = self.make_image(like='rescue')
        glance.lose_data(image)
        with self._in_download(server, image):
            server.delete()
        self._assert_no_trace(server, domain, host)

    @base.in_profiles('qcow2', 'raw', 'rbd')
    @base.with_package
    def test_reset_during_the_download(self):
        """What runs is what the API says."""
        server, before = self.boot()
        with self._in_download(server, self.make_image(like='rescue')):
            self._reset(server, 'active')
        self._wait_for_line(server.host, server.id,
                            'Error trying to Rescue Instance')
        server.wait_for('ACTIVE')
        self.assertEqual(before.boot_id, server.report().boot_id)
        self.assertEqual([], evidence.rescue_leftovers(server))
        self.assertDisksInPlace(before, server.rescue('rescue-stable'))

    @base.with_package
    def test_deleted_when_it_is_to_be_unrescued(self):
        """It gets neither its domain nor its directory back."""
        server, _ = self.boot()
        server.rescue('rescue-stable', base.RESCUE)
        domain = server.domain
        with self._frozen(server.host):
            server.action('unrescue', None, base.RESCUE)
            server.ask_delete()
        server.delete()
        self.assertEqual([], evidence.traces(server.id, domain))

    @base.with_package
    def test_reset_when_it_is_to_be_unrescued(self):
        server, before = self.boot()
        during = server.rescue('rescue-stable', base.RESCUE)
        with self._frozen(server.host):
            server.action('unrescue', None, base.RESCUE)
            self._reset(server, 'error')
        self._wait_for_line(server.host, server.id,
                            'The message to unrescue the server arrived')
        server.wait_for('ERROR')
        self.assertEqual(during.boot_id, server.report().boot_id)
        self.assertDisksInPlace(before, self._hard_reboot(server))
        self.assertEqual([], evidence.rescue_leftovers(server))

    @base.with_package
    def test_second_rescue_over_the_guest_of_the_first(self):
        """It is refused on the host, whose guest runs on its files."""
        server, before = self.boot()
        during = server.rescue('rescue-stable', base.RESCUE)
        self._reset(server, 'active')
        server.ask_rescue('rescue-qcow2', base.RESCUE)
        server.wait_for('ACTIVE')
        self.assertRegex(server.last_fault(), 'Hard reboot it first')
        report = server.report()
        self.assertEqual(during.boot_id, report.boot_id)
        process.wait_for(lambda: server.report().ticks > report.ticks,
                         'the guest to go on', base.PATIENCE)
        self.assertDisksInPlace(before, self._hard_reboot(server))
        self.assertEqual([], evidence.rescue_leftovers(server))

    @base.with_package
    def test_killed_when_the_rescue_guest_is_up(self):
        """The rescue began when nova-compute was started again."""
        server, before = self.boot()
        launched_at = server.show_as_admin()['OS-SRV-USG:launched_at']
        service = f'nova-compute-{server.host}'
        runs = _rescue_guest(server)
        server.ask_rescue('rescue-stable', base.RESCUE)
        process.wait_for(runs, 'the rescue guest', base.PATIENCE, 0.01)
        process.kill(service)
        process.restart(service)
        shown = server.wait_for('RESCUE')
        self.assertLess(launched_at, shown['OS-SRV-USG:launched_at'])
        self.assertEqual('rescue: None []', server.last_fault())
        self.assertDisksInPlace(before, server.wait_for_guest('rescue'))
        self.assertDisksInPlace(before, server.unrescue(base.RESCUE))


def _rescue_guest(server):
    """A function that says whether a server's QEMU has a rescue disk.

    libvirt would be asked too late.
    """
    return lambda: any(guest.in_rescue
                       for guest in hypervisor.guests(server.id))
