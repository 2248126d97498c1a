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


"""Accelerators and shares are there again after unrescue."""

import unittest
from unittest import mock

from nova import exception
from nova.tests import fixtures as nova_fixtures
from nova.tests.functional.api import client

from tests.functional import test_unrescue

MANILA = getattr(nova_fixtures, 'ManilaFixture', None)


class AcceleratorTest(test_unrescue.UnrescueTestCase):
    """Hazard: accelerators."""

    def setUp(self):
        super().setUp()
        cyborg = self.useFixture(nova_fixtures.CyborgFixture())
        cyborg.mock_get_arqs.side_effect = lambda instance_uuid: [
            dict(cyborg.bound_arq_list[0], attach_handle_type='PCI')]
        instance = self.instance()
        instance.flavor.extra_specs['accel:device_profile'] = cyborg.dp_name
        instance.save()

    def accelerators(self):
        return [dict(address.attrib) for address in self.domains.find(
            self.server, 'devices/hostdev/source/address')]

    def test_accelerator(self):
        self._reboot_server(self.server, hard=True)
        before = self.accelerators()
        self.assertEqual(1, len(before))
        self.rescue_now()
        self.assertEqual([], self.accelerators())
        self.unrescue()
        self.assertEqual(before, self.accelerators())


@unittest.skipUnless(MANILA, 'Nova 29 and 30 have no shares')
class ShareTest(test_unrescue.UnrescueTestCase):
    """Hazard: shares."""

    ADMIN_API = True
    microversion = 'latest'
    SHARE = '4b021746-d0eb-4031-92aa-23c3bec182cd'
    NFS = 'nova.virt.libvirt.volume.nfs.LibvirtNFSVolumeDriver.'

    def setUp(self):
        self.flags(file_backed_memory=8192, group='libvirt')
        self.flags(ram_allocation_ratio=1.0)
        self.flags(reserved_host_memory_mb=0)
        super().setUp()
        self.useFixture(MANILA())
        self.flags(auth_type='password', group='manila')
        self.connect = self.start_patch(self.NFS + 'connect_volume')
        self.disconnect = self.start_patch(self.NFS + 'disconnect_volume')
        self._stop_server(self.server)
        self._attach_share(self.server, self.SHARE)
        self._start_server(self.server)
        self.rescue_now(hw_rescue_device='disk')

    def start_patch(self, name):
        patch = mock.patch(name)
        self.addCleanup(patch.stop)
        return patch.start()

    def shares(self):
        """Tags in the server's domain, and the status of the share."""
        tags = [target.get('dir') for target in self.domains.find(
            self.server, 'devices/filesystem/target')]
        return tags, self._get_share(self.server, self.SHARE)['status']

    def test_share(self):
        """Also if nothing of it was left on the host."""
        self.set_share_inactive()
        self.connect.reset_mock()
        self.unrescue()
        self.connect.assert_called_once()
        self.assertEqual(([self.SHARE], 'active'), self.shares())

    def set_share_inactive(self):
        """As on a host that was rebooted."""
        from nova.objects import share_mapping  # not in Nova 29 and 30

        mapping = share_mapping.ShareMapping.get_by_instance_uuid_and_share_id(
            self.context, self.server['id'], self.SHARE)
        mapping.status = 'inactive'
        mapping.save()

    def test_mount_fails(self):
        """The owner can try again."""
        self.connect.side_effect = exception.ShareMountError(
            share_id=self.SHARE, server_id=self.server['id'], reason='no NFS')
        self.assertRaises(client.OpenStackApiException, self.unrescue)
        self._wait_for_state_change(self.server, 'ERROR')
        self.connect.side_effect = None
        self._reboot_server(self.server, hard=True)
        self.assertEqual(([self.SHARE], 'active'), self.shares())
        self.assertEqual(['disk'], self.names_of_disks())
