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

"""A hard reboot by which a server leaves its rescue."""

from unittest import mock

import fixtures
from nova import context
from nova import objects
from nova.virt.libvirt import config as vconfig
from oslo_utils.fixture import uuidsentinel as uuids
import testtools

from nova_rescue_ext.host import hard_reboot
from nova_rescue_ext import instance_metadata


class FirmwareTest(testtools.TestCase):
    """The domain of a rescue, from which Nova takes the firmware's files."""

    def _keep(self, secure):
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.instance_metadata.recorded_firmware',
            lambda instance: instance_metadata.Firmware(
                'code.fd', secure, 'nvram.fd', 'vars.fd')))
        instance = objects.Instance(uuid=uuids.instance)
        guest = vconfig.LibvirtConfigGuest()
        with hard_reboot.HardReboot(mock.Mock(), instance, leave_off=False):
            # Twice: Nova may ask again.
            hard_reboot.keep_firmware(instance, guest)
            hard_reboot.keep_firmware(instance, guest)
        return guest

    def test_secure_boot(self):
        """libvirt refuses it without the feature, which no BIOS needs."""
        guest = self._keep('yes')
        self.assertTrue(guest.os_loader_secure)
        smm, = guest.features
        self.assertIsInstance(smm, vconfig.LibvirtConfigGuestFeatureSMM)

    def test_no_secure_boot(self):
        for secure in ('no', None):
            self.assertEqual([], self._keep(secure).features)


class FinishTest(testtools.TestCase):

    def setUp(self):
        super().setUp()
        objects.register_all()
        self.useFixture(fixtures.MonkeyPatch(
            'nova_rescue_ext.host.rescue_files.remove_all', mock.Mock()))
        self.found = {}
        self.useFixture(fixtures.MonkeyPatch(
            'nova.objects.ShareMappingList.get_by_instance_uuid',
            staticmethod(
                lambda context, uuid: self.found.get(uuid, []))))

    def _finish(self):
        manager = mock.Mock()
        manager.driver._build_device_metadata.return_value = None
        hard_reboot.HardReboot(
            manager, objects.Instance(uuid=uuids.instance, vm_state='active',
                                      system_metadata={}),
            leave_off=False).finish(context.get_admin_context())

    def test_shares(self):
        """They are active while the guest runs."""
        shares = self.found[uuids.instance] = mock.MagicMock()
        self._finish()
        shares.activate_all.assert_called_once_with()

    def test_no_shares(self):
        """Nova before 31 knows no active ones."""
        self._finish()
