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

"""Servers with a TPM, by swtpm: what it keeps before is there after (1.4)."""

from tests.lab import base
from tests.lab.cloud import hypervisor
from tests.lab.cloud import process
from tests.lab.cloud import settings


class TPM(base.LabTest):

    def boot_with_tpm(self):
        server, before = self.boot('base-tpm')
        self.addCleanup(self.delete_as_alice, server)
        self.assertRegex(before.tpm, '^[0-9a-f]{16}$')
        return server, before

    def delete_as_alice(self, server):
        """An administrator may not delete the secret."""
        if self.ask('GET', f'/servers/{server.id}').status_code == 404:
            return
        server.ask_delete()
        process.wait_for(
            lambda: self.ask('GET', f'/servers/{server.id}').status_code
            == 404, f'the end of {server.id}', base.PATIENCE, 0.5)

    def state(self, server, host=None):
        """The file that is the TPM, on the host of the server."""
        return (settings.DATA / (host or server.host) / 'lib-libvirt/swtpm'
                / server.id / 'tpm2/tpm2-00.permall')

    def rescue(self, server, image='rescue-stable'):
        during = server.rescue(image, base.SESSION)
        self.assertEqual('none', during.tpm)
        self.assertNotIn('<tpm', server.domain_xml())
        self.assertTrue(self.state(server).exists())
        return during

    def assertHasItsTPM(self, before, after):
        """What the guest wrote into its TPM at first."""
        self.assertEqual(before.tpm, after.tpm)

    @base.with_version(base.SESSION)
    def test_there_and_back(self):
        """Twice, in both layouts."""
        server, before = self.boot_with_tpm()
        for image in ('rescue-stable', 'rescue'):
            during = self.rescue(server, image)
            # The server itself wrote to it when it shut down.
            content = self.state(server).read_bytes()
            server.action('reboot', {'type': 'HARD'}, base.SESSION)
            server.wait_for('RESCUE')
            server.wait_for_guest('rescue', after=during.boot_id)
            self.assertEqual(content, self.state(server).read_bytes())
            self.assertHasItsTPM(before, server.unrescue(base.SESSION))

    @base.with_version(base.SESSION)
    def test_rescue_system_is_reset_and_stopped(self):
        """nova-compute needs no token for it, after a restart neither."""
        server, before = self.boot_with_tpm()
        during = self.rescue(server)
        server.action('reboot', {'type': 'HARD'}, base.SESSION,
                      who=self.admin)
        server.wait_for('RESCUE')
        during = server.wait_for_guest('rescue', after=during.boot_id)
        self.assertEqual('none', during.tpm)
        server.action('os-stop', None, base.SESSION)
        self.wait_for_power(server, 4)
        process.restart(f'nova-compute-{server.host}')
        server.action('os-start', None, base.SESSION)
        self.wait_for_power(server, 1)
        self.assertHasItsTPM(before, server.unrescue(base.SESSION))

    def wait_for_power(self, server, state):
        process.wait_for(
            lambda: server.show()['OS-EXT-STS:power_state'] == state,
            f'power state {state} of {server.id}', base.PATIENCE, 1)

    @base.with_version(base.SESSION)
    def test_stranger(self):
        """An administrator has no right to the secret, and does no harm."""
        server, before = self.boot_with_tpm()
        during = self.rescue(server)
        server.action('unrescue', None, base.SESSION, who=self.admin)
        server.wait_for('RESCUE')
        self.assertIn('secret of the TPM', server.last_fault())
        self.assertEqual(during.boot_id, server.report().boot_id)
        self.assertHasItsTPM(before, server.unrescue(base.SESSION))

    @base.with_version(base.SESSION)
    def test_killed_in_a_rescue(self):
        """nova-compute has nobody's token; the owner starts the server."""
        server, before = self.boot_with_tpm()
        service = f'nova-compute-{server.host}'
        server.ask_rescue('rescue-stable', base.SESSION)
        process.wait_for(lambda: not hypervisor.guests(server.id),
                         'the end of the guest', base.PATIENCE, 0.01)
        process.kill(service)
        process.restart(service)
        found = server.wait_for(('RESCUE', 'SHUTOFF', 'ACTIVE'))
        if found['status'] == 'RESCUE':
            after = server.unrescue(base.SESSION)
        elif found['status'] == 'SHUTOFF':
            after = server.start()
        else:
            after = server.wait_for_guest('base')
        self.assertHasItsTPM(before, after)

    @base.with_version(base.SESSION)
    def test_refused(self):
        server, _before = self.boot_with_tpm()
        self.assertRefused(400, 'not supported for vTPM', server.ask_rescue,
                           'rescue-stable', base.MIGRATE)
        self.rescue(server)
        self.assertRefused(400, 'state stays on its host',
                           server.ask_live_migrate, base.SESSION)

    @base.with_version(base.SESSION)
    def test_deleted_in_rescue(self):
        """Nothing is left of the TPM on the host."""
        server, _before = self.boot_with_tpm()
        self.rescue(server)
        folder = self.state(server).parent.parent
        self.assertTrue(folder.exists())
        self.delete_as_alice(server)
        self.assertFalse(folder.exists())
